"""What converters do to a graph that is no mistake: they fold an operation, or a part of one, into another.

A tensor named after a convolution may hold the value behind the normalisation folded into it; a layer norm may be
without its scale and shift, folded into the matrices that read it. What is wrong beyond that is found by `hints`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tinymvit.comparison.hints import CLOSER, Made, find_mistakes
from tinymvit.comparison.isolation import Expected, in_isolation
from tinymvit.comparison.port import Port
from tinymvit.comparison.reference_run import ReferenceRun
from tinymvit.graph import Node
from tinymvit.numerics import difference, rms
from tinymvit.ops import Activation, BatchNorm


def node_held(run: ReferenceRun, port: Port, expected: Expected) -> Node | None:
    """The later node whose value their tensor for a node holds: it is right as that, or far closer to it."""
    (_, distance), *later = _distances(run, port, expected)
    held, least = min(later, key=lambda entry: entry[1], default=(None, np.inf))
    return held if least == 0 or CLOSER * least < distance else None


def node_held_wrongly(run: ReferenceRun, port: Port, node: Node) -> tuple[Node, tuple[Made, ...]] | None:
    """The later node whose value their tensor for a node holds but for a known mistake in the ops that were folded
    together, with the mistakes that explain it. None if there is none."""
    for later in _foldable_behind(run, port, node):
        found = find_mistakes(run, port.with_tensor_moved(node, later), later)
        if found:
            return later, found
    return None


def scale_and_shift_behind(run: ReferenceRun, port: Port, norm: Node) -> tuple[Made, ...] | None:
    """Whether the scale and shift that their tensor for a layer norm lacks were folded into the ops that read it.

    They were if a tensor behind these ops is right, or is wrong by known mistakes of other ops: the result is these
    mistakes, none if the tensor is right. The result is None if scale and shift were not folded.
    """
    port = port.without(norm)
    readers = [in_isolation(run, port, reader) for reader in _readers(run, port, norm)]
    if any(distance == 0 for reader in readers for _, distance in _distances(run, port, reader)):
        return ()
    if not readers:
        return None
    first = readers[0].node
    held = node_held(run, port, readers[0])
    if held is not None:
        port = port.with_tensor_moved(first, held)
    found = find_mistakes(run, port, held or first)
    return found if found and found[0].hint.node != norm.name else None


def _foldable_behind(run: ReferenceRun, port: Port, node: Node) -> Iterator[Node]:
    """The normalisation and activation that a port may have folded into the op before them."""
    last = node
    while len(run.readers[last.name]) == 1:
        (last,) = run.readers[last.name]
        if not isinstance(last.op, BatchNorm | Activation) or not port.may_hold(node, last):
            return
        yield last


def _distances(run: ReferenceRun, port: Port, expected: Expected) -> Iterator[tuple[Node, float]]:
    """That node and the later ones whose value their tensor for it may hold, each with the distance between the tensor
    and its value, relative to the value's rms; 0 if the tensor is right as that value."""
    node, truth, rounded = expected.node, expected.truth, expected.rounded
    x = port.numbers(node.name)
    for held in (node, *_foldable_behind(run, port, node)):
        if held is not node:
            truth, rounded = (run.compute([held], {held.inputs[0]: v}, v.dtype.type) for v in (truth, rounded))
        tolerance, distances = port.tolerance(node.name, truth, rounded), [np.inf]
        for value in [] if x is None else [option.undo(x) for option in port.arrangements(held.name, x)]:
            away = difference(value, truth)
            error = rms(away) / (rms(truth) or 1) if np.isfinite(away).all() else np.inf
            distances.append(0 if tolerance.allows(value, truth) else error)
        yield held, min(distances)


def _readers(run: ReferenceRun, port: Port, node: Node) -> Iterator[Node]:
    """The nearest nodes behind this one that have a tensor."""
    passed: set[str] = set()  # each node is passed once, because the number of paths doubles with every residual sum

    def behind(node: Node) -> Iterator[Node]:
        for reader in run.readers[node.name]:
            if reader.name not in passed:
                passed.add(reader.name)
                if reader.name in port.matches:
                    yield reader
                else:
                    yield from behind(reader)

    return behind(node)
