"""Layer normalisation of each token by itself.

    out = (x - mean) / sqrt(variance + eps) * weight + bias      over the last axis, variance = mean of (x - mean)^2

Cost for R tokens: about 8 R D operations; it reads 4 R D bytes, then twice from L1, and writes 4 R D. Mean first, then
the variance from the differences: one pass with x and x^2 cancels where the mean is large.

Where the deviation is less than a thousandth of the mean, the rounding of the mean would count among the differences,
and where a square exceeds float32, the variance would be infinite. Such a token is computed in float64.
"""

from typing import NamedTuple

import numpy as np

from .runtime import arguments
from .runtime.jit import jit, kernel, unpack
from .runtime.program import Step, launch
from .simd.instructions import LANES, fma, load, splat, store, sum_lanes

NARROW = 2.0**-20  # variance over squared mean, below which float64 is needed


class Sizes(NamedTuple):
    width: int


def layer_norm(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float, *, out: np.ndarray | None = None
) -> np.ndarray:
    """As `torch.nn.functional.layer_norm` over the last axis: x (..., D), weight and bias (D) -> (..., D), float32.

    Raises TypeError or ValueError, one line, for an argument of the wrong type or shape and for a negative eps.
    """
    x = arguments.tensor(x, "layer_norm: x", "(..., D)")
    width = x.shape[-1]
    weight = arguments.channel_values(weight, "layer_norm: weight", width)
    bias = arguments.channel_values(bias, "layer_norm: bias", width)
    epsilon = np.array([arguments.real_number(eps, "layer_norm: eps", 0)], np.float32)
    out = arguments.output(out, "layer_norm: out", x.shape, [x, weight, bias])
    launch(Step(_layer_norm, x.size // width, [x, weight, bias, epsilon], out, Sizes(width)))
    return out


@kernel
def _layer_norm(arrays, sizes, first, last):
    """A unit of work is one token."""
    x, weight, bias, eps, out, _ = arrays
    width = unpack(sizes, Sizes).width
    for row in range(first, last):
        at = row * width
        mean = _sum(x, at, width) / np.float32(width)
        variance = _sum_of_squares(x, at, width, mean) / np.float32(width)
        if not mean * mean * np.float32(NARROW) <= variance < np.float32(np.inf):  # or one of them is NaN
            _normalize_in_double(x, weight, bias, eps[0], out, at, width)
            continue
        scale = np.float32(1) / np.sqrt(variance + eps[0])
        for i in range(0, width, LANES):
            lanes = width - i
            value = (load(x, at + i, lanes, 0.0) - mean) * scale
            store(out, at + i, lanes, fma(value, load(weight, i, lanes, 0.0), load(bias, i, lanes, 0.0)))


@jit
def _sum(x, at, width):
    total = splat(0.0)
    for i in range(0, width, LANES):
        total = total + load(x, at + i, width - i, 0.0)
    return sum_lanes(total)


@jit
def _sum_of_squares(x, at, width, mean):
    """The sum of the squared differences from the mean. The lanes beyond the row hold the mean, so they add 0."""
    total = splat(0.0)
    for i in range(0, width, LANES):
        difference = load(x, at + i, width - i, mean) - mean
        total = fma(difference, difference, total)
    return sum_lanes(total)


@jit
def _normalize_in_double(x, weight, bias, eps, out, at, width):
    """One token, value by value."""
    total = squares = 0.0
    for i in range(width):
        total += np.float64(x[at + i])
    mean = total / width
    for i in range(width):
        difference = x[at + i] - mean
        squares += difference * difference
    deviation = np.sqrt(squares / width + eps)
    for i in range(width):
        value = np.float32((x[at + i] - mean) / deviation)
        out[at + i] = value * weight[i] + bias[i]
