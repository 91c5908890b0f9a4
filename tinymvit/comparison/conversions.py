"""What converters do to a graph that is no mistake: they fold an operation, or a part of one, into another.

A tensor named after a convolution may hold the value behind the normalisation folded into it; a layer norm may be
without its scale and shift, folded into the matrices that read it. What is wrong beyond that is found by `hints`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tinymvit.comparison.hints import CLOSER, Found, find_mistakes
from tinymvit.comparison.isolation import Expected, in_isolation
from tinymvit.comparison.network import Network
from tinymvit.comparison.port import Port
from tinymvit.graph import Node
from tinymvit.numerics import difference, rms
from tinymvit.ops import Activation, BatchNorm


def node_held(network: Network, port: Port, expected: Expected) -> Node | None:
    """The later node whose value their tensor for a node holds: it is right as that, or far closer to it."""
    (_, distance), *later = _distances(network, port, expected)
    held, nearest = min(later, key=lambda entry: entry[1], default=(None, np.inf))
    return held if nearest == 0 or CLOSER * nearest < distance else None


def node_held_wrongly(network: Network, port: Port, node: Node) -> tuple[Node, Found] | None:
    """The later node whose value their tensor holds but for a known mistake in the ops folded together, and that."""
    for later in _foldable_behind(network, port, node):
        found = find_mistakes(network, port.with_tensor_moved(node, later), later)
        if found.hints:
            return later, found
    return None


def scale_and_shift_behind(network: Network, port: Port, norm: Node) -> Found | None:
    """What else is wrong, if anything, where the scale and shift that their tensor for a layer norm lacks are folded
    into what reads it: that is right with them, or wrong in another known way. None if they are not folded."""
    port = port.without(norm)
    readers = [in_isolation(network, port, reader) for reader in _readers(network, port, norm)]
    if any(distance == 0 for reader in readers for _, distance in _distances(network, port, reader)):
        return Found()
    if not readers:
        return None
    nearest = readers[0].node
    held = node_held(network, port, readers[0])
    if held is not None:
        port = port.with_tensor_moved(nearest, held)
    found = find_mistakes(network, port, held or nearest)
    return found if found.hints and found.hints[0].node != norm.name else None


def _foldable_behind(network: Network, port: Port, node: Node) -> Iterator[Node]:
    """The normalisation and activation that a port may have folded into the op before them."""
    last = node
    while len(network.readers[last.name]) == 1:
        (last,) = network.readers[last.name]
        if not isinstance(last.op, BatchNorm | Activation) or not port.may_hold(node, last):
            return
        yield last


def _distances(network: Network, port: Port, expected: Expected) -> Iterator[tuple[Node, float]]:
    """How far their tensor for a node is from that node's value and from those of later ones that it may hold, relative
    to their rms; 0 if it is right."""
    node, truth, rounded = expected.node, expected.truth, expected.rounded
    x = port.numbers(node.name)
    for held in (node, *_foldable_behind(network, port, node)):
        if held is not node:
            truth, rounded = (network.compute([held], {held.inputs[0]: v}, v.dtype.type) for v in (truth, rounded))
        tolerance, distances = port.tolerance(node.name, truth, rounded), [np.inf]
        for value in [] if x is None else [option.undo(x) for option in port.arrangements(held.name, x)]:
            away = difference(value, truth)
            error = rms(away) / (rms(truth) or 1) if np.isfinite(away).all() else np.inf
            distances.append(0 if tolerance.allows(value, truth) else error)
        yield held, min(distances)


def _readers(network: Network, port: Port, node: Node) -> Iterator[Node]:
    """The nearest nodes behind this one that have a tensor."""
    passed: set[str] = set()  # residual sums double the number of paths at every step: each node is passed once

    def behind(node: Node) -> Iterator[Node]:
        for reader in network.readers[node.name]:
            if reader.name not in passed:
                passed.add(reader.name)
                if reader.name in port.matches:
                    yield reader
                else:
                    yield from behind(reader)

    return behind(node)
