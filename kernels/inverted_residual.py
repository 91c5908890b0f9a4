"""The inverted residual of MobileNetV2 in one pass: a 1x1 convolution to more channels, depthwise 3x3, 1x1 to few.

    wide = activation(x expand + bias)              E channels, 2 to 4 times as many as x has
    out = activation(depthwise(wide) + bias) reduce + bias (+ x)

Cost for each image: 2 H W I E + 18 H' W' E + 2 H' W' E O operations; 4 H W I bytes read and 4 H' W' O written. Taken
op by op, `wide` and its filtered copy (4 H W E and 4 H' W' E bytes, the largest tensors of the network) would be
written to memory and read again, which takes longer than the arithmetic. Here they live in L2: a thread goes down its
rows of the output, keeps the last rows of `wide` that the filter reaches in a ring, each with zeros at both ends, and
takes PIXELS filtered pixels at a time straight on to the last product.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .conv2d import PackedConv2d
from .depthwise_conv2d import PackedDepthwiseConv2d
from .runtime import arguments
from .runtime.jit import jit, kernel, unpack
from .runtime.program import Step, launch
from .simd.activations import IDENTITY, activation_code, finish
from .simd.instructions import LANES, Matrix, fill, fma, load, opaque, store
from .simd.product import ROWS, Finish, Lines, Panels, Rows, Shape, padded_columns, product

PIXELS = -(-16 // ROWS) * ROWS
GRAIN = 16  # rows in one go: each time, the first of them needs rows of `wide` that another thread has too


class Sizes(NamedTuple):
    height: int
    width: int
    out_height: int
    out_width: int
    stride: int
    dilation: int
    inputs: int
    expanded: int
    outputs: int
    code: int
    residual: int


class FilterRows(NamedTuple):
    """Where, in the working memory, the three wide rows begin that the depthwise filter takes together."""

    above: int
    middle: int
    below: int


class FilterDistances(NamedTuple):
    """How many elements it is from one output pixel's window to the next, from tap to tap, and from pixel to pixel."""

    window: int
    tap: int
    pixel: int


@dataclass(frozen=True)
class PackedInvertedResidual:
    """The three convolutions' weights and biases, one after the other as `inverted_residual` reads them."""

    data: np.ndarray
    inputs: int
    expanded: int
    outputs: int

    @classmethod
    def blank(cls, inputs: int, expanded: int, outputs: int) -> "PackedInvertedResidual":
        """Packed weights for these channels whose numbers are not set: to know the memory that they take."""
        wide, narrow = padded_columns(expanded), padded_columns(outputs)
        size = (inputs + 1) * wide + (9 + 1) * wide + expanded * narrow + narrow
        return cls(arguments.empty((size,)), inputs, expanded, outputs)


def pack_inverted_residual(
    expand: PackedConv2d,
    expand_bias: np.ndarray,
    depthwise: PackedDepthwiseConv2d,
    depthwise_bias: np.ndarray,
    reduce: PackedConv2d,
    reduce_bias: np.ndarray,
) -> PackedInvertedResidual:
    """Join three packed convolutions, 1x1, depthwise 3x3 and 1x1, with their biases (C).

    Raises TypeError or ValueError, one line, for a bias of the wrong type or shape and for other convolutions.
    """
    arguments.packed(depthwise, "pack_inverted_residual: depthwise", PackedDepthwiseConv2d, "pack_depthwise_conv2d")
    for name, packed in (("expand", expand), ("reduce", reduce)):
        arguments.packed(packed, f"pack_inverted_residual: {name}", PackedConv2d, "pack_conv2d")
        if (packed.kernel_height, packed.kernel_width, packed.groups) != (1, 1, 1):
            raise ValueError(f"pack_inverted_residual: {name} must be a 1x1 convolution in one group")
    if depthwise.data.shape != (3, 3, expand.outputs) or reduce.inputs != expand.outputs:
        raise ValueError(
            f"pack_inverted_residual: depthwise must be 3x3 on {expand.outputs} channels and reduce take as many, "
            f"not {depthwise.data.shape} and {reduce.inputs}"
        )
    filters = np.zeros((9, padded_columns(expand.outputs)), np.float32)
    filters[:, : expand.outputs] = depthwise.data.reshape(9, -1)
    biases = [
        np.pad(arguments.channel_values(bias, f"pack_inverted_residual: {name}_bias", count), (0, -count % LANES))
        for name, bias, count in (
            ("expand", expand_bias, expand.outputs),
            ("depthwise", depthwise_bias, expand.outputs),
            ("reduce", reduce_bias, reduce.outputs),
        )
    ]
    parts = [expand.data, biases[0], filters.ravel(), biases[1], reduce.data, biases[2]]
    return PackedInvertedResidual(
        arguments.aligned(np.concatenate(parts)), expand.inputs, expand.outputs, reduce.outputs
    )


def inverted_residual(
    x: np.ndarray,
    weights: PackedInvertedResidual,
    *,
    stride: int = 1,
    dilation: int = 1,
    activation: str = "silu",
    residual: bool = False,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """x (B, H, W, I) -> (B, H', W', O), float32; the depthwise padding is `dilation`. `residual` adds x.

    Raises TypeError or ValueError, one line, for an argument of the wrong type, shape or name.
    """
    x = arguments.tensor(x, "inverted_residual: x", "(B, H, W, C)")
    arguments.packed(weights, "inverted_residual: weights", PackedInvertedResidual, "pack_inverted_residual")
    batch, height, width, channels = x.shape
    arguments.last_axis(x, "inverted_residual: x", weights.inputs, "channels")
    stride, _, dilation = arguments.geometry(stride, 0, dilation, "inverted_residual")
    out_height, out_width = (height - 1) // stride + 1, (width - 1) // stride + 1
    shape = (batch, out_height, out_width, weights.outputs)
    if residual and shape != x.shape:
        raise ValueError(f"inverted_residual: residual needs an output like x, {x.shape}, but it is {shape}")
    code = activation_code(activation, "inverted_residual")
    out = arguments.output(out, "inverted_residual: out", shape, [x])
    sizes = Sizes(
        height=height,
        width=width,
        out_height=out_height,
        out_width=out_width,
        stride=stride,
        dilation=dilation,
        inputs=channels,
        expanded=weights.expanded,
        outputs=weights.outputs,
        code=code,
        residual=int(residual),
    )
    pixel = _pixel_size(weights.expanded)
    scratch = (2 * dilation + 2) * (width + 2 * dilation) * pixel + PIXELS * pixel
    launch(Step(_inverted_residual, batch * out_height, [x, weights.data], out, sizes, scratch, GRAIN))
    return out


@kernel
def _inverted_residual(arrays, sizes, first, last):
    """A unit of work is one output row.

    The working memory: the ring of 2 * dilation + 1 wide rows, a row of zeros for those outside the map, PIXELS
    filtered pixels.
    """
    x, data, _, _, out, scratch = arrays
    size = unpack(sizes, Sizes)
    height, width, dilation = size.height, size.width, size.dilation
    wide = padded_columns(size.expanded)
    expand_bias = size.inputs * wide
    filters = expand_bias + wide
    reduce = filters + 10 * wide
    reduce_bias = reduce + size.expanded * padded_columns(size.outputs)

    pixel = _pixel_size(size.expanded)
    ring, row_size = 2 * dilation + 1, (width + 2 * dilation) * pixel
    outside = ring * row_size
    filtered = outside + row_size
    fill(scratch, 0, filtered, 0.0)
    added = x if size.residual else x[:0]
    distances = FilterDistances(window=size.stride * pixel, tap=dilation * pixel, pixel=pixel)

    image = next_row = -1
    for unit in range(first, last):
        if unit // size.out_height != image:
            image, next_row = unit // size.out_height, 0
        middle = unit % size.out_height * size.stride
        for row in range(max(next_row, middle - dilation), min(middle + dilation + 1, height)):
            shape = Shape(lines=1, rows=width, depth=size.inputs, columns=wide)
            source = Rows(x, (image * height + row) * width * size.inputs, line=0, row=size.inputs, step=1)
            panels, bias = Panels(data, 0, depth=size.inputs, first=0), Lines(data, expand_bias, line=0, row=0)
            target = Lines(scratch, row % ring * row_size + dilation * pixel, line=0, row=pixel)
            product(shape, source, panels, bias, target, Finish(x[:0], size.code))
        next_row = middle + dilation + 1

        above, below = middle - dilation, middle + dilation
        above_at = above % ring * row_size if above >= 0 else outside
        below_at = below % ring * row_size if below < height else outside
        rows = FilterRows(above_at, middle % ring * row_size, below_at)
        for start in range(0, size.out_width, PIXELS):
            count = min(PIXELS, size.out_width - start)
            _filter(scratch, rows, start * distances.window, distances, Matrix(data, filters, wide), filtered, count)
            if size.code != IDENTITY:
                finish(Matrix(scratch, filtered, pixel), count, wide, x[:0], size.code)
            shape = Shape(lines=1, rows=count, depth=size.expanded, columns=size.outputs)
            source = Rows(scratch, filtered, line=0, row=pixel, step=1)
            panels, bias = Panels(data, reduce, depth=size.expanded, first=0), Lines(data, reduce_bias, line=0, row=0)
            target = Lines(out, (unit * size.out_width + start) * size.outputs, line=0, row=size.outputs)
            product(shape, source, panels, bias, target, Finish(added, IDENTITY))


@jit
def _pixel_size(channels):
    """Room for a pixel's channels: whole vectors, and an odd number of them. The filter goes from pixel to pixel, and
    steps of a power of two would all fall on the same few sets of the L1 cache: that takes up to a fifth longer."""
    return padded_columns(channels) | LANES


@jit
def _filter(scratch, rows, start, distances, filters, out_at, count):
    """The depthwise convolution for `count` output pixels, from the wide rows at `rows` to `out_at`.

    The first window begins `start` elements into the rows. `filters` is a Matrix: nine rows of taps and one of biases.
    """
    data, wide, tap = filters.array, filters.row, distances.tap
    for channel in range(0, wide, LANES):
        at = filters.at + channel
        w0, w1, w2 = _three(data, at, wide)
        w3, w4, w5 = _three(data, at + 3 * wide, wide)
        w6, w7, w8 = _three(data, at + 6 * wide, wide)
        bias = load(data, at + 9 * wide, LANES, 0.0)
        above, middle, below = rows.above + start + channel, rows.middle + start + channel, rows.below + start + channel
        for i in range(count):
            a, b, c = _three(scratch, opaque(above + i * distances.window), tap)
            value = fma(c, w2, fma(b, w1, fma(a, w0, bias)))
            a, b, c = _three(scratch, opaque(middle + i * distances.window), tap)
            value = fma(c, w5, fma(b, w4, fma(a, w3, value)))
            a, b, c = _three(scratch, opaque(below + i * distances.window), tap)
            value = fma(c, w8, fma(b, w7, fma(a, w6, value)))
            store(scratch, opaque(out_at + i * distances.pixel + channel), LANES, value)


@jit
def _three(array, at, step):
    return load(array, at, LANES, 0.0), load(array, at + step, LANES, 0.0), load(array, at + 2 * step, LANES, 0.0)
