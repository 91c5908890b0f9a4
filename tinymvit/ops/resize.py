"""Bilinear interpolation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinymvit.ops.op import Array, Op, Shape


@dataclass(frozen=True)
class Resize(Op):
    """Bilinear interpolation to `(B, C, height, width)`, `align_corners=False`, no antialiasing. Pixels are squares:
    along each axis, output i of n looks at the input position

        at = max((i + 1/2) size / n - 1/2, 0)
        y[i] = (1 - t) x[floor(at)] + t x[min(floor(at) + 1, size - 1)],    t = at - floor(at)

    Rows first, then columns. Where `at` would lie before the first or beyond the last pixel's centre, that pixel counts
    alone.
    """

    height: int
    width: int

    def output_shape(self, *inputs: Shape) -> Shape:
        return (*inputs[0][:2], self.height, self.width)

    def compute(self, x: Array, rows: range | None = None) -> Array:
        """x (B, C, H, W) -> (B, C, height, width), of x's dtype. rows: only these rows of it."""
        above, below, t = _neighbours(x.shape[2], self.height, x.dtype)
        if rows is not None:
            above, below, t = above[rows], below[rows], t[rows]
        x = x[:, :, above] * (1 - t)[:, None] + x[:, :, below] * t[:, None]
        left, right, t = _neighbours(x.shape[3], self.width, x.dtype)
        return x[:, :, :, left] * (1 - t) + x[:, :, :, right] * t


def _neighbours(size: int, new_size: int, dtype: np.dtype) -> tuple[Array, Array, Array]:
    """For each of new_size points: the inputs before and after it, and how far it lies between them (0 to 1).

    Pixels are squares, not points (align_corners=False): the centre of output i lies at (i + 1/2) size / new_size.
    """
    scale = float(dtype.type(size) / dtype.type(new_size))
    at = np.maximum((np.arange(new_size) + 0.5) * scale - 0.5, 0).astype(dtype)  # rounded once, as PyTorch does
    before = np.minimum(at.astype(int), size - 1)
    return before, np.minimum(before + 1, size - 1), at - before.astype(dtype)
