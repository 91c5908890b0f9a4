"""The engine: compiles a graph for the Numba kernels and runs it in float32.

Compiling merges nodes (`passes`), packs the weights for the kernels (`lowering`) and gives each value a place in one
block of memory (`memory`). The border is channels first, like the graph.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinymvit import kernels, limits
from tinymvit.engine import lowering
from tinymvit.engine.memory import Memory, allocate, channels_first, memory_of_optimized, plan_memory
from tinymvit.engine.optimize import optimize
from tinymvit.graph import Graph, Node
from tinymvit.ops import Array, Input
from tinymvit.passes.fold import Kind, are_ordinary, kind_of


@dataclass
class Workspace:
    """A block of memory with a place for each node's value, and the program that computes them there."""

    values: dict[str, Array]
    program: kernels.Program


@dataclass
class Prepared:
    """What becomes of a model's weights, by the names of the tensors of a node; the engines of one model share it.

    packed: as the kernels read them. kinds: whether they are extreme, before any pass.
    """

    packed: dict[tuple[str, ...], list[Any]] = field(default_factory=dict)
    kinds: dict[tuple[str, ...], Kind] = field(default_factory=dict)


class Engine:
    """A graph ready to run on images of its one size; may be called by several Python threads at once.

    A graph recorded for one image serves any number of them, one after the other, so that what it works on stays in the
    caches; with several threads, as many images at once.
    """

    def __init__(self, graph: Graph, weights: Mapping[str, Array], prepared: Prepared | None = None) -> None:
        """weights: float arrays by the names of the graph's tensors, in its shapes. prepared: what other engines of the
        same weights have made of them; this one then reads, folds and packs nothing again."""
        prepared = prepared or Prepared()
        for node in graph:
            if node.weights not in prepared.kinds:
                prepared.kinds[node.weights] = kind_of(node, weights)
        self._ordinary = are_ordinary(graph, prepared.kinds)
        self.graph, folded = optimize(graph, weights, prepared.kinds)
        self._bytes_of_values = plan_memory(self.graph)[1]
        shape = " x ".join(map(str, self.graph["pixel_values"].shape))
        limits.check(self._bytes_of_values, f"the values between the layers for an input of {shape}")
        self._rows = {node.name: lowering.choose(self.graph, node, self._ordinary) for node in self.graph}
        self._packed = prepared.packed
        for node in self.graph:
            if node.weights not in self._packed:
                tensors = [folded[name] for name in node.weights]
                self._packed[node.weights] = self._rows[node.name].packing.pack(node.op, tensors)
        self._idle: list[Workspace] = []

    def run(self, pixel_values: Array) -> dict[str, Array]:
        """The graph's outputs by their public names: new float32 arrays of the graph's shapes, channels first.

        pixel_values: (B, C, H, W), taken as float32, of the C, H and W that the graph was recorded for; B is the
        graph's or a multiple of it, and so is the first axis of each output. Raises ValueError for another shape.
        """
        size, *image = self.graph["pixel_values"].shape
        if list(pixel_values.shape[1:]) != image or len(pixel_values) % size:
            expected = f"expected {tuple(image)} for each image, and a multiple of {size} images"
            raise ValueError(f"pixel_values have shape {pixel_values.shape}; {expected}")
        times = len(pixel_values) // size
        shapes = {public: self.graph[name].shape for public, name in self.graph.outputs.items()}
        size_of_results = 4 * times * sum(math.prod(shape) for shape in shapes.values())
        limits.check(size_of_results, f"the results of {len(pixel_values)} images")
        results = {public: np.empty((times * shape[0], *shape[1:]), np.float32) for public, shape in shapes.items()}
        threads = kernels.get_num_threads()  # read once: another Python thread may change it
        at_once = max(1, min(threads, limits.get_max_memory() // self._bytes_of_values))
        for first in range(0, times, at_once):
            numbers = range(first, min(first + at_once, times))
            workspaces = [self._take() for _ in numbers]
            for number, workspace in zip(numbers, workspaces, strict=True):
                _enter(pixel_values[number * size : (number + 1) * size], workspace.values["pixel_values"])
            workspaces[0].program.run_with([workspace.program for workspace in workspaces[1:]], threads)
            for number, workspace in zip(numbers, workspaces, strict=True):
                for public, name in self.graph.outputs.items():
                    rows = shapes[public][0]
                    results[public][number * rows : (number + 1) * rows] = channels_first(workspace.values[name])
            self._idle += workspaces
        return results

    def _take(self) -> Workspace:
        try:
            return self._idle.pop()
        except IndexError:
            return self._prepare()

    def trace(self, pixel_values: Array) -> Iterator[tuple[Node, Array]]:
        """Each node of the compiled graph with its value for pixel_values (B, C, H, W), of the graph's own shape: a new
        float32 array, channels first."""
        values = self._prepare().values
        _enter(pixel_values, values["pixel_values"])
        for node in self.graph:
            self._launch(node, values)
            yield node, np.array(channels_first(values[node.name]), order="C")

    def profile(self, pixel_values: Array) -> Iterator[tuple[Node, float]]:
        """Run once on pixel_values (B, C, H, W), of the graph's own shape, node by node: each node with the seconds it
        took, the input's being its copy. To start a program takes time too, which a whole run pays for once: the time
        of a program that does next to nothing is taken off."""
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
            if isinstance(node.op, Input):
                _enter(pixel_values, values[node.name])
                yield node, time.perf_counter() - start
            else:
                program.run()
                yield node, max(1e-7, time.perf_counter() - start - start_up)

    def memory(self) -> Memory:
        """What it needs; nothing is computed or compiled to find out."""
        return memory_of_optimized(self.graph, self._ordinary)

    def multiply_adds(self, node: Node) -> int:
        """Those that the node's kernel does, which may be fewer than its op has: Winograd's method saves some."""
        inputs = [source.shape for source in self.graph.inputs_of(node)]
        return self._rows[node.name].multiply_adds(node.op, node.shape, *inputs)

    def method(self, node: Node) -> str:
        """What the node's kernel does in a word ("Winograd"); empty where that is the op's own name."""
        return self._rows[node.name].method

    def _prepare(self) -> Workspace:
        values = allocate(self.graph)
        with kernels.recording() as program:
            for node in self.graph:
                self._launch(node, values)
        return Workspace(values, program)

    def _launch(self, node: Node, values: dict[str, Array]) -> None:
        lowering.launch(node, self._rows[node.name], values, self._packed[node.weights])


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


def _enter(pixel_values: Array, value: Array) -> None:
    """Copy the input, channel by channel: in one go NumPy goes over them pixel by pixel, which takes twice as long."""
    for channel in range(pixel_values.shape[1]):
        value[..., channel] = pixel_values[:, channel]
