"""Numbers rounded to shorter formats. Each function gives an array of the shape and dtype that it is given."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


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
