"""Global average pooling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinymvit.ops.op import Array, Op, Shape


@dataclass(frozen=True)
class MeanPool(Op):
    """The mean over height and width.

        y[b, c] = sum over i, j of x[b, c, i, j] / (H W)

    `(B, C, H, W)` becomes `(B, C)`, or `(B, C, 1, 1)` with `keep_dims`.
    """

    keep_dims: bool = False

    def output_shape(self, *inputs: Shape) -> Shape:
        return (*inputs[0][:2], 1, 1) if self.keep_dims else inputs[0][:2]

    def compute(self, x: Array) -> Array:
        """x (B, C, H, W) -> (B, C) or (B, C, 1, 1), of x's dtype."""
        return x.mean((2, 3), keepdims=self.keep_dims)

    def compute_in_order(self, x: Array) -> Array:
        """As `compute`, in float32: each row is summed by itself, from 0 and the left, and then the rows' sums from the
        top; so that rounding grows with the sides of a map and not with its area."""
        rows = np.zeros(x.shape[:3], np.float32)
        for j in range(x.shape[3]):
            rows += x[..., j]
        total = np.zeros(x.shape[:2], np.float32)
        for i in range(x.shape[2]):
            total += rows[..., i]
        mean = total / np.float32(x.shape[2] * x.shape[3])
        return mean[..., None, None] if self.keep_dims else mean
