"""What every op answers, and the one that every graph begins with.

Shapes are the public ones, channels first. Legend, the same in every file:
    B batch   C channels   H W height and width   P pixels in a patch   N patches   D token width   h heads
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

Array = np.ndarray
Shape = tuple[int, ...]

BUFFERS = ("running_mean", "running_var")  # tensors that PyTorch does not count as parameters


@dataclass(frozen=True)
class Op:
    """What every op answers; the defaults suit an op of one input, without weights and without products."""

    only_moves: ClassVar[bool] = (
        False  # whether each number of the output is one of the inputs', so that none is rounded
    )
    in_integers: ClassVar[bool] = False  # whether the output is whole numbers, the same on every machine

    def output_shape(self, *inputs: Shape) -> Shape:
        """The shape of the output for inputs of these shapes; by default the first input's."""
        return inputs[0]

    def weight_shapes(self) -> dict[str, Shape]:
        """The shape of each weight tensor by its role, which is the last part of its name in a checkpoint."""
        return {}

    def multiply_adds(self, output: Shape, *inputs: Shape) -> int:
        """The multiply-adds of the op's products. Sums, means and elementwise functions count as none."""
        return 0

    def compute(self, *operands: Any, **_: Any) -> Array:
        """The output for the inputs, in the order of the graph, and then the weights, in that of `weight_shapes`.

        All arrays have one dtype, float64 (the truth) or float32, which is the output's too; weights of whole numbers
        may keep their own. Their shapes are those
        that the op speaks of; they are not checked, and NumPy raises ValueError for most that do not fit.
        """
        raise NotImplementedError(f"{type(self).__name__} computes nothing")

    def compute_in_order(self, *operands: Any) -> Array:
        """The same in float32, each number rounded once at each step, the terms of a sum in an order that is written
        down: therefore the same bits on every machine, and those of the exported C.

        Where nothing is summed, and no function is asked of a library, that is what `compute` does.
        """
        return self.compute(*operands)


@dataclass(frozen=True)
class Input(Op):
    """The pixels, `(B, C, H, W)`, from 0 to 1. Any height and width; the published models have 3 channels. It computes
    nothing: its value is what the caller gives."""
