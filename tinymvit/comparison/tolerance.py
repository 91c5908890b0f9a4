"""How far from the truth a right tensor may be; that defines which tensors are right.

The truth is the reference in float64. The distance from it to the reference in float32 is what rounding costs at a
node. `judging` says what is wrong with the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from tinymvit.comparison.int8 import LEVELS, range_of, step_of
from tinymvit.numerics import UNIT, Array, difference, largest, rms

# How much further from the truth than the float32 reference a right float32 port may be, in the rms and at the worst
# element: at least twice what PyTorch, ONNX Runtime and LiteRT were measured to need (docs/porting.md).
FACTORS = (8.0, 16.0)
FEW = 8.0  # few numbers measure rounding badly: n of them widen the factors by 1 + FEW / sqrt(n)

# The same for a port in int8, whose roundings are as large as they can be with the ranges that the reference meets.
INT8_FACTORS = (3.0, 6.0)
INT8_FEW = 2.0
FEWEST_STEPS = 128  # of a range's 256 that its numbers use: the ends are those of other pictures
# The share of numbers that may lie beyond the ends of a grid; more if it is used from end to end, so many steps.
CUT_OFF, FULL_CUT_OFF, FULL = 0.02, 0.2, 250


@dataclass(frozen=True)
class Tolerance:
    """How far from the truth a right tensor may be: the root mean square of its errors, and the largest of them. ends:
    of the grid on which its numbers lie, if they do: what the truth has beyond them counts as they.

    The ways to make one take `half`, which allows for shorter formats in which the tensors were stored: half a unit in
    the last place of these, relative.
    """

    rms: float
    largest: float
    ends: tuple[float, float] | None = None

    @classmethod
    def measured(cls, truth: Array, rounded: Array, half: float) -> Self:
        """A multiple of the error of `rounded`, the reference in float32, which counts as half its last bit or more."""
        noise = rounded - truth
        noises, sizes = (rms(noise), largest(noise)), (rms(truth), largest(truth))
        few = 1 + FEW / max(truth.size, 1) ** 0.5
        factors = (few * factor for factor in FACTORS)
        return cls(*(f * max(n, UNIT * size) + half * size for f, n, size in zip(factors, noises, sizes, strict=True)))

    @classmethod
    def in_int8(cls, truth: Array, rounded: Array, half: float, theirs: Array) -> Self:
        """A multiple of the error of `rounded`, the reference that rounds as a port in int8 does, and of the step of
        the grid on which their numbers lie, if they do. So few numbers that none can be told may lie on one."""
        exact = cls.measured(truth, truth, half)
        step = range_of(theirs) / FEWEST_STEPS if theirs.size <= LEVELS else step_of(theirs)
        noise, few = rounded - truth, 1 + INT8_FEW / max(truth.size, 1) ** 0.5
        noises = (rms(noise), largest(noise))
        rounding = (0.0, 0.0) if step is None else (step / 12**0.5, step)
        allowed = (
            few * factor * (n**2 + r**2) ** 0.5 for factor, n, r in zip(INT8_FACTORS, noises, rounding, strict=True)
        )
        ends = None
        if step is not None:
            low, high = float(theirs.min()), float(theirs.max())
            beyond = np.mean((truth < low) | (truth > high))
            ends = (low, high) if beyond <= (FULL_CUT_OFF if high - low >= FULL * step else CUT_OFF) else None
        of_rms, of_largest = allowed
        return cls(of_rms + exact.rms, of_largest + exact.largest, ends)

    @classmethod
    def relative(cls, truth: Array, tolerance: float, half: float) -> Self:
        """The tolerance that the user gives, relative to the truth's rms and to its largest magnitude."""
        return cls((tolerance + half) * rms(truth), (tolerance + half) * largest(truth))

    def allows(self, theirs: Array, truth: Array) -> bool:
        """Whether theirs is right: this is what the word means in all the stages."""
        error = difference(theirs, truth if self.ends is None else np.clip(truth, *self.ends))
        return bool(np.isfinite(error).all()) and rms(error) <= self.rms and largest(error) <= self.largest
