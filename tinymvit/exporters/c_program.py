"""What a program in C consists of: calls of the functions in `c_source`, a place for each value, and the weights.

The network runs image by image. The normalisations are folded into the convolutions. An inverted residual and an
attention are one call each, in which the wide maps and the scores exist piece by piece; all else is a call a node. An
elementwise op works in place where its input is not read again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tinymvit import ops
from tinymvit.engine.memory import first_fit
from tinymvit.errors import TinyMViTError
from tinymvit.exporters.network import ARGMAX, IMAGE, INT8, PIXEL_VALUES, SOFTMAX, Network
from tinymvit.exporters.storage import as_int8
from tinymvit.graph import Graph, Node, last_use
from tinymvit.numerics import Array
from tinymvit.ops import Op, Shape
from tinymvit.passes.rewrite import Weights, rewrite

ROWS, TILE, QUERIES, CHANNELS = 2, 32, 8, 8  # as in product.c, attention.c, inverted_residual.c
ELEMENTWISE = (ops.Activation, ops.BatchNorm, ops.Add)  # whose results may lie where an input lies


class Place(str):
    """An argument that says where something lies: the value of the node of this name, or `SCRATCH`."""


SCRATCH = Place("")
Argument = str | int | tuple[str, ...]  # several: an array of pointers


@dataclass(frozen=True)
class Call:
    """A call of a function in a file of `c_source`. arguments: what follows the place of its result; scratch: the
    numbers that it works in."""

    source: str
    arguments: tuple[Argument, ...]
    scratch: int = 0
    also: tuple[str, ...] = ()  # other files that it needs


@dataclass(frozen=True)
class Program:
    """A network as C. nodes: of every value, in the order of their numbers; body: the statements for an image; sources:
    the files of `c_source` that they need; arena: the numbers that it works in; results: of each parameter the shape,
    and whether its numbers are whole."""

    nodes: tuple[Node, ...]
    body: tuple[str, ...]
    sources: tuple[str, ...]
    arena: int
    results: dict[str, tuple[Shape, bool]]
    store: Store


def write_program(network: Network) -> Program:
    """The program of a network. Raises TinyMViTError, in a line, for what C has no function for."""
    if network.dynamic_batch:
        raise TinyMViTError("dynamic_batch: a program in C has memory for so many images, expected a fixed batch")
    unfused, weights = network.folded()
    for node in unfused:
        if math.prod(node.shape) >= 2**31:
            raise TinyMViTError(f"{node.name}: {math.prod(node.shape):,} numbers, expected fewer than 2^31 in C")
    graph = fuse(unfused)
    store = Store(weights, network.precision == INT8)
    writer = Writer(unfused, store)
    calls = {node.name: writer.call(node) for node in graph if not isinstance(node.op, ops.Input)}
    places = Places(graph, calls, network)
    body: list[str] = []
    sources: list[str] = []
    if network.preprocessing is not None:
        body += _read_image(network, unfused[PIXEL_VALUES], places)
        sources.append("read_image")
    body.append(f"show(trace, 0, {places.of(PIXEL_VALUES)}, 0, {writer.size(unfused[PIXEL_VALUES])});")
    for name, call in calls.items():
        body += _statements(graph[name], call, places, writer)
        sources += [call.source, *call.also]
    if network.answer is not None:
        body += _answer(network, unfused, places)
        sources.append(f"answer_{network.answer}")
    return Program(tuple(unfused), tuple(body), tuple(sources), places.arena, results_of(network), store)


def results_of(network: Network) -> dict[str, tuple[Shape, bool]]:
    """The results by the names of their parameters: the shape, and whether the numbers are whole."""
    shapes = {public.replace(".", "_"): network.graph[name].shape for public, name in network.graph.outputs.items()}
    if network.answer == SOFTMAX:
        return {"probabilities": (shapes["logits"], False)}
    if network.answer == ARGMAX:
        images, _, *sides = shapes["logits"]
        return {"classes": ((images, *sides), True)}
    return {name: (shape, False) for name, shape in shapes.items()}


# ---- nodes that are computed together ----


@dataclass(frozen=True)
class Together(Op):
    """Nodes that one call computes, the last of which gives its value."""

    nodes: tuple[Node, ...] = ()


def fuse(graph: Graph) -> Graph:
    """The graph with each inverted residual, without its sum, and each attention as one node."""

    def merge(node: Node, single: Callable[[str], Node | None]) -> tuple[Node, list[Node]] | None:
        if isinstance(node.op, ops.Context):
            before = _before(node, single, (ops.Softmax, ops.Scores))
            found = bool(before)
            inputs = (*before[0].inputs, node.inputs[1]) if found else ()
        elif isinstance(node.op, ops.Conv2d):
            before = _before(node, single, (ops.Activation, ops.Conv2d, ops.Activation, ops.Conv2d))
            found = bool(before) and _is_inverted_residual([*before, node])
            inputs = before[0].inputs if found else ()
        else:
            return None
        return (Node(node.name, Together((*before, node)), inputs, (), node.shape), before) if found else None

    return rewrite(graph, merge)


def _before(node: Node, single: Callable[[str], Node | None], kinds: Sequence[type[Op]]) -> list[Node]:
    """The nodes that lead to this one, if they are of these ops, from the last, and each is read by the next alone;
    else none."""
    found: list[Node] = []
    for kind in kinds:
        before = single((found[-1] if found else node).inputs[0])
        if before is None or not isinstance(before.op, kind):
            return []
        found.append(before)
    return found[::-1]


def _is_inverted_residual(nodes: Sequence[Node]) -> bool:
    expand, activation, filtered, again, reduce = nodes
    convolutions = [node.op for node in (expand, filtered, reduce) if isinstance(node.op, ops.Conv2d) and node.op.bias]
    if len(convolutions) < 3 or activation.op != again.op:
        return False
    first, middle, last = convolutions
    pointwise = all(op == ops.Conv2d(op.in_channels, op.out_channels, 1, bias=True) for op in (first, last))
    return pointwise and middle.depthwise and math.prod(filtered.shape) <= math.prod(expand.shape)


# ---- weights ----


@dataclass
class Store:
    """The weights as they are written: float32 numbers, and in int8 also bytes. A tensor is an expression in C."""

    weights: Weights
    int8: bool
    numbers: list[Array] = field(default_factory=list)
    multiples: list[Array] = field(default_factory=list)

    def vector(self, value: str | Array) -> str:
        """A tensor, by its name or itself, that is read as it is: a bias, what belongs to a normalisation."""
        array = self.weights[value] if isinstance(value, str) else value
        start = sum(each.size for each in self.numbers)
        self.numbers.append(np.asarray(array, np.float32).ravel())
        return f"weights + {start}"

    def matrix(self, name: str) -> str:
        """A weight with a row for each output channel."""
        weight = np.asarray(self.weights[name], np.float32)
        row = math.prod(weight.shape[1:])
        if not self.int8:
            return f"(matrix){{{self.vector(weight)}, {row}}}"
        multiples, scale = as_int8(weight)
        start = sum(each.size for each in self.multiples)
        self.multiples.append(multiples.ravel())
        return f"(matrix){{multiples + {start}, {self.vector(scale)}, {row}}}"


# ---- places ----


class Places:
    """Where the value of each node lies, and where each call works, as expressions in C; arena: the numbers of all that
    is not the caller's own."""

    def __init__(self, graph: Graph, calls: dict[str, Call], network: Network) -> None:
        self._values = _homes(graph, network.preprocessing is None)
        position = {name: index for index, name in enumerate(graph.nodes)}
        uses = last_use(graph)
        given = {PIXEL_VALUES: PIXEL_VALUES} if network.preprocessing is None else {}
        if network.answer is None:
            given |= {self._values[name]: public.replace(".", "_") for public, name in graph.outputs.items()}
        lives: dict[tuple[str, str], tuple[int, int, int]] = {}
        for name, home in self._values.items():
            elements = math.prod(graph[name].shape) // graph[PIXEL_VALUES].shape[0]
            first, last, _ = lives.get((home, "value"), (position[name], 0, 0))
            if home not in given:
                lives[home, "value"] = (first, max(last, uses[name]), elements)
            if name in calls and calls[name].scratch:
                lives[name, "scratch"] = (position[name], position[name], calls[name].scratch)
        if network.answer == SOFTMAX:
            lives["", "scratch"] = (len(graph), len(graph), graph[graph.outputs["logits"]].shape[1])
        ordered = sorted(lives.items(), key=lambda life: life[1][0])
        starts, self.arena = first_fit([life for _, life in ordered])
        arena = {key: f"arena + {start}" for (key, _), start in zip(ordered, starts, strict=True)}
        self._given = given
        self._arena = arena

    def of(self, name: str) -> str:
        """Where the value of the node of this name lies."""
        home = self._values[name]
        return self._given.get(home) or self._arena[home, "value"]

    def scratch(self, name: str) -> str:
        """Where the call of the node of this name works; "" is that of the answer."""
        return self._arena[name, "scratch"]


def _homes(graph: Graph, pixels_are_given: bool) -> dict[str, str]:
    """Of each node, the first of the nodes that share its place with it."""
    uses = last_use(graph)
    homes: dict[str, str] = {}
    for index, node in enumerate(graph):
        free = [name for name in node.inputs if uses[name] == index and not (pixels_are_given and name == PIXEL_VALUES)]
        homes[node.name] = homes[free[0]] if free and isinstance(node.op, ELEMENTWISE) else node.name
    return homes


# ---- calls ----


class Writer:
    """What writes the call of a node; `graph` has all nodes, also those that are computed together."""

    def __init__(self, graph: Graph, store: Store) -> None:
        self.graph = graph
        self.store = store
        self.numbers = {name: index for index, name in enumerate(graph.nodes)}
        self.batch = graph[PIXEL_VALUES].shape[0]

    def call(self, node: Node) -> Call:
        """The call that computes a node. Raises TinyMViTError for an op for which there is none."""
        inputs = tuple(map(Place, node.inputs))
        match node.op:
            case Together(nodes) if isinstance(nodes[-1].op, ops.Context):
                return self._attention(nodes)
            case Together(nodes):
                return self._inverted_residual(nodes)
            case ops.Conv2d() as op:
                return self._conv2d(node, op)
            case ops.Linear() as op:
                sizes = (self._rows(node), op.in_features, op.out_features)
                arguments = (self.store.matrix(node.weights[0]), self._bias(node), *sizes, SCRATCH)
                return Call("linear", (*inputs, *arguments), op.in_features * (TILE + 1))
            case ops.LayerNorm() as op:
                tensors = map(self.store.vector, node.weights)
                return Call("layer_norm", (*inputs, *tensors, self._rows(node), op.width, number(op.eps)))
            case ops.BatchNorm() as op:
                return self._batch_norm(node, op)
            case ops.Activation():
                return Call(_activation(node), (self.size(node),))
            case ops.Add():
                return Call("add", (*inputs, self.size(node)))
            case ops.Concat():
                return self._concat(node)
            case ops.MeanPool():
                return Call("mean_pool", (*inputs, *self._map(node.inputs[0])))
            case ops.Resize() as op:
                return Call("resize", (*inputs, *self._map(node.inputs[0]), op.height, op.width))
            case ops.Unfold() as op:
                return Call("unfold", (*inputs, *self._map(node.inputs[0]), op.patch_height, op.patch_width))
            case ops.Fold() as op:
                return Call("fold", (*inputs, *self._map(node.name), op.patch_height, op.patch_width))
        raise TinyMViTError(f"{node.name}: {type(node.op).__name__}, expected an op that there is in C")

    def size(self, node: Node) -> int:
        """The numbers in one image's part of a value."""
        return math.prod(node.shape) // self.batch

    def _map(self, name: str) -> Shape:
        return self.graph[name].shape[1:]

    def _rows(self, node: Node) -> int:
        return self.size(node) // node.shape[-1]

    def _bias(self, node: Node) -> str:
        return self.store.vector(node.weights[1]) if len(node.weights) > 1 else "NULL"

    def _conv2d(self, node: Node, op: ops.Conv2d) -> Call:
        if op.groups > 1 and not op.depthwise:
            raise TinyMViTError(
                f"{node.name}: a convolution of {op.groups} groups, expected one group or one a channel"
            )
        weight, bias = self.store.matrix(node.weights[0]), self._bias(node)
        arguments = (Place(node.inputs[0]), weight, bias, self._conv2d_shape(node, op), SCRATCH)
        if op.depthwise:
            return Call("depthwise_conv2d", arguments, self._frame(node, op))
        return Call("conv2d", arguments, op.in_channels * op.kernel_size**2 * (TILE + ROWS))

    def _conv2d_shape(self, node: Node, op: ops.Conv2d) -> str:
        _, height, width = self._map(node.inputs[0])
        sizes = (op.in_channels, op.out_channels, height, width, op.kernel_size, op.stride, op.padding, op.dilation)
        return f"(conv2d_shape){{{', '.join(map(str, sizes))}}}"

    def _frame(self, node: Node, op: ops.Conv2d) -> int:
        """What a depthwise convolution works in."""
        _, height, width = self._map(node.inputs[0])
        return (height + 2 * op.padding) * (width + 2 * op.padding) + op.kernel_size**2

    def _inverted_residual(self, nodes: Sequence[Node]) -> Call:
        expand, activation, filtered, _, reduce = nodes
        assert isinstance(filtered.op, ops.Conv2d)
        narrow, height, width = self._map(expand.inputs[0])
        weights = [self.store.matrix(node.weights[0]) for node in (expand, filtered, reduce)]
        biases = [self._bias(node) for node in (expand, filtered, reduce)]
        arguments = (
            Place(expand.inputs[0]),
            f"(const matrix[]){{{', '.join(weights)}}}",
            tuple(biases),
            self._conv2d_shape(filtered, filtered.op),
            narrow,
            reduce.shape[1],
            _activation(activation),
            SCRATCH,
            "trace",
            self._numbers(nodes[:-1]),
        )
        rest = max(max(narrow, CHANNELS) * (TILE + ROWS), self._frame(filtered, filtered.op))
        return Call("inverted_residual", arguments, CHANNELS * height * width + rest, (_activation(activation),))

    def _attention(self, nodes: Sequence[Node]) -> Call:
        scores, _, context = nodes
        assert isinstance(scores.op, ops.Scores)
        sequences, tokens, width = context.shape
        heads = scores.op.heads
        size = width // heads
        sizes = (sequences // self.batch, tokens, heads, size, number(math.sqrt(size)))
        shape = f"(attention_shape){{{', '.join(map(str, sizes))}}}"
        inputs = map(Place, (*scores.inputs, context.inputs[1]))
        columns = _rounded_up(tokens) * size + _rounded_up(size) * tokens
        arguments = (*inputs, shape, SCRATCH, "trace", self._numbers(nodes[:-1]))
        return Call("attention", arguments, columns + QUERIES * tokens)

    def _numbers(self, nodes: Sequence[Node]) -> str:
        return f"(const int[]){{{', '.join(str(self.numbers[node.name]) for node in nodes)}}}"

    def _batch_norm(self, node: Node, op: ops.BatchNorm) -> Call:
        *names, variance = node.weights
        with np.errstate(invalid="ignore"):
            deviation = np.sqrt(np.asarray(self.store.weights[variance], np.float32) + np.float32(op.eps))
        tensors = [self.store.vector(each) for each in (*names, deviation)]
        return Call("batch_norm", (*tensors, op.channels, math.prod(node.shape[2:])))

    def _concat(self, node: Node) -> Call:
        sizes = ", ".join(str(self.size(self.graph[name])) for name in node.inputs)
        return Call("concat", (tuple(map(Place, node.inputs)), f"(const size_t[]){{{sizes}}}", len(node.inputs)))


def _rounded_up(count: int) -> int:
    return -(-count // TILE) * TILE


def number(value: float) -> str:
    """A float32 in C, to its last bit."""
    text = f"{float(np.float32(value)):.9g}"
    return f"{text}f" if set(text) & set(".e") else f"{text}.0f"


def _activation(node: Node) -> str:
    assert isinstance(node.op, ops.Activation)
    function = node.op.function
    if not isinstance(function, str):
        name = getattr(function, "__name__", type(function).__name__)
        raise TinyMViTError(f"hidden_act: the function {name}, expected one of {', '.join(ops.ACTIVATION_FUNCTIONS)}")
    return f"activate_{function}"


# ---- statements ----


def _statements(node: Node, call: Call, places: Places, writer: Writer) -> list[str]:
    place, count = places.of(node.name), writer.size(node)
    parts = node.op.nodes[:-1] if isinstance(node.op, Together) else ()
    lines = [*(_comment(part) for part in parts), _comment(node)]
    if isinstance(node.op, ops.Activation | ops.BatchNorm) and places.of(node.inputs[0]) != place:
        lines.append(f"memcpy({place}, {places.of(node.inputs[0])}, {count} * sizeof(float));")
    arguments = [_rendered(each, node, places) for each in call.arguments]
    lines.append(f"{call.source}({', '.join((place, *arguments))});")
    lines.append(f"show(trace, {writer.numbers[node.name]}, {place}, 0, {count});")
    return lines


def _rendered(argument: Argument, node: Node, places: Places) -> str:
    if isinstance(argument, tuple):
        return f"(const float *const[]){{{', '.join(_rendered(each, node, places) for each in argument)}}}"
    if isinstance(argument, Place):
        return places.of(argument) if argument else places.scratch(node.name)
    return str(argument)


def _comment(node: Node) -> str:
    return f"/* {node.name}: {type(node.op).__name__}, {' x '.join(map(str, node.shape))} */"


def _read_image(network: Network, pixels: Node, places: Places) -> list[str]:
    assert network.preprocessing is not None
    factor, flips = number(network.preprocessing.factor), int(network.preprocessing.flips)
    area, place = math.prod(pixels.shape[2:]), places.of(PIXEL_VALUES)
    return [_comment(pixels), f"read_image({place}, {IMAGE}, {area}, {factor}, {flips});"]


def _answer(network: Network, graph: Graph, places: Places) -> list[str]:
    name = graph.outputs["logits"]
    (result,) = results_of(network)
    _, classes, *sides = graph[name].shape
    scratch = f", {places.scratch('')}" if network.answer == SOFTMAX else ""
    return [f"answer_{network.answer}({result}, {places.of(name)}, {classes}, {math.prod(sides)}{scratch});"]
