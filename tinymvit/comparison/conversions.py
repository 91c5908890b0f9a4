"""What converters do to a graph that is no mistake: they fold operations, or lay tokens out in another order.

A tensor named after a convolution may hold the value behind the normalisation folded into it; a layer norm may be
without its scale and shift, folded into the next matrix. What is wrong beyond that is found by `hints`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tinymvit.comparison.hints import CLOSER, Search
from tinymvit.comparison.layouts import arrangements
from tinymvit.comparison.mistakes import SCALE_AND_SHIFT
from tinymvit.comparison.tolerance import difference, rms
from tinymvit.comparison.verdict import Hint
from tinymvit.graph import Activation, BatchNorm, Context, LayerNorm, Node
from tinymvit.text import count, some

Array = np.ndarray


class Conversions:
    """Recognises them in one port, and remembers which were found."""

    def __init__(self, search: Search) -> None:
        self.search, self.alone, self.port = search, search.alone, search.port
        self.found: list[str] = []  # tensors that hold a later node's value
        self.unscaled: list[str] = []  # of normalisations whose scale and shift are folded into what follows

    def reordered(self, node: Node, truth: Array, rounded: Array) -> bool:
        """Whether the tokens lie in an order that a mistake gives too: their tensor for this node is right so, and so
        is the first one behind an attention, which would have seen other tokens."""
        if len(node.shape) != 3 or self.port.axes[node.name].reordered or not self._allows(node, truth, rounded):
            return False
        with self.port.tentatively():
            self.port.arranged.pop(node.name, None)
            attended = self._attended(node)
            return attended is not None and self._allows(attended, *self.alone.both(self.alone.together(attended)))

    def _allows(self, node: Node, truth: Array, rounded: Array) -> bool:
        """Whether their tensor for a node is right in some order, be it one that a mistake gives too."""
        x, axes = self.port.numbers(node.name), replace(self.port.axes[node.name], reordered=True)
        limit = self.port.limit(node.name, truth, rounded)
        options = () if x is None else arrangements(x.shape, axes, self.port.settings.layout)
        return x is not None and any(limit.allows(option.undo(x), truth) for option in options)

    def _attended(self, node: Node) -> Node | None:
        """The first node of theirs, this one or later, whose tokens an attention made."""
        nodes = list(self.alone.graph)
        attended = False
        for later in nodes[nodes.index(node) :]:
            attended = attended or isinstance(later.op, Context)
            if attended and later.name in self.port.matches and len(later.shape) == 3:
                return later
        return None

    def later(self, node: Node) -> Iterator[Node]:
        """The normalisation and activation that a port may have folded into the op before them."""
        last = node
        while len(self.alone.readers[last.name]) == 1:
            (last,) = self.alone.readers[last.name]
            if not isinstance(last.op, BatchNorm | Activation) or not self.port.may_hold(node, last):
                return
            yield last

    def holder(self, node: Node, truth: Array, rounded: Array) -> Node | None:
        """The later node whose value their tensor for `node` holds: it is right as that, or far closer to it."""
        (_, here), *later = self._distances(node, truth, rounded)
        held, there = min(later, key=lambda entry: entry[1], default=(None, np.inf))
        return held if there == 0 or CLOSER * there < here else None

    def _distances(self, node: Node, truth: Array, rounded: Array) -> Iterator[tuple[Node, float]]:
        """How far their tensor for a node is from that node's value and from later ones that it may hold, relative to
        their rms; 0 if it is right."""
        x = self.port.numbers(node.name)
        for held in (node, *self.later(node)):
            if held is not node:
                truth, rounded = (self.alone.value([held], {held.inputs[0]: v}, v.dtype.type) for v in (truth, rounded))
            limit, distances = self.port.limit(node.name, truth, rounded), [np.inf]
            for value in [] if x is None else [option.undo(x) for option in self.port.readings(held.name, x)]:
                away = difference(value, truth)
                error = rms(away) / (rms(truth) or 1) if np.isfinite(away).all() else np.inf
                distances.append(0 if limit.allows(value, truth) else error)
            yield held, min(distances)

    def move(self, node: Node, later: Node) -> None:
        """Their tensor for a node holds a later one's value."""
        self.found.append(f"{self.port.matches[node.name].theirs} holds {later.name}")
        self.port.move(node, later)

    def folded_and_wrong(self, node: Node) -> Node | None:
        """The later node whose value their tensor holds but for a known mistake in the ops folded together."""
        for later in self.later(node):
            with self.port.tentatively():
                self.port.move(node, later)
                explained = self.search.hints(later)
            if explained:
                return later
        return None

    def scaled_behind(self, norm: Node, hints: tuple[Hint, ...]) -> bool:
        """Whether the scale and shift that their tensor for a layer norm lacks, as its hints say, are folded into what
        reads it: that is right with them, or wrong in another known way. If so, the norm counts as not in the dump."""
        if not isinstance(norm.op, LayerNorm) or Hint(norm.name, SCALE_AND_SHIFT) not in hints:
            return False
        with self.port.tentatively():
            self.port.leave_out(norm)
            readers = {reader: self.alone.both(self.alone.together(reader)) for reader in self._readers(norm)}
            distances = [distance for reader, both in readers.items() for _, distance in self._distances(reader, *both)]
            folded = 0 in distances
            if readers and not folded:
                reader = next(iter(readers))
                held = self.holder(reader, *readers[reader])
                if held is not None:
                    self.port.move(reader, held)
                hints = self.search.hints(held or reader)
                folded = bool(hints) and hints[0].node != norm.name
        if folded:
            self.unscaled.append(self.port.leave_out(norm).theirs)
        return folded

    def _readers(self, node: Node) -> Iterator[Node]:
        """The nearest nodes behind this one that have a tensor."""
        passed: set[str] = set()  # residual sums double the number of paths at every step: each node is passed once

        def behind(node: Node) -> Iterator[Node]:
            for reader in self.alone.readers[node.name]:
                if reader.name not in passed:
                    passed.add(reader.name)
                    if reader.name in self.port.matches:
                        yield reader
                    else:
                        yield from behind(reader)

        return behind(node)

    def notes(self) -> list[str]:
        """What was found, a line each."""
        notes = []
        if self.found:
            tensors = count(len(self.found), "tensor")
            notes.append(f"{tensors} with the value behind a folded op: {some(self.found, 1)}")
        if self.unscaled:
            norms = count(len(self.unscaled), "normalisation")
            notes.append(f"{norms} without scale and shift, judged with what follows: {some(self.unscaled, 1)}")
        return notes
