"""Third stage: whether a tensor of theirs is right, from what was read of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from tinymvit.comparison.isolation import Expected
from tinymvit.comparison.names import Match, canonical, spelled_out
from tinymvit.comparison.network import Network
from tinymvit.comparison.port import Port
from tinymvit.comparison.reading import Reading, read_tensor
from tinymvit.comparison.tolerance import Tolerance
from tinymvit.comparison.verdict import Judgement, Verdict
from tinymvit.numerics import Array, Errors, same


def judge(reading: Reading) -> Judgement:
    """The verdict on a tensor, with its errors if it could be read."""
    match = reading.match
    layout, verdict, errors = "", reading.fault, None
    if reading.value is not None and reading.arrangement is not None and reading.tolerance is not None:
        layout, errors = reading.arrangement.order, Errors.of(reading.value, reading.truth)
        verdict = _verdict(errors, reading.tolerance, reading.value, reading.truth)
    assert verdict is not None  # a tensor that cannot be read has a fault
    return Judgement(
        reading.node,
        reading.op,
        reading.shape,
        match.theirs,
        match.how,
        reading.their_shape,
        layout,
        verdict,
        errors,
        reading.tolerance,
        reading.together,
    )


def _verdict(errors: Errors, tolerance: Tolerance, theirs: Array, truth: Array) -> Verdict:
    if np.isinf(errors.absolute) and not np.isfinite(theirs[errors.worst]):
        return Verdict.NOT_FINITE
    if np.isinf(errors.absolute) and not np.isfinite(truth[errors.worst]):
        return Verdict.OURS_NOT_FINITE
    right = errors.rms <= tolerance.rms and errors.absolute <= tolerance.largest
    return Verdict.OK if right else Verdict.DIFFERS


@dataclass(frozen=True)
class NamesakesJudged:
    """Those that are wrong of the tensors that mean a node too."""

    judgements: tuple[Judgement, ...] = ()
    notes: tuple[str, ...] = ()


def judge_namesakes(
    network: Network, port: Port, expected: Expected, reading: Reading, namesakes: Iterable[str]
) -> NamesakesJudged:
    """Judge the other tensors that mean a node, whose reading is given and remembered, if they hold something else.

    Each is judged under its own name, that of a module or a result.
    """
    judgements, notes = [], []
    read = reading.match.theirs
    for theirs in namesakes:
        if same(port.dump[theirs], port.dump[read]):
            continue
        other = read_tensor(port.with_match(reading.node, Match(theirs, "name")), expected)
        one_value = (
            other.value is not None and reading.value is not None and same(port.value(reading.node), other.value)
        )
        judgement = judge(other)
        if not judgement.ok and not one_value:
            notes.append(f"their {theirs} and {read} should be the same: both are {reading.node}")
            judgements.append(replace(judgement, node=spelled_out(network.graph)[canonical(theirs)]))
    return NamesakesJudged(tuple(judgements), tuple(notes))
