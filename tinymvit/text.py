"""Text for a terminal: lines that nothing in them can break, rows as aligned columns, lists cut short, and names that
may have been meant.

Names of files, tensors and labels are not ours, and may hold anything. `one_line` is the one rule for such text. It is
applied where text leaves: in the errors and warnings of `errors`, in what `commands.terminal` prints, in `align`.
"""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable, Sequence
from typing import Any

LONGEST_WORD = 300  # characters of a run without spaces, which the longest name of a file (255 bytes) is not
LONGEST_LINE = 2000  # characters of a message
LEFT_OUT = "[...]"
_LONG_WORD = re.compile(rf"\S{{{LONGEST_WORD + 1},}}")


def one_line(text: str, longest: int | None = LONGEST_LINE) -> str:
    """`text` as one line that is safe to show, whoever wrote it.

    Line breaks, escape sequences, marks that turn the direction of writing and whatever else a terminal would obey are
    written as escapes. A run of characters without a space that is longer than `LONGEST_WORD` is shortened in the
    middle, where [...] then stands, and so is a whole line of more than `longest` characters, unless that is None.
    """
    # Before the escapes, so that a text of any length costs little, and behind them, since they lengthen it.
    return _shortened(_escaped(_shortened(text, longest)), longest)


def _escaped(text: str) -> str:
    """`text` with line breaks, escape sequences and whatever else a terminal would obey written as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _shortened(text: str, longest: int | None) -> str:
    if len(text) > LONGEST_WORD:
        text = _LONG_WORD.sub(lambda word: _cut(word[0], LONGEST_WORD), text)
    return text if longest is None else _cut(text, longest)


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    kept = longest - len(LEFT_OUT)
    return f"{text[: kept - kept // 2]}{LEFT_OUT}{text[-(kept // 2) :]}"


def short(value: Any) -> str:
    """`repr` on one line, long values cut; seven neck_hidden_sizes still fit."""
    shortener = reprlib.Repr()
    shortener.maxtuple = shortener.maxlist = 8
    shortener.maxstring = shortener.maxother = 60
    return " ".join(shortener.repr(value).split())  # an array's has several lines


def align(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> list[str]:
    """One line a row: each column as wide as its widest cell, to the left if its number is in `left`."""
    rows = [[one_line(cell, LONGEST_WORD) for cell in row] for row in rows]
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
