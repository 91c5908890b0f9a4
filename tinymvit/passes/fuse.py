"""Ops that follow one another become one op, which computes the same."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import TypeGuard

from tinymvit.graph import Graph, Node
from tinymvit.ops import (
    ACTIVATION_FUNCTIONS,
    Activation,
    Add,
    Attention,
    Context,
    Conv2d,
    Fused,
    InvertedResidual,
    Linear,
    Scores,
    Softmax,
)
from tinymvit.passes.rewrite import Weights, rewrite


def fuse_attention(graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
    """Scores, softmax and context become one attention, so that the (N, N) scores need not exist as a whole."""

    def merge(node: Node, single: Callable[[str], Node | None]) -> tuple[Node, list[Node]] | None:
        softmax = single(node.inputs[0]) if isinstance(node.op, Context) else None
        scores = single(softmax.inputs[0]) if softmax is not None and isinstance(softmax.op, Softmax) else None
        if softmax is None or scores is None or not isinstance(scores.op, Scores):
            return None
        inputs = (*scores.inputs, node.inputs[1])
        return Node(node.name, Attention(scores.op.heads), inputs, (), node.shape), [scores, softmax]

    return rewrite(graph, merge), weights


def fuse_activation(
    graph: Graph, weights: Weights, functions: Container[str] = ACTIVATION_FUNCTIONS
) -> tuple[Graph, Weights]:
    """An activation, if it has a name and is one of `functions`, is applied by the convolution or linear op before
    it."""

    def merge(node: Node, single: Callable[[str], Node | None]) -> tuple[Node, list[Node]] | None:
        if not isinstance(node.op, Activation) or not isinstance(node.op.function, str):
            return None
        if node.op.function not in functions:
            return None
        source = single(node.inputs[0])
        if source is None or not isinstance(source.op, Conv2d | Linear):
            return None
        op = Fused(source.op, activation=node.op.function)
        return Node(node.name, op, source.inputs, source.weights, node.shape), [source]

    return rewrite(graph, merge), weights


def fuse_residual(graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
    """A sum is done by the convolution or linear op that makes one of its terms."""

    def merge(node: Node, single: Callable[[str], Node | None]) -> tuple[Node, list[Node]] | None:
        if not isinstance(node.op, Add) or node.inputs[0] == node.inputs[1]:
            return None
        for name, residual in (node.inputs, node.inputs[::-1]):
            source = single(name)
            if source is not None and isinstance(source.op, Conv2d | Linear):
                op = Fused(source.op, residual=True)
                return Node(node.name, op, (*source.inputs, residual), source.weights, node.shape), [source]
        return None

    return rewrite(graph, merge), weights


def fuse_inverted_residual(graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
    """Expansion, depthwise convolution and reduction become one, so that the wide maps between need not exist."""

    def merge(node: Node, single: Callable[[str], Node | None]) -> tuple[Node, list[Node]] | None:
        reduce = _fused(node)
        filtered = single(node.inputs[0]) if reduce is not None and reduce.activation == "identity" else None
        depthwise = _fused(filtered)
        wide = single(filtered.inputs[0]) if filtered is not None and depthwise is not None else None
        expand = _fused(wide)
        if reduce is None or filtered is None or depthwise is None or wide is None or expand is None:
            return None
        if not _pointwise(reduce.op) or not _pointwise(expand.op) or not _filters_3x3(depthwise.op):
            return None
        if expand.residual or depthwise.residual:
            return None
        if expand.activation != depthwise.activation or (reduce.residual and node.inputs[1] != wide.inputs[0]):
            return None
        op = InvertedResidual(expand.op, depthwise.op, reduce.op, expand.activation, reduce.residual)
        tensors = wide.weights + filtered.weights + node.weights
        return Node(node.name, op, wide.inputs, tensors, node.shape), [filtered, wide]

    return rewrite(graph, merge), weights


def _fused(node: Node | None) -> Fused | None:
    """A convolution as one that may have an activation or a residual."""
    if node is None:
        return None
    return Fused(node.op) if isinstance(node.op, Conv2d) else node.op if isinstance(node.op, Fused) else None


def _pointwise(op: Conv2d | Linear) -> TypeGuard[Conv2d]:
    return isinstance(op, Conv2d) and op.bias and op == Conv2d(op.in_channels, op.out_channels, 1, bias=True)


def _filters_3x3(op: Conv2d | Linear) -> TypeGuard[Conv2d]:
    return isinstance(op, Conv2d) and op.depthwise and op.bias and op.kernel_size == 3 and op.padding == op.dilation
