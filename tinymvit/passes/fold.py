"""A convolution and the normalisation behind it become one convolution.

Only this changes what is computed, by rounding, and by where a number becomes infinite. Therefore it is left out where
that would be seen: see `Kind`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from enum import Enum
from functools import partial
from types import MappingProxyType

import numpy as np

from tinymvit.graph import Graph, Node
from tinymvit.ops import Array, BatchNorm, Conv2d
from tinymvit.passes.rewrite import Deferred, Weights, rewrite

LARGEST = 2.0**24  # of an ordinary weight, and of a normalisation's scale and deviation: far from the end of float32
CANCELLING = 2.0**12  # a mean over a deviation, beyond which a float32 sum less its mean keeps half of its digits


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

    return rewrite(graph, merge), Deferred(weights, folded)


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
