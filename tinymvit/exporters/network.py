"""What an exporter is given: a model at one size, and what its file is to hold beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tinymvit.graph import Graph, Node
from tinymvit.ops import Array, Linear, Scores
from tinymvit.passes.fold import Kinds, fold_batch_norm, kind_of
from tinymvit.quantisation.ranges import Ranges

PIXEL_VALUES, IMAGE = "pixel_values", "image"  # what a file takes: float32, or with preprocessing uint8 RGB
FLOAT32, FLOAT16, INT8 = PRECISIONS = ("float32", "float16", "int8")
SOFTMAX, ARGMAX = ANSWERS = ("softmax", "argmax")


@dataclass(frozen=True)
class Preprocessing:
    """What the file does to a picture of uint8 RGB before the network: each number times `factor`, and the channels in
    the opposite order if `flips`."""

    factor: float
    flips: bool


@dataclass(frozen=True)
class Network:
    """A model at one size. graph: as it was recorded, its outputs those that the file gives, by their public names.
    weights: float32 by the names of the graph's tensors. precision: of what the file stores, one of `PRECISIONS`.
    dynamic_batch: whether the first axis of the input is left open. preprocessing: what is done to a picture of uint8
    RGB, or None for a file that takes `pixel_values`. answer: what becomes of the logits, one of `ANSWERS`, or None for
    the logits themselves. labels: the names of the classes, in order. facts: what the file says of itself, as JSON can
    hold it. ranges: of the values, for a file that computes in int8; with the precision int8 and without them only the
    weights are int8. keep_float: nodes that stay in float then, see `quantisation.ranges.kept`.
    """

    graph: Graph
    weights: Mapping[str, Array]
    precision: str = FLOAT32
    dynamic_batch: bool = False
    preprocessing: Preprocessing | None = None
    answer: str | None = None
    labels: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    ranges: Ranges | None = None
    keep_float: tuple[str, ...] = ()

    def kinds(self) -> Kinds:
        """What the weights of each node are like: see `passes.fold`."""
        return {node.weights: kind_of(node, self.weights) for node in self.graph}

    def folded(self) -> tuple[Graph, Mapping[str, Array]]:
        """The graph and its weights with the normalisations in the convolutions, but for those whose folding would be
        seen: these stay as `BatchNorm`."""
        return fold_batch_norm(self.graph, self.weights, self.kinds())

    def quantised(self) -> tuple[Graph, Mapping[str, Array]]:
        """The graph in int8, and its weights: see `passes.quantise`. Raises ValueError if there are no ranges."""
        if self.ranges is None:
            raise ValueError("the network has no ranges, expected those of calibration")
        return self.ranges.quantised(self.graph, self.weights, self.keep_float)


def query_factors(graph: Graph) -> dict[str, float]:
    """What the scores are multiplied by, by the linear node that makes the query, where it can be folded into that:
    where only they read it, and it is no result."""
    readers: dict[str, list[Node]] = {}
    for node in graph:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    factors = {}
    for node in graph:
        if isinstance(node.op, Scores) and node.inputs[0] not in graph.outputs.values():
            query = graph.nodes[node.inputs[0]]
            if isinstance(query.op, Linear) and readers[query.name] == [node] and query.name != node.inputs[1]:
                factors[query.name] = 1 / math.sqrt(query.shape[-1] // node.op.heads)
    return factors
