"""A port's dump against a model: which tensor is the first to be wrong, and why.

The dump is paired with the model (`pairing`). Then, node by node, its tensor is read (`reading`), judged (`judging`)
and, if it is wrong, explained (`explaining`). The order of the nodes matters: what is found out about the port at one
helps to read and to explain the next, and is handed on as a `Port`. Nothing else is.

The reference is computed in float64 (the truth) and in float32 (whose distance from the truth is what rounding costs
at that very node); a tensor is wrong when it is further from the truth than rounding explains (`tolerance`). In
isolation each op is computed from the port's own inputs, so that it answers for itself alone (`isolation`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tinymvit.comparison.explaining import explain
from tinymvit.comparison.inputs import Tensors, open_theirs
from tinymvit.comparison.int8 import Int8Rounding, is_on_grids
from tinymvit.comparison.isolation import Expected, in_isolation, in_whole, ops_between
from tinymvit.comparison.judging import judge, judge_namesakes
from tinymvit.comparison.layouts import MAP
from tinymvit.comparison.pairing import PIXEL_VALUES, ModelPairing, pair_with_model
from tinymvit.comparison.port import Port
from tinymvit.comparison.reading import read, remember
from tinymvit.comparison.settings import AUTO, FLOAT32, INT8, ComparisonSettings
from tinymvit.comparison.verdict import Comparison, Judgement, Verdict
from tinymvit.graph import Node
from tinymvit.inspection.dump import Dump
from tinymvit.modeling import MobileViTPreTrainedModel
from tinymvit.numerics import NUMBERS, half_unit, shorter_number_format
from tinymvit.ops import Activation, BatchNorm, Conv2d, Linear
from tinymvit.text import count, some

FAINT = 25.0  # decibels of signal to noise that a layer with weights in int8 keeps
RANKED = 5  # nodes of a port in int8 that are named because their signal to noise ratio is the lowest


def compare_with_model(
    model: MobileViTPreTrainedModel,
    theirs: Tensors,
    settings: ComparisonSettings | None = None,
    *,
    isolate: bool = False,
) -> Comparison:
    """Compare a port's tensors with a model, which is run on the port's own `pixel_values`.

    theirs: a dump's path, an opened dump, or arrays by name. settings: what is known of the port. isolate: compute each
    op from their inputs. Raises TypeError for what is no model and DumpError, a ValueError, for a dump that cannot be
    compared at all; a tensor that cannot be gets a judgement that says so.
    """
    if not isinstance(model, MobileViTPreTrainedModel):
        raise TypeError(f"model: {type(model).__name__}, expected one of the MobileViT models; compare takes names too")
    settings = settings or ComparisonSettings()
    dump = open_theirs(theirs)
    with np.errstate(all="ignore"):  # somebody else's numbers may overflow; the verdict says so
        pairing = pair_with_model(model, dump, settings)
        pairing, settings = _in_int8(pairing, settings)
        findings, port = _node_by_node(
            pairing, Port(pairing.dump, settings, pairing.names, pairing.axes, pairing.matches), isolate
        )
        return _conclude(pairing, findings, port, isolate)


def _in_int8(pairing: ModelPairing, settings: ComparisonSettings) -> tuple[ModelPairing, ComparisonSettings]:
    """Both with the rounding of int8, if the port computes in it."""
    if settings.precision == FLOAT32:
        return pairing, settings
    rounded = [
        pairing.dump[pairing.matches[node.name].theirs]
        for node in pairing.run.graph
        if node.name in pairing.matches and isinstance(node.op, Conv2d | Linear | BatchNorm | Activation)
    ]
    on_grids = is_on_grids(x for x in rounded if x.dtype.kind in NUMBERS)
    if settings.precision == AUTO and not on_grids:
        return pairing, replace(settings, precision=FLOAT32)
    run = replace(pairing.run, rounding=Int8Rounding(by_channel=on_grids))
    return replace(pairing, run=run), replace(settings, precision=INT8)


@dataclass(frozen=True)
class _Finding:
    """What is found at one node.

    judgements: of its tensor, unless that turned out to be judged elsewhere, and of the wrong ones among the other
    tensors that mean the node. orders: where several orders of axes fit the tensor's shape, the one for which its
    values decided, and the others. folded, unscaled: what a converter did, if the tensor is judged elsewhere.
    """

    judgements: tuple[Judgement, ...]
    orders: tuple[str, tuple[str, ...]] | None
    folded: str | None
    unscaled: str | None
    notes: tuple[str, ...]


def _node_by_node(pairing: ModelPairing, port: Port, isolate: bool) -> tuple[dict[str, _Finding], Port]:
    """What is found at each node that has a tensor, in the graph's order, and what is known of the port at the end."""
    findings: dict[str, _Finding] = {}
    search = True
    for node, expected in port.settings.bar(_nodes(pairing, isolate), len(pairing.run.graph)):
        if node.name in port.matches:
            if expected is None:
                expected = in_isolation(pairing.run, port, node)
            finding, port = _examine(pairing, port, expected, isolate, search)
            findings[node.name] = finding
            # Without isolation only the first divergence is explained: what follows differs because of it.
            search = search and (isolate or all(judgement.ok for judgement in finding.judgements))
    return findings, port


def _nodes(pairing: ModelPairing, isolate: bool) -> Iterator[tuple[Node, Expected | None]]:
    """Each node with what is expected of it; in isolation None, because that depends on how their tensors are read."""
    if isolate:
        yield from ((node, None) for node in pairing.run.graph)
    else:
        yield from ((expected.node, expected) for expected in in_whole(pairing.run))


def _examine(
    pairing: ModelPairing, port: Port, expected: Expected, isolate: bool, search: bool
) -> tuple[_Finding, Port]:
    """Take one node's tensor through the stages: what is found, and what is known of the port after it."""
    run, name = pairing.run, expected.node.name
    reading = read(run, port, expected, isolate)
    port = remember(port, reading)
    judgement = judge(reading)
    namesakes = judge_namesakes(run, port, expected, reading, pairing.namesakes.get(name, ()))
    explanation = explain(run, port, expected, judgement, isolate=isolate, search=search)
    elsewhere = explanation.holds is not None or explanation.unscaled
    if search and not judgement.ok:  # in whole too: all before it is right, so that one of these ops is wrong
        judgement = replace(judgement, together=tuple(each.name for each in ops_between(run, port, expected.node)))
    own = () if elsewhere else (replace(judgement, hints=explanation.hints),)
    finding = _Finding(
        judgements=own + namesakes.judgements,
        orders=(judgement.layout, reading.other_orders) if reading.other_orders else None,
        folded=f"{judgement.theirs} holds {explanation.holds.name}" if explanation.holds else None,
        unscaled=judgement.theirs if explanation.unscaled else None,
        notes=reading.notes + namesakes.notes + explanation.notes,
    )
    return finding, explanation.port


# ---- what is said at the end ----


def _conclude(pairing: ModelPairing, findings: Mapping[str, _Finding], port: Port, isolate: bool) -> Comparison:
    rows = [judgement for finding in findings.values() for judgement in finding.judgements]
    unrecognised = pairing.unrecognised
    notes = [
        *_on_int8(port, rows),
        *pairing.notes,
        *(note for finding in findings.values() for note in finding.notes),
        *_on_conversions(findings),
        *_on_layouts(pairing, findings, rows),
        f"{sum(row.node in pairing.axes for row in rows)} of {len(pairing.run.graph)} nodes compared",
    ]
    if unrecognised:
        notes.append(f"{len(unrecognised)} of their {len(port.dump)} tensors not recognised: {some(unrecognised, 3)}")
    return Comparison(
        rows=tuple(rows),
        notes=tuple(notes),
        isolated=isolate,
        caveats=tuple(_caveats(pairing, rows, unrecognised, port.dump, port.settings.precision == INT8)),
        basis="; ".join(_basis(pairing, port)),
        names={port.matches[node].theirs: node for node in pairing.run.graph.nodes if node in port.matches},
        unsettled={} if port.settings.precision == INT8 else pairing.similar,  # all that int8 rounds is similar
    )


def _on_int8(port: Port, rows: Sequence[Judgement]) -> Iterator[str]:
    """Where a port in int8 is furthest from the truth, be it right or not."""
    if port.settings.precision == INT8:
        ranked = sorted((row.errors.snr, row.node) for row in rows if row.errors is not None)
        said = [f"{node} {snr:.1f} dB" for snr, node in ranked[:RANKED]]
        yield f"signal to noise, the lowest first: {', '.join(said)}"


def _basis(pairing: ModelPairing, port: Port) -> Iterator[str]:
    """What the answer rests on beside our own names."""
    if port.settings.precision == INT8:
        one = "" if pairing.run.rounding is None or pairing.run.rounding.by_channel else ", one scale a weight"
        yield f"judged with the rounding of int8 in mind{one}"
    if pairing.family is not None:
        yield f"their names are those of {pairing.family}"
    matches = [match.how for node, match in port.matches.items() if node != PIXEL_VALUES]
    guesses = matches.count("guess")
    if guesses:
        by_value = "by value" if guesses == len(matches) else f"{guesses} of them by value"
        yield f"{len(port.matches)} of {len(pairing.run.graph)} tensors of the graph recognised, {by_value}"
    unrecognised = len(pairing.unrecognised)
    if guesses and unrecognised:
        yield f"{unrecognised} of theirs {'was' if unrecognised == 1 else 'were'} not, see the notes"


def _on_conversions(findings: Mapping[str, _Finding]) -> Iterator[str]:
    folded = [finding.folded for finding in findings.values() if finding.folded is not None]
    unscaled = [finding.unscaled for finding in findings.values() if finding.unscaled is not None]
    if folded:
        yield f"{count(len(folded), 'tensor')} with the value behind a folded op: {some(folded, 1)}"
    if unscaled:
        norms = count(len(unscaled), "normalisation")
        yield f"{norms} without scale and shift, judged with what follows: {some(unscaled, 1)}"


def _on_layouts(pairing: ModelPairing, findings: Mapping[str, _Finding], rows: Sequence[Judgement]) -> Iterator[str]:
    of_nodes = [row for row in rows if row.node in pairing.axes]  # modules and results may have other names
    undone = Counter(row.layout for row in of_nodes if row.layout not in ("", pairing.axes[row.node].orders[0]))
    if undone:
        yield "layouts undone: " + ", ".join(f"{order} ({times})" for order, times in undone.items())
    decided = {node: finding.orders for node, finding in findings.items() if finding.orders is not None}
    if decided:
        said = [f"{node} is {order}, not {' or '.join(others)}" for node, (order, others) in decided.items()]
        yield f"several layouts fit {count(len(said), 'tensor')}, the values decided: {some(said, 1)}"
    maps = Counter(row.layout for row in of_nodes if row.layout in MAP)
    usual = max(MAP, key=lambda order: maps[order])
    odd = [node for node, (order, _) in decided.items() if order in MAP and order != usual]
    if odd:
        yield f"right in another layout than most maps, {usual}: {some(odd, 3)}; is a transpose missing?"


def _caveats(
    pairing: ModelPairing, rows: Sequence[Judgement], unrecognised: Sequence[str], dump: Dump, in_int8: bool
) -> Iterator[str]:
    """What an agreement leaves open, and where a difference may come from."""
    *_, last = pairing.run.graph
    if unrecognised and last.name not in {row.node for row in rows}:
        yield (
            f"our last node, {last.name}, was not compared, and {count(len(unrecognised), 'tensor')} of theirs not "
            f"recognised: {some(unrecognised, 3)}; give a map of names"
        )
    wrong = next((row for row in rows if row.verdict is Verdict.DIFFERS), None)
    if wrong is None:
        return
    if in_int8:
        yield (
            "int8 cuts off what its ranges do not hold: ops behind a wrong one may seem wrong too; mend the first, and "
            "compare again"
        )
        return
    format = None if half_unit(dump.stored(wrong.theirs)) else shorter_number_format(dump[wrong.theirs])
    if format:
        yield (
            f"the numbers of their {wrong.theirs} are all {format} numbers: what is stored in {format} is allowed "
            "that rounding, and judged so with --isolate"
        )
    elif _weights_seem_rounded(pairing, rows):
        yield (
            "many convolutions and linear layers differ, each by little, as they do where weights are stored in int8 "
            "or float16: --precision int8 judges with the rounding of int8 in mind"
        )


def _weights_seem_rounded(pairing: ModelPairing, rows: Sequence[Judgement]) -> bool:
    """Whether many of the layers whose weights an exporter may have rounded differ, and none of them by much."""
    nodes = pairing.run.graph.nodes
    layers = [row for row in rows if row.node in nodes and isinstance(nodes[row.node].op, Conv2d | Linear | BatchNorm)]
    differ = [row.errors.snr for row in layers if row.verdict is Verdict.DIFFERS and row.errors is not None]
    return len(differ) > len(layers) / 3 and min(differ) > FAINT
