"""A convolution or linear layer together with what follows it."""

from __future__ import annotations

from dataclasses import dataclass

from tinymvit.ops.activation import ACTIVATION_FUNCTIONS, Activation
from tinymvit.ops.conv2d import Conv2d
from tinymvit.ops.linear import Linear
from tinymvit.ops.op import Array, Op, Shape


@dataclass(frozen=True)
class Fused(Op):
    """A `Conv2d` or `Linear` (`op`), then `activation`, then the sum with a second input if `residual`.

        y = activation(op(x)) + residual

    Shapes and weights are those of `op`; the second input has the output's shape. Only the engine's passes make it; a
    node's name is that of the last op it replaces.
    """

    op: Conv2d | Linear
    activation: str = "identity"
    residual: bool = False

    def output_shape(self, *inputs: Shape) -> Shape:
        return self.op.output_shape(inputs[0])

    def weight_shapes(self) -> dict[str, Shape]:
        return self.op.weight_shapes()

    def multiply_adds(self, output: Shape, *inputs: Shape) -> int:
        return self.op.multiply_adds(output, *inputs)

    def compute(self, x: Array, *others: Array) -> Array:
        """x, then the array to add if `residual`, then the weights of `op` -> the output of `op`, of x's dtype."""
        residual, weights = (others[0], others[1:]) if self.residual else (0, others)
        return ACTIVATION_FUNCTIONS[self.activation](self.op.compute(x, *weights)) + residual

    def compute_in_order(self, x: Array, *others: Array) -> Array:
        """As `compute`, in float32: the sum of `op` in its order, the residual last."""
        weights = others[1:] if self.residual else others
        y = Activation(self.activation).compute_in_order(self.op.compute_in_order(x, *weights))
        return y + others[0] if self.residual else y
