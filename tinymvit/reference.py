"""The reference: runs a graph with NumPy, in float64 (the truth) or float32, by its ops' own formulas.

What an op computes stands in its file in `ops`. Here is only the order: `steps` yields every intermediate by its node.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tinymvit.graph import Graph, Node, last_use
from tinymvit.ops import Array, Input, Op


def run(graph: Graph, weights: Mapping[str, Array], pixel_values: Array, dtype: type = np.float64) -> dict[str, Array]:
    """The graph's outputs by their public names, each an array of `dtype`."""
    wanted = set(graph.outputs.values())
    values = {node.name: value for node, value in steps(graph, weights, pixel_values, dtype) if node.name in wanted}
    return {public: values[name] for public, name in graph.outputs.items()}


def steps(
    graph: Graph, weights: Mapping[str, Array], pixel_values: Array, dtype: type = np.float64
) -> Iterator[tuple[Node, Array]]:
    """Each node with its value, in order. A value that no later node reads is let go."""
    values: dict[str, Array] = {}
    uses = last_use(graph)
    for index, node in enumerate(graph):
        if isinstance(node.op, Input):
            value: Array = np.asarray(pixel_values, dtype)
        else:
            inputs = [values[name] for name in node.inputs]
            value = compute(node.op, inputs, [np.asarray(weights[name], dtype) for name in node.weights])
        values[node.name] = value
        yield node, value
        for name in {node.name, *node.inputs}:
            if uses[name] <= index:
                del values[name]


def compute(op: Op, inputs: Sequence[Array], weights: Sequence[Array]) -> Array:
    """The output of one op for these inputs and these weights (in the order of its weight_shapes); see `Op.compute`."""
    return op.compute(*inputs, *weights)
