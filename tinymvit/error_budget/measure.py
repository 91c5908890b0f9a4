"""The error budget: what rounding costs, node by node, in float32 and in the shorter formats that a port may choose.

The network is computed in several ways side by side, one node at a time: exactly (float64), in float32 by the reference
and by the engine, and in float64 with only the weights or only the values between nodes rounded to a shorter format.
Each node then has two errors for each way: the one that *enters* there, with exact inputs, and the one *accumulated*
since the pixels. An error is the root of the mean square of the difference over that of the exact values.

Values are let go when no later node reads them, so memory is bounded by the network's widest place. The formulas are
the reference's, the engine's numbers its own; the table and the plot are left to `report`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tinymvit import ops, reference
from tinymvit.engine.engine import Engine
from tinymvit.errors import CheckpointError
from tinymvit.files import finite
from tinymvit.graph import Graph, Node, last_use
from tinymvit.inspection.summary import describe
from tinymvit.modeling import MobileViTPreTrainedModel, check_pixel_values
from tinymvit.numerics import Array, relative_error, to_bfloat16, to_float16

ENGINE = "engine"


# ---- results ----


@dataclass(frozen=True)
class NodeErrors:
    """The relative errors of one node by the way of computing; infinite where a value is no longer finite.

    The engine merges nodes, so it has no entry in `enters`, and in `accumulated` only for a node whose value it makes.
    """

    name: str
    op: str
    shape: ops.Shape
    enters: dict[str, float]
    accumulated: dict[str, float]


@dataclass(frozen=True)
class ResultErrors:
    """What became of the network's result: its relative error, its largest absolute one, and the share of answers (each
    image's class, or each pixel's) that stayed the same; None if the result is no logits."""

    relative: float
    largest: float
    same_answers: float | None


@dataclass(frozen=True)
class ErrorBudget:
    """The errors of every node, in the order in which they run; and those of the result, which is called `output`
    ("logits"), by the way of computing."""

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
MEASURED = ("float32", ENGINE, "float16 weights", "bfloat16 weights", "float16 activations")  # in the order of a report


# ---- measuring ----


def rounding_errors(model: MobileViTPreTrainedModel, pixel_values: Array) -> ErrorBudget:
    """What rounding costs `model` on `pixel_values` (B, C, H, W), node by node.

    The ways are "float32" (the NumPy reference), "engine", "float16 weights", "bfloat16 weights" and "float16
    activations". Weights are those of the checkpoint, BatchNorm's statistics among them.
    Raises TypeError or ValueError for pixels that the model refuses, CheckpointError if its weights give no numbers.
    """
    from tqdm import tqdm

    graph, output, pixel_values = what_is_measured(model, pixel_values)
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
            found: dict[str, Array] = {}
            exact_inputs = [exact[name] for name in node.inputs]
            exact[node.name] = _value(EXACT, node, exact_inputs, model.weights, pixel_values)
            for name, way in WAYS.items():
                inputs = [values[name][source] for source in node.inputs]
                found[name] = values[name][node.name] = _value(way, node, inputs, model.weights, pixel_values)
                enters[name] = entering(way, node, exact_inputs, exact[node.name], model.weights, pixel_values)
            if by_engine is not None and by_engine[0].name == node.name:
                found[ENGINE] = by_engine[1]
                by_engine = next(engine, None)
            errors = {name: relative_error(value, exact[node.name]) for name, value in found.items()}
            nodes.append(NodeErrors(node.name, describe(node.op), node.shape, enters, errors))
            if node.name == last:
                if not np.isfinite(exact[last]).all():
                    raise CheckpointError(f"{output}: not finite in float64; expected finite weights")
                results = {name: result_errors(found[name], exact[last], output == "logits") for name in MEASURED}
            for name in {node.name, *node.inputs}:
                if uses[name] <= index:
                    for kept in (exact, *values.values()):
                        del kept[name]
    return ErrorBudget(nodes, output, results)


def what_is_measured(model: Any, pixel_values: Any) -> tuple[Graph, str, Array]:
    """The graph of the model's result, what that is called ("logits"), and the pixels as float32. Raises TypeError,
    ValueError or TinyMViTError for a model that is none, for pixels that it refuses, and for too many of them."""
    if not isinstance(model, MobileViTPreTrainedModel):
        raise TypeError(f"model: {type(model).__name__}, expected one of the MobileViT models")
    pixel_values = check_pixel_values(pixel_values, model.config.num_channels)
    graph = model.graph(pixel_values.shape)
    output = "logits" if "logits" in graph.outputs else "last_hidden_state"
    graph = graph.select([output])
    reference.check_memory(graph)
    return graph, output, pixel_values


def entering(
    way: Way, node: Node, exact_inputs: list[Array], exact: Array, weights: dict[str, Array], pixel_values: Array
) -> float:
    """The error of this node alone. Its inputs are the exact ones as `way` stores them; the truth is the same node,
    computed exactly on the same inputs."""
    if not node.inputs:
        return relative_error(way.store(pixel_values), exact)
    inputs = [way.store(x) for x in exact_inputs]
    if way.store is not float64:
        exact = EXACT.compute(node, inputs, weights)
    return relative_error(way.compute(node, inputs, weights), exact)


def _value(way: Way, node: Node, inputs: list[Array], weights: dict[str, Array], pixel_values: Array) -> Array:
    return way.store(pixel_values) if isinstance(node.op, ops.Input) else way.compute(node, inputs, weights)


def result_errors(value: Array, exact: Array, is_logits: bool) -> ResultErrors:
    """What became of a result; `exact` is the truth, of the same shape."""
    largest = float(np.abs(value - exact).max())
    same = float(np.mean(value.argmax(1) == exact.argmax(1))) if is_logits else None
    return ResultErrors(relative_error(value, exact), largest if math.isfinite(largest) else math.inf, same)
