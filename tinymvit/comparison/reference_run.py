"""The reference on their pixels: the whole graph, or some of its ops on given inputs, right or with known mistakes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tinymvit import reference
from tinymvit.comparison.mistakes import Mistake, op_call
from tinymvit.graph import Graph, Node
from tinymvit.numerics import Array
from tinymvit.ops import Input


@dataclass(frozen=True, eq=False)
class ReferenceRun:
    """What the reference needs to compute our values: a graph, its weights and its input, (B, C, H, W)."""

    graph: Graph
    weights: Mapping[str, Array]
    pixels: Array

    @cached_property
    def readers(self) -> dict[str, list[Node]]:
        """For each node the nodes that read its value, in the graph's order."""
        found: dict[str, list[Node]] = {node.name: [] for node in self.graph}
        for node in self.graph:
            for name in node.inputs:
                found[name].append(node)
        return found

    def steps(self, dtype: type) -> Iterator[tuple[Node, Array]]:
        """Each node with its value, in order."""
        return reference.steps(self.graph, self.weights, self.pixels, dtype)

    def compute(self, nodes: list[Node], inputs: Mapping[str, Array], dtype: type) -> Array:
        """The value of the last of these nodes, the first of which read `inputs`, by node name."""
        value = self.compute_wrongly(nodes, inputs, dtype, {})
        assert value is not None  # only a mistake may not apply
        return value

    def compute_wrongly(
        self, nodes: list[Node], inputs: Mapping[str, Array], dtype: type, mistakes: Mapping[str, Mistake]
    ) -> Array | None:
        """The value of the last of these nodes if those named in `mistakes` make them; None if one does not apply.
        Raises ValueError or IndexError if a mistake gives a shape that the next op cannot take."""
        values: dict[str, Array] = {name: value.astype(dtype) for name, value in inputs.items()}
        for node in nodes:
            if isinstance(node.op, Input):
                values[node.name] = self.pixels.astype(dtype)
                continue
            sources = [values[name] for name in node.inputs]
            if node.name in mistakes:
                call = op_call(node, self.graph, tuple(sources), lambda name: np.asarray(self.weights[name], dtype))
                value = mistakes[node.name].compute(call)
                if value is None:
                    return None
            else:
                weights: list[Array] = [np.asarray(self.weights[name], dtype) for name in node.weights]
                value = reference.compute(node.op, sources, weights)
            values[node.name] = value
        return values[nodes[-1].name]
