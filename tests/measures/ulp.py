"""How exact the activations and the softmax are: `python tests/measures/ulp.py [STEP]` prints their largest errors, in
units in the last place (ULP) of the exact result, over every STEP-th float32 there is, by default every 101st.

Where the exact result is subnormal, a unit is that of the least normal number. The docstrings in `simd/elementary.py`,
`simd/activations.py` and `attention.py` of `kernels/` give these figures.
"""

import sys

import numpy as np

from tinymvit import kernels

WIDE = np.longdouble  # 64 bits of mantissa on x86-64


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def normal_tail(t):
    """Q(t), t >= 0, by its series for small and its continued fraction for large t, in `WIDE`."""
    term = total = t
    for n in range(1, 200):
        term = term * t * t / (2 * n + 1)
        total = total + term
    density = np.exp(-t * t / 2) / np.sqrt(2 * WIDE(np.pi) + WIDE("2.449293598294706414e-16"))
    fraction = t
    for n in range(200, 0, -1):
        fraction = t + n / fraction
    return np.where(t < 4, WIDE(0.5) - density * total, density / fraction)


def gelu(x):
    tail = normal_tail(np.maximum(np.abs(x), WIDE(1e-30)))
    return x * np.where(x < 0, tail, 1 - tail)


def gelu_tanh(x):
    return x * sigmoid(2 * np.sqrt(2 / WIDE("3.14159265358979323846")) * (x + WIDE("0.044715") * x**3))


CASES = [  # activation, its formula, the range of x
    ("silu", lambda x: x * sigmoid(x), -88, 3e38),
    ("sigmoid", sigmoid, -87, 3e38),
    ("tanh", np.tanh, -3e38, 3e38),
    ("gelu", gelu, -13.2, 13.2),
    ("gelu_tanh", gelu_tanh, -1, 1e3),
    ("gelu_tanh", gelu_tanh, -5, -1),
    ("gelu_tanh", gelu_tanh, -10, -5),
    ("hardswish", lambda x: x * np.clip(x + 3, 0, 6) / 6, -3, 1e37),
]


def ulps(actual, exact):
    unit = 2.0 ** (np.maximum(np.frexp(np.abs(exact).astype(np.float64))[1] - 1, -126) - 23)
    return np.abs(actual.astype(WIDE) - exact).astype(np.float64) / unit


def largest(function, actual, low, high, step):
    bits = np.arange(0, 0x7F800000, step, dtype=np.uint32)
    worst = (0.0, np.float32(0))
    for part in np.array_split(bits, 100):
        for sign in (np.uint32(0), np.uint32(0x80000000)):
            x = (part | sign).view(np.float32)
            x = x[(x >= low) & (x <= high)]
            if x.size:
                errors = ulps(actual(x), function(x.astype(WIDE)))
                worst = max(worst, (float(errors.max()), x[errors.argmax()]))
    return worst


def softmax(rng, tokens=256):
    """The largest error of attention's weights: the scores are exact, and each value picks one weight."""
    scores = np.round(rng.uniform(-20, 20, tokens) * 64).astype(np.float32) / 64
    exact = np.exp(scores.astype(WIDE) - scores.max())
    exact /= exact.sum()
    query, key = np.ones((tokens, tokens, 1), np.float32), np.tile(scores[None, :, None], (tokens, 1, 1))
    actual = kernels.attention(query, key, np.eye(tokens, dtype=np.float32)[:, :, None], 1)
    return ulps(actual[:, 0, 0], exact).max()


def main(step="101"):
    for name, function, low, high in CASES:
        with np.errstate(all="ignore"):
            worst, at = largest(function, lambda x, name=name: kernels.activate(x, name), low, high, int(step))
        print(f"{name:10} from {low:g} to {high:g}: {worst:.2f} ULP, at {at:g}", flush=True)
    rng = np.random.default_rng(0)
    print(f"softmax of 256 scores within 40 of each other: {max(softmax(rng) for _ in range(20)):.2f} ULP")


if __name__ == "__main__":
    main(*sys.argv[1:])
