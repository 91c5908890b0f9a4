"""The linear layer, and with it the 1x1 convolution: a matrix product on the array as it lies.

    out[..., o] = activation(sum over i of x[..., i] * weight[o, i] + bias[o]) + residual[..., o]

Cost for R rows: 2 R I O operations; it reads 4 R I bytes and the weights once for every BLOCK rows, and writes 4 R O.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .runtime import arguments
from .runtime.jit import kernel, unpack
from .runtime.program import Step, launch
from .simd.activations import activation_code
from .simd.product import ROWS, Finish, Lines, Panels, Rows, Shape, pack_panels, padded_columns, product

BLOCK = 8 * ROWS  # rows that stay in cache while every panel of weights passes
GRAIN = 4  # units of ROWS in one go, for all the weights pass each time


class Sizes(NamedTuple):
    rows: int
    inputs: int
    outputs: int
    code: int


@dataclass(frozen=True)
class PackedLinear:
    """A weight (O, I) in the order in which `linear` reads it."""

    data: np.ndarray
    inputs: int
    outputs: int

    @classmethod
    def blank(cls, shape: tuple[int, ...]) -> "PackedLinear":
        """A packed weight of shape (O, I) whose numbers are not set: to know the memory that it takes."""
        outputs, inputs = shape
        return cls(arguments.empty((inputs * padded_columns(outputs),)), inputs, outputs)


def pack_linear(weight: np.ndarray) -> PackedLinear:
    """Pack a float32 weight (O, I), PyTorch's layout, for `linear`."""
    weight = arguments.tensor(weight, "pack_linear: weight", "(O, I)")
    outputs, inputs = weight.shape
    return PackedLinear(pack_panels(weight.T), inputs, outputs)


def linear(
    x: np.ndarray,
    weight: PackedLinear,
    bias: np.ndarray | None,
    *,
    activation: str = "identity",
    residual: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """activation(x W^T + bias) + residual, as `torch.nn.Linear`: x (..., I) -> (..., O), float32.

    Raises TypeError or ValueError, one line, for an argument of the wrong type, shape or name.
    """
    x = arguments.tensor(x, "linear: x", "(..., I)")
    arguments.packed(weight, "linear: weight", PackedLinear, "pack_linear")
    arguments.last_axis(x, "linear: x", weight.inputs, "values in its last axis")
    shape = (*x.shape[:-1], weight.outputs)
    bias = arguments.bias(bias, "linear: bias", weight.outputs)
    residual = arguments.residual(residual, "linear: residual", shape)
    code = activation_code(activation, "linear")
    out = arguments.output(out, "linear: out", shape, [x, bias, residual])
    rows = x.size // weight.inputs
    sizes = Sizes(rows, weight.inputs, weight.outputs, code)
    launch(Step(multiply_rows, -(-rows // ROWS), [x, weight.data, bias, residual], out, sizes, grain=GRAIN))
    return out


@kernel
def multiply_rows(arrays, sizes, first, last):
    """A unit of work is ROWS rows."""
    x, weight, bias, residual, out, _ = arrays
    size = unpack(sizes, Sizes)
    end = min(last * ROWS, size.rows)
    for start in range(first * ROWS, end, BLOCK):
        shape = Shape(lines=1, rows=min(BLOCK, end - start), depth=size.inputs, columns=size.outputs)
        rows = Rows(x, at=start * size.inputs, line=0, row=size.inputs, step=1)
        panels = Panels(weight, at=0, depth=size.inputs, first=0)
        target = Lines(out, at=start * size.outputs, line=0, row=size.outputs)
        product(shape, rows, panels, Lines(bias, at=0, line=0, row=0), target, Finish(residual, size.code))
