"""Layer normalisation: each token by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinymvit.ops.op import Array, Op, Shape


@dataclass(frozen=True)
class LayerNorm(Op):
    """Each token is normalised by itself, over its last axis.

        y = (x - mean) / sqrt(variance + eps) * weight + bias

    The shape `(..., width)` stays. The variance is the biased one: divided by D, not D - 1. `weight` and `bias` are
    `(width,)`.
    """

    width: int
    eps: float

    def weight_shapes(self) -> dict[str, Shape]:
        return {"weight": (self.width,), "bias": (self.width,)}

    def compute(self, x: Array, weight: Array, bias: Array) -> Array:
        """x (..., D), weight and bias (D,) -> (..., D), of x's dtype."""
        centred = x - x.mean(-1, keepdims=True)
        variance = (centred * centred).mean(-1, keepdims=True)
        return centred / np.sqrt(variance + x.dtype.type(self.eps)) * weight + bias
