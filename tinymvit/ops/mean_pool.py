"""Global average pooling."""

from __future__ import annotations

from dataclasses import dataclass

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
