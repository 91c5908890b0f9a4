"""What the engine does to a graph before it runs: fewer, larger operations with the same results (`passes`)."""

from __future__ import annotations

from types import MappingProxyType

from tinymvit.graph import Graph
from tinymvit.passes.fold import Kinds, are_ordinary, fold_batch_norm
from tinymvit.passes.fuse import fuse_activation, fuse_attention, fuse_inverted_residual, fuse_residual
from tinymvit.passes.rewrite import Weights


def optimize(graph: Graph, weights: Weights, kinds: Kinds = MappingProxyType({})) -> tuple[Graph, Weights]:
    """All the passes, in the order in which they help each other. kinds: as for `are_ordinary`."""
    if are_ordinary(graph, kinds):
        graph, weights = fold_batch_norm(graph, weights, kinds)
    for apply in (fuse_attention, fuse_activation, fuse_residual, fuse_inverted_residual):
        graph, weights = apply(graph, weights)
    return graph, weights
