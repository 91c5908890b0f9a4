"""Each op by itself: computed from the port's own tensors before it, so that it answers for itself alone.

An op whose inputs are not in the dump is computed together with those that make them, from the nearest tensors that
are. Which mistake of theirs explains the port's numbers is left to `hints`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tinymvit import reference
from tinymvit.comparison.mistakes import Mistake, case_of
from tinymvit.comparison.port import Port
from tinymvit.graph import Graph, Node
from tinymvit.ops import Input

Array = np.ndarray


class Isolation:
    """Computes ops from their inputs, and where those are not in the dump from the nearest ones before that are."""

    def __init__(self, graph: Graph, weights: Mapping[str, Array], port: Port, pixels: Array) -> None:
        self.graph, self.weights, self.port, self.pixels = graph, weights, port, pixels
        self.readers: dict[str, list[Node]] = {node.name: [] for node in graph}
        for node in graph:
            for name in node.inputs:
                self.readers[name].append(node)

    def together(self, target: Node) -> list[Node]:
        """The ops between the nearest tensors of theirs and this one, in order, itself last."""
        needed = {target.name}
        nodes = []
        for node in reversed(self.graph.nodes.values()):
            if node.name in needed:
                nodes.append(node)
                needed.update(name for name in node.inputs if name not in self.port.arranged)
        return nodes[::-1]

    def inputs(self, nodes: list[Node]) -> dict[str, Array]:
        """Their tensors that these ops read, in float64."""
        names = {name for node in nodes for name in node.inputs} - {node.name for node in nodes}
        return {name: self.port.value(name) for name in names}

    def finite_inputs(self, node: Node) -> bool:
        """Whether what this op is computed from is free of NaN and infinity."""
        return all(np.isfinite(x).all() for x in self.inputs(self.together(node)).values())

    def run(
        self,
        nodes: list[Node],
        inputs: Mapping[str, Array],
        dtype: type,
        wrong: Mapping[str, Mistake] | None = None,
    ) -> Array | None:
        """The value of the last of these nodes; those in `wrong` make their mistake. None if that is not possible."""
        values: dict[str, Array] = {name: value.astype(dtype) for name, value in inputs.items()}
        for node in nodes:
            if isinstance(node.op, Input):
                values[node.name] = self.pixels.astype(dtype)
                continue
            sources = [values[name] for name in node.inputs]
            if wrong and node.name in wrong:
                case = case_of(node, self.graph, tuple(sources), lambda name: np.asarray(self.weights[name], dtype))
                value = wrong[node.name](case)
                if value is None:
                    return None
            else:
                value = reference.compute(node.op, sources, [np.asarray(self.weights[n], dtype) for n in node.weights])
            values[node.name] = value
        return values[nodes[-1].name]

    def value(self, nodes: list[Node], inputs: Mapping[str, Array], dtype: type) -> Array:
        """The right value of the last of these nodes."""
        value = self.run(nodes, inputs, dtype)
        assert value is not None  # only a mistake may not apply
        return value

    def both(self, nodes: list[Node]) -> tuple[Array, Array]:
        """The value of the last of these nodes for their tensors: the truth, and in float32 from what these may have
        been before they were stored."""
        inputs = self.inputs(nodes)
        before = {name: self.port.unrounded(name, x) for name, x in inputs.items()}
        return self.value(nodes, inputs, np.float64), self.value(nodes, before, np.float32)

    def right(self, node: Node) -> bool:
        """Whether their tensor for this node follows from their own tensors before it."""
        if node.name not in self.port.arranged:
            return False
        truth, rounded = self.both(self.together(node))
        return self.port.limit(node.name, truth, rounded).allows(self.port.value(node.name), truth)
