"""First stage: which tensor of theirs is which node of ours. A name or the user's map says so, else the values do.

`names` tells what the names mean, `guessing` which nodes the tensors are whose names mean nothing. Here the pixels are
found and names become matches. What the values say about right and wrong is left to the stages behind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tinymvit import reference
from tinymvit.comparison.families import Translation, translate
from tinymvit.comparison.guessing import guess_nodes
from tinymvit.comparison.layouts import Axes, arrangements, node_axes, shape_axes
from tinymvit.comparison.names import (
    Kinds,
    Match,
    Names,
    canonical,
    check_map,
    match_by_name,
    mostly,
    namesakes,
    node_names,
)
from tinymvit.comparison.port import Port
from tinymvit.comparison.reference_run import ReferenceRun
from tinymvit.comparison.settings import ComparisonSettings
from tinymvit.errors import DumpError
from tinymvit.inspection.dump import Dump
from tinymvit.modeling import MobileViTPreTrainedModel
from tinymvit.numerics import NUMBERS, Array, TensorStatistics, same
from tinymvit.ops import Shape
from tinymvit.text import count, some

PIXEL_VALUES = "pixel_values"
BEYOND = (-0.5, 1.5)  # pixels beyond these were not divided by 255, or something else was done to them too
SAME = 1e-5  # how close, relative to the rms, the statistics of one tensor are that is computed twice
GIVEN_UP = "guess: the search for wrong operations ended before all was tried, for it cost too much; a map helps it"
CLOSE = 1e-3  # and how close they may be at most


@dataclass(frozen=True, eq=False)
class ModelPairing:
    """A dump paired with a model.

    run: the model on their pixels. dump: with fused tensors in parts. names: what its names mean. family: of which
    family of checkpoints they are, None if they are ours or nobody's. axes: of each node. matches: nodes to the tensors
    that are read for them. namesakes: nodes to the other tensors whose names mean them. unrecognised: their tensors
    whose names mean nothing and that no node was guessed for. similar: as in `Guesses`.
    """

    run: ReferenceRun
    dump: Dump
    names: Names
    family: str | None
    axes: Mapping[str, Axes]
    matches: Mapping[str, Match]
    namesakes: Mapping[str, Sequence[str]]
    unrecognised: Sequence[str]
    similar: Mapping[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class DumpPairing:
    """A dump paired with a dump of ours. theirs: with fused tensors in parts. matches: our tensors to theirs, in our
    order."""

    theirs: Dump
    matches: Mapping[str, Match]
    notes: tuple[str, ...]


def pair_with_model(model: MobileViTPreTrainedModel, dump: Dump, settings: ComparisonSettings) -> ModelPairing:
    """Pair tensors with nodes of the model. Raises DumpError for a dump that has no pixels or nothing else."""
    pixels = _find_pixels(dump, model.config.num_channels, settings)
    graph = model.graph(pixels.value.shape)
    reference.check_memory(graph)
    run = ReferenceRun(graph, model.weights, pixels.value)
    known = node_names(graph)
    translation = translate(dump, known, settings.names)
    dump, names = translation.dump, replace(translation.names, by_chance=_words_by_chance(translation, known))
    check_map(settings.names, dump, known)
    named = match_by_name(known, dump, names) | {PIXEL_VALUES: pixels.match}
    tensor = pixels.match.theirs
    unnamed = [name for name in dump if name != tensor and names.meaning(name, known) is None]
    axes = node_axes(graph)
    guesses = guess_nodes(run, Port(dump, settings, names, axes, named), unnamed)
    if len(dump) == 1:
        raise DumpError(f"their dump holds only {tensor}, the pixels; expected what is computed from them too")
    if len(named) == 1 and not guesses.matches:
        raise DumpError(
            f"of their {len(dump)} tensors none but the pixels could be matched with a node, neither by name nor by "
            f"value; theirs are {some(unnamed, 3)}, ours {some(list(graph.nodes)[1:], 3)}; give a map of names"
        )
    return ModelPairing(
        run=run,
        dump=dump,
        names=names,
        family=translation.family,
        axes={node: replace(each, reordered=guesses.reordered) for node, each in axes.items()},
        matches={**named, **guesses.matches},
        namesakes=namesakes(known, dump, names, named),
        unrecognised=[name for name in unnamed if name not in guesses.recognised],
        similar=guesses.similar,
        notes=pixels.notes + _family(translation) + _guesses(guesses.matches) + (GIVEN_UP,) * guesses.given_up,
    )


def pair_dumps(ours: Dump, theirs: Dump, settings: ComparisonSettings) -> DumpPairing:
    """Pair tensors of theirs with ours. Raises DumpError if there is no pair."""
    known = [{canonical(name): name for name in ours}]
    translation = translate(theirs, known, settings.names)
    theirs, names = translation.dump, translation.names
    check_map(settings.names, theirs, known)
    named = match_by_name(known, theirs, names)
    free = [name for name in _numbers(ours, ours) if name not in named]
    unnamed = [name for name in theirs if names.meaning(name, known) is None]
    pairs = _guess_tensors(ours, free, theirs, _numbers(theirs, unnamed), settings.layout)
    if not named and not pairs:
        raise DumpError(
            f"their {count(len(theirs), 'tensor')} could not be matched with ours, neither by name nor by value; "
            f"theirs are {some(list(theirs), 3)}, ours {some(list(ours), 3)}; give a map of names"
        )
    matches = named | pairs
    matches = {name: matches[name] for name in ours if name in matches}
    return DumpPairing(theirs, matches, _family(translation) + _guesses(pairs))


def _words_by_chance(translation: Translation, known: Kinds) -> frozenset[str]:
    """Names of a single word that need not mean what they mean here, since most others mean nothing: somebody's own
    `encoder` is hardly ours. Those of results are meant so."""
    names, dump, (*_, results) = translation.names, translation.dump, known
    meant = [name for name in dump if names.meaning(name, known) is not None]
    if mostly(meant, dump):
        return frozenset()
    words = [name for name in meant if name not in names.given and "." not in canonical(name)]
    return frozenset(name for name in words if canonical(name) not in results and canonical(name) != PIXEL_VALUES)


# ---- the pixels ----


@dataclass(frozen=True, eq=False)
class _Pixels:
    """Their input in our layout, (B, C, H, W), and how it was found."""

    value: Array
    match: Match
    notes: tuple[str, ...]


def _find_pixels(dump: Dump, channels: int, settings: ComparisonSettings) -> _Pixels:
    """The pixels among their tensors. Raises DumpError if there are none that have this many channels."""
    named = [name for name in dump if canonical(settings.names.get(name, name)) == PIXEL_VALUES]
    if len(named) > 1:
        raise DumpError(f"two tensors are the {PIXEL_VALUES}: {named[0]!r} and {named[1]!r}; expected one")
    able = [] if named else [name for name in dump if _may_be_pixels(dump.shape(name), channels)]
    name = next(iter(named or able), None)
    if name is None:
        raise DumpError(
            f"their dump has no {PIXEL_VALUES}, which are needed to run our model on; dump the input too, or map it, "
            "or compare with our trace of the same image"
        )
    x = np.asarray(dump[name])
    shape = x.shape
    if x.dtype.kind != "f":
        raise DumpError(f"their {name} has dtype {x.dtype}; expected the floats that the network is given")
    if x.ndim == 3:
        x = x[None]
    layouts = {1: ("auto", "nchw", "tokens"), 3: ("auto", "nhwc", "tokens")}  # those with channels at this axis
    axes = [axis for axis in layouts if x.ndim == 4 and x.shape[axis] == channels and settings.layout in layouts[axis]]
    if not axes or 0 in shape:
        named_axis = {"nchw": "first", "nhwc": "last"}.get(settings.layout)
        where = f"{named_axis} as layout {settings.layout} says" if named_axis else "first or last"
        raise DumpError(f"their {name} has shape {list(shape)}; expected images of {channels} channels, {where}")
    x = x if axes[0] == 1 else x.transpose(0, 3, 1, 2)
    if not np.isfinite(x).all():
        at = [int(i) for i in np.argwhere(~np.isfinite(x))[0]]
        raise DumpError(f"their {name} holds {x[tuple(at)]} at {at} of (B, C, H, W); expected finite numbers")
    notes = []
    low, high = float(x.min()), float(x.max())
    if low < BEYOND[0] or high > BEYOND[1]:
        notes.append(
            f"their {name} run from {low:.3g} to {high:.3g}, where the published checkpoints expect 0 to 1: "
            "if the first convolution reads these very numbers, the preprocessing is wrong, whatever agrees here"
        )
    if not named:
        others = [other for other in able if not same(dump[other], dump[name])]
        too = f"; {some(others, 2)} may be them too, a map says" if others else ""
        notes.append(f"guess: their {name} is the {PIXEL_VALUES}: the first tensor of {channels} channels{too}")
    if len(axes) > 1:
        notes.append(
            f"{PIXEL_VALUES}: {list(shape)} fits channels first and last; taken as channels first (--layout says)"
        )
    return _Pixels(x, Match(name, "guess" if not named else "map" if name in settings.names else "name"), tuple(notes))


def _may_be_pixels(shape: Shape, channels: int) -> bool:
    """Whether a tensor of this shape is a batch of images rather than 3 x 3 filters."""
    return (
        len(shape) == 4
        and channels in (shape[1], shape[3])
        and min(shape[1:3] if shape[3] == channels else shape[2:]) > 7
    )


# ---- guesses between two dumps ----


def _guess_tensors(
    ours: Dump, free: Sequence[str], theirs: Dump, unnamed: Sequence[str], layout: str
) -> dict[str, Match]:
    """Tensors of ours with those of theirs that hold the same numbers, in whatever order, told by their statistics.

    Several that are alike to the last digits are paired in their order. One that is alike to a few digits only is
    paired if it is the only one on both sides.
    """
    our_statistics = {name: TensorStatistics.of(ours[name]) for name in free}
    their_statistics = {name: TensorStatistics.of(theirs[name]) for name in unnamed}
    pairs: dict[str, Match] = {}
    for close in (SAME, CLOSE):
        left = [name for name in unnamed if name not in {match.theirs for match in pairs.values()}]
        alike = {
            name: [
                other
                for other in left
                if our_statistics[name].close_to(their_statistics[other], close)
                and arrangements(theirs.shape(other), shape_axes(ours.shape(name)), layout)
            ]
            for name in free
            if name not in pairs
        }
        claims = Counter(other for others in alike.values() for other in others)
        for name, others in alike.items():
            if close == CLOSE and (len(others) != 1 or claims[others[0]] != 1):
                continue
            taken = {match.theirs for match in pairs.values()}
            other = next((other for other in others if other not in taken), None)
            if other is not None:
                pairs[name] = Match(other, "guess")
    return pairs


def _numbers(dump: Dump, names: Iterable[str]) -> list[str]:
    """Those of a dump's tensors that hold real numbers."""
    return [name for name in names if dump.dtype(name).kind in NUMBERS]


def _guesses(pairs: Mapping[str, Match]) -> tuple[str, ...]:
    return tuple(f"guess: their {match.theirs} is {node}" for node, match in pairs.items())


def _family(translation: Translation) -> tuple[str, ...]:
    return () if translation.family is None else (f"their names are those of {translation.family}",)
