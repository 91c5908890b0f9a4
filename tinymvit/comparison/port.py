"""A port: the tensors of its dump, matched with our nodes and, once judged, in our layout.

`matching` finds which tensor is which node, `layouts` how each may lie; `comparison` knows what is right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from tinymvit import reference
from tinymvit.comparison.layouts import MAP, VECTOR, Arrangement, arrangements, node_axes
from tinymvit.comparison.pairing import Match, Statistics, align, canonical
from tinymvit.comparison.tolerance import NUMBERS, Errors, Limit, difference, half_unit, rms, same
from tinymvit.comparison.verdict import Row
from tinymvit.graph import Graph, Node
from tinymvit.inspection.dump import Dump
from tinymvit.inspection.summary import describe
from tinymvit.text import count, some

Array = np.ndarray
Item = TypeVar("Item")


@dataclass(frozen=True)
class Settings:
    """What the user says of a port: names of theirs to names of ours, the layout of its maps, a relative tolerance if
    not the measured one; and whether progress is shown."""

    names: dict[str, str]
    layout: str
    tolerance: float | None
    progress: bool

    def bar(self, items: Iterable[Item], count: int) -> Iterable[Item]:
        """The items, with a bar on stderr if that is wanted and a terminal."""
        return tqdm(items, total=count, unit="node", disable=None if self.progress else True, leave=False)


class Port:
    """Their tensors, matched with nodes and, once judged, in our layout."""

    def __init__(
        self,
        graph: Graph,
        dump: Dump,
        matches: dict[str, Match],
        unread: dict[str, list[str]],  # of each node the tensors that mean it too
        settings: Settings,
        notes: list[str],
    ) -> None:
        self.graph, self.dump, self.settings, self.notes = graph, dump, settings, notes
        self.matches, self.unread = matches, unread
        self.names = {canonical(name): name for name in (*graph.outputs, *graph.modules, *graph.nodes)}
        self.axes = node_axes(graph)
        self.arranged: dict[str, Arrangement] = {}  # nodes judged and readable
        self.seen: Counter[str] = Counter()  # orders of axes that the values confirmed
        self.chosen: dict[str, tuple[str, str]] = {}  # where the values decided: the layout, and those that it is not

    def numbers(self, node: str) -> Array | None:
        """Their tensor as it lies, in float64; None if it holds no real numbers."""
        x = self.dump[self.matches[node].theirs]
        return np.asarray(x, np.float64) if x.dtype.kind in NUMBERS else None

    def value(self, node: str) -> Array:
        """Their tensor in our layout, for a node in `arranged`."""
        return self.arranged[node].undo(np.asarray(self.dump[self.matches[node].theirs], np.float64))

    def allow_reordered(self) -> None:
        """From now on orders of tokens that a mistake gives too are layouts."""
        self.axes = {node: replace(axes, reordered=True) for node, axes in self.axes.items()}

    @contextmanager
    def tentatively(self) -> Iterator[None]:
        """What is matched and read meanwhile is forgotten at the end."""
        matches, arranged = dict(self.matches), dict(self.arranged)
        try:
            yield
        finally:
            self.matches, self.arranged = matches, arranged

    def leave_out(self, node: Node) -> Match:
        """The tensor that was taken for this node is not its value."""
        self.arranged.pop(node.name, None)
        return self.matches.pop(node.name)

    def move(self, node: Node, later: Node) -> None:
        """The tensor that was taken for one node is a later one's."""
        self.matches.setdefault(later.name, self.leave_out(node))

    def may_hold(self, node: Node, later: Node) -> bool:
        """Whether the tensor of one node may be a later one's, which then has none, or the same numbers again."""
        if later.name not in self.matches:
            return True
        return same(*(self.dump[self.matches[name].theirs] for name in (node.name, later.name)))

    def readings(self, node: str, x: Array) -> list[Arrangement]:
        """The layouts that x may have, those confirmed most often first."""
        options = arrangements(x.shape, self.axes[node], self.settings.layout)
        return sorted(options, key=lambda option: -self.seen[option.order])

    def judge(
        self, node: Node, truth: Array, rounded: Array, together: tuple[str, ...], only_finite: bool = False
    ) -> Row:
        """The row of a node, given the truth and the float32 reference. Remembers the layout. only_finite: judge it
        only where the truth is finite."""
        match, x = self.matches[node.name], self.numbers(node.name)
        theirs = self.dump.shape(match.theirs)
        row = Row(node.name, describe(node.op), node.shape, match.theirs, match.how, theirs, "", "not numbers")
        row = replace(row, together=together)
        if x is None:
            return row
        options = self.readings(node.name, x)
        if not options:
            return replace(row, verdict="shape")
        limit = self.limit(node.name, truth, rounded)
        values = {option: option.undo(x) for option in options}
        if only_finite:
            values = {option: np.where(np.isfinite(truth), value, truth) for option, value in values.items()}
        right = [option for option, value in values.items() if limit.allows(value, truth)]
        if right and len(options) > 1:
            others = " or ".join(option.order for option in options if option is not right[0])
            self.chosen[node.name] = right[0].order, others
        believable = right or [option for option in options if self._believable(option)]
        if not believable:
            return replace(row, verdict="shape")
        option = right[0] if right else self._likeliest(believable, x, truth)
        self.seen[option.order] += bool(right)
        self.arranged[node.name] = option
        errors = Errors.of(values[option], truth)
        verdict = limit.verdict(errors, values[option], truth)
        return replace(row, layout=option.order, errors=errors, limit=limit, verdict=verdict)

    def rivals(self, row: Row, node: Node, truth: Array, rounded: Array) -> Iterator[Row]:
        """The wrong ones of the tensors that mean a node too and hold something else than the one that is read, whose
        row is given."""
        for theirs in self.unread.get(node.name, ()):
            if same(self.dump[theirs], self.dump[row.theirs]):
                continue
            other = self._reading(node.name, theirs)
            rival = other.judge(node, truth, rounded, row.together)
            readable = node.name in self.arranged and node.name in other.arranged
            if not rival.ok and not (readable and same(self.value(node.name), other.value(node.name))):
                self.notes.append(f"their {theirs} and {row.theirs} should be the same: both are {node.name}")
                yield replace(rival, node=self.names[canonical(theirs)])

    def _reading(self, node: str, theirs: str) -> Port:
        """This port, had another tensor been read for a node."""
        other = copy(self)
        other.matches = self.matches | {node: Match(theirs, "name")}
        other.arranged, other.seen, other.chosen = {}, self.seen.copy(), {}
        return other

    def _believable(self, option: Arrangement) -> bool:
        """Whether a wrong tensor may be read so: an order that no right tensor had, and not ours, fits by chance."""
        return option.order in (*MAP, *VECTOR, option.axes.orders[0]) or self.seen[option.order] > 0

    def _likeliest(self, options: list[Arrangement], x: Array, truth: Array) -> Arrangement:
        """Of layouts that all are wrong: the one confirmed most often elsewhere, else the one with the least error."""
        best = [option for option in options if self.seen[option.order] == self.seen[options[0].order]]
        return min(best, key=lambda option: rms(difference(option.undo(x), truth)))

    def limit(self, node: str, truth: Array, rounded: Array) -> Limit:
        """How far from the truth their tensor for this node may be."""
        return Limit.of(truth, rounded, self.settings.tolerance, half_unit(self.dump.stored(self.matches[node].theirs)))

    def unrounded(self, node: str, x: Array) -> Array:
        """What x, their tensor for this node, may have been before it was stored in a shorter format: each number is
        moved at random within half a unit of that."""
        half = half_unit(self.dump.stored(self.matches[node].theirs))
        moves = np.random.default_rng(0).uniform(-half, half, x.shape) if half else 0.0
        return x * (1 + moves)

    def guess(self, leftover: list[str], weights: Mapping[str, Array], pixels: Array) -> None:
        """Match tensors whose names mean nothing with nodes that have none, by shape, order and statistics."""
        free = [node for node in self.graph if node.name not in self.matches]
        usable = [name for name in leftover if self.dump.dtype(name).kind in NUMBERS]
        fitting = [name for name in usable if any(self._fits(node.name, name) for node in free)]
        if not free or not fitting:
            return
        theirs = {name: Statistics.of(self.dump[name]) for name in fitting}
        steps = reference.steps(self.graph, weights, pixels, np.float32)
        ours = {node.name: Statistics.of(value) for node, value in self.settings.bar(steps, len(self.graph))}
        pairs = align(
            [node.name for node in free],
            fitting,
            self._fits,
            lambda node, name: ours[node].close_to(theirs[name]),
            by_shape_alone=len(self.matches) == 1,
        )
        self.matches.update({node: Match(name, "guess") for node, name in pairs.items()})
        self.notes += [f"guess: their {name} is {node}" for node, name in pairs.items()]

    def _fits(self, node: str, name: str) -> bool:
        return bool(arrangements(self.dump.shape(name), self.axes[node], self.settings.layout))

    def unrecognised(self, leftover: list[str]) -> list[str]:
        """Those of their tensors without a name of ours that were not guessed to be a node either."""
        used = {match.theirs for match in self.matches.values()}
        return [name for name in leftover if name not in used]

    def summary(self, rows: list[Row], leftover: list[str]) -> list[str]:
        """What is worth saying of matching and layouts, once all is judged."""
        notes = []
        rows = [row for row in rows if row.node in self.axes]
        layouts = Counter(row.layout for row in rows if row.layout and row.layout != self.axes[row.node].orders[0])
        if layouts:
            notes.append("layouts undone: " + ", ".join(f"{order} ({times})" for order, times in layouts.items()))
        if self.chosen:
            chosen = [f"{node} is {order}, not {others}" for node, (order, others) in self.chosen.items()]
            notes.append(f"several layouts fit {count(len(chosen), 'tensor')}, the values decided: {some(chosen, 1)}")
        maps = Counter(row.layout for row in rows if row.layout in MAP)
        usual = max(MAP, key=lambda order: maps[order])
        if odd := [node for node, (order, _) in self.chosen.items() if order in MAP and order != usual]:
            notes.append(f"right in another layout than most maps, {usual}: {some(odd, 3)}; is a transpose missing?")
        notes.append(f"{len(rows)} of {len(self.graph)} nodes compared")
        if unknown := self.unrecognised(leftover):
            notes.append(f"{len(unknown)} of their {len(self.dump)} tensors not recognised: {some(unknown, 3)}")
        return notes
