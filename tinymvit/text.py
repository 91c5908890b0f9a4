"""Text for a terminal: rows as aligned columns, lists cut short, names that may have been meant, and names of others
that cannot break a line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def align(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> list[str]:
    """One line a row: each column as wide as its widest cell, to the left if its number is in `left`."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def some(names: Sequence[str], count: int) -> str:
    """The first of these names, and how many more there are."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def count(number: int, noun: str) -> str:
    """The number and the noun, in the plural unless it is one."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that resembles `name` most, if one does; `cutoff`, from 0 to 1, is how much it must."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return near[0] if near else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about a name that is not known: `; did you mean "..."?`, or nothing if none is near."""
    near = nearest(name, known)
    return "" if near is None else f'; did you mean "{near}"?'


def printable(text: str) -> str:
    """`text` with line breaks, escape sequences and whatever else a terminal would obey written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
