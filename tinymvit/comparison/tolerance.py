"""How far a tensor is from the truth, and how far a right one may be.

The truth is the reference in float64; what float32 rounding costs at a node is how far the reference in float32 is
from it there. What is judged, and what is said of it, is left to `port` and `two_dumps`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinymvit.numerics import to_bfloat16, to_float16

Array = np.ndarray

# How much further from the truth than the float32 reference a right float32 port may be, in the rms and at the worst
# element: at least twice what PyTorch, ONNX Runtime and LiteRT were measured to need (docs/porting.md).
FACTORS = (8.0, 16.0)
FEW = 8.0  # few numbers measure rounding badly: n of them widen the factors by 1 + FEW / sqrt(n)
UNIT = 2.0**-24  # half a unit in the last place of float32, relative: rounding the truth itself costs this
HALF_UNITS = {"float16": 2.0**-11, "bfloat16": 2.0**-8}  # the same of the formats that a dump may shorten it to
NUMBERS = "fiub"  # kinds of dtype that hold real numbers


def half_unit(dtype: str) -> float:
    """Half a unit in the last place of the format that a tensor is stored in, relative; 0 for float32 and longer."""
    return HALF_UNITS.get(dtype, 0.0)


def shorter_format(x: Array) -> str | None:
    """The format of `HALF_UNITS` that holds all these numbers, if they are none of a few round ones."""
    if len(np.unique(x)) <= 100:
        return None
    formats = {"bfloat16": to_bfloat16, "float16": to_float16}
    return next((name for name, rounded in formats.items() if same(rounded(x), x)), None)


@dataclass(frozen=True)
class Errors:
    """Theirs against the truth. relative: absolute over the truth's largest magnitude; snr in decibels; worst: index
    of the largest absolute error in our layout."""

    absolute: float
    relative: float
    rms: float
    snr: float
    cosine: float
    worst: tuple[int, ...]

    @classmethod
    def of(cls, theirs: Array, truth: Array) -> Errors:
        if truth.size == 0:
            return cls(0.0, 0.0, 0.0, np.inf, 1.0, ())
        error = difference(theirs, truth)
        size = np.where(np.isfinite(error), np.abs(error), np.inf)
        worst = tuple(int(i) for i in np.unravel_index(size.argmax(), size.shape))
        noise, scale, peak = float(np.sqrt((size * size).mean())), rms(truth), largest(truth)
        scales = scale * float(np.sqrt((theirs * theirs).mean()))
        return cls(
            absolute=float(size[worst]),
            relative=float(size[worst] / peak) if peak else float(size[worst] and np.inf),
            rms=noise,
            snr=float(20 * np.log10(scale / noise)) if noise else np.inf,
            cosine=float((theirs * truth).mean() / scales) if scales else float(noise == 0),
            worst=worst,
        )


@dataclass(frozen=True)
class Limit:
    """How far from the truth a right tensor may be: the rms of its errors, and the largest."""

    rms: float
    largest: float

    @classmethod
    def of(cls, truth: Array, rounded: Array, tolerance: float | None, half: float) -> Limit:
        """By the float32 reference, `rounded`, or relative to the truth's size if a tolerance is given. A float32 can
        be no closer than its last bit, nor can one that is stored in a shorter format: `half` a unit of that."""
        sizes = rms(truth), largest(truth)
        if tolerance is not None:
            return cls(*((tolerance + half) * size for size in sizes))
        noise = rounded - truth
        noises = rms(noise), largest(noise)
        few = 1 + FEW / max(truth.size, 1) ** 0.5
        factors = (few * factor for factor in FACTORS)
        return cls(*(f * max(n, UNIT * size) + half * size for f, n, size in zip(factors, noises, sizes, strict=True)))

    def allows(self, theirs: Array, truth: Array) -> bool:
        error = difference(theirs, truth)
        return bool(np.isfinite(error).all()) and rms(error) <= self.rms and largest(error) <= self.largest

    def verdict(self, errors: Errors, theirs: Array, truth: Array) -> str:
        """The verdict of a `Row` on a tensor with these errors."""
        if np.isinf(errors.absolute) and not np.isfinite(theirs[errors.worst]):
            return "not finite"
        if np.isinf(errors.absolute) and not np.isfinite(truth[errors.worst]):
            return "ours not finite"
        return "ok" if errors.rms <= self.rms and errors.absolute <= self.largest else "differs"


def difference(theirs: Array, truth: Array) -> Array:
    """Theirs less the truth; equal infinities and NaN for NaN differ by nothing."""
    equal = (theirs == truth) | (np.isnan(theirs) & np.isnan(truth))
    return np.where(equal, 0, theirs - truth)


def rms(x: Array) -> float:
    """Of the finite values."""
    x = _finite(x)
    return float(np.sqrt((x * x).mean())) if x.size else 0.0


def largest(x: Array) -> float:
    """Of the finite values, without their sign."""
    return float(np.abs(_finite(x)).max(initial=0))


def _finite(x: Array) -> Array:
    finite = np.isfinite(x)
    return x if finite.all() else x[finite]


def same(x: Array, y: Array) -> bool:
    """Whether two tensors hold the same values, NaN for NaN."""
    return x.shape == y.shape and bool(((x == y) | ((x != x) & (y != y))).all())
