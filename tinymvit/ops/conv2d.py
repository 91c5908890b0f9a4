"""Convolution: dense, 1x1, strided, dilated, grouped, depthwise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tinymvit.ops.op import Array, Op, Shape


@dataclass(frozen=True)
class Conv2d(Op):
    """Each output pixel is a weighted sum of the input pixels around its place.

        y[b, o, i, j] = bias[o] + sum over c, u, v of weight[o, c, u, v] x[b, c, s i + d u - p, s j + d v - p]

    with zeros where x is read outside the map. It is a correlation: the kernel is not flipped. `(B, in_channels, H, W)`
    becomes `(B, out_channels, H', W')`; for a kernel of k x k, stride s, padding p and dilation d, which hold for both
    axes,

        H' = floor((H + 2 p - d (k - 1) - 1) / s) + 1

    Each of the `groups` sees only its part of the channels. The convolution is depthwise if there are as many groups as
    channels, in and out: each channel is filtered by itself. `weight` is `(out_channels, in_channels / groups, k, k)`,
    `bias`, if there is one, `(out_channels,)`.
    """

    in_channels: int
    out_channels: int
    kernel_size: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    bias: bool = False

    @property
    def depthwise(self) -> bool:
        """Whether each channel is filtered by itself."""
        return self.groups == self.in_channels == self.out_channels > 1

    def output_shape(self, *inputs: Shape) -> Shape:
        batch, _, height, width = inputs[0]
        reach = self.dilation * (self.kernel_size - 1) - 2 * self.padding
        return (
            batch,
            self.out_channels,
            (height - reach - 1) // self.stride + 1,
            (width - reach - 1) // self.stride + 1,
        )

    def weight_shapes(self) -> dict[str, Shape]:
        weight = (self.out_channels, self.in_channels // self.groups, self.kernel_size, self.kernel_size)
        return {"weight": weight} | ({"bias": (self.out_channels,)} if self.bias else {})

    def multiply_adds(self, output: Shape, *inputs: Shape) -> int:
        return math.prod(output) * self.in_channels // self.groups * self.kernel_size**2

    def compute(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        """x (B, in_channels, H, W), weight (out_channels, in_channels / groups, k, k), bias (out_channels,) ->
        (B, out_channels, H', W'), of x's dtype. A group is a matrix product for each u, v."""
        batch, channels, _, _ = x.shape
        _, _, height, width = self.output_shape(x.shape)
        p, s, d, groups = self.padding, self.stride, self.dilation, self.groups
        x = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
        x = x.reshape(batch, groups, channels // groups, *x.shape[2:])
        w = weight.reshape(groups, -1, *weight.shape[1:])  # (groups, O / groups, C / groups, u, v)
        y = np.zeros((batch, groups, w.shape[1], height * width), x.dtype)
        for u in range(self.kernel_size):
            for v in range(self.kernel_size):
                seen = x[:, :, :, d * u :: s, d * v :: s][:, :, :, :height, :width]  # what weight u, v meets
                y += w[:, :, :, u, v] @ seen.reshape(batch, groups, -1, height * width)
        y = y.reshape(batch, -1, height, width)
        return y if bias is None else y + bias[:, None, None]

    def compute_in_order(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        """As `compute`, in float32: the sum begins with the bias, or with 0, and takes the terms in the order of the
        weight in memory: by c, then u, then v. What lies outside the map is a term too, of value 0."""
        batch, channels, _, _ = x.shape
        _, _, height, width = self.output_shape(x.shape)
        p, s, d, groups = self.padding, self.stride, self.dilation, self.groups
        x = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
        x = x.reshape(batch, groups, channels // groups, *x.shape[2:])
        w = weight.reshape(groups, -1, *weight.shape[1:])  # (groups, O / groups, C / groups, u, v)
        y = np.zeros((batch, *w.shape[:2], height, width), np.float32)
        if bias is not None:
            y += bias.reshape(*w.shape[:2], 1, 1)
        for c in range(w.shape[2]):
            for u in range(self.kernel_size):
                for v in range(self.kernel_size):
                    seen = x[:, :, None, c, d * u :: s, d * v :: s][..., :height, :width]
                    y += w[:, :, c, u, v, None, None] * seen
        return y.reshape(batch, -1, height, width)
