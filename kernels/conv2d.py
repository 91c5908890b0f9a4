"""Convolution: dense, strided, dilated, grouped; a matrix product once each pixel's patch is a row.

    out[y, x, o] = activation(sum over ky, kx, i of padded[y s + ky d, x s + kx d, i] * weight[o, i, ky, kx] + bias[o])
                   + residual[y, x, o]                   for stride s and dilation d, in each of the groups by itself

Cost for each image: 2 H' W' O kh kw I / groups operations; it reads 4 H W I bytes, and the weights once for every BLOCK
output pixels, and writes 4 H' W' O bytes.

A few output rows are taken at a time, one row of the filter after another, each product added to the last. Channels
are last, so a patch's part under one row of the filter is one run of memory, and the next pixel's patch begins `stride`
pixels further: the product reads them as they lie, from a copy of the input's rows with zeros at both ends. With
dilation or groups there are no such runs; then each tap is a product by itself, with the pixels for which it lies
inside the map, so that a filter that reaches far outside spends no time on zeros. A 1x1 convolution of stride 1 is
faster as `linear`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .linear import BLOCK
from .runtime import arguments
from .runtime.jit import jit, kernel, unpack
from .runtime.program import Step, launch
from .simd.activations import IDENTITY, activation_code, finish
from .simd.instructions import Matrix, copy, fill
from .simd.product import Finish, Lines, Panels, Rows, Shape, pack_panels, padded_columns, product


class Sizes(NamedTuple):
    height: int
    width: int
    channels: int
    kernel_height: int
    kernel_width: int
    stride: int
    padding: int
    dilation: int
    groups: int
    out_height: int
    out_width: int
    outputs: int
    code: int


class Band(NamedTuple):
    """Some output rows of an image, from `top` on."""

    image: int
    top: int
    lines: int


@dataclass(frozen=True)
class PackedConv2d:
    """A weight (O, I / groups, kh, kw) in the order in which `conv2d` reads it, for one number of groups."""

    data: np.ndarray
    inputs: int  # of one group
    outputs: int
    kernel_height: int
    kernel_width: int
    groups: int

    @classmethod
    def blank(cls, shape: tuple[int, ...], groups: int = 1) -> "PackedConv2d":
        """A packed weight of shape (O, I / groups, kh, kw) whose numbers are not set: to know the memory it takes."""
        outputs, inputs, height, width = shape
        size = groups * height * width * inputs * padded_columns(outputs // groups)
        return cls(arguments.empty((size,)), inputs, outputs, height, width, groups)


def pack_conv2d(weight: np.ndarray, groups: int = 1) -> PackedConv2d:
    """Pack a float32 weight (O, I / groups, kh, kw), PyTorch's layout, for `conv2d`.

    Raises TypeError or ValueError, one line, for an argument of the wrong type or shape, also if the groups do not
    divide the output channels.
    """
    weight = arguments.tensor(weight, "pack_conv2d: weight", "(O, I / groups, kh, kw)")
    groups = arguments.whole_number(groups, "pack_conv2d: groups", 1)
    outputs, inputs, height, width = weight.shape
    if outputs % groups:
        raise ValueError(f"pack_conv2d: groups must divide the {outputs} output channels, but is {groups}")
    parts = [
        pack_panels(group[:, :, row].transpose(2, 1, 0).reshape(-1, outputs // groups))  # (kw I / groups, O / groups)
        for group in np.split(weight, groups)
        for row in range(height)
    ]
    return PackedConv2d(arguments.aligned(np.concatenate(parts)), inputs, outputs, height, width, groups)


def conv2d(
    x: np.ndarray,
    weight: PackedConv2d,
    bias: np.ndarray | None,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    activation: str = "identity",
    residual: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """activation(convolution + bias) + residual, as `torch.nn.functional.conv2d`: x (B, H, W, I) -> (B, H', W', O).

    Stride, zero padding and dilation hold for both axes. Raises TypeError or ValueError, one line, for an argument of
    the wrong type, shape or name.
    """
    x = arguments.tensor(x, "conv2d: x", "(B, H, W, C)")
    arguments.packed(weight, "conv2d: weight", PackedConv2d, "pack_conv2d")
    batch, height, width, channels = x.shape
    arguments.last_axis(x, "conv2d: x", weight.inputs * weight.groups, "channels")
    geometry = arguments.geometry(stride, padding, dilation, "conv2d")
    kernel_size = (weight.kernel_height, weight.kernel_width)
    out_height, out_width = arguments.window_positions((height, width), kernel_size, *geometry, "conv2d")
    shape = (batch, out_height, out_width, weight.outputs)
    bias = arguments.bias(bias, "conv2d: bias", weight.outputs)
    residual = arguments.residual(residual, "conv2d: residual", shape)
    code = activation_code(activation, "conv2d")
    out = arguments.output(out, "conv2d: out", shape, [x, bias, residual])
    sizes = Sizes(
        height=height,
        width=width,
        channels=channels,
        kernel_height=weight.kernel_height,
        kernel_width=weight.kernel_width,
        stride=geometry.stride,
        padding=geometry.padding,
        dilation=geometry.dilation,
        groups=weight.groups,
        out_height=out_height,
        out_width=out_width,
        outputs=weight.outputs,
        code=code,
    )
    scratch = _lines(out_width) * _padded_line(sizes) if _has_runs(sizes) else 0
    grain = _lines(2 * out_width)  # half a band at least, because all the weights pass each time
    launch(Step(_conv2d, batch * out_height, [x, weight.data, bias, residual], out, sizes, scratch, grain))
    return out


@kernel
def _conv2d(arrays, sizes, first, last):
    """A unit of work is one output row."""
    x, weight, bias, residual, out, scratch = arrays
    size = unpack(sizes, Sizes)
    line, outputs = size.out_width * size.outputs, size.outputs // size.groups
    group_size = size.kernel_height * size.kernel_width * (size.channels // size.groups) * padded_columns(outputs)
    end = Finish(residual, size.code)
    unit = first
    while unit < last:
        image, top = divmod(unit, size.out_height)
        band = Band(image, top, min(_lines(size.out_width), size.out_height - top, last - unit))
        for group in range(size.groups):
            target = Lines(out, at=unit * line + group * outputs, line=line, row=size.outputs)
            if _has_runs(size):
                _add_rows(band, x, weight, Lines(bias, at=0, line=0, row=0), target, end, scratch, size)
            else:
                weights, biases = Matrix(weight, group * group_size, row=0), Matrix(bias, group * outputs, row=0)
                _add_taps(band, group, x, weights, biases, target, end, size)
        unit += band.lines


@jit
def _lines(out_width):
    """Output rows that stay in cache while every panel of weights passes."""
    return max(1, BLOCK // out_width)


@jit
def _has_runs(size):
    """Whether a patch's part under one row of the filter is one run of memory, longer than a pixel."""
    return size.kernel_width > 1 and size.dilation == 1 and size.groups == 1


@jit
def _padded_line(size):
    """Elements of an input row with zeros at both ends."""
    return (size.width + 2 * size.padding) * size.channels


@jit
def _add_rows(band, x, weight, so_far, target, end, padded, size):
    """The product of each row of the filter, from a copy of the input rows that it meets."""
    channels, margin = size.channels, size.padding * size.channels
    line_size, depth, pixels = _padded_line(size), size.kernel_width * channels, size.width * channels
    for kernel_row in range(size.kernel_height):
        for line in range(band.lines):
            row = (band.top + line) * size.stride - size.padding + kernel_row
            at = line * line_size
            if 0 <= row < size.height:
                fill(padded, at, margin, 0.0)
                copy(x, (band.image * size.height + row) * pixels, padded, at + margin, pixels)
                fill(padded, at + margin + pixels, margin, 0.0)
            else:
                fill(padded, at, line_size, 0.0)
        shape = Shape(band.lines, size.out_width, depth, size.outputs)
        patches = Rows(padded, at=0, line=line_size, row=size.stride * channels, step=1)
        panels = Panels(weight, at=kernel_row * depth * padded_columns(size.outputs), depth=depth, first=0)
        then = end if kernel_row == size.kernel_height - 1 else Finish(end.residual[:0], IDENTITY)
        product(shape, patches, panels, so_far, target, then)
        so_far = Lines(padded[:0], 0, 0, 0)


@jit
def _add_taps(band, group, x, weights, biases, target, end, size):
    """The product of each tap of the filter, for the pixels for which it is inside the map.

    `weights` and `biases`, a Matrix each, begin with those of the group.
    """
    inputs, outputs = size.channels // size.groups, size.outputs // size.groups
    out = target.array
    for line in range(band.lines):
        for column in range(size.out_width):
            copy(biases.array, biases.at, out, target.at + line * target.line + column * target.row, outputs)
    panel_at = weights.at
    for kernel_row in range(size.kernel_height):
        down = kernel_row * size.dilation - size.padding + band.top * size.stride
        first_line, last_line = _inside(down, size.stride, band.lines, size.height)
        for tap in range(size.kernel_width):
            right = tap * size.dilation - size.padding
            first, last = _inside(right, size.stride, size.out_width, size.width)
            y, x_first = first_line * size.stride + down, first * size.stride + right
            pixel = (band.image * size.height + y) * size.width + x_first
            line, row = size.stride * size.width * size.channels, size.stride * size.channels
            source = Rows(x, pixel * size.channels + group * inputs, line, row, step=1)
            panels = Panels(weights.array, panel_at, depth=size.kernel_width * inputs, first=tap * inputs)
            sums_at = target.at + first_line * target.line + first * target.row
            shape = Shape(last_line - first_line, last - first, inputs, outputs)
            nothing, sums = Lines(x[:0], 0, 0, 0), Lines(out, sums_at, target.line, target.row)
            product(shape, source, panels, nothing, sums, Finish(end.residual[:0], IDENTITY))
        panel_at += size.kernel_width * inputs * padded_columns(outputs)
    for line in range(band.lines):
        rows = Matrix(out, target.at + line * target.line, target.row)
        finish(rows, size.out_width, outputs, end.residual, end.code)


@jit
def _inside(offset, stride, count, length):
    """The range of positions p < count for which offset + p * stride is one of `length`."""
    first = min(count, max(0, -(offset // stride)))
    return first, max(first, min(count, (length - 1 - offset) // stride + 1))
