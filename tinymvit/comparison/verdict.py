"""What a comparison finds: a judgement of each tensor, with the hints that explain it, and the first that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from tinymvit.comparison.tolerance import Tolerance
from tinymvit.numerics import Errors
from tinymvit.ops import Shape


class Verdict(StrEnum):
    """What is said of a tensor. Each verdict is a string too: the word for it in the table and in the JSON."""

    OK = "ok"
    DIFFERS = "differs"
    SHAPE = "shape"  # no layout explains its shape
    NOT_FINITE = "not finite"  # it holds NaN or infinity where the truth has numbers
    OURS_NOT_FINITE = "ours not finite"  # the truth holds NaN or infinity where it has numbers
    NOT_NUMBERS = "not numbers"  # it holds complex numbers or text


@dataclass(frozen=True)
class Hint:
    """A known mistake that explains a tensor. node: where it is made. mistake: what is wrong, as a sentence, which also
    says so if all ops of a kind must make the mistake."""

    node: str
    mistake: str

    def __str__(self) -> str:
        return f"{self.node}: {self.mistake}"


@dataclass(frozen=True)
class Judgement:
    """A row of the table: a node that was compared, or a module or output whose tensor is not the one that was read for
    its node.

    op, shape: the node's. theirs, matched, their_shape: the name of their tensor, how it was found ("name", "map" or
    "guess"), its shape. layout: the order of axes in which it was read, "" if it could not be. limit: the
    tolerance, by the name that programs read in the JSON. together: the ops that were judged as one because the dump
    lacks the tensors between them, the node itself last.
    """

    node: str
    op: str
    shape: Shape
    theirs: str
    matched: str
    their_shape: Shape
    layout: str
    verdict: Verdict
    errors: Errors | None = None
    limit: Tolerance | None = None
    together: tuple[str, ...] = ()
    hints: tuple[Hint, ...] = ()

    @property
    def ok(self) -> bool:
        return self.verdict is Verdict.OK

    @property
    def wrong_op(self) -> str:
        """The op that is wrong, as far as is known: the hint's, else the one whose tensor differs."""
        return self.hints[0].node if self.hints else self.node


@dataclass(frozen=True)
class Comparison:
    """The judgements in the graph's order, and the notes that are worth a line beside them. isolated: whether each op
    was judged by itself. caveats: what must be known to read the answer. basis: what it rests on, where names alone do
    not say which tensor is which node, else "". names: the pairs that were settled on, their names to ours in the
    graph's order: a map to be corrected and given back. unsettled: nodes without a tensor to one of theirs that nothing
    explains and that is nearly what they must have."""

    rows: tuple[Judgement, ...]
    notes: tuple[str, ...]
    isolated: bool
    caveats: tuple[str, ...] = ()
    basis: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    unsettled: Mapping[str, str] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Whether every tensor that was compared is right, and none that was not is nearly what a node must have."""
        return self.divergence is None and not self.unsettled

    @property
    def divergence(self) -> Judgement | None:
        """The first judgement that is not "ok"."""
        return next((row for row in self.rows if not row.ok), None)

    @property
    def first(self) -> str | None:
        """The name of the first divergent node, of the first wrong op if isolated; None if all that was compared is
        right."""
        row = self.divergence
        if row is None:
            return None
        return row.wrong_op if self.isolated else row.node

    @property
    def wrong(self) -> list[Judgement]:
        """The judgements that are not "ok"; if isolated, without those that an op named by an earlier one explains, or
        one of the ops that were judged together there."""
        named: set[str] = set()
        rows = []
        for row in self.rows:
            if not row.ok and not (self.isolated and named.intersection(row.together)):
                rows.append(row)
                named.update([row.wrong_op] if row.hints else [row.node, *row.together])
        return rows
