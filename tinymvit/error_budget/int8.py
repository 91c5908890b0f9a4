"""The error budget of int8: what it costs at each node, and which few nodes it pays to leave in float.

The network is computed exactly (float64) and in int8 side by side. Each node that is computed in int8 has an error of
its own, from exact inputs: what rounding its inputs, its weights and its result costs, and cutting off what its ranges
do not hold. And each node has the error that has accumulated since the pixels. Both are signal to noise ratios in
decibels: 20 dB more are a tenth of the error.

What to leave in float is tried out, for an error weighs more at one node than at another. Each of the layers with the
largest errors of their own is computed in int8 alone, all others exactly; those that harm the last map most are then
left in float, one after the other. The last map is that which is averaged over its positions, or else the result: the
few numbers of a classifier's result are near or far by chance. Some chance remains: whatever is changed, all roundings
behind it fall otherwise, and on one picture that may be a few decibels; several pixels in a batch tell more. An
activation by itself is not tried: to compute it in float and then round it is what its table does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tinymvit import reference
from tinymvit.error_budget.measure import ResultErrors, result_errors, what_is_measured
from tinymvit.files import finite
from tinymvit.graph import Graph, last_use
from tinymvit.inspection.summary import describe
from tinymvit.modeling import MobileViTPreTrainedModel
from tinymvit.numerics import Array, relative_error
from tinymvit.ops import Input, MeanPool, Quantised, QuantisedActivation, Shape
from tinymvit.passes.quantise import SUFFIX
from tinymvit.passes.rewrite import Weights
from tinymvit.quantisation.calibration import observe
from tinymvit.quantisation.ranges import Ranges, folded, kept

TRIED = 16  # layers of which each is in int8 alone
LEFT = 6  # of these, how many are left in float in the end

INT8, INT8_WEIGHTS = "int8", "int8 weights"
JUDGED = "the last map"  # as an output of the graph


@dataclass(frozen=True)
class NodeInt8:
    """What int8 does to a node, in decibels; infinite where there is no error. own: with exact inputs, None for a node
    in float. weights: the part of that which its weight and bias are to blame for, None where there are none.
    accumulated: since the pixels."""

    name: str
    op: str
    shape: Shape
    own: float | None
    weights: float | None
    accumulated: float


@dataclass(frozen=True)
class Trial:
    """The network with these nodes in float, beside those that were kept there anyway. snr: of the last map, in
    decibels; result: what becomes of the result."""

    keep_float: tuple[str, ...]
    snr: float
    result: ResultErrors


@dataclass(frozen=True)
class Int8Budget:
    """nodes: in the order in which they run. output: what the result is called. judged: the node that has the last map.
    results: by "int8" and by "int8 weights", where only these are rounded. alone: the signal to noise ratio of the last
    map, in decibels, with one layer in int8 alone, by its name, the worst first. trials: none in float, then the worst
    layer, the worst two, and so on. given: what was to stay in float anyway, as the caller said it."""

    nodes: list[NodeInt8]
    output: str
    judged: str
    results: dict[str, ResultErrors]
    alone: dict[str, float]
    trials: list[Trial]
    given: tuple[str, ...] = ()

    def ranked(self) -> list[NodeInt8]:
        """The nodes in int8, that with the largest error of its own first."""
        return sorted((node for node in self.nodes if node.own is not None), key=lambda node: node.own or 0)

    def best(self) -> Trial:
        """The trial whose last map is the nearest to the exact one; of those the one that leaves the least in float."""
        return max(self.trials, key=lambda trial: trial.snr)

    def keep_float(self) -> list[str]:
        """What to leave in float: that of the best trial, beside what was given."""
        return list(dict.fromkeys((*self.given, *self.best().keep_float)))

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it: an infinite number is None."""
        return finite(asdict(self) | {"keep_float": self.keep_float()})


def int8_errors(
    model: MobileViTPreTrainedModel, pixel_values: Array, ranges: Ranges | None = None, keep_float: Iterable[str] = ()
) -> Int8Budget:
    """What int8 costs `model` on `pixel_values` (B, C, H, W), node by node.

    ranges: what `calibrate` gives, by default those of the pixels themselves. keep_float: nodes that stay in float, as
    for `export`. Raises TypeError or ValueError for pixels that the model refuses, ConfigError for ranges of another
    model, TinyMViTError for weights that give no numbers and for a name in `keep_float` that is none.
    """
    from tqdm import tqdm

    graph, output, pixel_values = what_is_measured(model, pixel_values)
    graph.outputs[JUDGED] = _last_map(graph, output)
    plain, weights = folded(graph, model.weights)
    weights = {name: weights[name] for name in plain.weight_shapes()}
    given = (keep_float,) if isinstance(keep_float, str) else tuple(keep_float)
    keep = sorted(kept(plain, given))
    if ranges is None:
        ranges = observe(graph, model.weights, [pixel_values])
    quantised = ranges.quantised(graph, model.weights, keep)
    nodes = _side_by_side((plain, weights), quantised, pixel_values)
    exact = reference.run(plain, weights, pixel_values)

    def trial(network: tuple[Graph, Weights], names: tuple[str, ...] = ()) -> Trial:
        values = reference.run(*network, pixel_values)
        errors = result_errors(values[output], exact[output], output == "logits")
        return Trial(names, decibels(relative_error(values[JUDGED], exact[JUDGED])), errors)

    def in_int8(float_too: Iterable[str]) -> tuple[Graph, Weights]:
        return ranges.quantised(graph, model.weights, [*keep, *float_too])

    whole = trial(quantised)
    rounded = trial((plain, weights | dict(_rounded_weights(*quantised))))
    results = {INT8: whole.result, INT8_WEIGHTS: rounded.result}
    budget = Int8Budget(nodes, output, graph.outputs[JUDGED], results, {}, [whole], given)
    chosen = {node.name for node in budget.ranked()}
    tried = [node.name for node in budget.ranked() if node.weights is not None][:TRIED]
    alone = {name: trial(in_int8(chosen - {name})).snr for name in tqdm(tried, unit="trial", disable=None, leave=False)}
    budget.alone.update(sorted(alone.items(), key=lambda item: item[1]))
    worst = tuple(budget.alone)[:LEFT]
    budget.trials.extend(trial(in_int8(worst[:count]), worst[:count]) for count in range(1, len(worst) + 1))
    return budget


def _last_map(graph: Graph, output: str) -> str:
    """The node whose value is averaged over its positions, or else that of the result."""
    pools = [node.inputs[0] for node in graph if isinstance(node.op, MeanPool) and node.name != graph.outputs[output]]
    return pools[-1] if output == "logits" and len(graph[graph.outputs[output]].shape) == 2 else graph.outputs[output]


def decibels(relative: float) -> float:
    """A relative error as a signal to noise ratio; infinite for none."""
    return -20 * math.log10(relative) if relative else math.inf


def _side_by_side(
    plain: tuple[Graph, Weights], quantised: tuple[Graph, Weights], pixel_values: Array
) -> list[NodeInt8]:
    """What int8 does to each node. plain: the network in float, folded."""
    from tqdm import tqdm

    graph, weights = plain
    in_int8 = reference.steps(*quantised, pixel_values)
    uses = last_use(graph)
    exact: dict[str, Array] = {}
    nodes: list[NodeInt8] = []
    for index, node in enumerate(tqdm(graph, total=len(graph), unit="node", disable=None, leave=False)):
        sources = [exact[name] for name in node.inputs]
        if isinstance(node.op, Input):
            exact[node.name] = pixel_values.astype(np.float64)
        else:
            tensors = [np.asarray(weights[name], np.float64) for name in node.weights]
            exact[node.name] = reference.compute(node.op, sources, tensors)
        truth = exact[node.name]
        own = by_weights = None
        partner = quantised[0].nodes.get(node.name + SUFFIX)
        if partner is not None and isinstance(partner.op, Quantised | QuantisedActivation):
            op, tensors = partner.op, [quantised[1][name] for name in partner.weights]
            q = op.compute(op.x.quantise(sources[0]), *tensors)
            own = decibels(relative_error(op.y.dequantise(q), truth))
            if isinstance(op, Quantised):
                value = op.op.compute(sources[0], *_dequantised(op, tensors))
                by_weights = decibels(relative_error(value, truth))
            value = op.y.dequantise(_advance(in_int8, partner.name))
        else:
            value = _advance(in_int8, node.name)
        accumulated = decibels(relative_error(value, truth))
        nodes.append(NodeInt8(node.name, describe(node.op), node.shape, own, by_weights, accumulated))
        for name in {node.name, *node.inputs}:
            if uses[name] <= index:
                del exact[name]
    return nodes


def _advance(values: Iterator[tuple[Any, Array]], name: str) -> Array:
    """The value of the node of this name, which comes next or behind a few others."""
    return next(value for node, value in values if node.name == name)


def _dequantised(op: Quantised, tensors: list[Array]) -> list[Array]:
    """The weight and, if there is one in float, the bias of an op in int8 as the real numbers that they stand for."""
    weight, scale, bias = tensors
    steps = scale.astype(np.float64)
    real = weight * steps.reshape(-1, *[1] * (weight.ndim - 1))
    return [real, bias * (op.x.scale * steps)] if op.op.bias else [real]


def _rounded_weights(quantised: Graph, tensors: Weights) -> Iterator[tuple[str, Array]]:
    """The float weights that have become int8, as the real numbers that these stand for, by the float ones' names."""
    for node in quantised:
        if isinstance(node.op, Quantised):
            real = _dequantised(node.op, [tensors[name] for name in node.weights])
            yield node.weights[0].removesuffix(SUFFIX), real[0]
