"""The error budget on a terminal and on paper: the table of all nodes, and the plot along the network."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tinymvit.error_budget.int8 import Int8Budget
from tinymvit.error_budget.measure import ENGINE, WAYS, ErrorBudget
from tinymvit.errors import OutputError
from tinymvit.files import write_files
from tinymvit.text import align
from tinymvit.weights.families.naming import BACKBONE

COLUMNS = {  # of the table: head, and the accumulated error that stands there
    "float32": "float32",
    "engine": ENGINE,
    "f16 weights": "float16 weights",
    "bf16 weights": "bfloat16 weights",
    "f16 values": "float16 activations",
}
SHOWN_ENTERING = 5


def to_text(budget: ErrorBudget | Int8Budget) -> str:
    """The budget as text: one line for each node, the nodes where most of float32's error enters, and the result."""
    if isinstance(budget, Int8Budget):
        return _int8_to_text(budget)
    lines = [("node", "enters", *COLUMNS)]
    lines += [
        (
            node.name,
            _number(node.enters["float32"]),
            *(_number(node.accumulated.get(name)) for name in COLUMNS.values()),
        )
        for node in budget.nodes
    ]
    most = sorted(budget.nodes, key=lambda node: -node.enters["float32"])[:SHOWN_ENTERING]
    notes = [
        f"{name}: no error, since the checkpoint's own are in that format"
        for name, r in budget.results.items()
        if "weights" in name and r.largest == 0
    ]
    return "\n".join(
        [
            *_aligned(lines),
            "",
            "enters: float32's error of this node alone; the others: accumulated since the pixels, relative, rms",
            "most of float32's error enters at",
            *(f"  {_number(node.enters['float32'])}  {node.name} ({node.op})" for node in most),
            "",
            *_aligned(_results(budget)),
            *notes,
        ]
    )


def _int8_to_text(budget: Int8Budget) -> str:
    """One line for each node in int8, the worst first; the result; and what to leave in float."""
    lines = [("node", "own", "weights", "accumulated")]
    lines += [
        (node.name, _decibels(node.own), _decibels(node.weights), _decibels(node.accumulated))
        for node in budget.ranked()
    ]
    return "\n".join(
        [
            *_aligned(lines),
            "",
            "signal to noise in decibels, the worst first; own: of this node alone, with exact inputs; weights: the",
            "part of its weights in that; accumulated: since the pixels",
            "",
            *_aligned(_results(budget)),
            "",
            *_what_to_keep(budget),
        ]
    )


def _what_to_keep(budget: Int8Budget) -> list[str]:
    none, *trials = budget.trials
    lines = [("left in float", "it alone in int8", "left together", "gain", "largest error")]
    lines.append(("none", "", f"{_decibels(none.snr)} dB", "", _number(none.result.largest)))
    lines += [
        (
            f"{'and ' if len(trial.keep_float) > 1 else ''}{trial.keep_float[-1]}",
            f"{_decibels(budget.alone[trial.keep_float[-1]])} dB",
            f"{_decibels(trial.snr)} dB",
            f"{trial.snr - none.snr:+.1f} dB",
            _number(trial.result.largest),
        )
        for trial in trials
    ]
    if not trials:
        return ["no layer is in int8"]
    best = " ".join(budget.keep_float())
    return [
        *_aligned(lines),
        f"signal to noise of {budget.judged}; largest error: of the {budget.output}",
        f"the best of these: {f'--keep-float {best}' if best else 'none in float'}",
    ]


def _results(budget: ErrorBudget | Int8Budget) -> list[tuple[str, ...]]:
    """What became of the result by each way, with a head."""
    rows: list[tuple[str, ...]] = [(budget.output, "relative error", "largest error", "same answer")]
    rows += [
        (
            name,
            _number(result.relative),
            _number(result.largest),
            "-" if result.same_answers is None else f"{result.same_answers:.2%}",
        )
        for name, result in budget.results.items()
    ]
    return rows


def _decibels(snr: float | None) -> str:
    if snr is None:
        return "-"
    return f"{snr:.1f}" if math.isfinite(snr) else "exact" if snr > 0 else "lost"


def _number(error: float | None) -> str:
    if not error:
        return "-" if error is None else "0"
    return f"{error:.1e}" if math.isfinite(error) else "overflow"


def _aligned(lines: Sequence[tuple[str, ...]]) -> list[str]:
    head, *rows = align(lines)
    return [head, "-" * len(head), *rows]


PLOT_SUFFIXES = (".png", ".svg", ".pdf")


def check_plot(path: Path) -> None:
    """Raise OutputError unless a plot can be made with this name, before the long work."""
    if path.suffix.lower() not in PLOT_SUFFIXES:
        raise OutputError(f"{path}: the suffix {path.suffix!r} names no plot; expected {', '.join(PLOT_SUFFIXES)}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise OutputError(f"{path}: a plot needs matplotlib: pip install 'tinymvit[plot]'") from None


def save_plot(budget: ErrorBudget, path: Path) -> None:
    """Draw the errors along the network: float32 above, the shorter formats below. Raises OutputError."""
    check_plot(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    _draw(above, budget, {"float32": "reference, float32", ENGINE: "engine, float32"})
    _draw(below, budget, {name: name for name in WAYS if name != "float32"})
    above.set_title("Rounding error along the network. Lines: accumulated. Dots: what enters at a node.")
    starts = stages(budget)
    ends = [*list(starts.values())[1:], len(budget.nodes)]
    middles = {(start + end) / 2: part for (part, start), end in zip(starts.items(), ends, strict=True)}
    wide = [end - start > len(budget.nodes) / 20 for start, end in zip(starts.values(), ends, strict=True)]
    below.set_xticks(list(middles), [part if shown else "" for part, shown in zip(starts, wide, strict=True)])
    below.set_xlabel("nodes in the order they run, by stage")
    for axes in (above, below):
        axes.tick_params(axis="x", length=0)
        for start in starts.values():
            axes.axvline(start - 0.5, color="0.85", linewidth=0.8, zorder=0)
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix.lower()[1:], dpi=120)
    write_files(path.parent, {path.name: lambda file: file.write(content.getvalue())})


def _draw(axes: Any, budget: ErrorBudget, ways: dict[str, str]) -> None:
    for number, (way, label) in enumerate(ways.items()):
        accumulated = _points(node.accumulated.get(way) for node in budget.nodes)
        entering = _points(node.enters.get(way) for node in budget.nodes)
        axes.plot(*accumulated, color=f"C{number}", label=label if accumulated[0] else f"{label}: no error")
        axes.plot(*entering, ".", color=f"C{number}", markersize=4, alpha=0.6)
    axes.set_yscale("log")
    axes.set_ylabel("relative error (rms)")
    axes.set_xlim(-0.5, len(budget.nodes) - 0.5)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(loc="upper left")


def _points(errors: Iterable[float | None]) -> tuple[list[int], list[float]]:
    """The errors that a logarithmic axis can show: their positions, then the errors."""
    points = [(i, error) for i, error in enumerate(errors) if error and math.isfinite(error)]
    return [i for i, _ in points], [error for _, error in points]


def stages(budget: ErrorBudget) -> dict[str, int]:
    """The network's parts and the position of the first node of each: a stage of the encoder, or a module beside it."""
    starts: dict[str, int] = {}
    for position, node in enumerate(budget.nodes):
        path = node.name.removeprefix(BACKBONE).removeprefix("encoder.").split(".")
        starts.setdefault(".".join(path[: 2 if path[0] == "layer" else 1]), position)
    return starts
