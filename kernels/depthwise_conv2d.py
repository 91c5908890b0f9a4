"""Depthwise convolution: each channel by itself, so vector arithmetic along the channels of a pixel.

    out[y, x, c] = activation(sum over ky, kx of padded[y s + ky d, x s + kx d, c] * weight[c, ky, kx] + bias[c])
                   + residual[y, x, c]

Cost for each image: 2 H' W' C kh kw operations; it reads about 4 H W C bytes, each input value kh kw / s^2 times from
cache, and writes 4 H' W' C. Loads are the limit, so neighbouring output pixels share each load of a weight.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .runtime import arguments
from .runtime.jit import inline, jit, kernel, unpack
from .runtime.program import Step, launch
from .simd.activations import activation_code, finish
from .simd.instructions import LANES, Matrix, fma, load, store

NEIGHBOURS = 4  # output pixels computed together


class Sizes(NamedTuple):
    height: int
    width: int
    channels: int
    kernel_height: int
    kernel_width: int
    stride: int
    padding: int
    dilation: int
    out_height: int
    out_width: int
    code: int


class Window(NamedTuple):
    """The taps that are summed, [first_y, last_y) x [first_x, last_x); where the window begins in the input and its
    output pixel in the output; whether the next pixels are summed with it, for which the same taps are inside."""

    first_y: int
    last_y: int
    first_x: int
    last_x: int
    x_at: int
    out_at: int
    together: bool


class Distances(NamedTuple):
    """How many elements it is from one pixel to the next, from an output pixel's window to the next, to the right and
    down from tap to tap, and from one row of taps to the next in the weight."""

    pixel: int
    window: int
    right: int
    down: int
    kernel_row: int


@dataclass(frozen=True)
class PackedDepthwiseConv2d:
    """A weight (C, 1, kh, kw) in the order in which `depthwise_conv2d` reads it: (kh, kw, C)."""

    data: np.ndarray

    @classmethod
    def blank(cls, shape: tuple[int, ...]) -> "PackedDepthwiseConv2d":
        """A packed weight of shape (C, 1, kh, kw) whose numbers are not set: to know the memory that it takes."""
        channels, _, height, width = shape
        return cls(np.empty((height, width, channels), np.float32))


def pack_depthwise_conv2d(weight: np.ndarray) -> PackedDepthwiseConv2d:
    """Pack a float32 weight (C, 1, kh, kw), PyTorch's layout, for `depthwise_conv2d`.

    Raises TypeError or ValueError, one line, for a weight of the wrong type or shape.
    """
    weight = arguments.tensor(weight, "pack_depthwise_conv2d: weight", "(C, 1, kh, kw)")
    if weight.shape[1] != 1:
        raise ValueError(f"pack_depthwise_conv2d: weight must be (C, 1, kh, kw), not of shape {weight.shape}")
    return PackedDepthwiseConv2d(np.array(weight[:, 0].transpose(1, 2, 0), order="C"))


def depthwise_conv2d(
    x: np.ndarray,
    weight: PackedDepthwiseConv2d,
    bias: np.ndarray | None,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    activation: str = "identity",
    residual: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """activation(convolution + bias) + residual with one group a channel: x (B, H, W, C) -> (B, H', W', C), float32.

    Stride, zero padding and dilation hold for both axes. Raises TypeError or ValueError, one line, for an argument of
    the wrong type, shape or name.
    """
    x = arguments.tensor(x, "depthwise_conv2d: x", "(B, H, W, C)")
    arguments.packed(weight, "depthwise_conv2d: weight", PackedDepthwiseConv2d, "pack_depthwise_conv2d")
    batch, height, width, channels = x.shape
    kernel_height, kernel_width, weight_channels = weight.data.shape
    kernel_size = (kernel_height, kernel_width)
    arguments.last_axis(x, "depthwise_conv2d: x", weight_channels, "channels")
    geometry = arguments.geometry(stride, padding, dilation, "depthwise_conv2d")
    out_height, out_width = arguments.window_positions((height, width), kernel_size, *geometry, "depthwise_conv2d")
    shape = (batch, out_height, out_width, channels)
    bias = arguments.bias(bias, "depthwise_conv2d: bias", channels)
    residual = arguments.residual(residual, "depthwise_conv2d: residual", shape)
    code = activation_code(activation, "depthwise_conv2d")
    out = arguments.output(out, "depthwise_conv2d: out", shape, [x, bias, residual])
    sizes = Sizes(
        height=height,
        width=width,
        channels=channels,
        kernel_height=kernel_height,
        kernel_width=kernel_width,
        stride=geometry.stride,
        padding=geometry.padding,
        dilation=geometry.dilation,
        out_height=out_height,
        out_width=out_width,
        code=code,
    )
    launch(Step(_depthwise_conv2d, batch * out_height, [x, weight.data, bias, residual], out, sizes))
    return out


@kernel
def _depthwise_conv2d(arrays, sizes, first, last):
    """A unit of work is one output row."""
    x, weight, bias, residual, out, _ = arrays
    size = unpack(sizes, Sizes)
    channels, tail = size.channels, size.channels % LANES
    distances = Distances(
        pixel=channels,
        window=size.stride * channels,
        right=size.dilation * channels,
        down=size.dilation * channels * size.width,
        kernel_row=size.kernel_width * channels,
    )
    for row in range(first, last):
        image, y = divmod(row, size.out_height)
        top = y * size.stride - size.padding
        first_y, last_y = _taps_inside(top, size.dilation, size.kernel_height, size.height)
        pixel = 0
        while pixel < size.out_width:
            left = pixel * size.stride - size.padding
            right = left + (NEIGHBOURS - 1) * size.stride + (size.kernel_width - 1) * size.dilation
            together = pixel + NEIGHBOURS <= size.out_width and left >= 0 and right < size.width  # all taps are inside
            first_x, last_x = 0, size.kernel_width
            if not together:
                first_x, last_x = _taps_inside(left, size.dilation, size.kernel_width, size.width)
            x_at = ((image * size.height + top) * size.width + left) * channels
            out_at = (row * size.out_width + pixel) * channels
            window = Window(first_y, last_y, first_x, last_x, x_at, out_at, together)
            for channel in range(0, channels - tail, LANES):
                _sum_taps((x, weight, bias, out), window, distances, channel, LANES)
            if tail:
                _sum_taps((x, weight, bias, out), window, distances, channels - tail, tail)
            pixel += NEIGHBOURS if together else 1
        whole_row = Matrix(out, row * size.out_width * channels, row=0)
        finish(whole_row, 1, size.out_width * channels, residual, size.code)


@jit
def _taps_inside(start, dilation, taps, size):
    """The range of taps that fall on [0, size) when the first falls on `start`."""
    first = max(0, (dilation - 1 - start) // dilation)
    return first, max(first, min(taps, (size - start + dilation - 1) // dilation))


@inline
def _sum_taps(arrays, window, distances, channel, lanes):
    """The sums of one vector of channels: of one output pixel, or of NEIGHBOURS together."""
    x, weight, bias, out = arrays
    a = b = c = d = load(bias, channel, lanes, 0.0)
    for tap_y in range(window.first_y, window.last_y):
        for tap_x in range(window.first_x, window.last_x):
            w = load(weight, tap_y * distances.kernel_row + tap_x * distances.pixel + channel, lanes, 0.0)
            at = window.x_at + tap_y * distances.down + tap_x * distances.right + channel
            a = fma(load(x, at, lanes, 0.0), w, a)
            if window.together:
                b = fma(load(x, at + distances.window, lanes, 0.0), w, b)
                c = fma(load(x, at + 2 * distances.window, lanes, 0.0), w, c)
                d = fma(load(x, at + 3 * distances.window, lanes, 0.0), w, d)
    out_at = window.out_at + channel
    store(out, out_at, lanes, a)
    if window.together:
        store(out, out_at + distances.pixel, lanes, b)
        store(out, out_at + 2 * distances.pixel, lanes, c)
        store(out, out_at + 3 * distances.pixel, lanes, d)
