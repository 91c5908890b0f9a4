"""The reference: runs a graph with NumPy, in float64 (the truth) or float32, by its ops' own formulas.

What an op computes stands in its file in `ops`. Here is only the order: `steps` yields every intermediate by its node.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tinymvit import limits
from tinymvit.graph import Graph, Node, last_use
from tinymvit.ops import Array, Conv2d, Input, Op


def run(
    graph: Graph,
    weights: Mapping[str, Array],
    pixel_values: Array,
    dtype: type = np.float64,
    in_order: bool = False,
) -> dict[str, Array]:
    """The graph's outputs by their public names, each an array of `dtype`. in_order: see `steps`."""
    wanted = set(graph.outputs.values())
    values = {
        node.name: value for node, value in steps(graph, weights, pixel_values, dtype, in_order) if node.name in wanted
    }
    return {public: values[name] for public, name in graph.outputs.items()}


def steps(
    graph: Graph,
    weights: Mapping[str, Array],
    pixel_values: Array,
    dtype: type = np.float64,
    in_order: bool = False,
) -> Iterator[tuple[Node, Array]]:
    """Each node with its value, in order. A value that no later node reads is let go. in_order: the sums too are in an
    order that is written down, so that float32 has the same bits on every machine (`Op.compute_in_order`)."""
    values: dict[str, Array] = {}
    uses = last_use(graph)
    for index, node in enumerate(graph):
        if isinstance(node.op, Input):
            value: Array = np.asarray(pixel_values, dtype)
        else:
            inputs = [values[name] for name in node.inputs]
            with np.errstate(all="ignore"):  # what exceeds the dtype is infinite, as its values say
                tensors: list[Array] = [as_operand(weights[name], dtype) for name in node.weights]
                value = (compute_in_order if in_order else compute)(node.op, inputs, tensors)
        values[node.name] = value
        yield node, value
        for name in {node.name, *node.inputs}:
            if uses[name] <= index:
                del values[name]


def as_operand(weight: Array, dtype: type) -> Array:
    """A weight as an op of a run in `dtype` takes it. Whole numbers stay what they are: float32 does not have all of
    int32."""
    return weight if weight.dtype.kind == "i" else np.asarray(weight, dtype)


def check_memory(graph: Graph, dtype: type = np.float64, last: str | None = None) -> None:
    """Raise TinyMViTError if `steps`, up to the node called `last`, takes more memory than is allowed: the values that
    are alive at once, and what an op works in, about two arrays of the size of its largest or of a padded input."""
    uses = last_use(graph)
    alive: dict[str, int] = {}
    most = 0
    for index, node in enumerate(graph):
        operands = [source.shape for source in graph.inputs_of(node)]
        alive[node.name] = math.prod(node.shape)
        if isinstance(node.op, Conv2d):
            batch, channels, height, width = operands[0]
            border = 2 * node.op.padding
            operands.append((batch, channels, height + border, width + border))
        most = max(most, sum(alive.values()) + 2 * max(map(math.prod, [node.shape, *operands])))
        for name in {node.name, *node.inputs}:
            if uses[name] <= index:
                del alive[name]
        if node.name == last:
            break
    shape = " x ".join(map(str, graph["pixel_values"].shape))
    name = np.dtype(dtype).name
    limits.check(most * np.dtype(dtype).itemsize, f"the reference's {name} values for an input of {shape}")


def compute(op: Op, inputs: Sequence[Array], weights: Sequence[Array]) -> Array:
    """The output of one op for these inputs and these weights (in the order of its weight_shapes); see `Op.compute`."""
    return op.compute(*inputs, *weights)


def compute_in_order(op: Op, inputs: Sequence[Array], weights: Sequence[Array]) -> Array:
    """The same in float32, with the same bits on every machine; see `Op.compute_in_order`."""
    return op.compute_in_order(*inputs, *weights)
