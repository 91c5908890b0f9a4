"""Which kernel computes an op, and how its weights are packed for it: one row an op, and nowhere else such a choice.

A convolution or linear layer, alone or fused with what follows it, may be computed in several ways: `choose` tells them
apart. That a 3x3 convolution takes Winograd's method, or that a 1x1 convolution is a linear layer, is said only here.

Calls get their arrays in the engine's layout, maps channels last; weights are packed from the public one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tinymvit import kernels, ops
from tinymvit.graph import Graph, Node
from tinymvit.ops import Array, Op, Shape


@dataclass(frozen=True)
class Packing:
    """What becomes of an op's weights, once for all engines of a model.

    pack: (op, weights in the order of op.weight_shapes()) -> a list of what the kernel reads. blank: (op) -> the same
    list, but its numbers are not set: to learn how much memory it takes, without weights and without packing any.
    """

    pack: Callable[[Any, Sequence[Array]], list[Any]]
    blank: Callable[[Any], list[Any]]


def with_matrix(pack: Callable[[Any, Array], Any], blank: Callable[[Any, Shape], Any]) -> Packing:
    """The packing of a layer: (layer, weight) and (layer, the weight's shape) -> its matrix; a bias stays."""
    return Packing(
        lambda op, weights: [_vector(w) if w.ndim == 1 else pack(_layer(op), w) for w in weights],
        lambda op: [_unset(s) if len(s) == 1 else blank(_layer(op), s) for s in op.weight_shapes().values()],
    )


def _vector(weight: Array) -> Array:
    return np.array(weight, np.float32)


def _unset(shape: Shape) -> Array:
    return np.empty(shape, np.float32)


VECTORS = Packing(
    lambda op, weights: [_vector(weight) for weight in weights],
    lambda op: [_unset(shape) for shape in op.weight_shapes().values()],
)


@dataclass(frozen=True)
class Row:
    """How the engine computes an op.

    call: (op, out, inputs..., packed weights...) fills `out` with the result. packing: where the packed weights come
    from. multiply_adds: (op, output shape, input shapes...) -> those that the kernel does, where they are fewer than
    the op's. method: what the kernel does in a word, where that is not the op's name.
    """

    call: Callable[..., object]
    packing: Packing = VECTORS
    multiply_adds: Callable[..., int] = lambda op, output, *inputs: op.multiply_adds(output, *inputs)
    method: str = ""


def choose(graph: Graph, node: Node, ordinary: bool = True) -> Row:
    """The row of a node. ordinary: whether its weights are; if not, an infinity may arise, and no method is taken that
    would make NaN of it. Raises TypeError if there is none for its op."""
    op, layer = node.op, _layer(node.op)
    if isinstance(layer, ops.Linear):
        return MATRIX_VECTOR if op == layer and len(graph.inputs_of(node)[0].shape) == 2 else LINEAR
    if isinstance(layer, ops.Conv2d):
        if layer.depthwise:
            return DEPTHWISE
        if layer == ops.Conv2d(layer.in_channels, layer.out_channels, 1, bias=layer.bias):
            return LINEAR
        if ordinary and layer == ops.Conv2d(layer.in_channels, layer.out_channels, 3, padding=1, bias=layer.bias):
            return WINOGRAD
        return CONV2D
    if type(op) not in ROWS:
        raise TypeError(f"{node.name}: the engine has no kernel for {type(op).__name__}; expected a row in lowering.py")
    return ROWS[type(op)]


def launch(node: Node, row: Row, values: Mapping[str, Array], packed: Sequence[Any]) -> None:
    """Compute a node, or record that: `values` has a place for each node's value, in the engine's layout."""
    row.call(node.op, values[node.name], *(values[name] for name in node.inputs), *packed)


# ---- convolutions and linear layers, alone or as the `op` of a Fused ----

MaybeFused = ops.Conv2d | ops.Linear | ops.Fused


def _layer(op: Op) -> Op:
    return op.op if isinstance(op, ops.Fused) else op


def _operands(op: MaybeFused, others: Sequence[Any]) -> tuple[Any, Array | None, dict[str, Any]]:
    """Of what follows the first input: the packed weight, the bias or None, and what is done behind the product."""
    fused = op if isinstance(op, ops.Fused) else ops.Fused(op)
    residual, weights = (others[0], others[1:]) if fused.residual else (None, others)
    weight, bias = weights if fused.op.bias else (*weights, None)
    return weight, bias, {"activation": fused.activation, "residual": residual}


def linear(op: MaybeFused, out: Array, x: Array, *others: Any) -> None:
    weight, bias, behind = _operands(op, others)
    kernels.linear(x, weight, bias, **behind, out=out)


def matrix_vector(op: MaybeFused, out: Array, x: Array, *others: Any) -> None:
    weight, bias, _ = _operands(op, others)
    kernels.matrix_vector(x, weight, bias, out=out)


def winograd(op: MaybeFused, out: Array, x: Array, *others: Any) -> None:
    weight, bias, behind = _operands(op, others)
    kernels.winograd(x, weight, bias, **behind, out=out)


def winograd_multiply_adds(op: Op, output: Shape, *inputs: Shape) -> int:
    """16 for each 2 x 2 outputs and each input channel."""
    batch, channels, height, width = output
    return batch * channels * ((height + 1) // 2) * ((width + 1) // 2) * 16 * inputs[0][1]


def depthwise_conv2d(op: MaybeFused, out: Array, x: Array, *others: Any) -> None:
    weight, bias, behind = _operands(op, others)
    kernels.depthwise_conv2d(x, weight, bias, **_geometry(op), **behind, out=out)


def conv2d(op: MaybeFused, out: Array, x: Array, *others: Any) -> None:
    weight, bias, behind = _operands(op, others)
    kernels.conv2d(x, weight, bias, **_geometry(op), **behind, out=out)


def _geometry(op: Op) -> dict[str, Any]:
    layer: Any = _layer(op)
    return {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}


MATRIX = with_matrix(  # a 1x1 convolution's weight too, which has two axes more
    lambda layer, weight: kernels.pack_linear(weight.reshape(weight.shape[:2])),
    lambda layer, shape: kernels.PackedLinear.blank(shape[:2]),
)
LINEAR = Row(linear, MATRIX)
MATRIX_VECTOR = Row(matrix_vector, MATRIX)
WINOGRAD = Row(
    winograd,
    with_matrix(
        lambda layer, weight: kernels.pack_winograd(weight),
        lambda layer, shape: kernels.PackedWinograd.blank(shape),
    ),
    winograd_multiply_adds,
    "Winograd",
)
DEPTHWISE = Row(
    depthwise_conv2d,
    with_matrix(
        lambda layer, weight: kernels.pack_depthwise_conv2d(weight),
        lambda layer, shape: kernels.PackedDepthwiseConv2d.blank(shape),
    ),
)
CONV2D = Row(
    conv2d,
    with_matrix(
        lambda layer, weight: kernels.pack_conv2d(weight, layer.groups),
        lambda layer, shape: kernels.PackedConv2d.blank(shape, layer.groups),
    ),
)


# ---- the other ops ----


def inverted_residual(op: ops.InvertedResidual, out: Array, x: Array, weights: Any) -> None:
    geometry = {"stride": op.depthwise.stride, "dilation": op.depthwise.dilation}
    kernels.inverted_residual(x, weights, **geometry, activation=op.activation, residual=op.residual, out=out)


def pack_inverted_residual(op: ops.InvertedResidual, weights: Sequence[Array]) -> list[Any]:
    expand, expand_bias, depthwise, depthwise_bias, reduce, reduce_bias = weights
    return [
        kernels.pack_inverted_residual(
            kernels.pack_conv2d(expand),
            _vector(expand_bias),
            kernels.pack_depthwise_conv2d(depthwise),
            _vector(depthwise_bias),
            kernels.pack_conv2d(reduce),
            _vector(reduce_bias),
        )
    ]


def blank_inverted_residual(op: ops.InvertedResidual) -> list[Any]:
    channels = (op.expand.in_channels, op.expand.out_channels, op.reduce.out_channels)
    return [kernels.PackedInvertedResidual.blank(*channels)]


def pack_batch_norm(op: ops.BatchNorm, weights: Sequence[Array]) -> list[Any]:
    weight, bias, mean, variance = map(_vector, weights)
    return [kernels.pack_batch_norm(weight, bias, mean, variance, op.eps)]


def activation(op: ops.Activation, out: Array, x: Array) -> None:
    if isinstance(op.function, str):
        kernels.activate(x, op.function, out=out)
    else:
        kernels.call(partial(users_activation, op, out, x))


def users_activation(op: ops.Activation, out: Array, x: Array) -> None:
    """A user's function is given a map in the public layout."""
    if x.ndim == 4:
        out[...] = op.compute(np.array(x.transpose(0, 3, 1, 2), order="C")).transpose(0, 2, 3, 1)
    else:
        out[...] = op.compute(x)


ROWS: dict[type[Op], Row] = {
    ops.Input: Row(lambda op, out: None),  # the engine copies the pixels to their place
    ops.InvertedResidual: Row(inverted_residual, Packing(pack_inverted_residual, blank_inverted_residual)),
    ops.BatchNorm: Row(
        lambda op, out, x, norm: kernels.batch_norm(x, norm, out=out),
        Packing(pack_batch_norm, lambda op: [kernels.PackedBatchNorm.blank(op.channels)]),
    ),
    ops.Activation: Row(activation),
    ops.Add: Row(lambda op, out, a, b: kernels.add(a, b, out=out)),
    ops.Concat: Row(lambda op, out, *inputs: kernels.concat(inputs, out=out)),
    ops.Resize: Row(lambda op, out, x: kernels.resize_bilinear(x, op.height, op.width, out=out)),
    ops.Unfold: Row(lambda op, out, x: kernels.unfold(x, op.patch_height, op.patch_width, out=out)),
    ops.Fold: Row(
        lambda op, out, x: kernels.fold(x, len(out), op.height, op.width, op.patch_height, op.patch_width, out=out)
    ),
    ops.LayerNorm: Row(lambda op, out, x, weight, bias: kernels.layer_norm(x, weight, bias, op.eps, out=out)),
    ops.Attention: Row(lambda op, out, query, key, value: kernels.attention(query, key, value, op.heads, out=out)),
    ops.MeanPool: Row(lambda op, out, x: kernels.mean_pool(x, out=out.reshape(len(x), -1))),
}
