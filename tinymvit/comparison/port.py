"""What is known of a port so far: which of its tensors is which node, how each is read, and the mistakes it makes.

A `Port` never changes: what is found out at a node makes another one, which is given to the next node. What may be
wrong with a tensor, and what is right, is not known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from tinymvit import limits
from tinymvit.comparison.layouts import Arrangement, Axes, arrangements
from tinymvit.comparison.mistakes import Mistake
from tinymvit.comparison.names import Match, Names
from tinymvit.comparison.settings import INT8, ComparisonSettings
from tinymvit.comparison.tolerance import Tolerance
from tinymvit.errors import DumpError
from tinymvit.graph import Node
from tinymvit.inspection.dump import Dump
from tinymvit.numerics import NUMBERS, Array, half_unit, same


def as_float64(x: Array, name: str) -> Array:
    """A tensor of a dump in float64, which may be eight times as large as its file. Raises DumpError if that is more
    memory than is allowed."""
    limits.check(8 * x.size, f"{name} in float64", DumpError)
    return np.asarray(x, np.float64)


@dataclass(frozen=True, eq=False)
class Port:
    """A dump of a port and what is known of it.

    names: what its names mean. axes: of each of our nodes. matches: nodes to the tensors that are taken for them. read:
    nodes to how their tensor was read, of those before the node that is looked at now. confirmed: orders of axes to how
    many right tensors had them. mistakes: those of the catalogue that explained a tensor. searches_in_vain: how often
    all mistakes were tried and none explained it.
    """

    dump: Dump
    settings: ComparisonSettings
    names: Names
    axes: Mapping[str, Axes]
    matches: Mapping[str, Match]
    read: Mapping[str, Arrangement] = field(default_factory=dict)
    confirmed: Mapping[str, int] = field(default_factory=dict)
    mistakes: frozenset[Mistake] = frozenset()
    searches_in_vain: int = 0

    # ---- questions ----

    def numbers(self, node: str) -> Array | None:
        """Their tensor for a node as it lies, in float64; None if it holds no real numbers."""
        x = self.dump[self.matches[node].theirs]
        return as_float64(x, self.matches[node].theirs) if x.dtype.kind in NUMBERS else None

    def value(self, node: str) -> Array:
        """Their tensor for a node that was read, in our layout, in float64."""
        name = self.matches[node].theirs
        return self.read[node].undo(as_float64(self.dump[name], name))

    def arrangements(self, node: str, x: Array) -> list[Arrangement]:
        """The ways in which x may be read as the value of a node, those confirmed most often first."""
        options: Iterable[Arrangement] = arrangements(x.shape, self.axes[node], self.settings.layout)
        order = self.matches[node].order if node in self.matches else None
        if order is not None:
            options = [option for option in options if option.order == order]
        return sorted(options, key=lambda option: -self.times_confirmed(option))

    def times_confirmed(self, option: Arrangement) -> int:
        return self.confirmed.get(option.order, 0)

    def tolerance(self, node: str, truth: Array, rounded: Array) -> Tolerance:
        """How far from the truth their tensor for a node may be, given the reference in float32 too."""
        half, given = self._half_unit(node), self.settings.relative_tolerance
        if given is not None:
            return Tolerance.relative(truth, given, half)
        if self.settings.precision == INT8:
            theirs = self.numbers(node)
            return Tolerance.in_int8(truth, rounded, half, truth if theirs is None else theirs)
        return Tolerance.measured(truth, rounded, half)

    def before_storing(self, node: str, x: Array) -> Array:
        """What x, their tensor for a node, may have been before it was stored in a shorter format: each number is moved
        at random within half a unit of that format."""
        half = self._half_unit(node)
        return x * (1 + np.random.default_rng(0).uniform(-half, half, x.shape)) if half else x

    def may_hold(self, node: Node, later: Node) -> bool:
        """Whether the tensor of one node may be a later one's: that has no other tensor, or one of the same numbers."""
        if later.name not in self.matches:
            return True
        return same(*(self.dump[self.matches[name].theirs] for name in (node.name, later.name)))

    def _half_unit(self, node: str) -> float:
        return half_unit(self.dump.stored(self.matches[node].theirs))

    # ---- what is known after something was found out ----

    def after_reading(self, node: str, option: Arrangement, right: bool) -> Port:
        """The tensor of a node is read so; if it is right, that confirms the order of its axes."""
        times = self.times_confirmed(option) + right
        return replace(self, read={**self.read, node: option}, confirmed={**self.confirmed, option.order: times})

    def with_tokens_reordered(self) -> Port:
        """Orders of tokens that a mistake gives too are layouts."""
        return replace(self, axes={node: replace(axes, reordered=True) for node, axes in self.axes.items()})

    def with_match(self, node: str, match: Match) -> Port:
        """Another tensor is taken for a node."""
        return replace(self, matches={**self.matches, node: match})

    def without(self, node: Node) -> Port:
        """The tensor that was taken for a node is not its value."""
        matches, read = dict(self.matches), dict(self.read)
        del matches[node.name]
        read.pop(node.name, None)
        return replace(self, matches=matches, read=read)

    def with_tensor_moved(self, node: Node, later: Node) -> Port:
        """The tensor that was taken for one node is a later one's."""
        rest = self.without(node)
        return replace(rest, matches={later.name: self.matches[node.name], **rest.matches})

    def with_mistake(self, mistake: Mistake) -> Port:
        """The port makes this mistake."""
        return replace(self, mistakes=self.mistakes | {mistake})

    def after_a_search_in_vain(self) -> Port:
        return replace(self, searches_in_vain=self.searches_in_vain + 1)
