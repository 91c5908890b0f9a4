"""Activation functions: on vectors, for the kernels that end in one, and on whole arrays.

Cost: one load and one store a value; about 25 instructions and a division for silu, which leaves memory behind.
A NaN stays a NaN, and infinities give what PyTorch gives, so silu(-inf), both gelu(-inf) and hardswish(-inf), which
are -inf * 0, are NaN. (In float32 PyTorch's gelu(inf) is NaN too, in float64 inf; here it is inf.)
"""

import numpy as np

from . import border
from .elementary import exp, normal_tail, tanh
from .jit import inline, jit, kernel
from .simd import LANES, load, magnitude, maximum, minimum, store, where_less
from .threads import launch

ACTIVATIONS = (
    "identity",
    "silu",
    "relu",
    "relu6",
    "gelu",
    "gelu_tanh",
    "hardswish",
    "leaky_relu",
    "sigmoid",
    "tanh",
)
_IDENTITY, _SILU, _RELU, _RELU6, _GELU, _GELU_TANH, _HARDSWISH, _LEAKY_RELU, _SIGMOID, _TANH = range(len(ACTIVATIONS))


def activate(x: np.ndarray, name: str, out: np.ndarray | None = None) -> np.ndarray:
    """The activation called `name` of every value of `x`, any shape, float32.

    `out` may be `x` itself. Raises ValueError for a name not in `ACTIVATIONS`.
    """
    x = border.tensor(x, "activate: x", "(...)")
    code = activation_code(name, "activate")
    out = border.output(out, "activate: out", x.shape, [x], in_place=True)
    launch(_activate, -(-x.size // LANES), [x], out, [x.size, code])
    return out


def activation_code(name: str, op: str) -> int:
    """The number by which kernels know an activation."""
    if name not in ACTIVATIONS:
        raise ValueError(f"{op}: activation must be one of {', '.join(ACTIVATIONS)}, not {name!r}")
    return ACTIVATIONS.index(name)


@kernel
def _activate(arrays, sizes, first, last):
    x, _, _, _, out = arrays
    size, code = sizes[0], sizes[1]
    for at in range(first * LANES, min(last * LANES, size), LANES):
        lanes = min(LANES, size - at)
        store(out, at, lanes, activated(load(x, at, lanes, 0.0), code))


@jit
def activated(x, code):
    """One vector, through the activation of this code."""
    if code == _SILU:
        return x / (exp(-x) + 1.0)
    if code == _IDENTITY:
        return x
    if code == _RELU:
        return maximum(0.0, x)
    if code == _RELU6:
        return _relu6(x)
    if code == _GELU:  # x times the chance that a standard normal variable is below x
        tail = normal_tail(magnitude(x))
        return x * where_less(x, 0.0, tail, 1.0 - tail)
    if code == _GELU_TANH:  # (1 + tanh u) / 2 = 1 / (1 + e^-2u), which does not cancel
        u = 0.7978845608028654 * (x + 0.044715 * (x * x * x))
        return x / (exp(-2.0 * u) + 1.0)
    if code == _HARDSWISH:
        return x * _relu6(x + 3.0) / 6.0
    if code == _LEAKY_RELU:
        return where_less(x, 0.0, 0.01 * x, x)
    if code == _SIGMOID:
        return 1.0 / (exp(-x) + 1.0)
    return tanh(x)


@inline
def _relu6(x):
    return minimum(6.0, maximum(0.0, x))
