"""The engine: compiles a graph for the Numba kernels and runs it in float32.

Maps are channels last inside, (B, H, W, C), because a pixel's channels are then one contiguous row; the border is
channels first like the graph. Compiling merges nodes (`passes`), packs the weights for the kernels and gives each
value a place in one block of memory, shared by values that are never needed at the same time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tinymvit import kernels, ops
from tinymvit.engine.passes import optimize
from tinymvit.graph import Graph, Node, last_use
from tinymvit.ops import Shape

Array = np.ndarray


@dataclass
class Workspace:
    """A block of memory with a place for each node's value, and the program that computes them there."""

    values: dict[str, Array]
    program: kernels.Program


@dataclass(frozen=True)
class Memory:
    """Bytes that an engine needs beside its outputs. values: the block that the nodes' values share, once for each
    image at work: of a batch as many as there are threads. scratch: what each thread works in. weights: as packed,
    once for all engines of a model."""

    values: int
    scratch: int
    weights: int


class Engine:
    """A graph ready to run on images of its one size; may be called by several Python threads at once.

    A graph recorded for one image serves any number of them, one after the other, so that what it works on stays in the
    caches; with several threads, as many images at once.
    """

    def __init__(
        self, graph: Graph, weights: Mapping[str, Array], packed: dict[tuple[str, ...], list[Any]] | None = None
    ) -> None:
        """`packed` keeps packed weights by the names of a node's tensors, shared by the engines of one model."""
        self.graph, folded = optimize(graph, weights)
        self._packed = {} if packed is None else packed
        for node in self.graph:
            if node.weights not in self._packed:
                self._packed[node.weights] = pack(node.op, [folded[name] for name in node.weights])
        self._offsets, self.working_set = plan_memory(self.graph)
        self._idle: list[Workspace] = []

    def run(self, pixel_values: Array) -> dict[str, Array]:
        """The graph's outputs by their public names: new float32 arrays, channels first.

        The images are as many as the graph was recorded for, or a multiple of that.
        """
        size = self.graph["pixel_values"].shape[0]
        times = len(pixel_values) // size
        shapes = {public: self.graph[name].shape for public, name in self.graph.outputs.items()}
        results = {public: np.empty((times * shape[0], *shape[1:]), np.float32) for public, shape in shapes.items()}
        at_once = kernels.get_num_threads()  # read once: another Python thread may change it
        for first in range(0, times, at_once):
            numbers = range(first, min(first + at_once, times))
            workspaces = [self._take() for _ in numbers]
            for number, workspace in zip(numbers, workspaces, strict=True):
                _enter(pixel_values[number * size : (number + 1) * size], workspace.values["pixel_values"])
            workspaces[0].program.run_with([workspace.program for workspace in workspaces[1:]], at_once)
            for number, workspace in zip(numbers, workspaces, strict=True):
                for public, name in self.graph.outputs.items():
                    rows = shapes[public][0]
                    results[public][number * rows : (number + 1) * rows] = _channels_first(workspace.values[name])
            self._idle += workspaces
        return results

    def _take(self) -> Workspace:
        try:
            return self._idle.pop()
        except IndexError:
            return self._prepare()

    def trace(self, pixel_values: Array) -> Iterator[tuple[Node, Array]]:
        """Each node of the compiled graph with its value: a new float32 array, channels first."""
        values = self._prepare().values
        _enter(pixel_values, values["pixel_values"])
        for node in self.graph:
            self._launch(node, values)
            yield node, np.array(_channels_first(values[node.name]), order="C")

    def profile(self, pixel_values: Array) -> Iterator[tuple[Node, float]]:
        """Run once, node by node: each node with the seconds it took, the input's being its copy. To start a program
        takes its time too, which a whole run pays for once: that of one which does nothing is taken off."""
        values = self._prepare().values
        programs: list[kernels.Program] = []
        for node in self.graph:
            with kernels.recording() as program:
                self._launch(node, values)
            program.prepare()
            programs.append(program)
        start_up = _time_to_start()
        for node, program in zip(self.graph, programs, strict=True):
            start = time.perf_counter()
            if isinstance(node.op, ops.Input):
                _enter(pixel_values, values[node.name])
                yield node, time.perf_counter() - start
            else:
                program.run()
                yield node, max(1e-7, time.perf_counter() - start - start_up)

    def memory(self) -> Memory:
        """What it needs; nothing is computed or compiled to find out."""
        scratch = self._prepare().program.scratch_bytes
        weights = sum(each.data.nbytes for node in self.graph for each in self._packed[node.weights])
        return Memory(self.working_set, scratch, weights)

    def _prepare(self) -> Workspace:
        block = kernels.empty((self.working_set // 4,))
        values = {
            node.name: block[self._offsets[node.name] :][: math.prod(node.shape)].reshape(engine_shape(node.shape))
            for node in self.graph
        }
        with kernels.recording() as program:
            for node in self.graph:
                self._launch(node, values)
        return Workspace(values, program)

    def _launch(self, node: Node, values: dict[str, Array]) -> None:
        if not isinstance(node.op, ops.Input):
            inputs = [values[name] for name in node.inputs]
            KERNELS[type(node.op)](node.op, values[node.name], *inputs, *self._packed[node.weights])


def _time_to_start() -> float:
    """Seconds that a program of one small step takes."""
    few = np.ones(16, np.float32)
    with kernels.recording() as program:
        kernels.add(few, few)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        program.run()
        times.append(time.perf_counter() - start)
    return min(times)


def engine_shape(shape: Shape) -> Shape:
    """The shape inside the engine: a map (B, C, H, W) is (B, H, W, C), tokens and vectors stay."""
    return (shape[0], *shape[2:], shape[1]) if len(shape) == 4 else shape


def _enter(pixel_values: Array, value: Array) -> None:
    """Copy the input, channel by channel: in one go NumPy goes over them pixel by pixel, which takes twice as long."""
    for channel in range(pixel_values.shape[1]):
        value[..., channel] = pixel_values[:, channel]


def _channels_first(x: Array) -> Array:
    return x.transpose(0, 3, 1, 2) if x.ndim == 4 else x


def plan_memory(graph: Graph) -> tuple[dict[str, int], int]:
    """Where each node's value starts, in float32 elements, and the bytes needed in all.

    First fit: a value takes the first gap between the values still to be read that is large enough.
    """
    line = 16  # elements: 64 bytes, one cache line and one vector
    uses = last_use(graph)
    offsets: dict[str, int] = {}
    alive: list[tuple[int, int, int]] = []  # start, end, last use
    total = 0
    for index, node in enumerate(graph):
        alive = sorted(value for value in alive if value[2] >= index)
        size = -(-math.prod(node.shape) // line) * line
        start = 0
        for taken, end, _ in alive:
            if start + size <= taken:
                break
            start = max(start, end)
        alive.append((start, start + size, uses[node.name]))
        offsets[node.name] = start
        total = max(total, start + size)
    return offsets, 4 * total


def pack(op: ops.Op, weights: Sequence[Array]) -> list[Any]:
    """A node's weight tensors in the layout that the op's kernel reads; vectors (biases, scales) stay as they are."""
    if isinstance(op, ops.InvertedResidual):
        layers = (op.expand, op.depthwise, op.reduce)
        tensors = [each for layer, i in zip(layers, (0, 2, 4), strict=True) for each in pack(layer, weights[i : i + 2])]
        return [kernels.pack_inverted_residual(*tensors)]
    layer = op.op if isinstance(op, ops.Fused) else op
    return [np.array(weight, np.float32) if weight.ndim == 1 else pack_matrix(layer, weight) for weight in weights]


def pack_matrix(layer: ops.Op, weight: Array) -> Any:
    if isinstance(layer, ops.Linear):
        return kernels.pack_linear(weight)
    if isinstance(layer, ops.Winograd):
        return kernels.pack_winograd(weight)
    if isinstance(layer, ops.Conv2d) and layer.depthwise:
        return kernels.pack_depthwise_conv2d(weight)
    if isinstance(layer, ops.Conv2d):
        return kernels.pack_conv2d(weight, layer.groups)
    raise TypeError(f"{type(layer).__name__} has no kernel for a weight of shape {weight.shape}")


# ---- one function an op: (op, output, inputs..., packed weights...) fills the output ----


def fused(op: ops.Fused, out: Array, x: Array, *others: Any) -> None:
    residual, weights = (others[0], others[1:]) if op.residual else (None, others)
    layer = op.op
    weight, bias = weights if layer.bias else (*weights, None)
    if isinstance(layer, ops.Linear):
        kernels.linear(x, weight, bias, activation=op.activation, residual=residual, out=out)
        return
    if isinstance(layer, ops.Winograd):
        kernels.winograd(x, weight, bias, activation=op.activation, residual=residual, out=out)
        return
    geometry = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
    if layer.depthwise:
        kernels.depthwise_conv2d(x, weight, bias, **geometry, activation=op.activation, out=out)
    else:
        kernels.conv2d(x, weight, bias, **geometry, activation=op.activation, residual=residual, out=out)


def unfused(op: ops.Conv2d | ops.Linear, out: Array, x: Array, *weights: Any) -> None:
    if isinstance(op, ops.Linear) and x.ndim == 2:
        kernels.matrix_vector(x, weights[0], weights[1] if op.bias else None, out=out)
    else:
        fused(ops.Fused(op), out, x, *weights)


def inverted_residual(op: ops.InvertedResidual, out: Array, x: Array, weights: Any) -> None:
    geometry = {"stride": op.depthwise.stride, "dilation": op.depthwise.dilation}
    kernels.inverted_residual(x, weights, **geometry, activation=op.activation, residual=op.residual, out=out)


def activation(op: ops.Activation, out: Array, x: Array) -> None:
    if isinstance(op.function, str):
        kernels.activate(x, op.function, out=out)
    else:
        kernels.call(partial(call_users_activation, op, out, x))


def call_users_activation(op: ops.Activation, out: Array, x: Array) -> None:
    """It sees the public layout."""
    if x.ndim == 4:
        out[...] = op.compute(np.array(_channels_first(x), order="C")).transpose(0, 2, 3, 1)
    else:
        out[...] = op.compute(x)


def add(op: ops.Add, out: Array, a: Array, b: Array) -> None:
    kernels.add(a, b, out=out)


def concat(op: ops.Concat, out: Array, *inputs: Array) -> None:
    kernels.concat(inputs, out=out)


def resize(op: ops.Resize, out: Array, x: Array) -> None:
    kernels.resize_bilinear(x, op.height, op.width, out=out)


def unfold(op: ops.Unfold, out: Array, x: Array) -> None:
    kernels.unfold(x, op.patch_height, op.patch_width, out=out)


def fold(op: ops.Fold, out: Array, x: Array) -> None:
    kernels.fold(x, len(out), op.height, op.width, op.patch_height, op.patch_width, out=out)


def layer_norm(op: ops.LayerNorm, out: Array, x: Array, weight: Array, bias: Array) -> None:
    kernels.layer_norm(x, weight, bias, op.eps, out=out)


def attention(op: ops.Attention, out: Array, query: Array, key: Array, value: Array) -> None:
    kernels.attention(query, key, value, op.heads, out=out)


def mean_pool(op: ops.MeanPool, out: Array, x: Array) -> None:
    kernels.mean_pool(x, out=out.reshape(len(x), -1))


KERNELS: dict[type[ops.Op], Callable[..., None]] = {
    ops.Fused: fused,
    ops.InvertedResidual: inverted_residual,
    ops.Conv2d: unfused,
    ops.Linear: unfused,
    ops.Activation: activation,
    ops.Add: add,
    ops.Concat: concat,
    ops.Resize: resize,
    ops.Unfold: unfold,
    ops.Fold: fold,
    ops.LayerNorm: layer_norm,
    ops.Attention: attention,
    ops.MeanPool: mean_pool,
}
