"""The linear layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tinymvit.ops.op import Array, Op, Shape


@dataclass(frozen=True)
class Linear(Op):
    """A matrix product over the last axis.

        y[..., o] = sum over i of x[..., i] weight[o, i] + bias[o]

    `(..., in_features)` becomes `(..., out_features)`. `weight` is `(out_features, in_features)`, `bias`, if there is
    one, `(out_features,)`.
    """

    in_features: int
    out_features: int
    bias: bool = True

    def output_shape(self, *inputs: Shape) -> Shape:
        return (*inputs[0][:-1], self.out_features)

    def weight_shapes(self) -> dict[str, Shape]:
        weight = {"weight": (self.out_features, self.in_features)}
        return weight | ({"bias": (self.out_features,)} if self.bias else {})

    def multiply_adds(self, output: Shape, *inputs: Shape) -> int:
        return math.prod(output) * self.in_features

    def compute(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        """x (..., in_features), weight (out_features, in_features), bias (out_features,) -> (..., out_features), of
        x's dtype."""
        y = x @ weight.T
        return y if bias is None else y + bias

    def compute_in_order(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        """As `compute`, in float32: the sum begins with the bias, or with 0, and takes the inputs from the first to the
        last."""
        y = np.zeros((*x.shape[:-1], len(weight)), np.float32)
        if bias is not None:
            y += bias
        for i in range(self.in_features):
            y += x[..., i, None] * weight[:, i]
        return y
