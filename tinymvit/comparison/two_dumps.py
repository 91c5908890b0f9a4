"""Two dumps, tensor by tensor, in the order of ours. Nothing can be computed, so the tolerance is one for all."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np

from tinymvit.comparison.hints import HINTS
from tinymvit.comparison.layouts import arrangements, shape_axes
from tinymvit.comparison.mistakes import Case, mistakes
from tinymvit.comparison.pairing import PIXELS, Match, Statistics, align, canonical, check_map, has_a_name, match_names
from tinymvit.comparison.port import Settings
from tinymvit.comparison.tolerance import NUMBERS, Errors, Limit, difference, half_unit, rms
from tinymvit.comparison.verdict import Comparison, Hint, Row
from tinymvit.errors import DumpError
from tinymvit.inspection.dump import Dump
from tinymvit.ops import Input
from tinymvit.text import count, some

Array = np.ndarray

TOLERANCE = 1e-5  # relative to a tensor's rms and largest magnitude: there is no reference to measure rounding by
SCALES = {  # of a tensor that is proportional to the pixels, as the first convolution's is
    255.0: ", as of pixels that are not divided by 255",
    1 / 255: ", as of pixels that are divided by 255 once more",
}


def compare_dumps(ours: Dump, theirs: Dump, settings: Settings) -> Comparison:
    """A row for each of our tensors that they have too. Raises DumpError if they have none."""
    known = [{canonical(name): name for name in ours}]
    check_map(settings.names, theirs, known)
    matches = match_names(known, theirs, settings.names)
    notes = []
    free = [name for name in ours if name not in matches and ours.dtype(name).kind in NUMBERS]
    leftover = [name for name in theirs if not has_a_name(name, known, settings.names)]
    leftover = [name for name in leftover if theirs.dtype(name).kind in NUMBERS]

    axes = {name: shape_axes(ours.shape(name)) for name in free}
    our_statistics = cache(lambda name: Statistics.of(ours[name]))
    their_statistics = cache(lambda name: Statistics.of(theirs[name]))

    def fits(node: str, name: str) -> bool:
        return bool(arrangements(theirs.shape(name), axes[node], settings.layout))

    def alike(node: str, name: str) -> bool:
        return our_statistics(node).close_to(their_statistics(name))

    for node, name in align(free, leftover, fits, alike, by_shape_alone=not matches).items():
        matches[node] = Match(name, "guess")
        notes.append(f"guess: their {name} is {node}")
    if not matches:
        raise DumpError(
            f"their {count(len(theirs), 'tensor')} could not be matched with ours, neither by name nor by shape; "
            f"theirs are {some(list(theirs), 3)}, ours {some(list(ours), 3)}; give a map of names"
        )
    if settings.tolerance is None:
        settings = replace(settings, tolerance=TOLERANCE)
        notes.append(f"without a model rounding cannot be measured: tolerance {TOLERANCE:g} for every tensor")
    names = settings.bar([name for name in ours if name in matches], len(matches))
    rows = tuple(_row(name, ours, matches[name], theirs, settings) for name in names)
    notes.append(f"{len(rows)} of {count(len(ours), 'tensor')} compared")
    used = {match.theirs for match in matches.values()}
    caveats = []
    if (missed := [name for name in ours if name not in matches]) and (left := [n for n in theirs if n not in used]):
        caveats.append(
            f"{count(len(missed), 'tensor')} of ours not compared: {some(missed, 2)}; "
            f"{count(len(left), 'tensor')} of theirs not recognised: {some(left, 2)}; a map of names may pair them"
        )
    return Comparison(rows, tuple(notes), False, tuple(caveats))


def _row(name: str, our_dump: Dump, match: Match, theirs: Dump, settings: Settings) -> Row:
    x = theirs[match.theirs]
    ours = our_dump[name]
    row = Row(name, "", ours.shape, match.theirs, match.how, x.shape, "", "not numbers")
    if not {x.dtype.kind, ours.dtype.kind} <= set(NUMBERS):
        return row
    options = arrangements(x.shape, shape_axes(ours.shape), settings.layout)
    if not options:
        return replace(row, verdict="shape")
    truth, values = np.asarray(ours, np.float64), np.asarray(x, np.float64)
    half = half_unit(our_dump.stored(name)) + half_unit(theirs.stored(match.theirs))
    limit = Limit.of(truth, truth, settings.tolerance, half)
    option = min(options, key=lambda option: rms(difference(option.undo(values), truth)))
    value = option.undo(values)
    errors = Errors.of(value, truth)
    verdict = limit.verdict(errors, value, truth)
    row = replace(row, layout=option.order, errors=errors, limit=limit, verdict=verdict)
    return row if row.ok else replace(row, hints=_hints(name, value, truth, settings.tolerance, half))


def _hints(name: str, theirs: Array, truth: Array, tolerance: float | None, half: float) -> tuple[Hint, ...]:
    """What explains a tensor without a model: known mistakes if it is the pixels, and of any tensor a factor."""
    if not (np.isfinite(theirs).all() and np.isfinite(truth).all()):
        return ()
    factor = float((theirs * truth).mean() / (truth * truth).mean()) if truth.any() else 1.0
    why = next((why for scale, why in SCALES.items() if math.isclose(factor, scale, rel_tol=1e-4)), "")
    wrong = {f"it is {factor:.6g} times ours{why}": factor * truth}
    if canonical(name) == PIXELS:
        case = Case(name, Input(), (truth,))
        made = {sentence: mistake(case) for sentence, mistake in mistakes(Input()).items()}
        wrong = {sentence: x for sentence, x in made.items() if x is not None} | wrong
    explaining = (s for s, x in wrong.items() if Limit.of(x, x, tolerance, half).allows(theirs, x))
    return tuple(Hint(name, sentence) for sentence in explaining)[:HINTS]
