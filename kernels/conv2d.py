"""Convolution: dense, 1x1, strided, dilated, grouped; a matrix product once each pixel's patch is a row.

    out[y, x, o] = activation(sum over ky, kx, i of padded[y s + ky d, x s + kx d, i] * weight[o, i, ky, kx] + bias[o])
                   + residual[y, x, o]                   for stride s and dilation d, in each of the groups by itself

Cost for P output pixels: 2 P O kh kw I / groups operations; it reads 4 H W I bytes and the weights once for every BLOCK
pixels, and writes 4 P O.

A few output rows are taken at a time, one row of the kernel after another, each product added to the last. Channels
are last, so a kernel row of a patch is one run of memory, and the next pixel's patch begins `stride` pixels further:
the product reads them as they lie, from a copy of the input's rows with zeros at both ends. With dilation or groups
there are no such runs; then each tap is a product by itself, with the pixels for which it lies inside the map, so that
of a kernel that reaches far outside, the zeros cost nothing. A 1x1 convolution is the linear layer.
"""

from dataclasses import dataclass

import numpy as np

from .linear import BLOCK, GRAIN, multiply_rows
from .runtime import arguments
from .runtime.jit import jit, kernel
from .runtime.program import Step, launch
from .simd import copy, fill
from .simd.activations import IDENTITY, activation_code, finish
from .simd.product import ROWS, pack_panels, padded_columns, product


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
    """Pack a float32 weight (O, I / groups, kh, kw), PyTorch's layout, for `conv2d`."""
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
    steps = arguments.steps(stride, padding, dilation, "conv2d")
    kernel_size = (weight.kernel_height, weight.kernel_width)
    out_height, out_width = arguments.window_positions((height, width), kernel_size, *steps, "conv2d")
    shape = (batch, out_height, out_width, weight.outputs)
    bias = arguments.bias(bias, "conv2d: bias", weight.outputs)
    residual = arguments.residual(residual, "conv2d: residual", shape)
    code = activation_code(activation, "conv2d")
    out = arguments.output(out, "conv2d: out", shape, [x, bias, residual])
    arrays = [x, weight.data, bias, residual]
    if kernel_size == (1, 1) and steps[:2] == (1, 0) and weight.groups == 1:
        pixels = batch * out_height * out_width
        sizes = [pixels, channels, weight.outputs, code]
        launch(Step(multiply_rows, -(-pixels // ROWS), arrays, out, sizes, grain=GRAIN))
    else:
        sizes = [height, width, channels, *kernel_size, *steps, weight.groups, out_height, out_width]
        scratch = (
            _lines(out_width) * (width + 2 * steps[1]) * channels
            if _has_runs(kernel_size[1], steps[2], weight.groups)
            else 0
        )
        grain = _lines(2 * out_width)  # half a block at least, for all the weights pass each time
        launch(Step(_conv2d, batch * out_height, arrays, out, [*sizes, weight.outputs, code], scratch, grain=grain))
    return out


@kernel
def _conv2d(arrays, sizes, first, last):
    """A unit of work is one output row."""
    x, weight, bias, residual, out, scratch = arrays
    kernel_height, kernel_width, dilation, groups = sizes[3], sizes[4], sizes[7], sizes[8]
    out_height, out_width, outputs, code = sizes[9], sizes[10], sizes[11], sizes[12]
    group_size = kernel_height * kernel_width * sizes[2] // groups * padded_columns(outputs // groups)
    unit = first
    while unit < last:
        image, top = divmod(unit, out_height)
        block = (image, top, min(_lines(out_width), out_height - top, last - unit))
        for group in range(groups):
            channel = group * outputs // groups
            target = (out, unit * out_width * outputs + channel, out_width * outputs, outputs)
            if _has_runs(kernel_width, dilation, groups):
                _add_rows(block, x, weight, (bias, 0, 0, 0), target, (residual, code), scratch, sizes)
            else:
                weights = (weight, group * group_size)
                _add_taps(block, group, x, weights, (bias, channel), target, (residual, code), sizes)
        unit += block[2]


@jit
def _lines(out_width):
    """Output rows that stay in cache while every panel of weights passes."""
    return max(1, BLOCK // out_width)


@jit
def _has_runs(kernel_width, dilation, groups):
    return kernel_width > 1 and dilation == 1 and groups == 1


@jit
def _add_rows(block, x, weight, so_far, target, finish_with, padded, sizes):
    """The product of each kernel row, from a copy of the input rows that it meets."""
    image, top, lines = block
    height, width, channels, kernel_height, kernel_width = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
    stride, padding, out_width, outputs = sizes[5], sizes[6], sizes[10], sizes[11]
    room, depth = (width + 2 * padding) * channels, kernel_width * channels
    for kernel_row in range(kernel_height):
        for line in range(lines):
            row = (top + line) * stride - padding + kernel_row
            at = line * room
            if 0 <= row < height:
                fill(padded, at, padding * channels, 0.0)
                copy(x, (image * height + row) * width * channels, padded, at + padding * channels, width * channels)
                fill(padded, at + (padding + width) * channels, padding * channels, 0.0)
            else:
                fill(padded, at, room, 0.0)
        weights = (weight, kernel_row * depth * padded_columns(outputs), depth, 0)
        then = finish_with if kernel_row == kernel_height - 1 else (finish_with[0][:0], IDENTITY)
        patches = (padded, 0, room, stride * channels, 1)
        product((lines, out_width, depth, outputs), patches, weights, so_far, target, then)
        so_far = (padded[:0], 0, 0, 0)


@jit
def _add_taps(block, group, x, weights, bias, target, finish_with, sizes):
    """The product of each kernel tap, for the pixels for which it is inside the map."""
    image, top, lines = block
    height, width, channels, kernel_height, kernel_width = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
    stride, padding, dilation, groups, out_width = sizes[5], sizes[6], sizes[7], sizes[8], sizes[10]
    inputs, outputs = channels // groups, sizes[11] // groups
    weight, weight_at = weights
    out, out_at, out_line, out_row = target
    for line in range(lines):
        for column in range(out_width):
            copy(*bias, out, out_at + line * out_line + column * out_row, outputs)
    for kernel_row in range(kernel_height):
        down = kernel_row * dilation - padding + top * stride
        first_line, last_line = _inside(down, stride, lines, height)
        for tap in range(kernel_width):
            right = tap * dilation - padding
            first, last = _inside(right, stride, out_width, width)
            pixel = (image * height + first_line * stride + down) * width + first * stride + right
            source = (x, pixel * channels + group * inputs, stride * width * channels, stride * channels, 1)
            sums = (out, out_at + first_line * out_line + first * out_row, out_line, out_row)
            shape = (last_line - first_line, last - first, inputs, outputs)
            panels = (weight, weight_at, kernel_width * inputs, tap * inputs)
            product(shape, source, panels, (x[:0], 0, 0, 0), sums, (finish_with[0][:0], IDENTITY))
        weight_at += kernel_width * inputs * padded_columns(outputs)
    for line in range(lines):
        finish((out, out_at + line * out_line, out_row), out_width, outputs, *finish_with)


@jit
def _inside(offset, stride, count, length):
    """The range of positions p < count for which offset + p * stride is one of `length`."""
    first = min(count, max(0, -(offset // stride)))
    return first, max(first, min(count, (length - 1 - offset) // stride + 1))
