"""How far from the truth a right tensor may be; that defines which tensors are right.

The truth is the reference in float64. The distance from it to the reference in float32 is what rounding costs at a
node. `judging` says what is wrong with the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from tinymvit.numerics import UNIT, Array, difference, largest, rms

# How much further from the truth than the float32 reference a right float32 port may be, in the rms and at the worst
# element: at least twice what PyTorch, ONNX Runtime and LiteRT were measured to need (docs/porting.md).
FACTORS = (8.0, 16.0)
FEW = 8.0  # few numbers measure rounding badly: n of them widen the factors by 1 + FEW / sqrt(n)


@dataclass(frozen=True)
class Tolerance:
    """How far from the truth a right tensor may be: the root mean square of its errors, and the largest of them.

    Both ways to make one take `half`, which allows for shorter formats in which the tensors were stored: half a unit in
    the last place of these, relative.
    """

    rms: float
    largest: float

    @classmethod
    def measured(cls, truth: Array, rounded: Array, half: float) -> Self:
        """A multiple of the error of `rounded`, the reference in float32, which counts as half its last bit or more."""
        noise = rounded - truth
        noises, sizes = (rms(noise), largest(noise)), (rms(truth), largest(truth))
        few = 1 + FEW / max(truth.size, 1) ** 0.5
        factors = (few * factor for factor in FACTORS)
        return cls(*(f * max(n, UNIT * size) + half * size for f, n, size in zip(factors, noises, sizes, strict=True)))

    @classmethod
    def relative(cls, truth: Array, tolerance: float, half: float) -> Self:
        """The tolerance that the user gives, relative to the truth's rms and to its largest magnitude."""
        return cls((tolerance + half) * rms(truth), (tolerance + half) * largest(truth))

    def allows(self, theirs: Array, truth: Array) -> bool:
        """Whether theirs is right: this is what the word means in all the stages."""
        error = difference(theirs, truth)
        return bool(np.isfinite(error).all()) and rms(error) <= self.rms and largest(error) <= self.largest
