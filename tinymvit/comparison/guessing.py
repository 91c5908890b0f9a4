"""Which nodes the tensors are whose names mean nothing: hypotheses, each of which is checked before it counts.

A tensor is first recognised by its value: it is what a node must have, computed from the port's own tensors before it,
in whatever order and layout the dump has them. Where that ends although tensors are left, an op is wrong. Its tensor is
looked for among them: it must prove itself from behind, because the ops that read it, computed from it, give another
one of them, or from before, because a known mistake gives it. From there on tensors are recognised by their values
again. What stays ambiguous is left out. Whether a tensor that was recognised is right is judged by the later stages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property

import numpy as np

from tinymvit.comparison.hints import HINTED_OPS, suspects_of
from tinymvit.comparison.isolation import in_isolation, inputs_of, ops_between
from tinymvit.comparison.layouts import Arrangement, arrangements
from tinymvit.comparison.mistakes import Mistake
from tinymvit.comparison.names import Match
from tinymvit.comparison.port import Port, as_float64
from tinymvit.comparison.reading import first_attended, read_tensor
from tinymvit.comparison.reference_run import ReferenceRun
from tinymvit.comparison.tolerance import Tolerance
from tinymvit.graph import Node, last_use
from tinymvit.numerics import NUMBERS, Array, TensorStatistics, difference, half_unit, rms, same
from tinymvit.ops import Fold, LayerNorm, Shape

PATIENCE = 12  # nodes in a row that could have a tensor and have none, before a wrong op is looked for
WINDOW = 8  # open nodes whose readers are asked before known mistakes are tried at them
REACH = 3  # nodes behind a hypothesis, at most, that are computed from it and that a tensor could be,
FEW_TENSORS = 40  # where tensors are many; so many over how many there are come to these
# What all hypotheses together may cost, in runs of the whole graph, and at least, in multiply-adds, of which about 1e9
# are done in a second. To find a wrong attention among seven in ten of the tensors of XXS on 96 x 96 pixels took 5e9 of
# them, 60 runs; one run of small's DeepLabV3 on 512 x 512 pixels takes 1.5e10.
EFFORT = 6
LEAST_EFFORT = 5e10
# A value further away than this, relative to its size, is not right whatever rounding costs: float32's costs less, and
# that of a shorter format less than so many of its half units. Only of nearer ones it is worth asking what it costs.
NEAR = 1e-3
FORMAT_UNITS = 20
# A tensor that is no further from a value than this, relative to its size, is similar to it: likely that node's, and
# wrong. Of right ports those that nothing explains were measured at 1 and more, of wrong ones at 0.4 and less.
SIMILAR = 0.5


@dataclass(frozen=True)
class Guesses:
    """What is guessed. matches: nodes to tensors of theirs. recognised: all tensors of theirs that have a node's value,
    with those that have it a second time. reordered: whether tokens lie in orders that a mistake gives too (`Axes`).
    similar: nodes without a tensor to one that nothing explains and that is nearly what they must have. given_up:
    whether the search for wrong ops ended because it cost too much."""

    matches: Mapping[str, Match]
    recognised: frozenset[str]
    reordered: bool = False
    similar: Mapping[str, str] = field(default_factory=dict)
    given_up: bool = False


def guess_nodes(run: ReferenceRun, port: Port, unnamed: Sequence[str]) -> Guesses:
    """A guess at which of these tensors are the nodes that no name means.

    port: what is known by names. unnamed: tensors of the dump in its order.
    """
    copies = _copies(port, unnamed)
    tensors = _Tensors(port, [name for name in unnamed if name not in copies])
    sizes = {math.prod(node.shape) for node in run.graph if node.name not in port.matches}
    if not any(tensors.of_size(size) for size in sizes):
        return Guesses({}, copies)
    search = _Search(run, port, tensors)
    search.run_through()
    guesses = search.result()
    return replace(guesses, recognised=guesses.recognised | copies)


def _copies(port: Port, unnamed: Sequence[str]) -> frozenset[str]:
    """The tensors that hold the very numbers of one that has a name."""
    by_shape: dict[Shape, list[str]] = {}
    for match in port.matches.values():
        by_shape.setdefault(port.dump.shape(match.theirs), []).append(match.theirs)
    statistics = cache(lambda name: TensorStatistics.of(port.dump[name]))
    numbers = (name for name in unnamed if port.dump.dtype(name).kind in NUMBERS)
    return frozenset(
        name
        for name in numbers
        for other in by_shape.get(port.dump.shape(name), ())
        if port.dump.dtype(other).kind in NUMBERS
        and statistics(name) == statistics(other)
        and same(port.dump[name], port.dump[other])
    )


class _Tensors:
    """The tensors that may be guessed, by their sizes, with their statistics."""

    def __init__(self, port: Port, names: Sequence[str]) -> None:
        self._port = port
        self._names: dict[int, list[str]] = {}
        self._statistics: dict[str, TensorStatistics] = {}
        for name in names:
            if port.dump.dtype(name).kind in NUMBERS:
                self._names.setdefault(math.prod(port.dump.shape(name)), []).append(name)

    def __len__(self) -> int:
        return sum(map(len, self._names.values()))

    def of_size(self, size: int) -> Sequence[str]:
        """Those of so many numbers: no layout changes how many there are."""
        return self._names.get(size, ())

    def statistics(self, name: str) -> TensorStatistics:
        if name not in self._statistics:
            self._statistics[name] = TensorStatistics.of(self._port.dump[name])
        return self._statistics[name]

    def distance(self, name: str, other: TensorStatistics) -> float:
        """How far a tensor's statistics are from others, in an order that says which are the nearest."""
        mine = self.statistics(name)
        return abs(mine.rms - other.rms) + abs(mine.mean - other.mean) + abs(mine.max - other.max)

    def equal(self, name: str, value: _Value, options: Sequence[Arrangement]) -> Arrangement | None:
        """The layout among `options` in which a tensor has this value; None if it has it in none."""
        half, given = half_unit(self._port.dump.stored(name)), self._port.settings.relative_tolerance
        near = NEAR + FORMAT_UNITS * half + 2 * (given or 0)
        if not options or not self._alike(name, value, near):
            return None
        x = as_float64(self._port.dump[name], name)
        for option in options:
            away = rms(difference(option.undo(x), value.truth))
            if away <= near * value.statistics.rms and value.tolerance(half, given).allows(option.undo(x), value.truth):
                return option
        return None

    def similar(self, name: str, value: _Value, options: Sequence[Arrangement]) -> bool:
        """Whether a tensor is nearly this value in one of these layouts."""
        theirs, ours = self.statistics(name), value.statistics
        if not options or max(abs(theirs.mean - ours.mean), abs(theirs.rms - ours.rms)) > SIMILAR * ours.rms:
            return False  # whatever the layout is
        x = as_float64(self._port.dump[name], name)
        return any(rms(difference(option.undo(x), value.truth)) <= SIMILAR * ours.rms for option in options)

    def _alike(self, name: str, value: _Value, near: float) -> bool:
        theirs, ours = self.statistics(name), value.statistics
        size = max(abs(ours.min), abs(ours.max))
        return (
            abs(theirs.mean - ours.mean) <= near * ours.rms
            and abs(theirs.rms - ours.rms) <= near * ours.rms
            and abs(theirs.min - ours.min) <= near * size
            and abs(theirs.max - ours.max) <= near * size
        )


class _Value:
    """A value that a tensor may have: the truth, in float64, and what the reference gives in float32 when asked."""

    def __init__(self, truth: Array, round_: Callable[[], Array | None]) -> None:
        self.truth = truth
        self._round = round_

    @cached_property
    def statistics(self) -> TensorStatistics:
        return TensorStatistics.of(self.truth)

    @cached_property
    def _rounded(self) -> Array:
        rounded = self._round()
        return self.truth if rounded is None else rounded

    def tolerance(self, half: float, given: float | None) -> Tolerance:
        if given is not None:
            return Tolerance.relative(self.truth, given, half)
        return Tolerance.measured(self.truth, self._rounded, half)


class _Search:
    """The search through the graph. `port` is what is known of the port so far, guesses included."""

    def __init__(self, run: ReferenceRun, port: Port, tensors: _Tensors) -> None:
        self.run, self.port, self.tensors = run, port, tensors
        self.nodes = list(run.graph)
        self.position = {node.name: index for index, node in enumerate(self.nodes)}
        self.last_use = last_use(run.graph)
        self.values: dict[str, Array] = {}  # of nodes without a tensor, until no later node reads them
        self.right: set[str] = set()  # nodes whose tensor follows from those before it
        self.guessed: dict[str, Match] = {}
        self.similar: dict[str, list[str]] = {}  # nodes to tensors that are nearly what they must have
        self.recognised: set[str] = set()
        self.axes = {name: replace(axes, reordered=True) for name, axes in port.axes.items()}
        self.options: dict[tuple[str, str], Sequence[Arrangement]] = {}  # how a node's value may lie in a tensor
        effort = EFFORT * sum(self._cost(node) for node in self.nodes)
        self.effort = max(effort, LEAST_EFFORT)

    # ---- the search ----

    def run_through(self) -> None:
        """Walk through the graph; where tensors are left that nothing explains, look for the op that is wrong."""
        position, patience = 0, len(self.nodes)  # only what no tensor behind it explains is wrong
        while True:
            position = self._walk(position, patience)
            at_end = position == len(self.nodes)
            node = self._hypothesis(at_end)
            if node is not None:
                position, patience = min(position, self.position[node.name] + 1), PATIENCE
                self.values = {name: x for name, x in self.values.items() if self.position[name] < position}
            elif at_end:
                break
            else:
                patience = len(self.nodes)
        self._take_the_last()

    def result(self) -> Guesses:
        matches = dict(self.guessed)
        reordered = {name: self._block(name) for name, match in matches.items() if self._is_reordered(name, match)}
        attended = {block for name, block in reordered.items() if self._attended_rightly(self.run.graph[name])}
        for name, block in reordered.items():
            if block not in attended:
                del matches[name]
        taken = {match.theirs for name, match in self.guessed.items() if name not in matches}
        recognised = frozenset(self.recognised - taken)
        similar = {node.name: names[0] for node in self.nodes if (names := self._similar_to(node))}
        return Guesses(matches, recognised, bool(attended), similar, self.effort < 0)

    def _walk(self, start: int, patience: int) -> int:
        """Recognise tensors by value from this position on, until the end or until patience ends: where that is."""
        in_vain = 0
        for position in range(start, len(self.nodes)):
            node = self.nodes[position]
            if node.name in self.port.matches:
                if node.name not in self.port.read:
                    self._read_named(node)
            elif self._recognise(node):
                in_vain = 0
            else:
                in_vain += bool(self._unrecognised(node))
            for name in (*node.inputs, node.name):
                if self.last_use[name] <= position:
                    self.values.pop(name, None)
            if in_vain > patience:
                return position + 1
        return len(self.nodes)

    def _read_named(self, node: Node) -> None:
        reading = read_tensor(self.port, in_isolation(self.run, self.port, node))
        if reading.arrangement is not None:
            self.port = self.port.after_reading(node.name, reading.arrangement, reading.right)
            self._recognise_copies(node.name)
        if reading.right:
            self.right.add(node.name)

    def _recognise_copies(self, name: str) -> None:
        """What a node's tensor holds, another may hold too: modules in modules give one tensor several times."""
        x = self.port.value(name)
        value, node = _Value(x, lambda: x), self.run.graph.nodes[name]
        for other in self._unrecognised(node):
            if self.tensors.equal(other, value, self._options(node, other)) is not None:
                self.recognised.add(other)

    def _recognise(self, node: Node) -> bool:
        """Whether a tensor has the value of this node. Several that have it are one value, dumped several times."""
        names = self.tensors.of_size(math.prod(node.shape))
        nodes = ops_between(self.run, self.port, node)
        value = _Value(self._value(node.name), lambda: self._rounded(nodes))
        equal = {name: self.tensors.equal(name, value, self._options(node, name)) for name in names}
        found = {name: option for name, option in equal.items() if option is not None}
        self.recognised.update(found)
        taken = {match.theirs for match in self.guessed.values()}
        orders = list(self.port.axes[node.name].orders)
        free = [
            (orders.index(option.order), i, name) for i, (name, option) in enumerate(found.items()) if name not in taken
        ]
        if free:
            *_, name = min(free)
            self.right.add(node.name)
            self._take(node, name, found[name])
        elif not found:
            names = self._unrecognised(node)
            self.similar[node.name] = [x for x in names if self.tensors.similar(x, value, self._options(node, x))]
        return bool(found)

    def _take(self, node: Node, name: str, option: Arrangement | None) -> None:
        """Take a tensor for a node's."""
        self.guessed[node.name] = match = Match(name, "guess", option.order if option else None)
        self.port = self.port.with_match(node.name, match)
        if option is not None:
            self.port = self.port.after_reading(node.name, option, True)
            if node.name not in self.right:
                self._recognise_copies(node.name)
        self.recognised.add(name)
        self.values.pop(node.name, None)

    # ---- values ----

    def _value(self, name: str) -> Array:
        """The port's own tensor for a node, or else what follows from those before it, in float64."""
        if name in self.port.read:
            return self.port.value(name)
        if name not in self.values:
            needed, nodes = {name}, []
            for node in reversed(self.nodes[: self.position[name] + 1]):
                if node.name in needed and not self._is_known(node.name):
                    nodes.append(node)
                    needed.update(node.inputs)
            sources = {source for node in nodes for source in node.inputs if self._is_known(source)}
            inputs = {source: self._value(source) for source in sources}
            self.values[name] = self.run.compute(nodes[::-1], inputs, np.float64)
        return self.values[name]

    def _is_known(self, name: str) -> bool:
        return name in self.port.read or name in self.values

    def _rounded(self, nodes: list[Node]) -> Array:
        return self.run.compute(nodes, self._before_storing(self.port, inputs_of(self.port, nodes)), np.float32)

    def _before_storing(self, port: Port, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """What values of nodes may have been before those that are tensors of theirs were stored."""
        return {name: port.before_storing(name, x) if name in port.matches else x for name, x in inputs.items()}

    def _options(self, node: Node, name: str) -> Sequence[Arrangement]:
        if (node.name, name) not in self.options:
            found = arrangements(self.port.dump.shape(name), self.axes[node.name], self.port.settings.layout)
            self.options[node.name, name] = found
        return self.options[node.name, name]

    def _unrecognised(self, node: Node) -> list[str]:
        """The tensors that this node could have and that no value explains."""
        names = self.tensors.of_size(math.prod(node.shape))
        return [name for name in names if name not in self.recognised and self._options(node, name)]

    # ---- hypotheses ----

    def _hypothesis(self, at_end: bool) -> Node | None:
        """Take a tensor for that of a wrong op, at the first node in the graph's order where one proves itself.

        Readers prove more than mistakes, for a tensor that our graph lacks may be what a mistake gives: scores that are
        scaled later. So the readers of some nodes are asked before the mistakes are, and the mistakes only at the end,
        when it is known that no tensor behind these nodes follows from right ones.
        """
        nodes = [node for node in self._open_nodes() if self._unrecognised(node)]
        proofs = [self._by_readers, self._by_mistakes] if at_end else [self._by_readers]
        for start in range(0, len(nodes), WINDOW):
            window = nodes[start : start + WINDOW]
            for prove in proofs:
                found = next((node for node in window if prove(node)), None)
                if found is not None or self.effort < 0:
                    return found
        if not at_end:
            return None
        return next((node for node in self.nodes if self.effort >= 0 and self._by_readers_of_similar(node)), None)

    def _by_readers_of_similar(self, node: Node) -> bool:
        """As `_by_readers`, of tensors that are nearly right, though what was recognised behind the node says that it
        is right: where rounding is large, that hides small errors."""
        return bool(self._similar_to(node)) and self._by_readers(node, self._similar_to(node))

    def _similar_to(self, node: Node) -> list[str]:
        """The tensors that nothing explains and that are nearly what this node, which has none, must have."""
        if node.name in self.port.matches:
            return []
        return [name for name in self.similar.get(node.name, ()) if name not in self.recognised]

    def _by_readers(self, node: Node, names: Sequence[str] | None = None) -> bool:
        """Whether the readers of a node confirm one of these tensors, of all if none are named: it is then taken."""
        value = TensorStatistics.of(self._value(node.name))
        names = self._unrecognised(node) if names is None else names
        for name in sorted(names, key=lambda name: self.tensors.distance(name, value)):  # the likeliest first
            x = as_float64(self.port.dump[name], name)
            for option in self._options(node, name):
                if self._readers_confirm(node, name, option.undo(x)):
                    self._take(node, name, option)
                    return True
        return False

    def _open_nodes(self) -> list[Node]:
        """The nodes without a tensor of which none behind them shows that they are right: none that was guessed, nor
        one that follows from those before it."""
        closed: set[str] = set()
        for node in reversed(self.nodes):
            if node.name in closed or node.name in self.right or node.name in self.guessed:
                closed.update((node.name, *node.inputs))
        return [node for node in self.nodes if node.name not in closed and node.name not in self.port.matches]

    def _readers_confirm(self, node: Node, name: str, value: Array) -> bool:
        """Whether what follows from this value of a node, computed with weights or with other tensors of theirs, is
        another tensor that nothing else explains.

        What a layer normalisation makes of it proves nothing, for that does not care what was added to the value, nor
        by how much it was multiplied.
        """
        port = self.port.with_match(node.name, Match(name, "guess"))
        behind, inputs, chain = {node.name: value}, {node.name: value}, []
        exact = {node.name}  # of the nodes behind those whose value another one, shifted and scaled, would not give
        telling, tried = False, 0
        reach = REACH + FEW_TENSORS // (1 + len(self.tensors) - len(self.recognised))
        for reader in self.nodes[self.position[node.name] + 1 :]:
            if not behind.keys() & set(reader.inputs):
                continue
            self.effort -= self._cost(reader)
            inputs |= {source: self._value(source) for source in reader.inputs if source not in behind}
            sources = {source: behind[source] if source in behind else inputs[source] for source in reader.inputs}
            behind[reader.name] = self.run.compute([reader], sources, np.float64)
            chain.append(reader)
            if not isinstance(reader.op, LayerNorm) and exact.intersection(reader.inputs):
                exact.add(reader.name)
            telling = telling or bool(reader.weights) or len(reader.inputs) > 1
            others = [other for other in self._candidates(reader) if other != name]
            if not telling or not others:
                continue
            nodes, before = list(chain), self._before_storing(port, inputs)
            result = _Value(behind[reader.name], lambda: self.run.compute(nodes, before, np.float32))  # noqa: B023
            if reader.name in exact and result.statistics.min < result.statistics.max:
                for other in others:
                    if self.tensors.equal(other, result, self._options(reader, other)) is not None:
                        return True
            tried += 1
            if tried == reach or self.effort < 0:
                break
        return False

    def _candidates(self, node: Node) -> list[str]:
        """The tensors that a node may turn out to have: the one named after it, or those that nothing explains."""
        named = self.port.matches.get(node.name)
        return [named.theirs] if named else self._unrecognised(node)

    def _by_mistakes(self, node: Node) -> bool:
        """Whether a known mistake gives a tensor in a node's place, which is then taken."""
        nodes = ops_between(self.run, self.port, node)
        if len(nodes) > HINTED_OPS:
            return False
        inputs = inputs_of(self.port, nodes)
        cost = sum(map(self._cost, nodes))
        for made in suspects_of(nodes):
            mistakes = {wrong.name: made.mistake for wrong in made.nodes}
            self.effort -= cost
            value = self._wrong_value(nodes, inputs, mistakes)
            if value is None or value.truth.shape != node.shape:
                continue
            for name in self._unrecognised(node):
                option = self.tensors.equal(name, value, self._options(node, name))
                if option is not None:
                    self._take(node, name, option)
                    return True
        return False

    def _wrong_value(
        self, nodes: list[Node], inputs: Mapping[str, Array], mistakes: Mapping[str, Mistake]
    ) -> _Value | None:
        def rounded() -> Array | None:
            before = self._before_storing(self.port, inputs)
            return self.run.compute_wrongly(nodes, before, np.float32, mistakes)

        try:
            wrong = self.run.compute_wrongly(nodes, inputs, np.float64, mistakes)
        except (ValueError, IndexError):  # arrays of a shape that the next op cannot take
            return None
        return None if wrong is None else _Value(wrong, rounded)

    def _take_the_last(self) -> None:
        """If the result is not recognised and one value only can be it by its shape: that is it, and it is wrong."""
        last = self.nodes[-1]
        names = [] if last.name in self.port.matches else self._unrecognised(last)
        values = [self.port.dump[name] for name in names]
        if not names or not all(same(x, values[0]) for x in values) or _are_probabilities(values[0]):
            return
        options = self._options(last, names[0])
        self._take(last, names[0], options[0] if len(options) == 1 else None)
        self.recognised.update(names)

    def _cost(self, node: Node) -> float:
        return self.run.graph.multiply_adds(node) + 16.0 * math.prod(node.shape)

    # ---- tokens in orders that a mistake gives too ----

    def _is_reordered(self, name: str, match: Match) -> bool:
        shape, axes = self.port.dump.shape(match.theirs), self.port.axes[name]
        plain = arrangements(shape, axes, self.port.settings.layout)
        return match.order is not None and all(option.order != match.order for option in plain)

    def _attended_rightly(self, node: Node) -> bool:
        """Whether the first tensor behind the next attention is right: it would not be, had attention seen others."""
        attended = first_attended(self.run, self.port, node)
        return attended is not None and attended.name in self.right

    def _block(self, name: str) -> str:
        """The node that folds the tokens of which this node has some."""
        return next(node.name for node in self.nodes[self.position[name] :] if isinstance(node.op, Fold))


def _are_probabilities(x: Array) -> bool:
    """Whether these are no logits but their softmax."""
    return bool((x >= 0).all()) and bool(np.allclose(x.sum(1 if x.ndim > 1 else 0), 1, atol=1e-3))
