"""Compare a port with the reference: which tensor of its dump is the first to be wrong, and why.

The reference is computed in float64 (the truth) and in float32 (whose distance from the truth is what rounding costs
at that very node); a tensor is wrong when it is further from the truth than rounding explains (`tolerance`). In
isolation each op is computed from the port's own inputs, so that it answers for itself alone (`isolation`). `matching`
finds which tensor is which node, `layouts` how it lies in memory, `port` reads it so; `hints` looks for the known
`mistakes`, `conversions` for what is none; `verdict` is what comes out and `report` prints it. Two dumps, with nothing
to compute, are left to `two_dumps`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tinymvit import reference
from tinymvit.comparison.conversions import Conversions
from tinymvit.comparison.hints import HINTS, Search
from tinymvit.comparison.isolation import Isolation
from tinymvit.comparison.layouts import LAYOUTS
from tinymvit.comparison.pairing import (
    PIXELS,
    Match,
    canonical,
    check_map,
    has_a_name,
    known_names,
    match_names,
    namesakes,
)
from tinymvit.comparison.port import Port, Settings
from tinymvit.comparison.tolerance import half_unit, shorter_format
from tinymvit.comparison.two_dumps import compare_dumps
from tinymvit.comparison.verdict import Comparison, Row
from tinymvit.errors import DumpError
from tinymvit.graph import Node, Shape
from tinymvit.inspection.dump import Dump, open_dump
from tinymvit.modeling import MobileViTPreTrainedModel, load_model
from tinymvit.text import count, some
from tinymvit.weights import bundled

Array = np.ndarray
Tensors = Mapping[str, Array]

BEYOND = (-0.5, 1.5)  # pixels beyond these were not divided by 255, or something else was done to them too


def compare(
    ours: Any,
    theirs: str | Path | Tensors,
    *,
    names: Mapping[str, str] | None = None,
    layout: str = "auto",
    tolerance: str | float = "auto",
    isolate: bool = False,
    progress: bool = False,
) -> Comparison:
    """Compare a port's tensors with ours.

    ours: a model, the name or folder of one, a dump or its path. A model is run on their own `pixel_values`.
    theirs: a dump's path, or arrays by name. names: names of theirs to names of ours. layout: of their maps: "auto",
    "nchw", "nhwc" or "tokens". tolerance: "auto", or what an error may be relative to the node's rms and largest
    magnitude. isolate: compute each op from their inputs. progress: show a bar on stderr if that is a terminal.

    Raises DumpError, a ValueError, for what cannot be compared at all; a tensor that cannot be is a row.
    """
    if layout not in LAYOUTS:
        raise DumpError(f"layout {layout!r}, expected one of {', '.join(LAYOUTS)}")
    if tolerance != "auto" and not (isinstance(tolerance, float | int) and 0 < tolerance < np.inf):
        raise DumpError(f'tolerance {tolerance!r}, expected "auto" or a number above 0')
    settings = Settings(dict(names or {}), layout, None if tolerance == "auto" else float(tolerance), progress)
    dump = _open(theirs)
    reference_dump = Dump.of(ours) if isinstance(ours, Mapping) else _dump_at(ours)
    with np.errstate(all="ignore"):  # somebody else's numbers may overflow; the verdict says so
        if reference_dump is None:
            return _compare_with_model(ours, dump, settings, isolate)
        if isolate:
            raise DumpError("to isolate ops a model is needed, to compute them with; a dump has only their results")
        return compare_dumps(reference_dump, dump, settings)


# ---- what is compared ----


def _open(dump: str | Path | Tensors) -> Dump:
    if not isinstance(dump, Mapping):
        return open_dump(dump)
    if not dump:
        raise DumpError("their dump holds no tensors")
    return Dump.of(dump)


def _dump_at(ours: Any) -> Dump | None:
    """The dump that `ours` names; None if it is a model, or the name of one."""
    if not isinstance(ours, str | Path) or ours in bundled():
        return None
    path = Path(ours).expanduser()
    if path.is_dir():
        return None if (path / "config.json").exists() else open_dump(path)
    if path.is_file():
        dump = open_dump(path)
        return dump if PIXELS in dump or not (path.parent / "config.json").exists() else None
    return None


def _compare_with_model(ours: Any, dump: Dump, settings: Settings, isolate: bool) -> Comparison:
    model = load_model(ours) if isinstance(ours, str | Path) else ours
    if not isinstance(model, MobileViTPreTrainedModel):
        raise TypeError(f"ours: a {type(ours).__name__}, expected a model, the name of one or a dump")
    notes: list[str] = []
    pixels, match = _pixels(dump, model.config.num_channels, settings, notes)
    graph = model.graph(pixels.shape)
    known = known_names(graph)
    check_map(settings.names, dump, known)
    matches = match_names(known, dump, settings.names) | {PIXELS: match}
    port = Port(graph, dump, matches, namesakes(known, dump, settings.names, matches), settings, notes)
    leftover = [name for name in dump if name != match.theirs and not has_a_name(name, known, settings.names)]
    port.guess(leftover, model.weights, pixels)
    if len(dump) == 1:
        raise DumpError(f"their dump holds only {match.theirs}, the pixels; expected what is computed from them too")
    if len(matches) == 1:
        raise DumpError(
            f"of their {len(dump)} tensors none but the pixels could be matched with a node, neither by name nor by "
            f"shape; theirs are {some(leftover, 3)}, ours {some(list(graph.nodes)[1:], 3)}; give a map of names"
        )
    conversions = Conversions(Search(Isolation(graph, model.weights, port, pixels)))
    rows = list(_rows(conversions, isolate))
    notes += [*conversions.notes(), *port.summary(rows, leftover)]
    return Comparison(tuple(rows), tuple(notes), isolate, tuple(_caveats(port, rows, leftover)))


def _caveats(port: Port, rows: list[Row], leftover: list[str]) -> Iterator[str]:
    """What an agreement leaves open, and what a difference may come from."""
    unknown = port.unrecognised(leftover)
    *_, last = port.graph
    if unknown and last.name not in {row.node for row in rows}:
        yield (
            f"our last node, {last.name}, was not compared, and {count(len(unknown), 'tensor')} of theirs not "
            f"recognised: {some(unknown, 3)}; give a map of names"
        )
    wrong = next((row for row in rows if row.verdict == "differs"), None)
    if wrong is not None and not half_unit(port.dump.stored(wrong.theirs)):
        format = shorter_format(port.dump[wrong.theirs])
        if format:
            yield (
                f"the numbers of their {wrong.theirs} are all {format} numbers: what is stored in {format} is allowed "
                "that rounding, and judged so with --isolate"
            )


def _pixels(dump: Dump, channels: int, settings: Settings, notes: list[str]) -> tuple[Array, Match]:
    """Their input in our layout, (B, C, H, W), and how it was found. Raises DumpError if there is none to run on."""
    named = [name for name in dump if canonical(settings.names.get(name, name)) == PIXELS]
    if len(named) > 1:
        raise DumpError(f"two tensors are the {PIXELS}: {named[0]!r} and {named[1]!r}; expected one")
    name = named[0] if named else next((n for n in dump if _may_be_pixels(dump.shape(n), channels)), None)
    if name is None:
        raise DumpError(
            f"their dump has no {PIXELS}, which are needed to run our model on; dump the input too, or map it, "
            "or compare with our trace of the same image"
        )
    x = np.asarray(dump[name])
    shape = x.shape
    if x.dtype.kind != "f":
        raise DumpError(f"their {name} has dtype {x.dtype}; expected the floats that the network is given")
    if x.ndim == 3:
        x = x[None]
    axes = [axis for axis, allowed in ((1, ("auto", "nchw", "tokens")), (3, ("auto", "nhwc", "tokens")))
            if x.ndim == 4 and x.shape[axis] == channels and settings.layout in allowed]  # fmt: skip
    if not axes or 0 in shape:
        named_axis = {"nchw": "first", "nhwc": "last"}.get(settings.layout)
        where = f"{named_axis} as layout {settings.layout} says" if named_axis else "first or last"
        raise DumpError(f"their {name} has shape {list(shape)}; expected images of {channels} channels, {where}")
    x = x if axes[0] == 1 else x.transpose(0, 3, 1, 2)
    if not np.isfinite(x).all():
        at = [int(i) for i in np.argwhere(~np.isfinite(x))[0]]
        raise DumpError(f"their {name} holds {x[tuple(at)]} at {at} of (B, C, H, W); expected finite numbers")
    low, high = float(x.min()), float(x.max())
    if low < BEYOND[0] or high > BEYOND[1]:
        notes.append(
            f"their {name} run from {low:.3g} to {high:.3g}, where the published checkpoints expect 0 to 1: "
            "if the first convolution reads these very numbers, the preprocessing is wrong, whatever agrees here"
        )
    if not named:
        notes.append(f"guess: their {name} is the {PIXELS}: the first tensor of {channels} channels")
    if len(axes) > 1:
        notes.append(f"{PIXELS}: {list(shape)} fits channels first and last; taken as channels first (--layout says)")
    return x, Match(name, "guess" if not named else "map" if name in settings.names else "name")


def _may_be_pixels(shape: Shape, channels: int) -> bool:
    """A batch of images rather than a 3 x 3 kernel."""
    return (
        len(shape) == 4
        and channels in (shape[1], shape[3])
        and min(shape[1:3] if shape[3] == channels else shape[2:]) > 7
    )


# ---- rows ----


def _rows(conversions: Conversions, isolate: bool) -> Iterator[Row]:
    """A row for each matched node, in order, and behind it one for each of its rivals."""
    search, alone, port = conversions.search, conversions.alone, conversions.port
    explaining = True  # without isolation only of the first divergence: what follows differs because of it
    for node, truth, rounded, together in _truths(alone, isolate):
        row = port.judge(node, truth, rounded, together)
        if not row.ok and conversions.reordered(node, truth, rounded):
            port.allow_reordered()
            row = port.judge(node, truth, rounded, together)
        if "not finite" in row.verdict and isolate and not alone.finite_inputs(node):
            row = port.judge(node, truth, rounded, together, only_finite=True)
            port.notes.append(f"{node.name}: its input is not finite, so it is judged only where its value is")
        rivals = list(port.rivals(row, node, truth, rounded))
        held = None if row.ok else conversions.holder(node, truth, rounded)
        if not row.ok and held is None and explaining:
            row = replace(row, hints=search.hints(node)[:HINTS])
            held = None if row.hints else conversions.folded_and_wrong(node)
            if not row.hints and held is None:
                search.left -= 1
                if not isolate and alone.right(node):
                    port.notes.append(
                        f"{node.name} is right on their own inputs: the difference came in before it, "
                        "each step within tolerance; --isolate judges each op alone"
                    )
        if held is not None:
            conversions.move(node, held)
        elif not conversions.scaled_behind(node, row.hints):
            yield row
            explaining = explaining and (row.ok or isolate)
        yield from rivals
        explaining = explaining and (not rivals or isolate)


def _truths(alone: Isolation, isolate: bool) -> Iterator[tuple[Node, Array, Array, tuple[str, ...]]]:
    """Each matched node with its values in float64 and float32 and the names of the ops that made them."""
    graph, port = alone.graph, alone.port
    if isolate:
        for node in port.settings.bar(graph, len(graph)):
            if node.name in port.matches:
                nodes = alone.together(node)
                yield node, *alone.both(nodes), tuple(node.name for node in nodes)
        return
    both = (reference.steps(graph, alone.weights, alone.pixels, dtype) for dtype in (np.float64, np.float32))
    for (node, truth), (_, rounded) in port.settings.bar(zip(*both, strict=True), len(graph)):
        if node.name in port.matches:
            yield node, truth, rounded, (node.name,)
