"""The 3x3 convolution, stride 1, zero padding 1, by Winograd's method: 16 multiplications for 4 outputs, not 36.

    out[y, x, o] = activation(sum over ky, kx, i of padded[y + ky, x + kx, i] * weight[o, i, ky, kx] + bias[o])
                   + residual[y, x, o]

Cost for each image: 8 H W O I operations and some 20 H W (I + O) additions.

In one dimension, two neighbouring outputs of the filter g, from four inputs d, take four products, not six:

    p0 = (d0 - d2) g0                     out0 = p0 + p1 + p2
    p1 = (d1 + d2) (g0 + g1 + g2) / 2     out1 = p1 - p2 - p3
    p2 = (d2 - d1) (g0 - g1 + g2) / 2
    p3 = (d1 - d3) g2

In two, the same with lines in place of numbers: a pair of output lines is four filters' outputs along x, each of a sum
of two input lines. The sums of filter taps are made once, when a weight is packed. With many channels each product is
a sum over i, so the four products of all pairs are four matrix products, on register tiles.

Rounding errors are those of the direct sum, within a tenth: sums are shorter, and then added. An infinity among the
inputs may become NaN, in the outputs that it reaches; out0 has nothing of d3, nor out1 of d0. This is F(2x2, 3x3) of
Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015), section 4.1.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .runtime import arguments
from .runtime.jit import inline, jit, kernel, unpack
from .runtime.program import Step, launch
from .simd.activations import IDENTITY, activation_code, finish
from .simd.instructions import LANES, Matrix, copy, fill, fma, load, splat, store
from .simd.product import Finish, Lines, Panels, Rows, Shape, pack_panels, padded_columns, product

PAIRS = 64  # of outputs along x, that stay in cache while the weights of a product pass
LINES = ((0, 2, -1.0), (1, 2, 1.0), (2, 1, -1.0), (1, 3, -1.0))  # of the input, added up for p0 to p3: d_a + sign d_b
SUMS = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])  # of the filter's taps, for p0 to p3


class Sizes(NamedTuple):
    height: int
    width: int
    inputs: int
    outputs: int
    code: int


class Band(NamedTuple):
    """Some pairs of lines: where their image begins, in lines of the batch; their first line in the image; how many
    pairs they are."""

    image_line: int
    top: int
    pairs: int


class Planes(NamedTuple):
    """Four matrices, one behind the other, with a row for each pair of outputs."""

    array: Any
    at: int
    size: int
    row: int


@dataclass(frozen=True)
class PackedWinograd:
    """A weight (O, I, 3, 3) as its 4 x 4 sums of taps, in the order in which `winograd` reads them."""

    data: np.ndarray
    inputs: int
    outputs: int

    @classmethod
    def blank(cls, shape: tuple[int, ...]) -> "PackedWinograd":
        """A packed weight of shape (O, I, 3, 3) whose numbers are not set: to know the memory that it takes."""
        outputs, inputs = shape[:2]
        return cls(arguments.empty((SUMS.shape[0] ** 2 * inputs * padded_columns(outputs),)), inputs, outputs)


def pack_winograd(weight: np.ndarray) -> PackedWinograd:
    """Pack a float32 weight (O, I, 3, 3), PyTorch's layout, for `winograd`; the sums are rounded once.

    Raises TypeError or ValueError, one line, for a weight of the wrong type or shape.
    """
    weight = arguments.tensor(weight, "pack_winograd: weight", "(O, I, 3, 3)")
    if weight.shape[2:] != (3, 3):
        raise ValueError(f"pack_winograd: weight must be (O, I, 3, 3), not of shape {weight.shape}")
    sums = np.einsum("py,oiyx,qx->pqio", SUMS, weight.astype(np.float64), SUMS, optimize=True).astype(np.float32)
    panels = [pack_panels(matrix) for line in sums for matrix in line]
    return PackedWinograd(arguments.aligned(np.concatenate(panels)), weight.shape[1], weight.shape[0])


def winograd(
    x: np.ndarray,
    weight: PackedWinograd,
    bias: np.ndarray | None,
    *,
    activation: str = "identity",
    residual: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """activation(convolution + bias) + residual, as `torch.nn.functional.conv2d` with padding 1: x (B, H, W, I) ->
    (B, H, W, O), float32.

    Raises TypeError or ValueError, one line, for an argument of the wrong type, shape or name.
    """
    x = arguments.tensor(x, "winograd: x", "(B, H, W, C)")
    arguments.packed(weight, "winograd: weight", PackedWinograd, "pack_winograd")
    batch, height, width, channels = x.shape
    arguments.last_axis(x, "winograd: x", weight.inputs, "channels")
    shape = (batch, height, width, weight.outputs)
    bias = arguments.bias(bias, "winograd: bias", weight.outputs)
    residual = arguments.residual(residual, "winograd: residual", shape)
    code = activation_code(activation, "winograd")
    out = arguments.output(out, "winograd: out", shape, [x, bias, residual])
    sizes = Sizes(height, width, channels, weight.outputs, code)
    lines, pairs = _at_once(height, width)
    planes = 4 * (_plane(lines * pairs, channels) + _plane(lines * pairs, weight.outputs))
    scratch = 2 * padded_columns(weight.outputs) + planes
    arrays = [x, weight.data, bias, residual]
    launch(Step(_winograd, batch * ((height + 1) // 2), arrays, out, sizes, scratch, max(1, lines // 2)))
    return out


@kernel
def _winograd(arrays, sizes, first, last):
    """A unit of work is a pair of output lines.

    The working memory: zeros and the bias, which the products start with, the summed inputs, the products.
    """
    x, weight, bias, residual, out, scratch = arrays
    size = unpack(sizes, Sizes)
    height, width, inputs, outputs = size.height, size.width, size.inputs, size.outputs
    lines_at_once, pairs = _at_once(height, width)
    row, out_row = padded_columns(inputs), padded_columns(outputs)
    tall, matrix = (height + 1) // 2, inputs * out_row
    zeros_at, bias_at = 0, out_row
    fill(scratch, zeros_at, outputs, 0.0)
    copy(bias, 0, scratch, bias_at, outputs)
    unit = first
    while unit < last:
        image, top = divmod(unit, tall)
        lines = min(lines_at_once, tall - top, last - unit)
        band = Band(image * height, 2 * top, lines)
        rows = lines * pairs
        summed = Planes(scratch, 2 * out_row, _plane(rows, inputs), row)
        products = Planes(scratch, summed.at + 4 * summed.size, _plane(rows, outputs), out_row)
        for down in range(4):
            _add_inputs(band, down, x, size, summed)
            for right in range(4):
                source = Rows(scratch, summed.at + right * summed.size, line=0, row=row, step=1)
                panels = Panels(weight, (4 * down + right) * matrix, depth=inputs, first=0)
                # All outputs have the product of the second line and the second row as it is: there the bias enters.
                start_at = bias_at if down == 1 and right == 1 else zeros_at
                start = Lines(scratch, start_at, line=0, row=0)
                target = Lines(scratch, products.at + right * products.size, line=0, row=out_row)
                product(Shape(1, rows, inputs, outputs), source, panels, start, target, Finish(x[:0], IDENTITY))
            _add_products(band, down, products, out, size)
        for line in range(2 * top, min(2 * (top + lines), height)):
            target_line = Matrix(out, (image * height + line) * width * outputs, outputs)
            finish(target_line, width, outputs, residual, size.code)
        unit += lines


@jit
def _at_once(height, width):
    """How many pairs of lines are taken at a time, and the pairs of outputs in each."""
    pairs = (width + 1) // 2
    return min(max(1, PAIRS // pairs), (height + 1) // 2), pairs


@jit
def _plane(rows, channels):
    """Room for one of the four matrices, an odd number of vectors: rows of four of them that lie a power of two apart
    would fall on the same few sets of the L1 cache."""
    return rows * padded_columns(channels) | LANES


@jit
def _add_inputs(band, down, x, size, summed):
    """The four matrices of inputs that make p_`down` along y and p0 to p3 along x: a row for each pair of outputs."""
    height, width, channels = size.height, size.width, size.inputs
    pairs, plane = (width + 1) // 2, summed.size
    first, second, sign = LINES[down]
    for line in range(band.pairs):
        a, b = band.top + 2 * line - 1 + first, band.top + 2 * line - 1 + second
        for channel in range(0, channels, LANES):
            a_lanes, b_lanes = (channels - channel) * (0 <= a < height), (channels - channel) * (0 <= b < height)
            a_at = (band.image_line + a) * width * channels + channel
            b_at = (band.image_line + b) * width * channels + channel
            before, here = splat(0.0), _sum(x, a_at, a_lanes, b_at, b_lanes, sign)
            for pair in range(pairs):
                at = summed.at + (line * pairs + pair) * summed.row + channel
                right = 2 * pair + 1
                inside, step = right < width, right * channels
                after = _sum(x, a_at + step, a_lanes * inside, b_at + step, b_lanes * inside, sign)
                inside, step = right + 1 < width, step + channels
                beyond = _sum(x, a_at + step, a_lanes * inside, b_at + step, b_lanes * inside, sign)
                store(summed.array, at, LANES, before - after)
                store(summed.array, at + plane, LANES, here + after)
                store(summed.array, at + 2 * plane, LANES, after - here)
                store(summed.array, at + 3 * plane, LANES, here - beyond)
                before, here = after, beyond


@inline
def _sum(x, a, a_lanes, b, b_lanes, sign):
    """x[a] + sign * x[b], both 0 where there are no lanes: outside the map."""
    return fma(load(x, b, b_lanes, 0.0), sign, load(x, a, a_lanes, 0.0))


@jit
def _add_products(band, down, products, out, size):
    """The two outputs of each pair along x, added to the output lines: p0 + p1 + p2 and p1 - p2 - p3."""
    width, outputs = size.width, size.outputs
    pairs, plane = (width + 1) // 2, products.size
    for line in range(band.pairs):
        for channel in range(0, outputs, LANES):
            lanes = outputs - channel
            for pair in range(pairs):
                at = products.at + (line * pairs + pair) * products.row + channel
                p0, p1 = load(products.array, at, LANES, 0.0), load(products.array, at + plane, LANES, 0.0)
                p2 = load(products.array, at + 2 * plane, LANES, 0.0)
                p3 = load(products.array, at + 3 * plane, LANES, 0.0)
                left, right = p0 + p1 + p2, p1 - p2 - p3
                for lower in range(2):
                    y = band.top + 2 * line + lower
                    if 0 <= down - lower < 3 and y < size.height:
                        sign = -1.0 if lower and down > 1 else 1.0
                        target = ((band.image_line + y) * width + 2 * pair) * outputs + channel
                        so_far = 0 if down == lower else lanes
                        store(out, target, lanes, fma(left, sign, load(out, target, so_far, 0.0)))
                        if 2 * pair + 1 < width:
                            target += outputs
                            store(out, target, lanes, fma(right, sign, load(out, target, so_far, 0.0)))
