"""The inverted residual of MobileNetV2: three convolutions in one."""

from __future__ import annotations

from dataclasses import dataclass

from tinymvit.ops.conv2d import Conv2d
from tinymvit.ops.fused import Fused
from tinymvit.ops.op import Array, Op, Shape


@dataclass(frozen=True)
class InvertedResidual(Op):
    """Three convolutions in one, so that the wide maps between them need never exist: `expand`, 1x1, then
    `activation`, then `depthwise`, 3x3 and padded by its dilation, then the same `activation`, then `reduce`, 1x1, then
    the sum with the input if `residual`.

        y = reduce(activation(depthwise(activation(expand(x))))) (+ x)

    `(B, C, H, W)` becomes what `reduce` gives, of `depthwise`'s height and width. The weights are the three's, a weight
    and a bias each, in that order. Only the engine's passes make it; a node's name is that of the last op it replaces.
    """

    expand: Conv2d
    depthwise: Conv2d
    reduce: Conv2d
    activation: str
    residual: bool = False

    def output_shape(self, *inputs: Shape) -> Shape:
        return self.reduce.output_shape(self.depthwise.output_shape(self.expand.output_shape(inputs[0])))

    def weight_shapes(self) -> dict[str, Shape]:
        layers = {"expand": self.expand, "depthwise": self.depthwise, "reduce": self.reduce}
        return {
            f"{name}.{role}": shape for name, layer in layers.items() for role, shape in layer.weight_shapes().items()
        }

    def multiply_adds(self, output: Shape, *inputs: Shape) -> int:
        wide = self.expand.output_shape(inputs[0])
        filtered = self.depthwise.output_shape(wide)
        return (
            self.expand.multiply_adds(wide, inputs[0])
            + self.depthwise.multiply_adds(filtered, wide)
            + self.reduce.multiply_adds(output, filtered)
        )

    def compute(self, x: Array, *weights: Array) -> Array:
        """x (B, C, H, W), then weight (O, I, k, k) and bias (O,) of `expand`, `depthwise` and `reduce` -> the output
        of `reduce`, of x's dtype."""
        wide = Fused(self.expand, self.activation).compute(x, *weights[:2])
        filtered = Fused(self.depthwise, self.activation).compute(wide, *weights[2:4])
        return self.reduce.compute(filtered, *weights[4:]) + (x if self.residual else 0)

    def compute_in_order(self, x: Array, *weights: Array) -> Array:
        """As `compute`, in float32: the three convolutions in their orders, the residual last."""
        wide = Fused(self.expand, self.activation).compute_in_order(x, *weights[:2])
        filtered = Fused(self.depthwise, self.activation).compute_in_order(wide, *weights[2:4])
        narrow = self.reduce.compute_in_order(filtered, *weights[4:])
        return narrow + x if self.residual else narrow
