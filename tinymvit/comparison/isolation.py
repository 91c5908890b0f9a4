"""What a right port would have at a node.

Either all before the node is taken to be right, or the node is computed from the port's own tensors before it, in
isolation. An op whose inputs are not in the dump is computed together with the ops that make them, from the nearest
tensors that are in it. How their tensor is read and judged is left to the stages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tinymvit.comparison.port import Port
from tinymvit.comparison.reference_run import ReferenceRun
from tinymvit.graph import Node
from tinymvit.numerics import Array


@dataclass(frozen=True, eq=False)
class Expected:
    """The value of a node: the truth, in float64, and what the reference in float32 gives, rounded. together: the names
    of the ops that were computed, the node itself last."""

    node: Node
    truth: Array
    rounded: Array
    together: tuple[str, ...]


def in_whole(run: ReferenceRun) -> Iterator[Expected]:
    """What is expected of each node, in order, where all before it is right. How the roundings of int8 add up on the
    way is chance, and the reference's own counts twice."""
    for (node, truth), (_, rounded) in zip(run.steps(np.float64), run.steps(np.float32), strict=True):
        noisy = rounded if run.rounding is None else truth + 2 * (rounded - truth)
        yield Expected(node, truth, noisy, (node.name,))


def in_isolation(run: ReferenceRun, port: Port, node: Node) -> Expected:
    """What is expected of a node that reads the port's own tensors. The reference in float32 reads them as they may
    have been before they were stored in a shorter format."""
    nodes = ops_between(run, port, node)
    inputs = inputs_of(port, nodes)
    before = {name: port.before_storing(name, x) for name, x in inputs.items()}
    truth, rounded = run.compute(nodes, inputs, np.float64), run.compute(nodes, before, np.float32)
    return Expected(node, truth, rounded, tuple(node.name for node in nodes))


def follows(run: ReferenceRun, port: Port, node: Node) -> bool:
    """Whether their tensor for a node is right, given their own tensors before it."""
    if node.name not in port.read:
        return False
    expected = in_isolation(run, port, node)
    tolerance = port.tolerance(node.name, expected.truth, expected.rounded)
    return tolerance.allows(port.value(node.name), expected.truth)


def ops_between(run: ReferenceRun, port: Port, target: Node) -> list[Node]:
    """The ops between the nearest of their tensors and a node, in order, the node itself last."""
    needed = {target.name}
    nodes = []
    for node in reversed(run.graph.nodes.values()):
        if node.name in needed:
            nodes.append(node)
            needed.update(name for name in node.inputs if name not in port.read)
    return nodes[::-1]


def inputs_of(port: Port, nodes: list[Node]) -> dict[str, Array]:
    """Their tensors that these ops read, in our layout, in float64."""
    names = {name for node in nodes for name in node.inputs} - {node.name for node in nodes}
    return {name: port.value(name) for name in names}
