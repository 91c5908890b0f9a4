"""Compare a port with the reference: which tensor of its dump is the first to be wrong, and why.

The reference is computed in float64 (the truth) and in float32 (whose distance from the truth is what rounding costs
at that very node); a tensor is wrong when it is further from the truth than rounding explains. In isolation each op is
computed from the port's own inputs, so that it answers for itself alone. Which tensor is which node is left to
`matching`, how it may lie in memory to `layouts`, what may have gone wrong to `mistakes`, printing to `report`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from tinymvit import reference
from tinymvit.dump import Dump, open_dump
from tinymvit.errors import DumpError
from tinymvit.graph import Activation, BatchNorm, Context, Graph, Input, LayerNorm, Node, Shape
from tinymvit.layouts import LAYOUTS, MAP, VECTOR, Arrangement, arrangements, node_axes, shape_axes
from tinymvit.matching import (
    Match,
    Statistics,
    align,
    canonical,
    check_map,
    has_a_name,
    known_names,
    match_names,
    namesakes,
)
from tinymvit.mistakes import Case, Mistake, case_of, mistakes, scale_and_shift_left_out
from tinymvit.modeling import MobileViTPreTrainedModel, load_model
from tinymvit.summary import describe
from tinymvit.weights import bundled

Array = np.ndarray
Tensors = Mapping[str, Array]
Item = TypeVar("Item")

# How much further from the truth than the float32 reference a right float32 port may be, in the rms and at the worst
# element: at least twice what PyTorch, ONNX Runtime and LiteRT were measured to need (docs/porting.md).
FACTORS = (8.0, 16.0)
FEW = 8.0  # few numbers measure rounding badly: n of them widen the factors by 1 + FEW / sqrt(n)
WITHOUT_MODEL = (
    1e-5  # between two dumps, relative to a tensor's rms and largest magnitude: no reference to measure it by
)
HINTED_OPS = 16  # ops judged together, at most, for a hint to be looked for: unfold and a whole transformer layer
HINTED_ROWS = 10  # wrong rows, at most, that are searched for hints
HINTS = 3  # of a row, at most
NEAR = 0.01  # relative error beyond which a mistake is not even tried in float32
CLOSER = 4.0  # times closer than the right value a mistake must be: what is about as far explains nothing
UNIT = 2.0**-24  # half a unit in the last place of float32, relative: rounding the truth itself costs this
HALF_UNITS = {"float16": 2.0**-11, "bfloat16": 2.0**-8}  # the same of the formats that a dump may shorten it to
NUMBERS = "fiub"  # kinds of dtype that hold real numbers
PIXELS = "pixel_values"


@dataclass(frozen=True)
class Errors:
    """Theirs against the truth. relative: absolute over the truth's largest magnitude; snr in decibels; worst: index
    of the largest absolute error in our layout."""

    absolute: float
    relative: float
    rms: float
    snr: float
    cosine: float
    worst: tuple[int, ...]


@dataclass(frozen=True)
class Hint:
    """A known mistake that explains a tensor: at which node, and what; if all alike must make it, that is said too."""

    node: str
    mistake: str

    def __str__(self) -> str:
        return f"{self.node}: {self.mistake}"


@dataclass(frozen=True)
class Row:
    """A node that was compared, or a module or output whose tensor is not the one that is read for its node.

    verdict: "ok", "differs", "shape" (no layout explains it), "not finite" (NaN or infinity where the truth has
    numbers) or "not numbers". tolerance: what `errors.rms` may be. together: the ops that were judged as one because
    the dump lacks the tensors between them, the node itself last.
    """

    node: str
    op: str
    shape: Shape
    theirs: str
    matched: str
    their_shape: Shape
    layout: str
    verdict: str
    errors: Errors | None = None
    tolerance: float | None = None
    together: tuple[str, ...] = ()
    hints: tuple[Hint, ...] = ()

    @property
    def ok(self) -> bool:
        return self.verdict == "ok"

    @property
    def wrong_op(self) -> str:
        """The op that is wrong, as far as is known: the hint's, else the one whose tensor differs."""
        return self.hints[0].node if self.hints else self.node


@dataclass(frozen=True)
class Comparison:
    """Rows in the graph's order, and what else is worth a line."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    isolated: bool

    @property
    def divergence(self) -> Row | None:
        """The first row that is not "ok"."""
        return next((row for row in self.rows if not row.ok), None)

    @property
    def first(self) -> str:
        """The name of the first divergent node, of the first wrong op if isolated, or "agree"."""
        row = self.divergence
        return "agree" if row is None else row.wrong_op if self.isolated else row.node

    @property
    def wrong(self) -> list[Row]:
        """The rows that are not "ok"; if isolated, without those that an op named by an earlier one may explain."""
        named: set[str] = set()
        rows = []
        for row in self.rows:
            if not row.ok and not (self.isolated and named.intersection(row.together)):
                rows.append(row)
                named.add(row.wrong_op)
        return rows

    @property
    def agrees(self) -> bool:
        return self.divergence is None


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
    settings = _Settings(dict(names or {}), layout, None if tolerance == "auto" else float(tolerance), progress)
    dump = _open(theirs)
    reference_dump = ours if isinstance(ours, Mapping) else _dump_at(ours)
    with np.errstate(all="ignore"):  # somebody else's numbers may overflow; the verdict says so
        if reference_dump is None:
            return _compare_with_model(ours, dump, settings, isolate)
        if isolate:
            raise DumpError("to isolate ops a model is needed, to compute them with; a dump has only their results")
        return _compare_dumps(reference_dump, dump, settings)


@dataclass(frozen=True)
class _Settings:
    names: dict[str, str]
    layout: str
    tolerance: float | None
    progress: bool


# ---- what is compared ----


def _open(dump: str | Path | Tensors) -> Tensors:
    if not isinstance(dump, Mapping):
        return open_dump(dump)
    if not dump:
        raise DumpError("their dump holds no tensors")
    return {str(name): np.asarray(array) for name, array in dump.items()}


def _dump_at(ours: Any) -> Tensors | None:
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


def _compare_with_model(ours: Any, dump: Tensors, settings: _Settings, isolate: bool) -> Comparison:
    model = load_model(ours) if isinstance(ours, str | Path) else ours
    if not isinstance(model, MobileViTPreTrainedModel):
        raise TypeError(f"ours: a {type(ours).__name__}, expected a model, the name of one or a dump")
    notes: list[str] = []
    pixels, match = _pixels(dump, model.config.num_channels, settings, notes)
    graph = model.graph(pixels.shape)
    known = known_names(graph)
    check_map(settings.names, dump, known)
    matches = match_names(known, dump, settings.names) | {PIXELS: match}
    port = _Port(graph, dump, matches, namesakes(known, dump, settings.names, matches), settings, notes)
    leftover = [name for name in dump if name != match.theirs and not has_a_name(name, known, settings.names)]
    port.guess(leftover, model.weights, pixels)
    if len(dump) == 1:
        raise DumpError(f"their dump holds only {match.theirs}, the pixels; expected what is computed from them too")
    if len(matches) == 1:
        raise DumpError(
            f"of their {len(dump)} tensors none but the pixels could be matched with a node, neither by name nor by "
            f"shape; theirs are {some(leftover, 3)}, ours {some(list(graph.nodes)[1:], 3)}; give a map of names"
        )
    alone = _Alone(graph, model.weights, port, pixels)
    rows = list(_rows(alone, isolate, settings.progress))
    notes += port.summary(rows, leftover)
    return Comparison(tuple(rows), tuple(notes), isolate)


def _pixels(dump: Tensors, channels: int, settings: _Settings, notes: list[str]) -> tuple[Array, Match]:
    """Their input in our layout, (B, C, H, W), and how it was found. Raises DumpError if there is none to run on."""
    named = [name for name in dump if canonical(settings.names.get(name, name)) == PIXELS]
    if len(named) > 1:
        raise DumpError(f"two tensors are the {PIXELS}: {named[0]!r} and {named[1]!r}; expected one")
    name = named[0] if named else next((n for n in dump if _may_be_pixels(_shape(dump, n), channels)), None)
    if name is None:
        raise DumpError(
            f"their dump has no {PIXELS}, which are needed to run our model on; dump the input too, or map it"
        )
    x = np.asarray(dump[name])
    shape = x.shape
    if x.dtype.kind != "f":
        raise DumpError(f"their {name} has dtype {x.dtype}; expected the floats that the network is given")
    if x.ndim == 3:
        x = x[None]
    axes = [axis for axis, allowed in ((1, ("auto", "nchw")), (3, ("auto", "nhwc", "tokens")))
            if x.ndim == 4 and x.shape[axis] == channels and settings.layout in allowed]  # fmt: skip
    if not axes or 0 in shape:
        first_or_last = "first" if settings.layout == "nchw" else "last"
        where = "first or last" if settings.layout == "auto" else f"{first_or_last} as layout {settings.layout} says"
        raise DumpError(f"their {name} has shape {list(shape)}; expected images of {channels} channels, {where}")
    x = x if axes[0] == 1 else x.transpose(0, 3, 1, 2)
    if not np.isfinite(x).all():
        at = [int(i) for i in np.argwhere(~np.isfinite(x))[0]]
        raise DumpError(f"their {name} holds {x[tuple(at)]} at {at} of (B, C, H, W); expected finite numbers")
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


def _shape(dump: Tensors, name: str) -> Shape:
    return dump.shape(name) if isinstance(dump, Dump) else dump[name].shape


def _half_unit(dump: Tensors, name: str) -> float:
    """Half a unit in the last place of the format that a tensor is stored in, relative; 0 for float32 and longer."""
    return HALF_UNITS.get(dump.stored(name) if isinstance(dump, Dump) else dump[name].dtype.name, 0.0)


def some(names: Sequence[str], count: int) -> str:
    """The first of these names, and how many more there are."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


# ---- the port: their tensors as ours ----


class _Port:
    """Their tensors, matched with nodes and, once judged, in our layout."""

    def __init__(
        self,
        graph: Graph,
        dump: Tensors,
        matches: dict[str, Match],
        unread: dict[str, list[str]],  # of each node the tensors that mean it too
        settings: _Settings,
        notes: list[str],
    ) -> None:
        self.graph, self.dump, self.settings, self.notes = graph, dump, settings, notes
        self.matches, self.unread = matches, unread
        self.names = {canonical(name): name for name in (*graph.outputs, *graph.modules, *graph.nodes)}
        self.axes = node_axes(graph)
        self.arranged: dict[str, Arrangement] = {}  # nodes judged and readable
        self.seen: Counter[str] = Counter()  # orders of axes that the values confirmed
        self.chosen: list[str] = []  # what the values decided between layouts
        self.folded: list[str] = []  # tensors that hold a later node's value
        self.unscaled: dict[str, Row] = {}  # normalisations whose scale and shift are folded into what follows

    def numbers(self, node: str) -> Array | None:
        """Their tensor as it lies, in float64; None if it holds no real numbers."""
        x = self.dump[self.matches[node].theirs]
        return _numbers(x) if x.dtype.kind in NUMBERS else None

    def value(self, node: str) -> Array:
        """Their tensor in our layout, for a node in `arranged`."""
        return self.arranged[node].undo(_numbers(self.dump[self.matches[node].theirs]))

    def allow_tokens_first(self) -> None:
        """From now on (N, P, D) is a layout of one image's tokens."""
        self.axes = {node: replace(axes, tokens_first=True) for node, axes in self.axes.items()}

    def leave_out(self, node: Node) -> Match:
        """The tensor that was taken for this node is not its value."""
        self.arranged.pop(node.name, None)
        return self.matches.pop(node.name)

    def move(self, node: Node, later: Node) -> None:
        """The tensor that was taken for one node is a later one's."""
        self.matches.setdefault(later.name, self.leave_out(node))

    def missing(self, hints: Sequence[Hint]) -> Iterator[Row]:
        """The row of a normalisation whose scale and shift are not in what follows either, as the first hint says."""
        row = self.unscaled.pop(hints[0].node, None) if hints else None
        if row is not None:
            yield replace(row, hints=tuple(hint for hint in hints if hint.node == row.node))

    def may_hold(self, node: Node, later: Node) -> bool:
        """Whether the tensor of one node may be a later one's, which then has none, or the same numbers again."""
        if later.name not in self.matches:
            return True
        return _same(*(self.dump[self.matches[name].theirs] for name in (node.name, later.name)))

    def readings(self, node: str, x: Array) -> list[Arrangement]:
        """The layouts that x may have, those confirmed most often first."""
        options = arrangements(x.shape, self.axes[node], self.settings.layout)
        return sorted(options, key=lambda option: -self.seen[option.order])

    def judge(
        self, node: Node, truth: Array, rounded: Array, together: tuple[str, ...], only_finite: bool = False
    ) -> Row:
        """The row of a node, given the truth and the float32 reference. Remembers the layout. only_finite: judge it
        only where the truth is finite."""
        match, x = self.matches[node.name], self.numbers(node.name)
        theirs = _shape(self.dump, match.theirs)
        row = Row(node.name, describe(node.op), node.shape, match.theirs, match.how, theirs, "", "not numbers")
        row = replace(row, together=together)
        if x is None:
            return row
        options = self.readings(node.name, x)
        if not options:
            return replace(row, verdict="shape")
        limit = self.limit(node.name, truth, rounded)
        values = {option: option.undo(x) for option in options}
        if only_finite:
            values = {option: np.where(np.isfinite(truth), value, truth) for option, value in values.items()}
        right = [option for option, value in values.items() if limit.allows(value, truth)]
        if right and len(options) > 1:
            others = " or ".join(option.order for option in options if option is not right[0])
            self.chosen.append(f"{node.name} is {right[0].order}, not {others}")
        option = right[0] if right else self._likeliest(options, x, truth)
        if not right and not self._believable(option):
            return replace(row, verdict="shape")
        self.seen[option.order] += bool(right)
        self.arranged[node.name] = option
        row = replace(row, layout=option.order, errors=_errors(values[option], truth), tolerance=limit.rms)
        return replace(row, verdict=limit.verdict(values[option], truth))

    def rivals(self, row: Row, node: Node, truth: Array, rounded: Array) -> Iterator[Row]:
        """The wrong ones of the tensors that mean a node too and hold something else than the one that is read, whose
        row is given."""
        for theirs in self.unread.get(node.name, ()):
            if _same(self.dump[theirs], self.dump[row.theirs]):
                continue
            other = self._reading(node.name, theirs)
            rival = other.judge(node, truth, rounded, row.together)
            readable = node.name in self.arranged and node.name in other.arranged
            if not rival.ok and not (readable and _same(self.value(node.name), other.value(node.name))):
                self.notes.append(f"their {theirs} and {row.theirs} should be the same: both are {node.name}")
                yield replace(rival, node=self.names[canonical(theirs)])

    def _reading(self, node: str, theirs: str) -> _Port:
        """This port, had another tensor been read for a node."""
        other = copy(self)
        other.matches = self.matches | {node: Match(theirs, "name")}
        other.arranged, other.seen, other.chosen = {}, self.seen.copy(), []
        return other

    def _believable(self, option: Arrangement) -> bool:
        """Whether a wrong tensor may be read so: an order that no right tensor had, and not ours, fits by chance."""
        return option.order in (*MAP, *VECTOR, option.axes.orders[0]) or self.seen[option.order] > 0

    def _likeliest(self, options: list[Arrangement], x: Array, truth: Array) -> Arrangement:
        """Of layouts that all are wrong: the one confirmed most often elsewhere, else the one with the least error."""
        best = [option for option in options if self.seen[option.order] == self.seen[options[0].order]]
        return min(best, key=lambda option: _rms(_difference(option.undo(x), truth)))

    def limit(self, node: str, truth: Array, rounded: Array) -> _Limit:
        """How far from the truth their tensor for this node may be."""
        return _Limit.of(truth, rounded, self.settings.tolerance, _half_unit(self.dump, self.matches[node].theirs))

    def unrounded(self, node: str, x: Array) -> Array:
        """What x, their tensor for this node, may have been before it was stored in a shorter format: each number is
        moved at random within half a unit of that."""
        half = _half_unit(self.dump, self.matches[node].theirs)
        moves = np.random.default_rng(0).uniform(-half, half, x.shape) if half else 0.0
        return x * (1 + moves)

    def guess(self, leftover: list[str], weights: Tensors, pixels: Array) -> None:
        """Match tensors whose names mean nothing with nodes that have none, by shape, order and statistics."""
        free = [node for node in self.graph if node.name not in self.matches]
        usable = [name for name in leftover if self.dump[name].dtype.kind in NUMBERS]
        fitting = [name for name in usable if any(self._fits(node.name, name) for node in free)]
        if not free or not fitting:
            return
        theirs = {name: Statistics.of(_numbers(self.dump[name])) for name in fitting}
        steps = reference.steps(self.graph, weights, pixels, np.float32)
        steps_with_bar = _with_bar(steps, len(self.graph), self.settings.progress)
        ours = {node.name: Statistics.of(_numbers(value)) for node, value in steps_with_bar}
        pairs = align(
            [node.name for node in free],
            fitting,
            self._fits,
            lambda node, name: ours[node].close_to(theirs[name]),
            by_shape_alone=len(self.matches) == 1,
        )
        self.matches.update({node: Match(name, "guess") for node, name in pairs.items()})
        self.notes += [f"guess: their {name} is {node}" for node, name in pairs.items()]

    def _fits(self, node: str, name: str) -> bool:
        return bool(arrangements(_shape(self.dump, name), self.axes[node], self.settings.layout))

    def summary(self, rows: list[Row], leftover: list[str]) -> list[str]:
        """What is worth saying of matching and layouts, once all is judged."""
        notes = []
        rows = [row for row in rows if row.node in self.axes]
        layouts = Counter(row.layout for row in rows if row.layout and row.layout != self.axes[row.node].orders[0])
        if layouts:
            notes.append("layouts undone: " + ", ".join(f"{order} ({count})" for order, count in layouts.items()))
        if self.chosen:
            notes.append(f"several layouts fit {len(self.chosen)} tensors, the values decided: {some(self.chosen, 1)}")
        if self.folded:
            notes.append(f"{len(self.folded)} tensors hold the value behind a folded op: {some(self.folded, 1)}")
        if self.unscaled:
            notes.append(
                f"{len(self.unscaled)} normalisations are without scale and shift, judged with what follows: "
                f"{some([row.theirs for row in self.unscaled.values()], 1)}"
            )
        notes.append(f"{len(rows)} of {len(self.graph)} nodes compared")
        used = {match.theirs for match in self.matches.values()}
        if unknown := [name for name in leftover if name not in used]:
            notes.append(f"{len(unknown)} of their {len(self.dump)} tensors not recognised: {some(unknown, 3)}")
        return notes


# ---- our side, node by node ----


class _Alone:
    """Computes ops from their inputs, and where those are not in the dump from the nearest ones before that are."""

    def __init__(self, graph: Graph, weights: Tensors, port: _Port, pixels: Array) -> None:
        self.graph, self.weights, self.port, self.pixels = graph, weights, port, pixels
        self.readers: dict[str, list[Node]] = {node.name: [] for node in graph}
        for node in graph:
            for name in node.inputs:
                self.readers[name].append(node)

    def together(self, target: Node) -> list[Node]:
        """The ops between the nearest tensors of theirs and this one, in order, itself last."""
        needed = {target.name}
        nodes = []
        for node in reversed(self.graph.nodes.values()):
            if node.name in needed:
                nodes.append(node)
                needed.update(name for name in node.inputs if name not in self.port.arranged)
        return nodes[::-1]

    def inputs(self, nodes: list[Node]) -> dict[str, Array]:
        """Their tensors that these ops read, in float64."""
        names = {name for node in nodes for name in node.inputs} - {node.name for node in nodes}
        return {name: self.port.value(name) for name in names}

    def finite_inputs(self, node: Node) -> bool:
        """Whether what this op is computed from is free of NaN and infinity."""
        return all(np.isfinite(x).all() for x in self.inputs(self.together(node)).values())

    def run(
        self,
        nodes: list[Node],
        inputs: Mapping[str, Array],
        dtype: type,
        wrong: Mapping[str, Mistake] | None = None,
    ) -> Array | None:
        """The value of the last of these nodes; those in `wrong` make their mistake. None if that is not possible."""
        values: dict[str, Array] = {name: value.astype(dtype) for name, value in inputs.items()}
        for node in nodes:
            if isinstance(node.op, Input):
                values[node.name] = self.pixels.astype(dtype)
                continue
            sources = [values[name] for name in node.inputs]
            if wrong and node.name in wrong:
                case = case_of(node, self.graph, tuple(sources), lambda name: np.asarray(self.weights[name], dtype))
                value = wrong[node.name](case)
                if value is None:
                    return None
            else:
                value = reference.compute(node.op, sources, [np.asarray(self.weights[n], dtype) for n in node.weights])
            values[node.name] = value
        return values[nodes[-1].name]

    def value(self, nodes: list[Node], inputs: Mapping[str, Array], dtype: type) -> Array:
        """The right value of the last of these nodes."""
        value = self.run(nodes, inputs, dtype)
        assert value is not None  # only a mistake may not apply
        return value

    def both(self, nodes: list[Node]) -> tuple[Array, Array]:
        """The value of the last of these nodes for their tensors: the truth, and in float32 from what these may have
        been before they were stored."""
        inputs = self.inputs(nodes)
        before = {name: self.port.unrounded(name, x) for name, x in inputs.items()}
        return self.value(nodes, inputs, np.float64), self.value(nodes, before, np.float32)

    def right(self, node: Node) -> bool:
        """Whether their tensor for this node follows from their own tensors before it."""
        if node.name not in self.port.arranged:
            return False
        truth, rounded = self.both(self.together(node))
        return self.port.limit(node.name, truth, rounded).allows(self.port.value(node.name), truth)

    @cached_property
    def tokens_first(self) -> bool:
        """Whether one image's tokens lie as (N, P, D). So do patches swapped with positions: the first tensor behind an
        attention, which sees other tokens then, tells these apart."""
        attended = False
        for node in self.graph:
            attended = attended or isinstance(node.op, Context)
            x = self.port.numbers(node.name) if attended and node.name in self.port.matches else None
            if x is not None and x.ndim == 3 == len(node.shape):
                truth, rounded = self.both(self.together(node))
                value = x.swapaxes(0, 1)
                same_shape = len(self.pixels) == 1 and value.shape == truth.shape
                return same_shape and self.port.limit(node.name, truth, rounded).allows(value, truth)
        return False

    def later(self, node: Node) -> Iterator[Node]:
        """The normalisation and activation that a port may have folded into the op before them."""
        last = node
        while len(self.readers[last.name]) == 1:
            (last,) = self.readers[last.name]
            if not isinstance(last.op, BatchNorm | Activation) or not self.port.may_hold(node, last):
                return
            yield last

    def folded(self, node: Node, truth: Array, rounded: Array) -> Node | None:
        """The later node whose value their tensor for `node` holds, if one does."""
        x = self.port.numbers(node.name)
        for later in self.later(node):
            truth, rounded = (self.value([later], {later.inputs[0]: v}, v.dtype.type) for v in (truth, rounded))
            limit = self.port.limit(node.name, truth, rounded)
            if x is not None and any(limit.allows(o.undo(x), truth) for o in self.port.readings(later.name, x)):
                return later
        return None

    def unscaled(self, node: Node) -> bool:
        """Whether their tensor is a normalisation without scale and shift, as converters fold these into what follows.
        Where they are really missing, that is then found behind it."""
        nodes, x = self.together(node), self.port.numbers(node.name)
        if len(nodes) > HINTED_OPS:
            return False
        wrong = {node.name: scale_and_shift_left_out}
        return x is not None and self._error(nodes, self.inputs(nodes), wrong, node, x) is not None

    def hints(self, target: Node) -> tuple[Hint, ...]:
        """The known mistakes that explain their tensor for this node to tolerance: an op's alone before all alike, the
        closest first."""
        nodes = self.together(target)
        x = self.port.numbers(target.name)
        if len(nodes) > HINTED_OPS or x is None:
            return ()
        inputs = self.inputs(nodes)
        found = []
        for where, sentence in _suspects(nodes):
            wrong = {node.name: mistakes(node.op)[sentence] for node in where}
            error = self._error(nodes, inputs, wrong, target, x)
            if error is not None:
                every = f" (at every {describe(where[0].op)} of these)" if len(where) > 1 else ""
                found.append((len(where) > 1, error, Hint(where[0].name, sentence + every)))
        return tuple(hint for *_, hint in sorted(found, key=lambda entry: entry[:2]))

    def _error(
        self, nodes: list[Node], inputs: Mapping[str, Array], wrong: Mapping[str, Mistake], target: Node, x: Array
    ) -> float | None:
        """How far theirs is from what these mistakes give, relative to its rms; None if further than rounding, or
        hardly closer than the right value."""
        try:
            truth = self.run(nodes, inputs, np.float64, wrong)
        except (ValueError, IndexError):  # arrays of a shape that the next op cannot take
            return None
        if truth is None:
            return None
        readings = (
            [option.undo(x) for option in self.port.readings(target.name, x)] if truth.shape == target.shape else []
        )
        if not readings and _squeezed(x.shape) == _squeezed(truth.shape):
            readings = [x.reshape(truth.shape)]
        for value in readings:
            distance = _rms(_difference(value, truth))
            error = distance / (_rms(truth) or 1)
            if not error < NEAR or CLOSER * distance > self._from_right(nodes, inputs, target, x):
                continue
            rounded = self.run(nodes, inputs, np.float32, wrong)
            if rounded is not None and self.port.limit(target.name, truth, rounded).allows(value, truth):
                return error
        return None

    def _from_right(self, nodes: list[Node], inputs: Mapping[str, Array], target: Node, x: Array) -> float:
        """The rms of what theirs differs by from the right value; infinite if it cannot be read as one."""
        truth = self.value(nodes, inputs, np.float64)
        readings = self.port.readings(target.name, x)
        return min((_rms(_difference(option.undo(x), truth)) for option in readings), default=np.inf)


def _suspects(nodes: list[Node]) -> Iterator[tuple[list[Node], str]]:
    """Every mistake at each of these ops, then at all the ops of a kind."""
    kinds: dict[type, list[Node]] = {}
    for node in nodes:
        kinds.setdefault(type(node.op), []).append(node)
        yield from (([node], sentence) for sentence in mistakes(node.op))
    for alike in kinds.values():
        if len(alike) > 1:
            yield from ((alike, sentence) for sentence in mistakes(alike[0].op))


# ---- rows ----


def _rows(alone: _Alone, isolate: bool, progress: bool) -> Iterator[Row]:
    """A row for each matched node, in order, and behind it one for each of its rivals."""
    port = alone.port
    searches = HINTED_ROWS if isolate else 1
    for node, truth, rounded, together in _truths(alone, isolate, progress):
        row = port.judge(node, truth, rounded, together)
        if row.verdict == "shape" and alone.tokens_first:
            port.allow_tokens_first()
            row = port.judge(node, truth, rounded, together)
        if row.verdict == "not finite" and isolate and not alone.finite_inputs(node):
            row = port.judge(node, truth, rounded, together, only_finite=True)
            port.notes.append(f"{node.name}: its input is not finite, so it is judged only where its value is")
        rivals = list(port.rivals(row, node, truth, rounded))
        if row.ok:
            yield row
        elif isinstance(node.op, LayerNorm) and alone.unscaled(node):
            port.unscaled[node.name] = row
            port.leave_out(node)
        else:
            later = alone.folded(node, truth, rounded)
            if later is None and searches:
                searches -= 1
                row = replace(row, hints=alone.hints(node)[:HINTS])
                later = None if row.hints else _wrong_and_folded(alone, node)
                if not isolate and not row.hints and later is None and alone.right(node):
                    port.notes.append(
                        f"{node.name} is right on their own inputs: the difference came in before it, "
                        "each step within tolerance; --isolate judges each op alone"
                    )
            if later is None:
                yield from port.missing(row.hints)
                yield row
            else:
                port.folded.append(f"{row.theirs} holds {later.name}")
                port.move(node, later)
        yield from rivals
        if rivals and not isolate:
            searches = 0  # only the first divergence is explained


def _truths(alone: _Alone, isolate: bool, progress: bool) -> Iterator[tuple[Node, Array, Array, tuple[str, ...]]]:
    """Each matched node with its values in float64 and float32 and the names of the ops that made them."""
    graph, port = alone.graph, alone.port
    if isolate:
        for node in _with_bar(graph, len(graph), progress):
            if node.name in port.matches:
                nodes = alone.together(node)
                yield node, *alone.both(nodes), tuple(node.name for node in nodes)
        return
    both = (reference.steps(graph, alone.weights, alone.pixels, dtype) for dtype in (np.float64, np.float32))
    for (node, truth), (_, rounded) in _with_bar(zip(*both, strict=True), len(graph), progress):
        if node.name in port.matches:
            yield node, truth, rounded, (node.name,)


def _with_bar(nodes: Iterable[Item], count: int, shown: bool) -> Iterable[Item]:
    return tqdm(nodes, total=count, unit="node", disable=None if shown else True, leave=False)


def _wrong_and_folded(alone: _Alone, node: Node) -> Node | None:
    """The later node whose value their tensor holds but for a known mistake in the ops folded together."""
    port = alone.port
    matches, arranged = dict(port.matches), dict(port.arranged)
    for later in alone.later(node):
        port.move(node, later)
        explained = alone.hints(later)
        port.matches, port.arranged = dict(matches), dict(arranged)
        if explained:
            return later
    return None


# ---- two dumps ----


def _compare_dumps(ours: Tensors, theirs: Tensors, settings: _Settings) -> Comparison:
    """Tensor by tensor, in our order. Nothing can be computed, so the tolerance is one for all."""
    known = [{canonical(name): name for name in ours}]
    check_map(settings.names, theirs, known)
    matches = match_names(known, theirs, settings.names)
    notes = []
    free = [name for name in ours if name not in matches]
    leftover = [name for name in theirs if not has_a_name(name, known, settings.names)]

    def fits(node: str, name: str) -> bool:
        return bool(arrangements(_shape(theirs, name), shape_axes(_shape(ours, node)), settings.layout))

    def alike(node: str, name: str) -> bool:
        return Statistics.of(_numbers(ours[node])).close_to(Statistics.of(_numbers(theirs[name])))

    for node, name in align(free, leftover, fits, alike, by_shape_alone=not matches).items():
        matches[node] = Match(name, "guess")
        notes.append(f"guess: their {name} is {node}")
    if not matches:
        raise DumpError(
            f"none of their {len(theirs)} tensors could be matched with ours, neither by name nor by shape; "
            f"theirs are {some(list(theirs), 3)}, ours {some(list(ours), 3)}; give a map of names"
        )
    if settings.tolerance is None:
        settings = replace(settings, tolerance=WITHOUT_MODEL)
        notes.append(f"without a model rounding cannot be measured: tolerance {WITHOUT_MODEL:g} for every tensor")
    names = _with_bar([name for name in ours if name in matches], len(matches), settings.progress)
    rows = tuple(_dumped_row(name, ours[name], matches[name], theirs, settings) for name in names)
    notes.append(f"{len(rows)} of {len(ours)} tensors compared")
    return Comparison(rows, tuple(notes), False)


def _dumped_row(name: str, ours: Array, match: Match, theirs: Tensors, settings: _Settings) -> Row:
    x = theirs[match.theirs]
    row = Row(name, "", ours.shape, match.theirs, match.how, x.shape, "", "not numbers")
    if not {x.dtype.kind, ours.dtype.kind} <= set(NUMBERS):
        return row
    options = arrangements(x.shape, shape_axes(ours.shape), settings.layout)
    if not options:
        return replace(row, verdict="shape")
    truth, values = _numbers(ours), _numbers(x)
    half = _half_unit(theirs, match.theirs)
    limit = _Limit.of(truth, truth, settings.tolerance, half)
    option = min(options, key=lambda option: _rms(_difference(option.undo(values), truth)))
    value = option.undo(values)
    row = replace(row, layout=option.order, errors=_errors(value, truth), tolerance=limit.rms)
    verdict = limit.verdict(value, truth)
    hints: list[Hint] = []
    if verdict != "ok" and canonical(name) == PIXELS:
        for sentence, mistake in mistakes(Input()).items():
            wrong = mistake(Case(name, Input(), (truth,)))
            if wrong is not None and _Limit.of(wrong, wrong, settings.tolerance, half).allows(value, wrong):
                hints.append(Hint(name, sentence))
    return replace(row, verdict=verdict, hints=tuple(hints[:HINTS]))


# ---- numbers ----


@dataclass(frozen=True)
class _Limit:
    """How far from the truth a right tensor may be: the rms of its errors, and the largest."""

    rms: float
    largest: float

    @classmethod
    def of(cls, truth: Array, rounded: Array, tolerance: float | None, half: float) -> _Limit:
        """By the float32 reference, `rounded`, or relative to the truth's size if a tolerance is given. A float32 can
        be no closer than its last bit, nor can one that is stored in a shorter format: `half` a unit of that."""
        sizes = _rms(truth), _largest(truth)
        noise = rounded - truth
        noises = _rms(noise), _largest(noise)
        if tolerance is not None:
            return cls(*((tolerance + half) * size for size in sizes))
        few = 1 + FEW / max(truth.size, 1) ** 0.5
        factors = (few * factor for factor in FACTORS)
        return cls(*(f * max(n, UNIT * size) + half * size for f, n, size in zip(factors, noises, sizes, strict=True)))

    def allows(self, theirs: Array, truth: Array) -> bool:
        return self.verdict(theirs, truth) == "ok"

    def verdict(self, theirs: Array, truth: Array) -> str:
        difference = _difference(theirs, truth)
        if not np.isfinite(difference).all():
            return "not finite"
        return "ok" if _rms(difference) <= self.rms and _largest(difference) <= self.largest else "differs"


def _difference(theirs: Array, truth: Array) -> Array:
    """Theirs less the truth; equal infinities and NaN for NaN differ by nothing."""
    same = (theirs == truth) | (np.isnan(theirs) & np.isnan(truth))
    return np.where(same, 0, theirs - truth)


def _errors(theirs: Array, truth: Array) -> Errors:
    difference = _difference(theirs, truth)
    if truth.size == 0:
        return Errors(0.0, 0.0, 0.0, np.inf, 1.0, ())
    size = np.where(np.isfinite(difference), np.abs(difference), np.inf)
    worst = tuple(int(i) for i in np.unravel_index(size.argmax(), size.shape))
    rms, scale = float(np.sqrt((size * size).mean())), _rms(truth)
    scales = scale * float(np.sqrt((theirs * theirs).mean()))
    return Errors(
        absolute=float(size[worst]),
        relative=float(size[worst] / _largest(truth)) if _largest(truth) else float(size[worst] and np.inf),
        rms=rms,
        snr=float(20 * np.log10(scale / rms)) if rms else np.inf,
        cosine=float((theirs * truth).mean() / scales) if scales else float(rms == 0),
        worst=worst,
    )


def _rms(x: Array) -> float:
    """Of the finite values."""
    x = x[np.isfinite(x)]
    return float(np.sqrt((x * x).mean())) if x.size else 0.0


def _largest(x: Array) -> float:
    return float(np.abs(x[np.isfinite(x)]).max(initial=0))


def _numbers(x: Array) -> Array:
    return np.asarray(x, np.float64)


def _same(x: Array, y: Array) -> bool:
    """Whether two tensors hold the same values, NaN for NaN."""
    return x.shape == y.shape and bool(((x == y) | ((x != x) & (y != y))).all())


def _squeezed(shape: Shape) -> list[int]:
    return [size for size in shape if size != 1]
