"""Depthwise convolution: each channel by itself, so vector arithmetic along the channels of a pixel.

    out[y, x, c] = activation(sum over ky, kx of padded[y s + ky d, x s + kx d, c] * weight[c, ky, kx] + bias[c])

Cost for P output pixels: 2 P C kh kw operations; it reads about 4 s^2 P C bytes, each input value kh kw / s^2 times
from cache, and writes 4 P C. Loads are the limit, so neighbouring output pixels share each load of a weight.
"""

from dataclasses import dataclass

import numpy as np

from .runtime import arguments
from .runtime.jit import inline, jit, kernel
from .runtime.program import Step, launch
from .simd import LANES, fma, load, store
from .simd.activations import activation_code, finish

NEIGHBOURS = 4  # output pixels computed together


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
    """Pack a float32 weight (C, 1, kh, kw), PyTorch's layout, for `depthwise_conv2d`."""
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
    out: np.ndarray | None = None,
) -> np.ndarray:
    """activation(convolution + bias) with one group a channel: x (B, H, W, C) -> (B, H', W', C), float32.

    Stride, zero padding and dilation hold for both axes. Raises TypeError or ValueError, one line, for an argument of
    the wrong type, shape or name.
    """
    x = arguments.tensor(x, "depthwise_conv2d: x", "(B, H, W, C)")
    arguments.packed(weight, "depthwise_conv2d: weight", PackedDepthwiseConv2d, "pack_depthwise_conv2d")
    batch, height, width, channels = x.shape
    *kernel_size, weight_channels = weight.data.shape
    arguments.last_axis(x, "depthwise_conv2d: x", weight_channels, "channels")
    steps = arguments.steps(stride, padding, dilation, "depthwise_conv2d")
    out_height, out_width = arguments.window_positions((height, width), kernel_size, *steps, "depthwise_conv2d")
    bias = arguments.bias(bias, "depthwise_conv2d: bias", channels)
    code = activation_code(activation, "depthwise_conv2d")
    out = arguments.output(out, "depthwise_conv2d: out", (batch, out_height, out_width, channels), [x, bias])
    sizes = [height, width, channels, *kernel_size, *steps, out_height, out_width, code]
    launch(Step(_depthwise_conv2d, batch * out_height, [x, weight.data, bias], out, sizes))
    return out


@kernel
def _depthwise_conv2d(arrays, sizes, first, last):
    """A unit of work is one output row."""
    x, weight, bias, no_residual, out, _ = arrays
    height, width, channels, kernel_height, kernel_width = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
    stride, padding, dilation = sizes[5], sizes[6], sizes[7]
    out_height, out_width, code = sizes[8], sizes[9], sizes[10]
    tail = channels % LANES
    for row in range(first, last):
        image, y = divmod(row, out_height)
        top = y * stride - padding
        first_y, last_y = _taps_inside(top, dilation, kernel_height, height)
        pixel = 0
        while pixel < out_width:
            left = pixel * stride - padding
            right = left + (NEIGHBOURS - 1) * stride + (kernel_width - 1) * dilation
            together = pixel + NEIGHBOURS <= out_width and left >= 0 and right < width  # all their taps are inside
            first_x, last_x = (0, kernel_width) if together else _taps_inside(left, dilation, kernel_width, width)
            starts = (((image * height + top) * width + left) * channels, (row * out_width + pixel) * channels)
            taps = (first_y, last_y, first_x, last_x, kernel_width)
            strides = (channels, stride * channels, dilation * channels, dilation * width * channels)
            for channel in range(0, channels - tail, LANES):
                _sum_taps(x, weight, bias, out, starts, channel, LANES, taps, strides, together)
            if tail:
                _sum_taps(x, weight, bias, out, starts, channels - tail, tail, taps, strides, together)
            pixel += NEIGHBOURS if together else 1
        finish((out, row * out_width * channels, 0), 1, out_width * channels, no_residual, code)


@jit
def _taps_inside(start, dilation, taps, size):
    """The range of taps that fall on [0, size) when the first falls on `start`."""
    first = max(0, (dilation - 1 - start) // dilation)
    return first, max(first, min(taps, (size - start + dilation - 1) // dilation))


@inline
def _sum_taps(x, weight, bias, out, starts, channel, lanes, taps, strides, together):
    """The sums of one vector of channels: of one output pixel, or of NEIGHBOURS together."""
    x_at, out_at = starts
    first_y, last_y, first_x, last_x, kernel_width = taps
    pixel, neighbour, right, down = strides
    a = b = c = d = load(bias, channel, lanes, 0.0)
    for y in range(first_y, last_y):
        for x_tap in range(first_x, last_x):
            w = load(weight, (y * kernel_width + x_tap) * pixel + channel, lanes, 0.0)
            at = x_at + y * down + x_tap * right + channel
            a = fma(load(x, at, lanes, 0.0), w, a)
            if together:
                b = fma(load(x, at + neighbour, lanes, 0.0), w, b)
                c = fma(load(x, at + 2 * neighbour, lanes, 0.0), w, c)
                d = fma(load(x, at + 3 * neighbour, lanes, 0.0), w, d)
    store(out, out_at + channel, lanes, a)
    if together:
        store(out, out_at + pixel + channel, lanes, b)
        store(out, out_at + 2 * pixel + channel, lanes, c)
        store(out, out_at + 3 * pixel + channel, lanes, d)
