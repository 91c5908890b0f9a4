"""A matrix times one vector for each image: the classifier.

    out[b, o] = sum over i of x[b, i] * weight[o, i] + bias[o]

Cost: 2 B I O operations; 4 I O bytes of weights for each image. A weight is read once for two operations, so memory is
the limit, not arithmetic; sums in float64 take no longer, and the rounding of the result is all the error left.
"""

from typing import NamedTuple

import numpy as np

from .linear import PackedLinear
from .runtime import arguments
from .runtime.jit import kernel, unpack
from .runtime.program import Step, launch
from .simd.instructions import LANES, fma_double, load, narrow, splat, store, widen
from .simd.product import panel_width


class Sizes(NamedTuple):
    inputs: int
    outputs: int
    vectors: int


def matrix_vector(
    x: np.ndarray, weight: PackedLinear, bias: np.ndarray | None, *, out: np.ndarray | None = None
) -> np.ndarray:
    """x W^T + bias, as `torch.nn.Linear`, each sum in float64: x (B, I) -> (B, O), float32.

    Raises TypeError or ValueError, one line, for an argument of the wrong type or shape.
    """
    x = arguments.tensor(x, "matrix_vector: x", "(B, I)")
    arguments.packed(weight, "matrix_vector: weight", PackedLinear, "pack_linear")
    arguments.last_axis(x, "matrix_vector: x", weight.inputs, "values in its last axis")
    batch, inputs = x.shape
    bias = arguments.bias(bias, "matrix_vector: bias", weight.outputs)
    out = arguments.output(out, "matrix_vector: out", (batch, weight.outputs), [x, bias])
    vectors = -(-weight.outputs // LANES)
    sizes = Sizes(inputs, weight.outputs, vectors)
    launch(Step(_multiply_vector, batch * vectors, [x, weight.data, bias], out, sizes))
    return out


@kernel
def _multiply_vector(arrays, sizes, first, last):
    """A unit of work is one vector of outputs of one image."""
    x, weight, bias, _, out, _ = arrays
    inputs, outputs, vectors = unpack(sizes, Sizes)
    for unit in range(first, last):
        image, column = unit // vectors, unit % vectors * LANES
        panel = 0
        while panel + panel_width(outputs - panel) <= column:
            panel += panel_width(outputs - panel)
        width = panel_width(outputs - panel)
        at = panel * inputs + column - panel
        lanes = outputs - column
        total = widen(load(bias, column, lanes, 0.0))
        for i in range(inputs):
            total = fma_double(splat(x[image * inputs + i]), load(weight, at + i * width, LANES, 0.0), total)
        store(out, image * outputs + column, lanes, narrow(total))
