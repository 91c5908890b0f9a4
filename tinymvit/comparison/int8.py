"""What a right port in int8 is like: how it rounds, and how one is told from its numbers.

Its arithmetic is not known: scales may be fixed or found anew for each input, results may be int8 or float32. What is
sure is what is rounded: the weights of convolutions and linear layers, and what these read; and the grid on which a
tensor's numbers lie, if there is one. The reference rounds so too, by the ranges that it meets itself. How far that
brings it from the truth is what a port is measured by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tinymvit import reference
from tinymvit.graph import Node
from tinymvit.numerics import Array, to_int8, to_int8_by_channel, to_uint8
from tinymvit.ops import Activation, BatchNorm, Conv2d, Linear

LEVELS = 256
SAMPLE = 4096  # numbers of a tensor that are looked at to see whether they may lie on a grid
FEWEST = 8  # different numbers that tell a grid from a tensor that happens to have few
OFF_GRID = 0.02  # of a step: how far float32 moves a number of a grid that has 256


def step_of(x: Array) -> float | None:
    """The step of the grid of at most 256 places on which all numbers of x lie; None if there is none, or if x has too
    few different numbers to tell."""
    flat = x.reshape(-1)
    if len(np.unique(flat[:: max(1, flat.size // SAMPLE)])) > LEVELS:
        return None
    places = np.unique(flat)
    if not FEWEST <= len(places) <= LEVELS or not np.isfinite(places).all():
        return None
    steps = np.diff(places)
    step = float(steps.min())
    step = float((places[-1] - places[0]) / round((places[-1] - places[0]) / step))  # the same, less rounded
    away = np.abs((places - places[0]) / step - np.rint((places - places[0]) / step)).max()
    return step if away < OFF_GRID and places[-1] - places[0] < LEVELS * step else None


def range_of(x: Array) -> float:
    """How wide the range of its numbers is, 0 included."""
    return float(max(x.max(initial=0), 0) - min(x.min(initial=0), 0))


def is_on_grids(tensors: Iterable[Array]) -> bool:
    """Whether most of these tensors, of results that a port in int8 rounds, lie on a grid each."""
    found = [step_of(np.asarray(x, np.float64)) is not None for x in tensors if x.size > LEVELS]
    return len(found) > 0 and sum(found) > len(found) / 2


@dataclass(frozen=True)
class Int8Rounding:
    """How the reference rounds where it stands in for a port in int8. by_channel: whether each output channel of a
    weight has a step of its own, or all of them share one."""

    by_channel: bool

    def compute(
        self, node: Node, sources: Sequence[Array], weights: Sequence[Array], scale: Array | None = None
    ) -> Array:
        """A node's value on inputs of the port's dtype. scale: of the normalisation that is folded into this
        convolution, (O,), or None."""
        if isinstance(node.op, Conv2d | Linear):
            sources = [to_uint8(sources[0]) if step_of(sources[0]) is None else sources[0], *sources[1:]]
            weights = [self._rounded(weights[0], scale), *weights[1:]]
        value = reference.compute(node.op, sources, weights)
        if isinstance(node.op, Activation) and node.op.function == "silu":  # as a sigmoid in int8, times its input
            x = sources[0]
            value = x * (np.rint(value / np.where(x == 0, 1, x) * LEVELS) / x.dtype.type(LEVELS))
        return value

    def _rounded(self, weight: Array, scale: Array | None) -> Array:
        if self.by_channel:
            return to_int8_by_channel(weight)
        if scale is None:
            return to_int8(weight)
        scale = np.where(scale == 0, 1, scale).reshape(-1, *[1] * (weight.ndim - 1)).astype(weight.dtype)
        return to_int8(weight * scale) / scale

    def stored(self, node: Node, value: Array, readers: Sequence[Node]) -> Array:
        """A node's value as a port in int8 hands it on, where its dump does not tell: what convolutions, linear layers
        and activations give is rounded, behind the normalisation if there is one."""
        if isinstance(node.op, Conv2d) and any(isinstance(reader.op, BatchNorm) for reader in readers):
            return value
        return to_uint8(value) if isinstance(node.op, Conv2d | Linear | BatchNorm | Activation) else value


def norm_scale(readers: Sequence[Node], weight_of: Callable[[str], Array]) -> Array | None:
    """The scale of the normalisation that reads a convolution, (C,); None if none does."""
    for reader in readers:
        if isinstance(reader.op, BatchNorm):
            weight, _, _, variance = (weight_of(name) for name in reader.weights)
            return weight / np.sqrt(variance + reader.op.eps)
    return None
