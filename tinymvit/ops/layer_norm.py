"""Layer normalisation: each token by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinymvit.ops import elementary
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

    def compute_in_order(self, x: Array, weight: Array, bias: Array) -> Array:
        """As `compute`, in float32: both sums begin with 0 and take a token's numbers from the first to the last."""
        centred = x - self._mean_in_order(x)
        variance = self._mean_in_order(centred * centred)
        return centred / elementary.square_root(variance + np.float32(self.eps)) * weight + bias

    def _mean_in_order(self, x: Array) -> Array:
        total = np.zeros(x.shape[:-1], np.float32)
        for i in range(self.width):
            total += x[..., i]
        return (total / np.float32(self.width))[..., None]
