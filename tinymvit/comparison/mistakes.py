"""The catalogue of known mistakes: for each op, what a port that gets it wrong in a known way would compute.

A mistake is computed by a function of an `OpCall` (an op with its inputs and weights) that returns the wrong output, or
None where it does not apply: an op without bias cannot miss it. `CATALOGUE` names each by the sentence that a hint
says. Finding which mistake explains a port's numbers is left to `hints`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import numpy as np

from tinymvit import ops, reference
from tinymvit.graph import Graph, Node
from tinymvit.numerics import Array, to_bfloat16, to_float16, to_int8, to_int8_by_channel, to_uint8


@dataclass(frozen=True)
class OpCall:
    """An op with its inputs and weights, all of one float dtype.

    others: the node names and weights of the ops that read the same input and have the same weight shapes, in the
    graph's order, this op among them. Beside a query they are the key and the value.
    """

    name: str
    op: Any
    inputs: tuple[Array, ...]
    weights: tuple[Array, ...] = ()
    others: tuple[tuple[str, tuple[Array, ...]], ...] = ()

    def compute(self, *inputs: Array, op: ops.Op | None = None, weights: tuple[Array, ...] | None = None) -> Array:
        """The op, or another, on these inputs, by default its own, with its weights or others."""
        weights = self.weights if weights is None else weights
        return reference.compute(op or self.op, list(inputs or self.inputs), list(weights))


Compute = Callable[[OpCall], Array | None]


@dataclass(frozen=True)
class Mistake:
    """A known mistake. sentence: what a hint says; mistakes of one sentence are one mistake, at whichever ops they are
    made. compute: the wrong output, or None where the mistake does not apply."""

    sentence: str
    compute: Compute = field(compare=False)


def mistakes(op: ops.Op) -> list[Mistake]:
    """The known mistakes of an op, in the order of the catalogue."""
    return [Mistake(sentence, compute) for sentence, compute in CATALOGUE.get(type(op), {}).items()]


# ---- several ops: weights, biases, number formats ----


def missing_bias(call: OpCall) -> Array | None:
    return call.compute(weights=(*call.weights[:-1], 0 * call.weights[-1])) if call.op.bias else None


def identity(call: OpCall) -> Array | None:
    return call.inputs[0]


def with_inputs(change: Callable[[Array], Array], call: OpCall) -> Array | None:
    return call.compute(*map(change, call.inputs))


def with_inputs_and_weights(change: Callable[[Array], Array], call: OpCall) -> Array | None:
    return call.compute(*map(change, call.inputs), weights=(change(call.weights[0]), *call.weights[1:]))


def with_weights(change: Callable[[Array], Array], call: OpCall) -> Array | None:
    return call.compute(weights=(change(call.weights[0]), *call.weights[1:]))


def weights_of(other: int, call: OpCall) -> Array | None:
    """The op with the weights of another that reads the same input: of the one `other` places further in the graph."""
    names = [name for name, _ in call.others]
    if len(names) < 2:
        return None
    at = (names.index(call.name) + other) % len(names)
    return None if names[at] == call.name else call.compute(weights=call.others[at][1])


# ---- pixels and convolution ----


def pixels_prepared(
    rgb: bool, scale: float, mean: tuple[float, ...], deviation: tuple[float, ...], call: OpCall
) -> Array | None:
    """(scale x - mean) / deviation, channel by channel, the constants in RGB order; RGB in place of BGR, if `rgb`."""
    x = call.inputs[0]
    if x.ndim != 4 or x.shape[1] != 3:
        return None
    mean_bgr, deviation_bgr = (np.asarray(values[::-1], x.dtype).reshape(3, 1, 1) for values in (mean, deviation))
    x = (x * x.dtype.type(scale) - mean_bgr) / deviation_bgr
    return x[:, ::-1] if rgb else x


def convolved(pixels: Compute, call: OpCall) -> Array | None:
    """The convolution of pixels that are wrong; one that reads other maps cannot make this mistake."""
    x = pixels(call)
    return None if x is None else call.compute(x)


def same_padding(call: OpCall) -> Array | None:
    """TensorFlow's SAME: the padding that is needed, the odd one of it after the last row and column."""
    op, x = call.op, call.inputs[0]
    reach = op.dilation * (op.kernel_size - 1)
    padding = []
    for size in x.shape[2:]:
        needed = max((math.ceil(size / op.stride) - 1) * op.stride + reach + 1 - size, 0)
        padding.append((needed // 2, needed - needed // 2))
    if all(before == op.padding for before, _ in padding):
        return None
    x = np.pad(x, ((0, 0), (0, 0), *padding))
    return call.compute(x, op=replace(op, padding=0))


def padding_mode(mode: str, call: OpCall) -> Array | None:
    op, x = call.op, call.inputs[0]
    if op.padding == 0 or (mode == "reflect" and min(x.shape[2:]) <= op.padding):
        return None
    p = op.padding
    x = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)), mode=cast(Any, mode))
    return call.compute(x, op=replace(op, padding=0))


def dilation_ignored(call: OpCall) -> Array | None:
    op = call.op
    if op.dilation == 1:
        return None
    return call.compute(op=replace(op, dilation=1, padding=(op.kernel_size - 1) // 2))


def kernel_transposed(call: OpCall) -> Array | None:
    return with_weights(lambda w: w.swapaxes(2, 3), call) if call.op.kernel_size > 1 else None


def kernel_flipped(call: OpCall) -> Array | None:
    return with_weights(lambda w: w[:, :, ::-1, ::-1], call) if call.op.kernel_size > 1 else None


def channels_of_weight_transposed(call: OpCall) -> Array | None:
    """The bytes of (out, in, ...) read as (in, out, ...)."""

    def transposed(w: Array) -> Array:
        return w.reshape(w.shape[1], w.shape[0], *w.shape[2:]).swapaxes(0, 1)

    return None if 1 in call.weights[0].shape[:2] else with_weights(transposed, call)


def weight_read_as_height_width_in_out(call: OpCall) -> Array | None:
    """The bytes of (out, in, u, v) read as TensorFlow's (u, v, in, out)."""
    out, channels, u, v = call.weights[0].shape
    if u == 1:
        return None
    return with_weights(lambda w: w.reshape(u, v, channels, out).transpose(3, 2, 0, 1), call)


# ---- normalisation and activation ----


def with_epsilon(eps: float, call: OpCall) -> Array | None:
    return None if call.op.eps == eps else call.compute(op=replace(call.op, eps=eps))


def batch_statistics(call: OpCall) -> Array | None:
    """BatchNorm as in training: the mean and variance of this very input."""
    x, (weight, bias, _, _) = call.inputs[0], call.weights
    return call.compute(weights=(weight, bias, x.mean((0, 2, 3)), x.var((0, 2, 3))))


def variance_as_deviation(call: OpCall) -> Array | None:
    """Divided by variance + eps, without the root."""
    weight, bias, mean, variance = call.weights
    return call.compute(weights=(weight, bias, mean, (variance + call.op.eps) ** 2 - call.op.eps))


def scale_and_shift_left_out(call: OpCall) -> Array | None:
    weight, bias, *statistics = call.weights
    return call.compute(weights=(np.ones_like(weight), 0 * bias, *statistics))


def unbiased_variance(call: OpCall) -> Array | None:
    """Divided by D - 1 in place of D."""
    x, width = call.inputs[0], call.op.width
    if width < 2:
        return None
    variance = x.var(-1, keepdims=True) * x.dtype.type(width / (width - 1))
    weight, bias = call.weights
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(variance + x.dtype.type(call.op.eps)) * weight + bias


def normalised_over_tokens(call: OpCall) -> Array | None:
    x = call.inputs[0]
    centred = x - x.mean(1, keepdims=True)
    variance = (centred * centred).mean(1, keepdims=True)
    weight, bias = call.weights
    return centred / np.sqrt(variance + x.dtype.type(call.op.eps)) * weight + bias


def with_activation(function: str, call: OpCall) -> Array | None:
    return None if call.op.function == function else call.compute(op=ops.Activation(function))


# ---- residuals and concatenation ----


def only_input(index: int, call: OpCall) -> Array | None:
    return call.inputs[index]


def concatenated_backwards(call: OpCall) -> Array | None:
    return call.compute(*call.inputs[::-1])


# ---- unfold and fold ----


def _unfolded(call: OpCall, order: tuple[int, ...]) -> Array:
    """Axes of the map, apart, in another order: 0 B, 1 D, 2 y, 3 i, 4 x, 5 j (see `layouts`); then merged as tokens."""
    x, op = call.inputs[0], call.op
    batch, width, height, width_of_map = x.shape
    i, j = op.patch_height, op.patch_width
    apart = x.reshape(batch, width, height // i, i, width_of_map // j, j)
    return apart.transpose(order).reshape(batch * i * j, -1, width)


def positions_by_column(call: OpCall) -> Array | None:
    return _unfolded(call, (0, 5, 3, 2, 4, 1))


def patches_by_column(call: OpCall) -> Array | None:
    return _unfolded(call, (0, 3, 5, 4, 2, 1))


def all_by_column(call: OpCall) -> Array | None:
    return _unfolded(call, (0, 5, 3, 4, 2, 1))


def unfolded_by_reshape(call: OpCall) -> Array | None:
    return call.inputs[0].reshape(call.compute().shape)


def unfolded_by_reshape_of_channels_last(call: OpCall) -> Array | None:
    return call.inputs[0].transpose(0, 2, 3, 1).reshape(call.compute().shape)


def tokens_in_patches(call: OpCall) -> Array | None:
    """(B N, P, D): a patch's pixels form a sequence, so attention runs inside patches."""
    right = call.compute()
    batch = len(call.inputs[0])
    apart = right.reshape(batch, -1, *right.shape[1:]).swapaxes(1, 2)  # (B, N, P, D)
    return apart.reshape(-1, *apart.shape[2:])


def tokens_in_patches_reshaped(call: OpCall) -> Array | None:
    wrong = tokens_in_patches(call)
    return None if wrong is None else wrong.reshape(call.compute().shape)


def _folded(call: OpCall, sizes: str, order: str) -> Array | None:
    """Tokens read as axes `sizes`, put in the order of a map, B D y i x j."""
    x, op = call.inputs[0], call.op
    i, j = op.patch_height, op.patch_width
    size = {"i": i, "j": j, "y": op.height // i, "x": op.width // j, "D": x.shape[-1]}
    size["B"] = x.size // math.prod(size.values())
    if math.prod(size.values()) != x.size:
        return None
    apart = x.reshape([size[axis] for axis in sizes])
    return apart.transpose([sizes.index(axis) for axis in order]).reshape(-1, x.shape[-1], op.height, op.width)


def folded_from(sizes: str, call: OpCall) -> Array | None:
    return _folded(call, sizes, "BDyixj")


def folded_by_reshape(call: OpCall) -> Array | None:
    return call.inputs[0].reshape(call.compute().shape)


def folded_by_reshape_to_channels_last(call: OpCall) -> Array | None:
    batch, width, height, width_of_map = call.compute().shape
    return call.inputs[0].reshape(batch, height, width_of_map, width).transpose(0, 3, 1, 2)


# ---- attention ----


def scaled_by(scale: Callable[[int, int], float], call: OpCall) -> Array | None:
    """scale(D, h) in place of sqrt(D / h)."""
    width = call.inputs[0].shape[-1]
    right = math.sqrt(width / call.op.heads)
    wrong = scale(width, call.op.heads)
    return None if wrong == right else call.compute() * call.inputs[0].dtype.type(right / wrong)


def query_and_key_exchanged(call: OpCall) -> Array | None:
    return call.compute(*call.inputs[::-1])


def _heads_last(x: Array, heads: int) -> Array:
    """The same channels in the order in which (D / h, h) would have been (h, D / h)."""
    sequences, tokens, width = x.shape
    return x.reshape(sequences, tokens, width // heads, heads).swapaxes(2, 3).reshape(x.shape)


def _heads_without_swap(x: Array, heads: int) -> Array:
    """(N, D) reshaped to (h, N, D / h) without a transpose, and that laid out as (N, D) again."""
    sequences, tokens, width = x.shape
    return x.reshape(sequences, heads, tokens, width // heads).swapaxes(1, 2).reshape(x.shape)


def heads_split(split: Callable[[Array, int], Array], call: OpCall) -> Array | None:
    heads = call.op.heads
    return None if heads == 1 else call.compute(*(split(x, heads) for x in call.inputs))


def one_head(call: OpCall) -> Array | None:
    """All D channels in one product, for each head alike."""
    op = call.op
    return np.repeat(call.compute(op=replace(op, heads=1)), op.heads, 1) if op.heads > 1 else None


def softmax_over(axis: int, call: OpCall) -> Array | None:
    x = call.inputs[0].swapaxes(axis, -1)
    return call.compute(x).swapaxes(axis, -1)


def value_heads_split(split: Callable[[Array, int], Array], call: OpCall) -> Array | None:
    probabilities, value = call.inputs
    heads = probabilities.shape[1]
    return None if heads == 1 else call.compute(probabilities, split(value, heads))


def heads_joined_without_swap(call: OpCall) -> Array | None:
    """(h, N, D / h) reshaped to (N, D) without the transpose."""
    right, heads = call.compute(), call.inputs[0].shape[1]
    sequences, tokens, _ = right.shape
    return None if heads == 1 else right.reshape(sequences, tokens, heads, -1).swapaxes(1, 2).reshape(right.shape)


def heads_joined_last(call: OpCall) -> Array | None:
    right, heads = call.compute(), call.inputs[0].shape[1]
    sequences, tokens, width = right.shape
    apart = right.reshape(sequences, tokens, heads, width // heads)
    return None if heads == 1 else apart.swapaxes(2, 3).reshape(right.shape)


def probabilities_transposed(call: OpCall) -> Array | None:
    probabilities, value = call.inputs
    return call.compute(probabilities.swapaxes(2, 3), value)


def softmax_left_out(call: OpCall) -> Array | None:
    return call.inputs[0]


def fused_weight_by_head(heads: int, call: OpCall) -> Array | None:
    """Query, key and value made by one product whose rows were taken as (h, 3, D / h) but lie as (3, h, D / h)."""
    if len(call.others) != 3 or call.weights[0].shape[0] % heads:
        return None
    at = [name for name, _ in call.others].index(call.name)

    def rows(tensors: tuple[Array, ...]) -> Array:
        fused = np.concatenate(tensors)
        return fused.reshape(heads, 3, -1, *fused.shape[1:])[:, at].reshape(tensors[0].shape)

    return call.compute(weights=tuple(map(rows, zip(*(weights for _, weights in call.others), strict=True))))


# ---- pooling and resizing ----


def pooled_by(function: Callable[..., Array], call: OpCall) -> Array | None:
    return function(call.inputs[0], (2, 3), keepdims=call.op.keep_dims)


def pooled_after_reshape(call: OpCall) -> Array | None:
    """The memory of (B, C, H, W) read as (B, H, W, C), or the other way round."""
    x = call.inputs[0]
    batch, channels, height, width = x.shape
    return call.compute(x.reshape(batch, height, width, channels).transpose(0, 3, 1, 2))


def resized_at(points: Callable[[int, int], Array], call: OpCall) -> Array | None:
    """Bilinear, output point i lying at points(size, new_size)[i] of the input."""
    x, op = call.inputs[0], call.op
    for axis, new_size in ((2, op.height), (3, op.width)):
        size = x.shape[axis]
        at = np.clip(points(size, new_size), 0, size - 1)
        before = np.floor(at).astype(int)
        t = (at - before).astype(x.dtype).reshape([-1 if a == axis else 1 for a in range(4)])
        x = x.take(before, axis) * (1 - t) + x.take(np.minimum(before + 1, size - 1), axis) * t
    return x


def corners_aligned(size: int, new_size: int) -> Array:
    return np.arange(new_size) * ((size - 1) / max(new_size - 1, 1))


def not_half_pixel(size: int, new_size: int) -> Array:
    return np.arange(new_size) * (size / new_size)


def nearest_pixel(size: int, new_size: int) -> Array:
    return np.floor(not_half_pixel(size, new_size))


def nearest_half_pixel(size: int, new_size: int) -> Array:
    return np.floor((np.arange(new_size) + 0.5) * (size / new_size))


def padded_to_size(call: OpCall) -> Array | None:
    """Zeros after the last row and column, or a cut, in place of the resize."""
    x, op = call.inputs[0][:, :, : call.op.height, : call.op.width], call.op
    return np.pad(x, ((0, 0), (0, 0), (0, op.height - x.shape[2]), (0, op.width - x.shape[3])))


# ---- the catalogue: the commoner and the more telling first ----

SCALE_AND_SHIFT = Mistake("scale and shift are missing", scale_and_shift_left_out)
EPSILONS = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)  # below 1e-6, float32 cannot tell one from another
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
NOTHING = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
PREPARATIONS = {  # of the pixels, which are right when divided by 255 once: scale, mean, deviation
    "not divided by 255": (255.0, *NOTHING),
    "divided by 255 once more": (1 / 255, *NOTHING),
    "standardised with ImageNet's mean and deviation": (1.0, *IMAGENET),
    "scaled to run from -1 to 1": (1.0, *HALVES),
    "not divided by 255 and less Caffe's mean": (255.0, (123.68, 116.779, 103.939), NOTHING[1]),
    "divided by 255 once more and standardised with ImageNet's mean and deviation": (1 / 255, *IMAGENET),
    "divided by 255 once more and scaled to run from -1 to 1": (1 / 255, *HALVES),
}
NUMBER_FORMATS = {"float16": to_float16, "bfloat16": to_bfloat16, "int8": to_int8, "uint8 with a zero point": to_uint8}

SWAPPED = "channels are swapped (RGB for BGR)"
_pixels: dict[str, Compute] = {
    SWAPPED: partial(pixels_prepared, True, 1.0, *NOTHING),
    **{f"pixels are {how}": partial(pixels_prepared, False, *constants) for how, constants in PREPARATIONS.items()},
    **{
        f"{SWAPPED} and pixels are {how}": partial(pixels_prepared, True, *constants)
        for how, constants in PREPARATIONS.items()
    },
}
_eps: dict[str, Compute] = {
    f"epsilon is {eps:g}" if eps else "epsilon is missing, or below 1e-6": partial(with_epsilon, eps)
    for eps in EPSILONS
}
_rounding: dict[str, Compute] = {
    f"inputs are rounded to {name}": partial(with_inputs, change) for name, change in NUMBER_FORMATS.items()
}
_rounding_with_weights: dict[str, Compute] = {
    **_rounding,
    **{f"weights are rounded to {name}": partial(with_weights, change) for name, change in NUMBER_FORMATS.items()},
    **{
        f"inputs and weights are rounded to {name}": partial(with_inputs_and_weights, change)
        for name, change in NUMBER_FORMATS.items()
    },
    "weights are rounded to int8 channel by channel": partial(with_weights, to_int8_by_channel),
}

CATALOGUE: dict[type[ops.Op], dict[str, Compute]] = {
    ops.Input: _pixels,
    ops.Conv2d: {
        **{f"{sentence} before it": partial(convolved, pixels) for sentence, pixels in _pixels.items()},
        "the bias is missing": missing_bias,
        "dilation is ignored": dilation_ignored,
        "padding is on the wrong side (TensorFlow's SAME)": same_padding,
        "padding repeats the edge, not zeros": partial(padding_mode, "edge"),
        "padding mirrors the map, not zeros": partial(padding_mode, "reflect"),
        "the kernel is transposed": kernel_transposed,
        "the kernel is flipped": kernel_flipped,
        "the weight is transposed (in, out)": channels_of_weight_transposed,
        "the weight is read as (height, width, in, out)": weight_read_as_height_width_in_out,
        **_rounding_with_weights,
    },
    ops.BatchNorm: {
        "the normalisation is missing": identity,
        **_eps,
        "the statistics are the batch's, as in training": batch_statistics,
        "the variance is used as the deviation": variance_as_deviation,
        SCALE_AND_SHIFT.sentence: SCALE_AND_SHIFT.compute,
    },
    ops.Activation: {
        "the activation is missing": identity,
        **{
            f"the activation is {name}": partial(with_activation, name)
            for name in ops.ACTIVATION_FUNCTIONS
            if name != "identity"
        },
        **_rounding,
    },
    ops.Add: {
        "the residual is missing: only the first term is there": partial(only_input, 0),
        "the residual is missing: only the second term is there": partial(only_input, 1),
    },
    ops.Concat: {"the inputs are in the other order": concatenated_backwards},
    ops.Unfold: {
        "unfold order: positions inside a patch go column by column": positions_by_column,
        "unfold order: patches go column by column": patches_by_column,
        "unfold order: positions and patches go column by column": all_by_column,
        "unfold order: (B, D, H, W) is reshaped without transposes": unfolded_by_reshape,
        "unfold order: (B, H, W, D) is reshaped without transposes": unfolded_by_reshape_of_channels_last,
        "patches are swapped with positions: attention would run inside patches": tokens_in_patches,
        "patches are swapped with positions, then reshaped": tokens_in_patches_reshaped,
    },
    ops.Fold: {
        "fold order: positions inside a patch go column by column": partial(folded_from, "BjiyxD"),
        "fold order: patches go column by column": partial(folded_from, "BijxyD"),
        "fold order: positions and patches go column by column": partial(folded_from, "BjixyD"),
        "fold order: reshaped to (B, D, H, W) without transposes": folded_by_reshape,
        "fold order: reshaped to (B, H, W, D) without transposes": folded_by_reshape_to_channels_last,
        "patches are swapped with positions": partial(folded_from, "ByxijD"),
    },
    ops.LayerNorm: {
        "the normalisation is missing": identity,
        **_eps,
        SCALE_AND_SHIFT.sentence: SCALE_AND_SHIFT.compute,
        "the variance is unbiased (divided by D - 1)": unbiased_variance,
        "it normalises over the tokens, not the channels": normalised_over_tokens,
    },
    ops.Linear: {
        "the weight is transposed": channels_of_weight_transposed,
        "the bias is missing": missing_bias,
        "query, key and value are in another order (the next one's weights)": partial(weights_of, 1),
        "query, key and value are in another order (the one before's weights)": partial(weights_of, -1),
        **{
            f"query, key and value of one product are split head by head ({heads} heads)": partial(
                fused_weight_by_head, heads
            )
            for heads in (2, 4, 8)
        },
        **_rounding_with_weights,
    },
    ops.Scores: {
        "the scale is 1/sqrt(D), not 1/sqrt(D/h)": partial(scaled_by, lambda width, heads: math.sqrt(width)),
        "the scale is missing": partial(scaled_by, lambda width, heads: 1.0),
        "the scale is 1/(D/h), without the root": partial(scaled_by, lambda width, heads: width / heads),
        "query and key are exchanged": query_and_key_exchanged,
        "heads are split wrongly: as (D/h, h)": partial(heads_split, _heads_last),
        "heads are split wrongly: without a transpose": partial(heads_split, _heads_without_swap),
        "heads are not split": one_head,
        **_rounding,
    },
    ops.Softmax: {
        "softmax runs over the wrong axis (the queries)": partial(softmax_over, -2),
        "softmax runs over the wrong axis (the heads)": partial(softmax_over, 1),
        "softmax runs over the wrong axis (the sequences)": partial(softmax_over, 0),
        "softmax is missing": softmax_left_out,
        **_rounding,
    },
    ops.Context: {
        "heads are split wrongly: as (D/h, h)": partial(value_heads_split, _heads_last),
        "heads are split wrongly: without a transpose": partial(value_heads_split, _heads_without_swap),
        "heads are joined wrongly: as (D/h, h)": heads_joined_last,
        "heads are joined wrongly: without a transpose": heads_joined_without_swap,
        "the probabilities are transposed": probabilities_transposed,
        **_rounding,
    },
    ops.MeanPool: {
        "average pooling: the maximum in its place": partial(pooled_by, np.max),
        "average pooling: the sum in its place": partial(pooled_by, np.sum),
        "average pooling: the memory is read in another layout": pooled_after_reshape,
        **_rounding,
    },
    ops.Resize: {
        "align_corners is true": partial(resized_at, corners_aligned),
        "resize has no half-pixel centres": partial(resized_at, not_half_pixel),
        "resize takes the nearest pixel": partial(resized_at, nearest_pixel),
        "resize takes the nearest pixel, half-pixel centres": partial(resized_at, nearest_half_pixel),
        "resize is a zero padding": padded_to_size,
    },
}


def op_call(node: Node, graph: Graph, inputs: tuple[Array, ...], weights: Callable[[str], Array]) -> OpCall:
    """The call of a node's op: `weights` gives a tensor by its name, in the dtype of the inputs."""

    def alike() -> Iterator[tuple[str, tuple[Array, ...]]]:
        for other in graph:
            if other.inputs == node.inputs and other.op == node.op:
                yield other.name, tuple(map(weights, other.weights))

    others = alike() if isinstance(node.op, ops.Linear) else ()
    return OpCall(node.name, node.op, inputs, tuple(map(weights, node.weights)), tuple(others))
