"""Last stage: a comparison as text, as JSON and as a page of HTML that needs no other file."""

from __future__ import annotations

import math
from dataclasses import asdict
from html import escape
from string import Template
from typing import Any

from tinymvit.comparison.verdict import Comparison, Judgement, Verdict
from tinymvit.files import finite
from tinymvit.text import align, one_line, some

COLUMNS = ("node", "op", "shape", "max abs", "max rel", "rms", "SNR dB", "cosine", "worst at", "verdict")
NUMERIC = range(3, 8)  # of the columns, those that are aligned to the right
LISTED = 9  # wrong ops that are named beside the first
AGREE = "agree"  # stands where the first divergent node would
UNSETTLED = "no difference found"  # and so does this, if a tensor that was not recognised may be wrong


# ---- text ----


def to_text(comparison: Comparison) -> str:
    """The comparison as lines: the headline, the reasons, the table in the graph's order, the notes."""
    lines = [headline(comparison), *(f"  {line}" for line in reasons(comparison)), "", *_table(comparison)]
    return "\n".join(one_line(line, None) for line in [*lines, "", *comparison.notes])


def headline(comparison: Comparison) -> str:
    """The first divergent node or "agree", and behind a semicolon what that rests on, where names alone do not say."""
    return "; ".join([_answer(comparison), *filter(None, [comparison.basis])])


def _answer(comparison: Comparison) -> str:
    return comparison.first or (AGREE if comparison.agrees else UNSETTLED)


def reasons(comparison: Comparison) -> list[str]:
    """What is known of the first divergence, and in isolation of the ops that are wrong beside it."""
    row = comparison.divergence
    if row is None:
        return [*_not_recognised(comparison), *comparison.caveats]
    lines = [_what(row), *(f"hint: {hint}" for hint in row.hints), *comparison.caveats]
    if len(row.together) > 1 and not row.hints:
        known = "no tensor of theirs was recognised" if comparison.basis else "the dump has no tensor"
        lines.append(f"one of {len(row.together)} ops, between which {known}: {some(row.together, 3)}")
    others = comparison.wrong[1:]
    if not comparison.isolated:
        behind = "1 node behind it differs too" if len(others) == 1 else f"{len(others)} nodes behind it differ too"
        return [*lines, behind] if others else lines
    for other in others[:LISTED]:
        lines.append("; ".join([f"also wrong: {other.wrong_op}", *(f"hint: {hint}" for hint in other.hints[:1])]))
    if len(others) > LISTED:
        lines.append(f"and {len(others) - LISTED} more")
    return lines


def _not_recognised(comparison: Comparison) -> list[str]:
    """The first tensor that may be wrong though nothing that was recognised is."""
    if not comparison.unsettled:
        return []
    node, theirs = next(iter(comparison.unsettled.items()))
    return [
        f"their {theirs} is not recognised: it is similar to {node}, which has no tensor, and differs from it by more "
        "than rounding; a map of names decides whether it is that node"
    ]


def _what(row: Judgement) -> str:
    if row.verdict is Verdict.SHAPE:
        return f"their {row.theirs} has shape {list(row.their_shape)}, which no layout explains for {list(row.shape)}"
    if row.verdict is Verdict.NOT_NUMBERS:
        return f"their {row.theirs} does not hold real numbers"
    errors, limit = row.errors, row.limit
    assert errors is not None  # of a tensor that was read
    assert limit is not None
    if row.verdict is Verdict.NOT_FINITE:
        return f"their {row.theirs} holds NaN or infinity, first at {list(errors.worst)}"
    if row.verdict is Verdict.OURS_NOT_FINITE:
        return f"our {row.node} holds NaN or infinity, first at {list(errors.worst)}, their {row.theirs} a number"
    if errors.rms <= limit.rms:
        return f"their {row.theirs} differs: largest error {errors.absolute:.2e}, tolerance {limit.largest:.2e}"
    return f"their {row.theirs} differs: rms error {errors.rms:.2e}, tolerance {limit.rms:.2e}"


def cells(row: Judgement) -> tuple[str, ...]:
    """A row's cells under `COLUMNS`."""
    shape = "x".join(map(str, row.shape))
    if row.errors is None:
        return (row.node, row.op, shape, *[""] * 6, row.verdict)
    e = row.errors
    numbers = (f"{e.absolute:.1e}", f"{e.relative:.1e}", f"{e.rms:.1e}", f"{e.snr:.1f}", f"{e.cosine:.9f}")
    return (row.node, row.op, shape, *numbers, ",".join(map(str, e.worst)), row.verdict)


def _table(comparison: Comparison) -> list[str]:
    left = [column for column in range(len(COLUMNS)) if column not in NUMERIC]
    head, *rows = align([COLUMNS, *map(cells, comparison.rows)], left)
    return [head, "-" * max(map(len, (head, *rows))), *rows]


# ---- JSON ----


def to_json(comparison: Comparison) -> dict[str, Any]:
    """All of the comparison, for programs. Numbers that JSON lacks (NaN, infinity) are null."""
    return {
        "first": _answer(comparison),
        "agrees": comparison.agrees,
        "isolated": comparison.isolated,
        "basis": comparison.basis,
        "caveats": list(comparison.caveats),
        "rows": [finite(asdict(row)) for row in comparison.rows],
        "notes": list(comparison.notes),
        "names": dict(comparison.names),
        "unsettled": dict(comparison.unsettled),
    }


# ---- HTML ----

PAGE = Template("""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>tinymvit compare: $first</title><style>
body { font: 14px/1.5 system-ui, sans-serif; margin: 2em; color: #222; background: #fff }
h1 { font-size: 1.3em } h1 code { padding: .1em .3em }
table { border-collapse: collapse } th, td { padding: .15em .7em; text-align: left; white-space: nowrap }
th { position: sticky; top: 0; background: #fff; border-bottom: 1px solid #888 }
td { font-family: ui-monospace, monospace; font-size: 12px }
.n { text-align: right } tr.ok { color: #666 } tr.wrong { background: #fdd } tr.first { background: #f99 }
.bar { display: inline-block; height: .7em; background: #69c; margin-left: .5em } tr.wrong .bar { background: #c33 }
</style></head><body>
<h1>$title</h1>
<ul>$reasons</ul>
<table><thead><tr>$head</tr></thead><tbody>
$rows
</tbody></table>
<p>The bar is the SNR, 150 dB wide.</p>
<ul>$notes</ul>
</body></html>
""")


def to_html(comparison: Comparison) -> str:
    """One page: the answer, the table with a bar for each node's SNR, the notes."""
    first = _text(_answer(comparison))
    kind = "First wrong op" if comparison.isolated else "First divergent node"
    title = f"{kind}: <code>{first}</code>" if comparison.first else first
    return PAGE.substitute(
        first=first,
        title=f"{title}; {_text(comparison.basis)}" if comparison.basis else title,
        reasons=_items(reasons(comparison)),
        head="".join(f"<th>{name}</th>" for name in COLUMNS),
        rows="\n".join(_html_row(row, row is comparison.divergence) for row in comparison.rows),
        notes=_items(comparison.notes),
    )


def _html_row(row: Judgement, first: bool) -> str:
    kind = "ok" if row.ok else "wrong first" if first else "wrong"
    data = [
        f'<td class="n">{_text(cell)}</td>' if i in NUMERIC else f"<td>{_text(cell)}</td>"
        for i, cell in enumerate(cells(row))
    ]
    if row.errors is not None:
        decibels = row.errors.snr if math.isfinite(row.errors.snr) else 150.0 * (row.errors.rms == 0)
        width = min(max(decibels, 0), 150) / 15
        data[-1] = data[-1].replace("</td>", f'<span class="bar" style="width: {width:.1f}em"></span></td>')
    return f'<tr class="{kind}">{"".join(data)}</tr>'


def _items(lines: list[str] | tuple[str, ...]) -> str:
    return "".join(f"<li>{_text(line)}</li>" for line in lines)


def _text(line: str) -> str:
    return escape(one_line(line, None))
