"""What the engine does to a graph before it runs: fewer, larger operations with the same results.

Each pass is a function from (graph, weights) to (graph, weights) that leaves both arguments as they are. A merged node
keeps the name of the last node it replaces, because that is the value it makes. A node whose value is an output, or
that several nodes read, is never merged away.

Only the folding of a normalisation changes what is computed, by rounding, and by where a number becomes infinite.
Therefore it is left out where that would be seen: see `Kind`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from types import MappingProxyType
from typing import TypeGuard

import numpy as np

from tinymvit.graph import Graph, Node
from tinymvit.ops import (
    Activation,
    Add,
    Array,
    Attention,
    BatchNorm,
    Context,
    Conv2d,
    Fused,
    InvertedResidual,
    Linear,
    Scores,
    Softmax,
)

Weights = Mapping[str, Array]

LARGEST = 2.0**24  # of an ordinary weight, and of a normalisation's scale and deviation: far from the end of float32
CANCELLING = 2.0**12  # a mean over a deviation, beyond which a float32 sum less its mean keeps half of its digits


@dataclass(frozen=True, eq=False)
class Deferred(Mapping[str, Array]):
    """Weights of which some are computed, each time that they are asked for. So nothing is computed for an engine whose
    weights are packed already, or to plan its memory."""

    given: Weights
    computed: Mapping[str, Callable[[], Array]]

    def __getitem__(self, name: str) -> Array:
        return self.computed[name]() if name in self.computed else self.given[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self.given, **self.computed})

    def __len__(self) -> int:
        return len({**self.given, **self.computed})


class Kind(Enum):
    """What the weights of a node are like."""

    ORDINARY = "ordinary"
    EXTREME = "extreme"
    """One of them, or a normalisation's scale or deviation, exceeds `LARGEST` or is NaN, as the deviation of a negative
    variance is. Values between two nodes may then reach the end of float32, and what is infinite or NaN depends on
    every step: the whole graph is computed as it is written down."""
    CANCELLING = "cancelling"
    """A normalisation has a channel whose mean is so many deviations that its product with the scale, which the sum of
    the folded convolution would begin with, cancels: it stays by itself, and subtracts the mean from the sum first."""


Kinds = Mapping[tuple[str, ...], Kind]


def kind_of(node: Node, weights: Weights) -> Kind:
    """What the node's weights, among `weights` by name, are like."""
    tensors = [weights[name] for name in node.weights]
    if not isinstance(node.op, BatchNorm):
        return Kind.ORDINARY if _are_ordinary(tensors) else Kind.EXTREME
    weight, bias, mean, variance = tensors
    scale, _ = _scale_and_shift(weights, node.weights, node.op.eps)
    with np.errstate(invalid="ignore"):
        if not _are_ordinary([weight, bias, mean, np.sqrt(variance), scale]):
            return Kind.EXTREME
    cancels = np.abs(mean * scale) > CANCELLING * (np.abs(weight) + np.abs(bias))
    return Kind.CANCELLING if cancels.any() else Kind.ORDINARY


def _are_ordinary(tensors: Iterable[Array]) -> bool:
    return all(x.min() >= -LARGEST and x.max() <= LARGEST for x in tensors)  # which NaN is not


def are_ordinary(graph: Graph, kinds: Kinds) -> bool:
    """Whether no node of the graph has extreme weights. kinds: of its nodes, by their weights; ordinary where none is
    given."""
    return all(kinds.get(node.weights) != Kind.EXTREME for node in graph)


def optimize(graph: Graph, weights: Weights, kinds: Kinds = MappingProxyType({})) -> tuple[Graph, Weights]:
    """All the passes, in the order in which they help each other. kinds: as for `are_ordinary`."""
    if are_ordinary(graph, kinds):
        graph, weights = fold_batch_norm(graph, weights, kinds)
    for apply in (fuse_attention, fuse_activation, fuse_residual, fuse_inverted_residual):
        graph, weights = apply(graph, weights)
    return graph, weights


def fold_batch_norm(graph: Graph, weights: Weights, kinds: Kinds = MappingProxyType({})) -> tuple[Graph, Weights]:
    """A convolution and the normalisation behind it are one convolution: both are linear in the input.

    (w x - mean) / s * weight + bias = (w weight / s) x + (bias - mean weight / s), computed in float64 and then
    rounded to float32.
    """
    folded: dict[str, Callable[[], Array]] = {}

    def merge(node: Node, single: Callable[[str], Node | None]) -> tuple[Node, list[Node]] | None:
        if not isinstance(node.op, BatchNorm) or kinds.get(node.weights, Kind.ORDINARY) != Kind.ORDINARY:
            return None
        conv = single(node.inputs[0])
        if conv is None or not isinstance(conv.op, Conv2d) or conv.op.bias:
            return None
        (kernel_name,), bias_name = conv.weights, f"{conv.name}.bias"
        norm = partial(_scale_and_shift, weights, node.weights, node.op.eps)
        folded[kernel_name] = partial(_scaled, weights, kernel_name, norm)
        folded[bias_name] = lambda: norm()[1].astype(np.float32)
        op = replace(conv.op, bias=True)
        return Node(node.name, op, conv.inputs, (kernel_name, bias_name), node.shape), [conv]

    return _rewrite(graph, merge), Deferred(weights, folded)


def _scale_and_shift(weights: Weights, names: tuple[str, ...], eps: float) -> tuple[Array, Array]:
    """A normalisation as x scale + shift, (C,) each, in float64."""
    weight, bias, mean, variance = (np.asarray(weights[name], np.float64) for name in names)
    with np.errstate(all="ignore"):
        scale = weight / np.sqrt(variance + eps)
        return scale, bias - mean * scale


def _scaled(weights: Weights, name: str, norm: Callable[[], tuple[Array, Array]]) -> Array:
    """A convolution's weight (O, I / groups, k, k) times the scale of the normalisation behind it, in float32."""
    scale, _ = norm()
    return (weights[name] * scale[:, None, None, None]).astype(np.float32)


def fuse_attention(graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
    """Scores, softmax and context become one attention, so that the (N, N) scores need not exist as a whole."""

    def merge(node: Node, single: Callable[[str], Node | None]) -> tuple[Node, list[Node]] | None:
        softmax = single(node.inputs[0]) if isinstance(node.op, Context) else None
        scores = single(softmax.inputs[0]) if softmax is not None and isinstance(softmax.op, Softmax) else None
        if softmax is None or scores is None or not isinstance(scores.op, Scores):
            return None
        inputs = (*scores.inputs, node.inputs[1])
        return Node(node.name, Attention(scores.op.heads), inputs, (), node.shape), [scores, softmax]

    return _rewrite(graph, merge), weights


def fuse_activation(graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
    """An activation that has a kernel is applied by the convolution or linear op before it."""

    def merge(node: Node, single: Callable[[str], Node | None]) -> tuple[Node, list[Node]] | None:
        if not isinstance(node.op, Activation) or not isinstance(node.op.function, str):
            return None
        source = single(node.inputs[0])
        if source is None or not isinstance(source.op, Conv2d | Linear):
            return None
        op = Fused(source.op, activation=node.op.function)
        return Node(node.name, op, source.inputs, source.weights, node.shape), [source]

    return _rewrite(graph, merge), weights


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

    return _rewrite(graph, merge), weights


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

    return _rewrite(graph, merge), weights


def _fused(node: Node | None) -> Fused | None:
    """A convolution as one that may have an activation or a residual."""
    if node is None:
        return None
    return Fused(node.op) if isinstance(node.op, Conv2d) else node.op if isinstance(node.op, Fused) else None


def _pointwise(op: Conv2d | Linear) -> TypeGuard[Conv2d]:
    return isinstance(op, Conv2d) and op.bias and op == Conv2d(op.in_channels, op.out_channels, 1, bias=True)


def _filters_3x3(op: Conv2d | Linear) -> TypeGuard[Conv2d]:
    return isinstance(op, Conv2d) and op.depthwise and op.bias and op.kernel_size == 3 and op.padding == op.dilation


def _rewrite(
    graph: Graph, merge: Callable[[Node, Callable[[str], Node | None]], tuple[Node, list[Node]] | None]
) -> Graph:
    """The graph with each node replaced by what `merge(node, single)` gives: the merged node and those it absorbs.

    `single(name)` is the node of that name if only one node reads it and it is no output, else None.
    """
    reads = Counter(name for node in graph for name in node.inputs)
    reads.update(graph.outputs.values())
    nodes: dict[str, Node] = {}

    def single(name: str) -> Node | None:
        return nodes[name] if reads[name] == 1 and name not in outputs else None

    outputs = set(graph.outputs.values())
    for node in graph:
        merged = merge(node, single)
        if merged is None:
            nodes[node.name] = node
        else:
            new, absorbed = merged
            for old in absorbed:
                del nodes[old.name]
            nodes[new.name] = new
    modules = {path: name for path, name in graph.modules.items() if name in nodes}
    return Graph(nodes, modules, dict(graph.outputs))
