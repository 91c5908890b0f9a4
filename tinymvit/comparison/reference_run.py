"""The reference on their pixels: the whole graph, or some of its ops on given inputs, right or with known mistakes.

In float64 it gives the truth, in float32 what rounding makes of it. For a port in int8 that is the rounding of int8.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tinymvit import reference
from tinymvit.comparison.int8 import Int8Rounding, norm_scale
from tinymvit.comparison.mistakes import Mistake, op_call
from tinymvit.graph import Graph, Node, last_use
from tinymvit.numerics import Array
from tinymvit.ops import Input


@dataclass(frozen=True, eq=False)
class ReferenceRun:
    """What the reference needs to compute our values: a graph, its weights and its input, (B, C, H, W). rounding: that
    of a port in int8, or None."""

    graph: Graph
    weights: Mapping[str, Array]
    pixels: Array
    rounding: Int8Rounding | None = None

    @cached_property
    def readers(self) -> dict[str, list[Node]]:
        """For each node the nodes that read its value, in the graph's order."""
        found: dict[str, list[Node]] = {node.name: [] for node in self.graph}
        for node in self.graph:
            for name in node.inputs:
                found[name].append(node)
        return found

    def steps(self, dtype: type) -> Iterator[tuple[Node, Array]]:
        """Each node with its value, in order; in float32 with what rounding makes of it."""
        if self.rounding is None or dtype is not np.float32:
            yield from reference.steps(self.graph, self.weights, self.pixels, dtype)
            return
        uses = last_use(self.graph)
        values: dict[str, Array] = {}
        for index, node in enumerate(self.graph):
            value = self._right(node, values, dtype)
            yield node, value
            values[node.name] = self.rounding.stored(node, value, self.readers[node.name])
            for name in {node.name, *node.inputs}:
                if uses[name] <= index:
                    del values[name]

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
            if node.name in mistakes:
                sources = [values[name] for name in node.inputs]
                call = op_call(node, self.graph, tuple(sources), lambda name: np.asarray(self.weights[name], dtype))
                value = mistakes[node.name].compute(call)
                if value is None:
                    return None
            else:
                value = self._right(node, values, dtype)
            if self.rounding is not None and dtype is np.float32 and node is not nodes[-1]:
                value = self.rounding.stored(node, value, self.readers[node.name])
            values[node.name] = value
        return values[nodes[-1].name]

    def _right(self, node: Node, values: Mapping[str, Array], dtype: type) -> Array:
        """The value of a node that makes no mistake; in float32 with what rounding makes of it."""
        if isinstance(node.op, Input):
            return self.pixels.astype(dtype)
        sources = [values[name] for name in node.inputs]
        weights: list[Array] = [np.asarray(self.weights[name], dtype) for name in node.weights]
        if self.rounding is None or dtype is not np.float32:
            return reference.compute(node.op, sources, weights)
        scale = norm_scale(self.readers[node.name], lambda name: np.asarray(self.weights[name], np.float64))
        return self.rounding.compute(node, sources, weights, scale)
