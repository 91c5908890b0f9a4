"""A port's dump against a dump of ours, tensor by tensor, in the order of ours.

The stages are those of a comparison with a model (`against_model`), each tensor by itself: nothing can be computed, so
the tolerance is one for all, and only few mistakes can be told.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from tinymvit.comparison.hints import HINTS
from tinymvit.comparison.inputs import Tensors, open_tensors, open_theirs
from tinymvit.comparison.judging import judge
from tinymvit.comparison.layouts import arrangements, shape_axes
from tinymvit.comparison.mistakes import OpCall, mistakes
from tinymvit.comparison.names import Match, canonical
from tinymvit.comparison.pairing import PIXEL_VALUES, DumpPairing, pair_dumps
from tinymvit.comparison.port import as_float64
from tinymvit.comparison.reading import Reading
from tinymvit.comparison.settings import ComparisonSettings
from tinymvit.comparison.tolerance import Tolerance
from tinymvit.comparison.verdict import Comparison, Hint, Judgement, Verdict
from tinymvit.inspection.dump import Dump
from tinymvit.numerics import NUMBERS, Array, difference, half_unit, rms
from tinymvit.ops import Input
from tinymvit.text import count, some

TOLERANCE = 1e-5  # relative to a tensor's rms and largest magnitude: there is no reference to measure rounding by
SCALES = {  # of a tensor that is proportional to the pixels, as the first convolution's is
    255.0: ", as of pixels that are not divided by 255",
    1 / 255: ", as of pixels that are divided by 255 once more",
}


def compare_dumps(ours: Tensors, theirs: Tensors, settings: ComparisonSettings | None = None) -> Comparison:
    """Compare a port's tensors with ours: each of ours that they have too.

    ours, theirs: a dump's path, an opened dump, or arrays by name. settings: what is known of the port. Raises
    DumpError, a ValueError, for what cannot be compared at all; a tensor that cannot be gets a judgement that says so.
    """
    settings = settings or ComparisonSettings()
    our_dump, their_dump = open_tensors(ours), open_theirs(theirs)
    with np.errstate(all="ignore"):  # somebody else's numbers may overflow; the verdict says so
        pairing = pair_dumps(our_dump, their_dump, settings)
        their_dump = pairing.theirs
        rows = []
        for name, match in settings.bar(pairing.matches.items(), len(pairing.matches)):
            pair = _pair(name, our_dump, match, their_dump, settings)
            reading = _read(pair, settings.layout)
            rows.append(_explain(pair, reading, judge(reading)))
    return _conclude(pairing, rows, our_dump, their_dump, settings)


@dataclass(frozen=True, eq=False)
class _Pair:
    """A tensor of ours and the one of theirs that should be the same. allowed: an error relative to the size of ours;
    half: half a unit, relative, of the shorter formats that they are stored in."""

    name: str
    ours: Array
    match: Match
    theirs: Array
    allowed: float
    half: float

    def tolerance(self, truth: Array) -> Tolerance:
        return Tolerance.relative(truth, self.allowed, self.half)


def _pair(name: str, our_dump: Dump, match: Match, their_dump: Dump, settings: ComparisonSettings) -> _Pair:
    half = half_unit(our_dump.stored(name)) + half_unit(their_dump.stored(match.theirs))
    allowed = settings.relative_tolerance or TOLERANCE
    return _Pair(name, our_dump[name], match, their_dump[match.theirs], allowed, half)


def _read(pair: _Pair, layout: str) -> Reading:
    """Their tensor in the layout that has the least error."""
    reading = Reading(pair.name, "", pair.ours.shape, pair.match, pair.theirs.shape, (), pair.ours)
    if not {pair.theirs.dtype.kind, pair.ours.dtype.kind} <= set(NUMBERS):
        return replace(reading, fault=Verdict.NOT_NUMBERS)
    options = arrangements(pair.theirs.shape, shape_axes(pair.ours.shape), layout)
    if not options:
        return replace(reading, fault=Verdict.SHAPE)
    truth, theirs = as_float64(pair.ours, pair.name), as_float64(pair.theirs, pair.match.theirs)
    option = min(options, key=lambda option: rms(difference(option.undo(theirs), truth)))
    value, tolerance = option.undo(theirs), pair.tolerance(truth)
    right = tolerance.allows(value, truth)
    return replace(reading, truth=truth, value=value, arrangement=option, tolerance=tolerance, right=right)


def _explain(pair: _Pair, reading: Reading, judgement: Judgement) -> Judgement:
    """The judgement with the hints that need no model: known mistakes, if it is on the pixels, and for any tensor that
    it is a multiple of ours."""
    theirs, truth = reading.value, reading.truth
    if judgement.ok or theirs is None or not (np.isfinite(theirs).all() and np.isfinite(truth).all()):
        return judgement
    factor = float((theirs * truth).mean() / (truth * truth).mean()) if truth.any() else 1.0
    multiple = (f"it is {factor:.6g} times ours{_as_of_pixels(factor)}", factor * truth)
    wrong = [*_wrong_pixels(pair.name, truth), multiple]
    explaining = [sentence for sentence, x in wrong if pair.tolerance(x).allows(theirs, x)]
    return replace(judgement, hints=tuple(Hint(pair.name, sentence) for sentence in explaining[:HINTS]))


def _wrong_pixels(name: str, truth: Array) -> Iterator[tuple[str, Array]]:
    """If the tensor of this name is the pixels: what is wrong, in a sentence, and the pixels that a port then has."""
    if canonical(name) != PIXEL_VALUES:
        return
    for mistake in mistakes(Input()):
        wrong = mistake.compute(OpCall(name, Input(), (truth,)))
        if wrong is not None:
            yield mistake.sentence, wrong


def _as_of_pixels(factor: float) -> str:
    """What a factor says of the pixels, as the end of a sentence; empty if it says nothing."""
    for scale, what in SCALES.items():
        if math.isclose(factor, scale, rel_tol=1e-4):
            return what
    return ""


def _conclude(
    pairing: DumpPairing, rows: list[Judgement], ours: Dump, theirs: Dump, settings: ComparisonSettings
) -> Comparison:
    notes = list(pairing.notes)
    if settings.relative_tolerance is None:
        notes.append(f"without a model rounding cannot be measured: tolerance {TOLERANCE:g} for every tensor")
    notes.append(f"{len(rows)} of {count(len(ours), 'tensor')} compared")
    used = {match.theirs for match in pairing.matches.values()}
    missed, left = [name for name in ours if name not in pairing.matches], [name for name in theirs if name not in used]
    caveats = []
    if missed and left:
        caveats.append(
            f"{count(len(missed), 'tensor')} of ours not compared: {some(missed, 2)}; "
            f"{count(len(left), 'tensor')} of theirs not recognised: {some(left, 2)}; a map of names may pair them"
        )
    return Comparison(
        rows=tuple(rows),
        notes=tuple(notes),
        isolated=False,
        caveats=tuple(caveats),
        basis=_basis(pairing, ours),
        names={match.theirs: name for name, match in pairing.matches.items()},
    )


def _basis(pairing: DumpPairing, ours: Dump) -> str:
    """What the answer rests on: how many of our tensors have one of theirs, if not all, and how many by value."""
    guesses = sum(match.how == "guess" for match in pairing.matches.values())
    if not guesses and len(pairing.matches) == len(ours):
        return ""
    compared = f"{len(pairing.matches)} of our {count(len(ours), 'tensor')} compared"
    return f"{compared}, {guesses} of them recognised by value" if guesses else compared
