"""Convolutions, linear layers and the activations between them become int8. docs/quantisation.md says what that means.

The other passes keep the results; this one rounds them. It expects the normalisations to be in the convolutions: one
that stands by itself stays in float.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from tinymvit.graph import Graph, Node
from tinymvit.ops import (
    Activation,
    Array,
    Conv2d,
    Dequantise,
    Linear,
    Quantisation,
    Quantise,
    Quantised,
    QuantisedActivation,
)
from tinymvit.passes.rewrite import Weights

Ends = Mapping[str, tuple[float, float]]  # the smallest and the largest number of a node's value, by its name

SUFFIX = ".int8"  # of the node that holds the int8 numbers of the node without it
LARGEST_BIAS = 2.0**24  # of an int32 bias; what is left below 2^31 is for the products
LONGEST_SUM = (2**31 - 2**25) // (255 * 127)  # products of int8 numbers whose sum is an int32
NARROWEST = 2.0**-56  # of a range, far from the small end of float32
LARGEST_QUOTIENT = 2.0**29  # of scales: see `Quantised`


def quantise(graph: Graph, weights: Weights, ranges: Ends, keep: Collection[str] = ()) -> tuple[Graph, Weights]:
    """The graph with its convolutions and linear layers, and activations that stand right between these, in int8.

    ranges: of the nodes that `in_need_of_ranges` names. keep: names of nodes that stay in float. The int8 value of a
    node is a node with its name and ".int8" behind it; where it is computed in int8, the node of the name itself
    becomes the `Dequantise` of that, and is left out where nothing reads it. The tensors of an op in int8, new arrays,
    have the name of the float weight with ".int8" and with ".scale", and that of the node with ".bias.int8". Raises
    KeyError for a node without a range.
    """
    chosen = computed_in_int8(graph, keep)
    tensors: dict[str, Array] = {}
    by: dict[str, Quantisation] = {}
    new = Graph(modules=dict(graph.modules), outputs=dict(graph.outputs))
    for node in graph:
        if node.name not in chosen:
            new.append(node)
            continue
        [source] = node.inputs
        if source not in by:
            by[source] = quantisation_of(*ranges[source])
            new.append(Node(source + SUFFIX, Quantise(by[source]), (source,), (), graph.nodes[source].shape))
        if isinstance(node.op, Conv2d | Linear):
            found = _layer(node, weights, by[source], ranges[node.name])
            op, by[node.name] = found[0], found[0].y
            names = (f"{node.weights[0]}{SUFFIX}", f"{node.weights[0]}.scale", f"{node.name}.bias{SUFFIX}")
            tensors |= dict(zip(names, found[1], strict=True))
            new.append(Node(node.name + SUFFIX, op, (source + SUFFIX,), names, node.shape))
        elif isinstance(node.op, Activation):
            by[node.name] = quantisation_of(*ranges[node.name])
            table = QuantisedActivation(node.op.function, by[source], by[node.name])
            new.append(Node(node.name + SUFFIX, table, (source + SUFFIX,), (), node.shape))
        new.append(Node(node.name, Dequantise(by[node.name]), (node.name + SUFFIX,), (), node.shape))
    new = new.select(new.outputs)
    return new, {name: tensors[name] if name in tensors else weights[name] for name in new.weight_shapes()}


def computed_in_int8(graph: Graph, keep: Collection[str] = ()) -> set[str]:
    """The names of the nodes that `quantise` computes in int8."""
    layers = {
        node.name
        for node in graph
        if isinstance(node.op, Conv2d | Linear)
        and node.name not in keep
        and math.prod(node.op.weight_shapes()["weight"][1:]) <= LONGEST_SUM
    }
    read_by_layers = {name for node in graph if node.name in layers for name in node.inputs}
    between = {
        node.name
        for node in graph
        if isinstance(node.op, Activation)
        and node.name not in keep
        and node.name in read_by_layers
        and node.inputs[0] in layers
    }
    return layers | between


def in_need_of_ranges(graph: Graph, keep: Collection[str] = ()) -> list[str]:
    """The names of the nodes whose ranges `quantise` asks for, in the graph's order: those that are computed in int8,
    and what they read."""
    chosen = computed_in_int8(graph, keep)
    needed = chosen | {name for node in graph if node.name in chosen for name in node.inputs}
    return [name for name in graph.nodes if name in needed]


def quantisation_of(low: float, high: float) -> Quantisation:
    """The 256 numbers for a range, which is made to include 0: the scale is a 255th of its width, rounded to float32,
    and one of the numbers stands for 0. A range of nothing counts as 0 to 1, a narrower one than 2^-56 as that wide."""
    low, high = min(low, 0.0), max(high, 0.0)
    width = max(high - low, NARROWEST) if high > low else 1.0
    scale = float(np.float32(width / 255))
    return Quantisation(scale, max(-128, min(127, round(-128 - low / scale))))


def _layer(
    node: Node, weights: Weights, x: Quantisation, output_range: tuple[float, float]
) -> tuple[Quantised, tuple[Array, Array, Array]]:
    """The op of a convolution or linear layer in int8, and its weights."""
    assert isinstance(node.op, Conv2d | Linear)
    weight = weights[node.weights[0]]
    bias = weights[node.weights[1]] if node.op.bias else np.zeros(len(weight), np.float32)
    tensors = in_whole_numbers(weight, bias, x.scale)
    y = quantisation_of(*output_range)
    least = x.scale * float(tensors[1].max(initial=0)) / LARGEST_QUOTIENT
    if y.scale < least:  # of a range that no result of this layer keeps to
        y = replace(y, scale=float(np.float32(least)))
    return Quantised(node.op, x, y), tensors


def in_whole_numbers(weight: Array, bias: Array, x_scale: float) -> tuple[Array, Array, Array]:
    """A weight (O, ...) and a bias (O,), real, for inputs of this scale: int8 (O, ...) from -127 to 127, the scale of
    each output channel, float32 (O,), and int32 (O,).

    The scale is the channel's largest magnitude over 127. Where the bias would be more than 2^24 steps, its weights are
    next to nothing beside it, and the scale is what makes it 2^24. Halves are rounded to the even neighbour.
    """
    others = tuple(range(1, weight.ndim))
    largest = np.abs(weight).max(others, initial=0).astype(np.float64)
    bias = bias.astype(np.float64)
    wanted = np.maximum(largest / 127, np.abs(bias) / (x_scale * LARGEST_BIAS))
    scale = np.where(wanted < np.finfo(np.float32).tiny, 1, wanted).astype(np.float32)
    steps = scale.astype(np.float64)
    multiples = np.rint(weight / steps.reshape(-1, *(1 for _ in others)))
    return (
        np.clip(multiples, -127, 127).astype(np.int8),
        scale,
        np.rint(bias / (x_scale * steps)).astype(np.int32),
    )
