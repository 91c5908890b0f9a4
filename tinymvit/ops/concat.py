"""Concatenation along the channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tinymvit.ops.op import Array, Op, Shape


@dataclass(frozen=True)
class Concat(Op):
    """Inputs one after the other along the channels.

        y[b, c] = first[b, c] for c < C1, then second[b, c - C1], ...

    `(B, C1, H, W)`, `(B, C2, H, W)`, ... become `(B, C1 + C2 + ..., H, W)`. Numbers only move.
    """

    only_moves: ClassVar[bool] = True

    def output_shape(self, *inputs: Shape) -> Shape:
        batch, _, height, width = inputs[0]
        return (batch, sum(shape[1] for shape in inputs), height, width)

    def compute(self, *inputs: Array) -> Array:
        """Arrays (B, C1, H, W), (B, C2, H, W), ... -> (B, C1 + C2 + ..., H, W), of their dtype. Raises ValueError for
        maps that differ in more than their channels."""
        return np.concatenate(inputs, axis=1)
