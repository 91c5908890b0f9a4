"""The error budget: what rounding costs, node by node, in float32 and in the shorter formats that a port may choose.

The network is computed in several ways side by side, one node at a time: exactly (float64), in float32 by the reference
and by the engine, and in float64 with only the weights or only the values between nodes rounded to a shorter format.
Each node then has two errors for each way: the one that *enters* there, with exact inputs, and the one *accumulated*
since the pixels. An error is the root of the mean square of the difference over that of the exact values.

Values are let go when no later node reads them, so memory is bounded by the network's widest place. The formulas are
the reference's, the engine's numbers its own; the table and the plot are made here, arguments are left to the command.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinymvit import graph as ops
from tinymvit import reference
from tinymvit.engine.engine import Engine
from tinymvit.errors import CheckpointError, OutputError
from tinymvit.files import finite, write_files
from tinymvit.graph import Node, last_use
from tinymvit.inspection.summary import describe
from tinymvit.modeling import MobileViTPreTrainedModel, check_pixel_values
from tinymvit.numerics import relative_error, to_bfloat16, to_float16
from tinymvit.text import align

Array = np.ndarray

ENGINE = "engine"


# ---- results ----


@dataclass(frozen=True)
class NodeErrors:
    """The relative errors of one node by the way of computing; infinite where a value is no longer finite.

    The engine merges nodes: one that it does not make has no entry for it, and what enters in it is not told apart.
    """

    name: str
    op: str
    shape: ops.Shape
    enters: dict[str, float]
    accumulated: dict[str, float]


@dataclass(frozen=True)
class ResultErrors:
    """What became of the network's result: its relative error, its largest absolute one, and the share of answers that
    stayed (the image's class or each pixel's); None if the result is no logits."""

    relative: float
    largest: float
    same_answers: float | None


@dataclass(frozen=True)
class ErrorBudget:
    """The errors of every node in the order they run, and of the result called `output` ("logits"), by the way."""

    nodes: list[NodeErrors]
    output: str
    results: dict[str, ResultErrors]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it: an infinite error is None."""
        return finite(asdict(self))


# ---- the ways of computing ----


@dataclass(frozen=True)
class Way:
    """How a node is computed: what becomes of its weights, and of every value between nodes."""

    weight: Callable[[Array], Array]
    store: Callable[[Array], Array]

    def compute(self, node: Node, inputs: list[Array], weights: dict[str, Array]) -> Array:
        rounded = [self.weight(weights[name]) for name in node.weights]
        return self.store(reference.compute(node.op, [self.store(x) for x in inputs], rounded))


def float64(x: Array) -> Array:
    return x.astype(np.float64, copy=False)


def float32(x: Array) -> Array:
    return x.astype(np.float32, copy=False)


def float16(x: Array) -> Array:
    return to_float16(float64(x))


def bfloat16(x: Array) -> Array:
    return float64(to_bfloat16(x))


EXACT = Way(float64, float64)
WAYS = {
    "float32": Way(float32, float32),
    "float16 weights": Way(float16, float64),
    "bfloat16 weights": Way(bfloat16, float64),
    "float16 activations": Way(float64, float16),
}


# ---- measuring ----


def rounding_errors(model: MobileViTPreTrainedModel, pixel_values: Array) -> ErrorBudget:
    """What rounding costs `model` on `pixel_values` (B, C, H, W), node by node.

    The ways are "float32" (the NumPy reference), "engine", "float16 weights", "bfloat16 weights" and "float16
    activations". Weights are those of the checkpoint, BatchNorm's statistics among them.
    Raises TypeError or ValueError for pixels that the model refuses, CheckpointError if its weights give no numbers.
    """
    from tqdm import tqdm

    pixel_values = check_pixel_values(pixel_values, model.config.num_channels)
    graph = model.graph(pixel_values.shape)
    output = "logits" if "logits" in graph.outputs else "last_hidden_state"
    graph = graph.select([output])
    engine = Engine(graph, model.weights).trace(pixel_values)
    by_engine: tuple[Node, Array] | None = next(engine)
    last = graph.outputs[output]
    uses = last_use(graph)
    exact: dict[str, Array] = {}
    values: dict[str, dict[str, Array]] = {name: {} for name in WAYS}
    nodes: list[NodeErrors] = []
    with np.errstate(over="ignore", invalid="ignore"):  # a value too large for float16 is a finding, not a fault
        for index, node in enumerate(tqdm(graph, total=len(graph), unit="node", disable=None, leave=False)):
            enters: dict[str, float] = {}
            here: dict[str, Array] = {}
            exact_inputs = [exact[name] for name in node.inputs]
            exact[node.name] = _value(EXACT, node, exact_inputs, model.weights, pixel_values)
            for name, way in WAYS.items():
                inputs = [values[name][source] for source in node.inputs]
                here[name] = values[name][node.name] = _value(way, node, inputs, model.weights, pixel_values)
                enters[name] = entering(way, node, exact_inputs, exact[node.name], model.weights, pixel_values)
            if by_engine is not None and by_engine[0].name == node.name:
                here[ENGINE] = by_engine[1]
                by_engine = next(engine, None)
            errors = {name: relative_error(value, exact[node.name]) for name, value in here.items()}
            nodes.append(NodeErrors(node.name, describe(node.op), node.shape, enters, errors))
            if node.name == last:
                if not np.isfinite(exact[last]).all():
                    raise CheckpointError(f"{output}: not finite in float64; expected finite weights")
                results = {name: _result(here[name], exact[last], output == "logits") for name in COLUMNS.values()}
            for name in {node.name, *node.inputs}:
                if uses[name] <= index:
                    for kept in (exact, *values.values()):
                        del kept[name]
    return ErrorBudget(nodes, output, results)


def entering(
    way: Way, node: Node, exact_inputs: list[Array], exact: Array, weights: dict[str, Array], pixel_values: Array
) -> float:
    """The error of this node alone: its inputs are exact, but for being stored as `way` stores them, and the same node
    computed exactly on those same inputs is the truth."""
    if not node.inputs:
        return relative_error(way.store(pixel_values), exact)
    inputs = [way.store(x) for x in exact_inputs]
    if way.store is not float64:
        exact = EXACT.compute(node, inputs, weights)
    return relative_error(way.compute(node, inputs, weights), exact)


def _value(way: Way, node: Node, inputs: list[Array], weights: dict[str, Array], pixel_values: Array) -> Array:
    return way.store(pixel_values) if isinstance(node.op, ops.Input) else way.compute(node, inputs, weights)


def _result(value: Array, exact: Array, is_logits: bool) -> ResultErrors:
    largest = float(np.abs(value - exact).max())
    same = float(np.mean(value.argmax(1) == exact.argmax(1))) if is_logits else None
    return ResultErrors(relative_error(value, exact), largest if math.isfinite(largest) else math.inf, same)


# ---- showing ----

COLUMNS = {  # of the table: head, and the accumulated error that stands there
    "float32": "float32",
    "engine": ENGINE,
    "f16 weights": "float16 weights",
    "bf16 weights": "bfloat16 weights",
    "f16 values": "float16 activations",
}
SHOWN_ENTERING = 5


def format_table(budget: ErrorBudget) -> str:
    """A line a node, then where most of float32's error enters, then what became of the result."""
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
    results = [(budget.output, "relative error", "largest error", "same answer")]
    results += [
        (
            name,
            _number(result.relative),
            _number(result.largest),
            "-" if result.same_answers is None else f"{result.same_answers:.2%}",
        )
        for name, result in budget.results.items()
    ]
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
            *_aligned(results),
            *notes,
        ]
    )


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
    """Positions and errors where there is one that a logarithm can show."""
    points = [(i, error) for i, error in enumerate(errors) if error and math.isfinite(error)]
    return [i for i, _ in points], [error for _, error in points]


def stages(budget: ErrorBudget) -> dict[str, int]:
    """The network's parts and the position of the first node of each: a stage of the encoder, or a module beside it."""
    starts: dict[str, int] = {}
    for position, node in enumerate(budget.nodes):
        path = node.name.removeprefix("mobilevit.").removeprefix("encoder.").split(".")
        starts.setdefault(".".join(path[: 2 if path[0] == "layer" else 1]), position)
    return starts
