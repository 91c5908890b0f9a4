"""The reference: runs a graph with NumPy, in float64 (the truth) or float32. One short function an op.

This is the specification that the engine and every port is held against, written to be read: no speed, no layout
tricks, channels first throughout. Legend as in `graph`. `steps` yields every intermediate by its node's name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from tinymvit import graph as ops
from tinymvit.graph import Graph, Node, last_use

Array = np.ndarray


def run(graph: Graph, weights: Mapping[str, Array], pixel_values: Array, dtype: type = np.float64) -> dict[str, Array]:
    """The graph's outputs by their public names, each an array of `dtype`."""
    wanted = set(graph.outputs.values())
    values = {node.name: value for node, value in steps(graph, weights, pixel_values, dtype) if node.name in wanted}
    return {public: values[name] for public, name in graph.outputs.items()}


def steps(
    graph: Graph, weights: Mapping[str, Array], pixel_values: Array, dtype: type = np.float64
) -> Iterator[tuple[Node, Array]]:
    """Each node with its value, in order. A value that no later node reads is let go."""
    values: dict[str, Array] = {}
    uses = last_use(graph)
    for index, node in enumerate(graph):
        if isinstance(node.op, ops.Input):
            value: Array = np.asarray(pixel_values, dtype)
        else:
            inputs = [values[name] for name in node.inputs]
            value = compute(node.op, inputs, [np.asarray(weights[name], dtype) for name in node.weights])
        values[node.name] = value
        yield node, value
        for name in {node.name, *node.inputs}:
            if uses[name] <= index:
                del values[name]


def compute(op: ops.Op, inputs: list[Array], weights: list[Array]) -> Array:
    """The output of one op for these inputs and these weights (in the order of its weight_shapes)."""
    return FUNCTIONS[type(op)](op, *inputs, *weights)


# ---- one function an op: (op, inputs..., weights...) -> output ----


def conv2d(op: ops.Conv2d, x: Array, weight: Array, bias: Array | None = None) -> Array:
    """y[b, o, i, j] = bias[o] + sum over c, u, v of weight[o, c, u, v] x[b, c, s i + d u - p, s j + d v - p]"""
    batch, channels, _, _ = x.shape
    _, _, height, width = op.output_shape(x.shape)
    p, s, d, groups = op.padding, op.stride, op.dilation, op.groups
    x = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    x = x.reshape(batch, groups, channels // groups, *x.shape[2:])
    w = weight.reshape(groups, -1, *weight.shape[1:])  # (groups, O / groups, C / groups, u, v)
    y = np.zeros((batch, groups, w.shape[1], height * width), x.dtype)
    for u in range(op.kernel_size):
        for v in range(op.kernel_size):
            seen = x[:, :, :, d * u :: s, d * v :: s][:, :, :, :height, :width]  # what weight u, v meets
            y += w[:, :, :, u, v] @ seen.reshape(batch, groups, -1, height * width)
    y = y.reshape(batch, -1, height, width)
    return y if bias is None else y + bias[:, None, None]


def batch_norm(op: ops.BatchNorm, x: Array, weight: Array, bias: Array, mean: Array, variance: Array) -> Array:
    mean, variance, weight, bias = (v[:, None, None] for v in (mean, variance, weight, bias))
    return (x - mean) / np.sqrt(variance + x.dtype.type(op.eps)) * weight + bias


def activation(op: ops.Activation, x: Array) -> Array:
    if isinstance(op.function, str):
        return ACTIVATION_FUNCTIONS[op.function](x)
    return call_activation(op.function, x)


def call_activation(function: Callable, x: Array) -> Array:
    """A user's own activation: takes and gives an array of one shape and dtype. Raises ValueError if it does not."""
    y = np.asarray(function(x))
    if y.shape != x.shape:
        raise ValueError(f"hidden_act {function!r} gave shape {y.shape} for an input of shape {x.shape}")
    return y.astype(x.dtype, copy=False)


def add(op: ops.Add, a: Array, b: Array) -> Array:
    return a + b


def concat(op: ops.Concat, *inputs: Array) -> Array:
    return np.concatenate(inputs, axis=1)


def resize(op: ops.Resize, x: Array) -> Array:
    """Rows, then columns: each output point is a weighted mean of the two nearest inputs on either side of it."""
    above, below, t = _neighbours(x.shape[2], op.height, x.dtype)
    x = x[:, :, above] * (1 - t)[:, None] + x[:, :, below] * t[:, None]
    left, right, t = _neighbours(x.shape[3], op.width, x.dtype)
    return x[:, :, :, left] * (1 - t) + x[:, :, :, right] * t


def _neighbours(size: int, new_size: int, dtype: np.dtype) -> tuple[Array, Array, Array]:
    """For each of new_size points: the inputs before and after it, and how far it lies between them (0 to 1).

    Pixels are squares, not points (align_corners=False): the centre of output i lies at (i + 1/2) size / new_size.
    """
    scale = float(dtype.type(size) / dtype.type(new_size))
    at = np.maximum((np.arange(new_size) + 0.5) * scale - 0.5, 0).astype(dtype)  # rounded once, as PyTorch does
    before = np.minimum(at.astype(int), size - 1)
    return before, np.minimum(before + 1, size - 1), at - before.astype(dtype)


def unfold(op: ops.Unfold, x: Array) -> Array:
    batch, width, height_of_map, width_of_map = x.shape
    ph, pw = op.patch_height, op.patch_width
    x = x.reshape(batch, width, height_of_map // ph, ph, width_of_map // pw, pw)
    x = x.transpose(0, 3, 5, 2, 4, 1)  # (B, ph, pw, H / ph, W / pw, D)
    return x.reshape(batch * ph * pw, -1, width)  # (B P, N, D)


def fold(op: ops.Fold, x: Array) -> Array:
    ph, pw = op.patch_height, op.patch_width
    x = x.reshape(-1, ph, pw, op.height // ph, op.width // pw, x.shape[-1])
    x = x.transpose(0, 5, 3, 1, 4, 2)  # (B, D, H / ph, ph, W / pw, pw)
    return x.reshape(x.shape[0], x.shape[1], op.height, op.width)


def layer_norm(op: ops.LayerNorm, x: Array, weight: Array, bias: Array) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred * centred).mean(-1, keepdims=True)
    return centred / np.sqrt(variance + x.dtype.type(op.eps)) * weight + bias


def linear(op: ops.Linear, x: Array, weight: Array, bias: Array | None = None) -> Array:
    y = x @ weight.T
    return y if bias is None else y + bias


def scores(op: ops.Scores, query: Array, key: Array) -> Array:
    query, key = _split_heads(query, op.heads), _split_heads(key, op.heads)  # (B P, h, N, D / h)
    return query @ key.swapaxes(2, 3) / query.dtype.type(math.sqrt(query.shape[-1]))


def softmax(op: ops.Softmax, x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))  # the largest exponent becomes 0, so nothing overflows
    return e / e.sum(-1, keepdims=True)


def context(op: ops.Context, probabilities: Array, value: Array) -> Array:
    x = probabilities @ _split_heads(value, probabilities.shape[1])  # (B P, h, N, D / h)
    return x.swapaxes(1, 2).reshape(value.shape)


def _split_heads(x: Array, heads: int) -> Array:
    sequences, tokens, width = x.shape
    return x.reshape(sequences, tokens, heads, width // heads).swapaxes(1, 2)


def mean_pool(op: ops.MeanPool, x: Array) -> Array:
    return x.mean((2, 3), keepdims=op.keep_dims)


def attention(op: ops.Attention, query: Array, key: Array, value: Array) -> Array:
    probabilities = softmax(ops.Softmax(), scores(ops.Scores(op.heads), query, key))
    return context(ops.Context(), probabilities, value)


def fused(op: ops.Fused, x: Array, *others: Array) -> Array:
    residual, weights = (others[0], others[1:]) if op.residual else (0, others)
    return ACTIVATION_FUNCTIONS[op.activation](compute(op.op, [x], list(weights))) + residual


def inverted_residual(op: ops.InvertedResidual, x: Array, *weights: Array) -> Array:
    wide = fused(ops.Fused(op.expand, op.activation), x, *weights[:2])
    filtered = fused(ops.Fused(op.depthwise, op.activation), wide, *weights[2:4])
    return compute(op.reduce, [filtered], list(weights[4:])) + (x if op.residual else 0)


FUNCTIONS: dict[type[ops.Op], Callable[..., Array]] = {
    ops.Conv2d: conv2d,
    ops.BatchNorm: batch_norm,
    ops.Activation: activation,
    ops.Add: add,
    ops.Concat: concat,
    ops.Resize: resize,
    ops.Unfold: unfold,
    ops.Fold: fold,
    ops.LayerNorm: layer_norm,
    ops.Linear: linear,
    ops.Scores: scores,
    ops.Softmax: softmax,
    ops.Context: context,
    ops.MeanPool: mean_pool,
    ops.Attention: attention,
    ops.Fused: fused,
    ops.Winograd: conv2d,
    ops.InvertedResidual: inverted_residual,
}


# ---- activations ----


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x), with e^-|x| so that nothing overflows."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def silu(x: Array) -> Array:
    return x * sigmoid(x)


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def relu6(x: Array) -> Array:
    return np.clip(x, 0, 6)


def leaky_relu(x: Array) -> Array:
    return np.where(x >= 0, x, x * x.dtype.type(0.01))


def hardswish(x: Array) -> Array:
    return x * np.clip(x + 3, 0, 6) / 6


def gelu(x: Array) -> Array:
    """x times the normal distribution's cumulative probability at x."""
    return (x * _erfc(-x / math.sqrt(2)) / 2).astype(x.dtype)


def gelu_tanh(x: Array) -> Array:
    return x * (1 + np.tanh(x.dtype.type(math.sqrt(2 / math.pi)) * (x + x.dtype.type(0.044715) * x**3))) / 2


_erfc = np.vectorize(math.erfc, otypes=[np.float64])  # NumPy has no error function

ACTIVATION_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "identity": lambda x: x,
    "silu": silu,
    "relu": relu,
    "relu6": relu6,
    "leaky_relu": leaky_relu,
    "hardswish": hardswish,
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
}
