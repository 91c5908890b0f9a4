"""Batch normalisation, with the statistics of training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinymvit.ops.op import BUFFERS, Array, Op, Shape


@dataclass(frozen=True)
class BatchNorm(Op):
    """Each channel is shifted and scaled by its own four numbers.

        y = (x - running_mean) / sqrt(running_var + eps) * weight + bias

    The shape `(B, C, H, W)` stays. The four weights are `(channels,)` each.
    """

    channels: int
    eps: float = 1e-5

    def weight_shapes(self) -> dict[str, Shape]:
        return dict.fromkeys(("weight", "bias", *BUFFERS), (self.channels,))

    def compute(self, x: Array, weight: Array, bias: Array, mean: Array, variance: Array) -> Array:
        """x (B, C, H, W), the others (C,) -> (B, C, H, W), of x's dtype."""
        mean, variance, weight, bias = (v[:, None, None] for v in (mean, variance, weight, bias))
        return (x - mean) / np.sqrt(variance + x.dtype.type(self.eps)) * weight + bias
