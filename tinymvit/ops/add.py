"""The sum: a residual connection."""

from __future__ import annotations

from dataclasses import dataclass

from tinymvit.ops.op import Array, Op


@dataclass(frozen=True)
class Add(Op):
    """The sum of two inputs: a residual connection.

        y = a + b

    Both inputs have the output's shape. Nothing is broadcast.
    """

    def compute(self, a: Array, b: Array) -> Array:
        """Two arrays of one shape and dtype -> the same shape and dtype."""
        return a + b
