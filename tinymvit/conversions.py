"""What converters do to a graph that is no mistake: they fold operations, or lay tokens out in another order.

A tensor named after a convolution may hold the value behind the normalisation folded into it; a layer norm may be
without its scale and shift, folded into the next matrix. What is wrong beyond that is found by `hints`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from tinymvit.graph import Activation, BatchNorm, Context, Node
from tinymvit.hints import HINTED_OPS, Search
from tinymvit.mistakes import scale_and_shift_left_out
from tinymvit.table import some
from tinymvit.verdict import Hint, Row

Array = np.ndarray


class Conversions:
    """Recognises them in one port, and remembers which were found."""

    def __init__(self, search: Search) -> None:
        self.search, self.alone, self.port = search, search.alone, search.port
        self.found: list[str] = []  # tensors that hold a later node's value
        self.unscaled: dict[str, Row] = {}  # normalisations whose scale and shift are folded into what follows

    @cached_property
    def tokens_first(self) -> bool:
        """Whether one image's tokens lie as (N, P, D). So do patches swapped with positions: the first tensor behind an
        attention, which sees other tokens then, tells these apart."""
        attended = False
        for node in self.alone.graph:
            attended = attended or isinstance(node.op, Context)
            x = self.port.numbers(node.name) if attended and node.name in self.port.matches else None
            if x is not None and x.ndim == 3 == len(node.shape):
                truth, rounded = self.alone.both(self.alone.together(node))
                value = x.swapaxes(0, 1)
                same_shape = len(self.alone.pixels) == 1 and value.shape == truth.shape
                return same_shape and self.port.limit(node.name, truth, rounded).allows(value, truth)
        return False

    def later(self, node: Node) -> Iterator[Node]:
        """The normalisation and activation that a port may have folded into the op before them."""
        last = node
        while len(self.alone.readers[last.name]) == 1:
            (last,) = self.alone.readers[last.name]
            if not isinstance(last.op, BatchNorm | Activation) or not self.port.may_hold(node, last):
                return
            yield last

    def folded(self, node: Node, truth: Array, rounded: Array) -> Node | None:
        """The later node whose value their tensor for `node` holds, if one does."""
        x = self.port.numbers(node.name)
        for later in self.later(node):
            truth, rounded = (self.alone.value([later], {later.inputs[0]: v}, v.dtype.type) for v in (truth, rounded))
            limit = self.port.limit(node.name, truth, rounded)
            if x is not None and any(limit.allows(o.undo(x), truth) for o in self.port.readings(later.name, x)):
                return later
        return None

    def folded_and_wrong(self, node: Node) -> Node | None:
        """The later node whose value their tensor holds but for a known mistake in the ops folded together."""
        port = self.port
        matches, arranged = dict(port.matches), dict(port.arranged)
        for later in self.later(node):
            port.move(node, later)
            explained = self.search.hints(later)
            port.matches, port.arranged = dict(matches), dict(arranged)
            if explained:
                return later
        return None

    def leaves_scale_to_others(self, node: Node) -> bool:
        """Whether their tensor is a normalisation without scale and shift, as converters fold these into what follows.
        Where they are really missing, that is then found behind it."""
        nodes, x = self.alone.together(node), self.port.numbers(node.name)
        if len(nodes) > HINTED_OPS or x is None:
            return False
        wrong = {node.name: scale_and_shift_left_out}
        return self.search.error(nodes, self.alone.inputs(nodes), wrong, node, x) is not None

    def missing(self, hints: Sequence[Hint]) -> Iterator[Row]:
        """The row of a normalisation whose scale and shift are not in what follows either, as the first hint says."""
        row = self.unscaled.pop(hints[0].node, None) if hints else None
        if row is not None:
            yield replace(row, hints=tuple(hint for hint in hints if hint.node == row.node))

    def notes(self) -> list[str]:
        """What was found, a line each."""
        notes = []
        if self.found:
            notes.append(f"{len(self.found)} tensors hold the value behind a folded op: {some(self.found, 1)}")
        if self.unscaled:
            notes.append(
                f"{len(self.unscaled)} normalisations are without scale and shift, judged with what follows: "
                f"{some([row.theirs for row in self.unscaled.values()], 1)}"
            )
        return notes
