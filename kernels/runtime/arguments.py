"""The arguments of the public kernels: every array and number is checked here, and arrays are normalised.

A compiled kernel takes flat float32 arrays that are C-contiguous, aligned and writable, and checks nothing. An array
that is float32 but lies otherwise (a slice, a transposed view, a read-only memory map) is copied once; any other
argument is an error of one clear line. Ops name their arguments in full, `"conv2d: x"`, so that the line says where it
comes from.
"""

import math
import numbers
import operator
import reprlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .jit import EMPTY

LINE = 16  # float32 values in a cache line of 64 bytes


def tensor(array: np.ndarray, name: str, legend: str) -> np.ndarray:
    """`array` as kernels need it. `legend` gives its axes, `"(B, H, W, C)"`; a leading `...` stands for any number.

    Raises TypeError if it is not a float32 array and ValueError if its rank is another or it is empty.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array {legend}, not {type(array).__name__}")
    if array.dtype != np.float32:
        raise TypeError(f"{name} must be float32, not {array.dtype}")
    axes = legend.count(",") + 1
    if array.ndim < axes - 1 if "..." in legend else array.ndim != axes:
        raise ValueError(f"{name} must be {legend}, not of shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name} must not be empty, but its shape is {array.shape}")
    if type(array) is np.ndarray and array.flags.carray:
        return array
    if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
        raise TypeError(f"{name} must be a NumPy array {legend}, but some of its values are masked")
    return np.require(array, np.float32, ["C", "A", "W", "E"])


def channel_values(values: np.ndarray, name: str, count: int) -> np.ndarray:
    """One float32 for each of `count` channels."""
    values = tensor(values, name, "(C)")
    if len(values) != count:
        raise ValueError(f"{name} must have {count} values, not {len(values)}")
    return values


def bias(values: np.ndarray | None, name: str, count: int) -> np.ndarray:
    """`channel_values`; None is zeros."""
    return np.zeros(count, np.float32) if values is None else channel_values(values, name, count)


def same_shape(array: np.ndarray, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """`array` as kernels need it, of exactly this shape."""
    array = tensor(array, name, "(...)")
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, not {array.shape}")
    return array


def residual(array: np.ndarray | None, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """`same_shape`; None is `EMPTY`."""
    return EMPTY if array is None else same_shape(array, name, shape)


def packed(weight: object, name: str, kind: type, packer: str) -> None:
    """Raises TypeError unless `weight` is of `kind`, which the function called `packer` makes."""
    if not isinstance(weight, kind):
        raise TypeError(f"{name} must come from {packer}, not be {type(weight).__name__}")


def last_axis(array: np.ndarray, name: str, count: int, what: str) -> None:
    """Raises ValueError unless there are `count` of `what` in the last axis."""
    if array.shape[-1] != count:
        raise ValueError(f"{name} must have {count} {what}, not {array.shape[-1]}")


def output(
    out: np.ndarray | None, name: str, shape: tuple[int, ...], inputs: Sequence[np.ndarray], in_place: bool = False
) -> np.ndarray:
    """A new array of this shape, or the caller's `out`, checked: written as it lies, it is never copied.

    Raises TypeError or ValueError if `out` is not writable C-contiguous float32 of this shape, or if it overlaps an
    input, which the kernel would then overwrite before it has read it. An op that works in place allows `out` to be
    one of its inputs itself.
    """
    if out is None:
        return empty(shape)
    if not isinstance(out, np.ndarray) or out.dtype != np.float32:
        found = out.dtype if isinstance(out, np.ndarray) else type(out).__name__
        raise TypeError(f"{name} must be a float32 array, not {found}")
    if out.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, not {out.shape}")
    if not out.flags.carray:
        raise ValueError(f"{name} must be C-contiguous and writable")
    for array in inputs:
        if np.may_share_memory(out, array) and not (in_place and out.ctypes.data == array.ctypes.data):
            raise ValueError(f"{name} must not overlap an input")
    return out


def empty(shape: tuple[int, ...]) -> np.ndarray:
    """An uninitialised float32 array that begins at a cache line, so that no vector straddles two of them.

    NumPy's large arrays begin 16 bytes after one, which costs a depthwise convolution a fifth of its time.
    """
    size = math.prod(shape)
    memory = np.empty(size + LINE, np.float32)
    start = -memory.ctypes.data // memory.itemsize % LINE
    return memory[start : start + size].reshape(shape)


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy of a float32 array that begins at a cache line."""
    copy = empty(array.shape)
    copy[...] = array
    return copy


def whole_number(value: int, name: str, least: int) -> int:
    """`value` as an int, at least `least`; else TypeError or ValueError."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {short(value)}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, not {number}")
    return number


def real_number(value: float, name: str, least: float) -> float:
    """`value` as a float, at least `least`; else TypeError or ValueError."""
    if not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, not {short(value)}")
    if not value >= least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
    return float(value)


def short(value: Any) -> str:
    """`repr`, cut, on one line."""
    return " ".join(reprlib.repr(value).split())


class Geometry(NamedTuple):
    """How a convolution's filter goes over a map, along both axes alike."""

    stride: int
    padding: int
    dilation: int


def geometry(stride: int, padding: int, dilation: int, op: str) -> Geometry:
    """A convolution's stride, padding and dilation, checked."""
    return Geometry(
        whole_number(stride, f"{op}: stride", 1),
        whole_number(padding, f"{op}: padding", 0),
        whole_number(dilation, f"{op}: dilation", 1),
    )


def window_positions(
    size: Sequence[int], window: Sequence[int], stride: int, padding: int, dilation: int, op: str
) -> tuple[int, int]:
    """How many positions a kernel has along H and W; ValueError if it does not fit in the padded map."""
    rows, columns = [
        (length + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
        for length, taps in zip(size, window, strict=True)
    ]
    if rows < 1 or columns < 1:
        kernel = f"{window[0]} x {window[1]} kernel, dilation {dilation}"
        raise ValueError(f"{op}: the {kernel}, does not fit in a {size[0]} x {size[1]} map with padding {padding}")
    return rows, columns
