"""Convolution: dense, 1x1, strided, dilated, grouped; a matrix product once each pixel's patch is a row.

    out[y, x, o] = activation(sum over ky, kx, i of padded[y s + ky d, x s + kx d, i] * weight[o, i, ky, kx] + bias[o])
                   + residual[y, x, o]                   for stride s and dilation d, in each of the groups by itself

Cost for P output pixels: 2 P O kh kw I / groups operations; 4 P kh kw I bytes gathered, in cache.

A block of pixels is taken at a time. Its patches are gathered into rows of a small matrix, some kernel rows of them
at a time (a chunk, so that the matrix stays in L2 however large the kernel is), and each chunk's product is added to
the block of the output. Channels are last, so a kernel row of a patch is one run of memory. A 1x1 convolution needs no
gathering: it is the linear layer.
"""

from dataclasses import dataclass

import numpy as np

from . import border
from .activate import IDENTITY, activation_code
from .jit import jit, kernel
from .linear import BLOCK, multiply_rows
from .product import ROWS, pack_panels, padded_columns, product
from .program import launch
from .simd import copy, fill

DEPTH = 256  # a chunk is as many kernel rows as have this many values, and at least one


@dataclass(frozen=True)
class PackedConv2d:
    """A weight (O, I / groups, kh, kw) in the order in which `conv2d` reads it, for one number of groups."""

    data: np.ndarray
    inputs: int  # of one group
    outputs: int
    kernel_height: int
    kernel_width: int
    groups: int


def pack_conv2d(weight: np.ndarray, groups: int = 1) -> PackedConv2d:
    """Pack a float32 weight (O, I / groups, kh, kw), PyTorch's layout, for `conv2d`."""
    weight = border.tensor(weight, "pack_conv2d: weight", "(O, I / groups, kh, kw)")
    groups = border.whole_number(groups, "pack_conv2d: groups", 1)
    outputs, inputs, height, width = weight.shape
    if outputs % groups:
        raise ValueError(f"pack_conv2d: groups must divide the {outputs} output channels, but is {groups}")
    rows = _chunk_rows(height, width * inputs)
    parts = [
        pack_panels(group[:, :, at : at + rows].transpose(2, 3, 1, 0).reshape(-1, outputs // groups))  # (k, O / groups)
        for group in np.split(weight, groups)
        for at in range(0, height, rows)
    ]
    return PackedConv2d(border.aligned(np.concatenate(parts)), inputs, outputs, height, width, groups)


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
    x = border.tensor(x, "conv2d: x", "(B, H, W, C)")
    if not isinstance(weight, PackedConv2d):
        raise TypeError(f"conv2d: weight must come from pack_conv2d, not be {type(weight).__name__}")
    batch, height, width, channels = x.shape
    if channels != weight.inputs * weight.groups:
        raise ValueError(f"conv2d: x must have {weight.inputs * weight.groups} channels, not {channels}")
    steps = border.steps(stride, padding, dilation, "conv2d")
    kernel_size = (weight.kernel_height, weight.kernel_width)
    out_height, out_width = border.window_positions((height, width), kernel_size, *steps, "conv2d")
    shape = (batch, out_height, out_width, weight.outputs)
    bias = border.bias(bias, "conv2d: bias", weight.outputs)
    residual = border.residual(residual, "conv2d: residual", shape)
    code = activation_code(activation, "conv2d")
    out = border.output(out, "conv2d: out", shape, [x, bias, residual])
    pixels = batch * out_height * out_width
    arrays = [x, weight.data, bias, residual]
    if kernel_size == (1, 1) and steps[:2] == (1, 0) and weight.groups == 1:
        launch(multiply_rows, -(-pixels // ROWS), arrays, out, [pixels, channels, weight.outputs, code])
    else:
        sizes = [height, width, channels, *kernel_size, *steps, weight.groups, out_height, out_width]
        row_depth = kernel_size[1] * weight.inputs
        scratch = BLOCK * _chunk_rows(kernel_size[0], row_depth) * row_depth
        launch(_conv2d, -(-pixels // ROWS), arrays, out, [*sizes, pixels, weight.outputs, code], scratch)
    return out


@kernel
def _conv2d(arrays, sizes, first, last):
    """A unit of work is ROWS output pixels."""
    x, weight, bias, residual, out, patches = arrays
    kernel_height, kernel_width, groups = sizes[3], sizes[4], sizes[8]
    pixels, outputs, code = sizes[11], sizes[12], sizes[13]
    group_inputs, group_outputs = sizes[2] // groups, outputs // groups
    row_depth = kernel_width * group_inputs
    chunk = _chunk_rows(kernel_height, row_depth)
    no_residual = residual[:0]
    end = min(last * ROWS, pixels)
    for start in range(first * ROWS, end, BLOCK):
        stop = min(start + BLOCK, end)
        weight_at = 0
        for group in range(groups):
            sums = (out, start * outputs + group * group_outputs, outputs)
            so_far = (bias, group * group_outputs, 0)
            for top in range(0, kernel_height, chunk):
                rows = min(chunk, kernel_height - top)
                depth = rows * row_depth
                _gather(x, patches, start, stop, top, rows, group, sizes)
                shape, rows_of_k = (stop - start, depth, group_outputs), (patches, 0, depth, 1)
                finish_with = (residual, code) if top + rows == kernel_height else (no_residual, IDENTITY)
                product(shape, rows_of_k, (weight, weight_at), so_far, sums, finish_with)
                weight_at += depth * padded_columns(group_outputs)
                so_far = sums


@jit
def _chunk_rows(kernel_height, row_depth):
    return max(1, min(kernel_height, DEPTH // row_depth))


@jit
def _gather(x, patches, start, stop, top, rows, group, sizes):
    """Kernel rows [top, top + rows) of the patches of output pixels [start, stop), one patch after another."""
    height, width, channels, kernel_width = sizes[0], sizes[1], sizes[2], sizes[4]
    stride, padding, dilation, groups = sizes[5], sizes[6], sizes[7], sizes[8]
    out_height, out_width = sizes[9], sizes[10]
    inputs = channels // groups
    run = kernel_width if dilation == 1 and groups == 1 else 1  # so many neighbours lie side by side in memory
    at = 0
    image, place = divmod(start, out_height * out_width)
    out_y, out_x = divmod(place, out_width)  # then counted: a division a pixel took longer than the gathering
    for _ in range(start, stop):
        for kernel_y in range(top, top + rows):
            row = out_y * stride - padding + kernel_y * dilation
            for kernel_x in range(0, kernel_width, run):
                column = out_x * stride - padding + kernel_x * dilation
                before = max(0, -column)  # taps in the padding on the left
                there = max(0, min(run, width - column) - before) if 0 <= row < height else 0
                if there < run:
                    fill(patches, at, run * inputs, 0.0)
                source = ((image * height + row) * width + column + before) * channels + group * inputs
                copy(x, source, patches, at + before * inputs, there * inputs)
                at += run * inputs
        out_x += 1
        if out_x == out_width:
            out_x, out_y = 0, out_y + 1
            if out_y == out_height:
                out_y, image = 0, image + 1
