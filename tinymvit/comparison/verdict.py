"""What a comparison finds: a row for each tensor, with the hints that explain it, and the first that is wrong.

Finding it is left to `comparison` and `two_dumps`, printing it to `report`.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinymvit.comparison.tolerance import Errors, Limit
from tinymvit.ops import Shape


@dataclass(frozen=True)
class Hint:
    """A known mistake that explains a tensor: at which node, and what; if all alike must make it, that is said too."""

    node: str
    mistake: str

    def __str__(self) -> str:
        return f"{self.node}: {self.mistake}"


@dataclass(frozen=True)
class Row:
    """A node that was compared, or a module or output whose tensor is not the one that is read for its node.

    verdict: "ok", "differs", "shape" (no layout explains it), "not finite" (NaN or infinity where the truth has
    numbers), "ours not finite" (the reverse) or "not numbers". limit: what `errors` may be. together: the ops that were
    judged as one because the dump lacks the tensors between them, the node itself last.
    """

    node: str
    op: str
    shape: Shape
    theirs: str
    matched: str
    their_shape: Shape
    layout: str
    verdict: str
    errors: Errors | None = None
    limit: Limit | None = None
    together: tuple[str, ...] = ()
    hints: tuple[Hint, ...] = ()

    @property
    def ok(self) -> bool:
        return self.verdict == "ok"

    @property
    def wrong_op(self) -> str:
        """The op that is wrong, as far as is known: the hint's, else the one whose tensor differs."""
        return self.hints[0].node if self.hints else self.node


@dataclass(frozen=True)
class Comparison:
    """Rows in the graph's order, and what else is worth a line. caveats: what must be known to read the answer."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    isolated: bool
    caveats: tuple[str, ...] = ()

    @property
    def divergence(self) -> Row | None:
        """The first row that is not "ok"."""
        return next((row for row in self.rows if not row.ok), None)

    @property
    def first(self) -> str:
        """The name of the first divergent node, of the first wrong op if isolated, or "agree"."""
        row = self.divergence
        return "agree" if row is None else row.wrong_op if self.isolated else row.node

    @property
    def wrong(self) -> list[Row]:
        """The rows that are not "ok"; if isolated, without those that an op named by an earlier one may explain."""
        named: set[str] = set()
        rows = []
        for row in self.rows:
            if not row.ok and not (self.isolated and named.intersection(row.together)):
                rows.append(row)
                named.add(row.wrong_op)
        return rows

    @property
    def agrees(self) -> bool:
        return self.divergence is None
