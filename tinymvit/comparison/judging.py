"""Third stage: whether a tensor of theirs is right, from what was read of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from tinymvit.comparison.isolation import Expected
from tinymvit.comparison.names import Match, canonical, spelled_out
from tinymvit.comparison.port import Port
from tinymvit.comparison.reading import Reading, read_tensor
from tinymvit.comparison.reference_run import ReferenceRun
from tinymvit.comparison.verdict import Judgement, Verdict
from tinymvit.numerics import Array, Errors, difference, same


def judge(reading: Reading) -> Judgement:
    """The verdict on a tensor, with its errors if it could be read."""
    match = reading.match
    layout, verdict, errors = "", reading.fault, None
    if reading.value is not None and reading.arrangement is not None:
        layout, errors = reading.arrangement.order, Errors.of(reading.value, reading.truth)
        verdict = Verdict.OK if reading.right else _how_wrong(reading.value, reading.truth)
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


def _how_wrong(value: Array, truth: Array) -> Verdict:
    """What is said of a value that is not right: which of the two is no number where they first differ by none."""
    finite = np.isfinite(difference(value, truth))
    first = np.unravel_index(finite.argmin(), finite.shape)
    if not finite[first] and not np.isfinite(value[first]):
        return Verdict.NOT_FINITE
    if not finite[first] and not np.isfinite(truth[first]):
        return Verdict.OURS_NOT_FINITE
    return Verdict.DIFFERS


@dataclass(frozen=True)
class NamesakesJudged:
    """What is found of the other tensors that mean a node: a judgement of each that is wrong, and notes on them."""

    judgements: tuple[Judgement, ...] = ()
    notes: tuple[str, ...] = ()


def judge_namesakes(
    run: ReferenceRun, port: Port, expected: Expected, reading: Reading, namesakes: Iterable[str]
) -> NamesakesJudged:
    """Judge the other tensors that mean a node, where they hold something else than the one that was read for it.

    reading: of that one; `port` knows of it already. Each of the others is judged under its own name, which is that of
    a module or of a result.
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
            judgements.append(replace(judgement, node=spelled_out(run.graph)[canonical(port.names.ours(theirs))]))
    return NamesakesJudged(tuple(judgements), tuple(notes))
