"""The engine's memory: where each node's value lies, in which layout, and how much is needed in all.

Maps are channels last inside the engine, (B, H, W, C), because a pixel's channels are then one contiguous row. All
values lie in one block, and values that are never needed at the same time share a place in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from tinymvit import kernels, limits
from tinymvit.engine import lowering
from tinymvit.engine.optimize import optimize
from tinymvit.errors import TinyMViTError
from tinymvit.graph import Graph, last_use
from tinymvit.ops import Array, Shape


@dataclass(frozen=True)
class Memory:
    """Bytes that an engine needs beside its outputs. values: the block that the nodes' values share, once for each
    image at work: of a batch as many as there are threads. scratch: what each thread works in. weights: as packed,
    once for all engines of a model."""

    values: int
    scratch: int
    weights: int


def memory_of(graph: Graph) -> Memory:
    """What an engine for this graph needs; nothing is folded, packed, compiled or computed to find out."""
    return memory_of_optimized(optimize(graph, {})[0])


def memory_of_optimized(graph: Graph, ordinary: bool = True) -> Memory:
    """What an engine needs for a graph that the passes have gone over already; ordinary: whether its weights are."""
    values = allocate(graph)  # from the system, which gives no memory to places where nothing is written
    weights = 0
    with kernels.recording() as program:
        for node in graph:
            row = lowering.choose(graph, node, ordinary)
            blank = row.packing.blank(node.op)
            weights += sum(each.data.nbytes for each in blank)
            lowering.launch(node, row, values, blank)
    return Memory(plan_memory(graph)[1], program.scratch_bytes, weights)


def allocate(graph: Graph) -> dict[str, Array]:
    """A new block of memory with a place for each node's value: float32 arrays in the engine's layout, not set. Raises
    TinyMViTError if the system has not that much."""
    offsets, size = plan_memory(graph)
    try:
        block = kernels.empty((size // 4,))
    except (MemoryError, ValueError):
        shape = " x ".join(map(str, graph["pixel_values"].shape))
        raise TinyMViTError(
            f"the values between the layers for an input of {shape}: {limits.in_words(size)} of memory, expected what "
            "this machine has"
        ) from None
    return {
        node.name: block[offsets[node.name] :][: math.prod(node.shape)].reshape(engine_shape(node.shape))
        for node in graph
    }


def engine_shape(shape: Shape) -> Shape:
    """The shape inside the engine: a map (B, C, H, W) is (B, H, W, C), tokens and vectors stay."""
    return (shape[0], *shape[2:], shape[1]) if len(shape) == 4 else shape


def channels_first(x: Array) -> Array:
    """A value in the public layout: a view of the value in the engine's."""
    return x.transpose(0, 3, 1, 2) if x.ndim == 4 else x


def plan_memory(graph: Graph) -> tuple[dict[str, int], int]:
    """Where each node's value starts, in float32 elements, and the bytes needed in all."""
    uses = last_use(graph)
    lives = [(index, uses[node.name], math.prod(node.shape)) for index, node in enumerate(graph)]
    starts, total = first_fit(lives)
    return dict(zip(graph.nodes, starts, strict=True)), 4 * total


def first_fit(lives: Iterable[tuple[int, int, int]]) -> tuple[list[int], int]:
    """Where in one block each value starts, and the length of the block, in float32 elements.

    lives: of each value when it is made, when it is read last, and its elements; in the order in which they are made.
    A value takes the first gap between the values still to be read that is large enough.
    """
    line = 16  # elements: 64 bytes, one cache line and one vector
    starts: list[int] = []
    alive: list[tuple[int, int, int]] = []  # start, end, last use
    total = 0
    for made, last, elements in lives:
        alive = sorted(value for value in alive if value[2] >= made)
        size = -(-elements // line) * line
        start = 0
        for taken, end, _ in alive:
            if start + size <= taken:
                break
            start = max(start, end)
        alive.append((start, start + size, last))
        starts.append(start)
        total = max(total, start + size)
    return starts, total
