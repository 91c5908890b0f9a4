"""Numbers: formats shorter than float32, how far two tensors are apart, and a tensor's statistics.

What an error means and how large it may be is left to those who ask: `comparison`, `bench`, `error_budget`, `vectors`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from tinymvit import limits
from tinymvit.text import one_line

Array = np.ndarray

UNIT = 2.0**-24  # half a unit in the last place of float32, relative: what one rounding costs
HALF_UNITS = {"float16": 2.0**-11, "bfloat16": 2.0**-8}  # the same of the formats that a float32 may be shortened to
NUMBERS = "fiub"  # kinds of dtype that hold real numbers


def as_array(x: Any, name: str, kinds: str | None = None) -> Array:
    """What a caller gave for numbers as a plain array, of its own dtype, any shape and any order in memory; not copied
    if it is one.

    kinds: the kinds of dtype that are expected (`NUMBERS`), or None for a caller that says more about them. Raises
    TypeError, one line that calls it `name`, for what only looks like an array: one with masked values, a
    numpy.matrix, text, a mapping, a list of lists of several lengths, whatever NumPy cannot convert. An array that
    repeats a few numbers without having them (`np.broadcast_to`) promises memory: more than the limit of `limits` is a
    TinyMViTError.
    """
    if type(x) is np.ndarray:
        return _of_kind(x, name, kinds)
    name = one_line(name)
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        raise TypeError(f"{name}: an array with masked values; expected numbers in their place, as `filled` gives them")
    if isinstance(x, np.matrix | str | bytes | bytearray | Mapping | Set) or x is None:
        raise TypeError(f"{name}: {type(x).__name__}; expected an array of numbers")
    try:
        array = np.asarray(x)
    except Exception as failure:  # whatever the object's own conversion raises
        reason = " ".join(str(failure).split())[:120]
        raise TypeError(f"{name}: {type(x).__name__} that is no array of numbers: {reason}") from None
    return _of_kind(array, name, kinds)


def _of_kind(array: Array, name: str, kinds: str | None) -> Array:
    if 0 in array.strides and array.nbytes > 2**20:  # a small one is not worth the question
        limits.check(array.nbytes, f"{one_line(name)}: shape {array.shape}")
    if kinds is not None and array.dtype.kind not in kinds:
        raise TypeError(f"{one_line(name)}: dtype {array.dtype}; expected real numbers")
    return array


# ---- shorter formats: each function rounds and gives an array of the shape and dtype that it is given ----


def to_float16(x: Array) -> Array:
    """11 significant bits, infinite from 65520 on."""
    return x.astype(np.float16).astype(x.dtype)


def to_bfloat16(x: Array) -> Array:
    """8 significant bits, the range of float32, whose upper half it is; x is taken as float32.

    Adding just under half of the last place, and one more if that place is odd, carries into it exactly where rounding
    to nearest, ties to even, goes up.
    """
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    return np.where(np.isnan(x), np.nan, rounded.view(np.float32)).astype(x.dtype)  # a carry may unmake a NaN


def to_int8(x: Array) -> Array:
    """Whole multiples, -127 to 127, of the largest magnitude over 127."""
    step = np.abs(x).max(initial=0) / 127 or 1
    return np.round(x / step) * x.dtype.type(step)


def to_uint8(x: Array) -> Array:
    """Whole multiples, 0 to 255 from a zero point, of the range over 255; the range includes 0."""
    low, high = min(x.min(initial=0), 0), max(x.max(initial=0), 0)
    step = (high - low) / 255 or 1
    zero = np.round(-low / step)
    return (np.clip(np.round(x / step) + zero, 0, 255) - zero) * x.dtype.type(step)


def to_int8_by_channel(x: Array) -> Array:
    """As `to_int8`, with a step for each output channel (the first axis of a weight)."""
    return np.stack([to_int8(channel) for channel in x])


def half_unit(dtype: str) -> float:
    """Half a unit in the last place of the dtype of this name, relative; 0 for float32 and longer ones."""
    return HALF_UNITS.get(dtype, 0.0)


def shorter_number_format(x: Array) -> str | None:
    """The format of `HALF_UNITS` that holds all numbers of x; None if there is none, or if x has too few different
    numbers to tell."""
    if len(np.unique(x)) <= 100:
        return None
    formats = {"bfloat16": to_bfloat16, "float16": to_float16}
    return next((name for name, rounded in formats.items() if same(rounded(x), x)), None)


# ---- errors ----


@dataclass(frozen=True)
class Errors:
    """How far a tensor is from the truth. absolute: the largest error. relative: that over the truth's largest
    magnitude. rms: root mean square of all errors. snr: signal to noise ratio in decibels. cosine: of the angle between
    the two. worst: the index of the largest error."""

    absolute: float
    relative: float
    rms: float
    snr: float
    cosine: float
    worst: tuple[int, ...]

    @classmethod
    def of(cls, x: Array, truth: Array) -> Self:
        """The errors of x, of the shape of the truth, both float64. Errors that are not finite count as infinite."""
        if truth.size == 0:
            return cls(0.0, 0.0, 0.0, np.inf, 1.0, ())
        error = difference(x, truth)
        size = np.where(np.isfinite(error), np.abs(error), np.inf)
        worst = tuple(int(i) for i in np.unravel_index(size.argmax(), size.shape))
        noise, scale, peak = float(np.sqrt((size * size).mean())), rms(truth), largest(truth)
        scales = scale * float(np.sqrt((x * x).mean()))
        return cls(
            absolute=float(size[worst]),
            relative=float(size[worst] / peak) if peak else float(size[worst] and np.inf),
            rms=noise,
            snr=float(20 * np.log10(scale / noise)) if noise else np.inf,
            cosine=float((x * truth).mean() / scales) if scales else float(noise == 0),
            worst=worst,
        )


def relative_error(x: Array, truth: Array) -> float:
    """Root mean square of the difference over that of the truth; infinite if a difference is not finite, or if there
    is one and the truth is 0."""
    error = np.linalg.norm((x - truth).ravel())
    if not np.isfinite(error):
        return math.inf
    size = np.linalg.norm(truth.ravel())
    return float(error / size) if size else math.inf if error else 0.0


def difference(x: Array, truth: Array) -> Array:
    """x less the truth, where equal infinities, and NaN and NaN, differ by 0."""
    equal = (x == truth) | (np.isnan(x) & np.isnan(truth))
    return np.where(equal, 0, x - truth)


def same(x: Array, y: Array) -> bool:
    """Whether two tensors have one shape and hold the same values, NaN for NaN."""
    return x.shape == y.shape and bool(((x == y) | ((x != x) & (y != y))).all())


# ---- sizes ----


def rms(x: Array) -> float:
    """The root mean square of the finite values of x; 0 if there are none."""
    x = _finite(x)
    return float(np.sqrt((x * x).mean())) if x.size else 0.0


def largest(x: Array) -> float:
    """The largest magnitude of the finite values of x; 0 if there are none."""
    return float(np.abs(_finite(x)).max(initial=0))


def _finite(x: Array) -> Array:
    finite = np.isfinite(x)
    return x if finite.all() else x[finite]


@dataclass(frozen=True)
class TensorStatistics:
    """What no change of layout changes about a tensor: its smallest, largest, mean and root mean square value."""

    min: float
    max: float
    mean: float
    rms: float

    @classmethod
    def of(cls, x: Array) -> Self:
        """The statistics of real numbers, in float64; NaN if there are none."""
        if x.size == 0:
            return cls(math.nan, math.nan, math.nan, math.nan)
        with np.errstate(over="ignore", invalid="ignore"):
            return cls(
                min=float(x.min()),
                max=float(x.max()),
                mean=float(x.mean(dtype=np.float64)),
                rms=math.sqrt(np.square(x, dtype=np.float64).mean()),
            )

    def close_to(self, other: TensorStatistics, tolerance: float) -> bool:
        """Whether each differs by at most `tolerance` of this rms. NaN is close to nothing."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return all(abs(x - y) <= tolerance * self.rms for x, y in pairs)
