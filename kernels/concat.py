"""Concatenation along the channels.

    out[..., :] = a[..., :], then b[..., :], ...

Cost: no arithmetic; every byte read and written once. Each array is a launch of its own, since kernels have a fixed
number of inputs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .runtime import arguments
from .runtime.jit import kernel, unpack
from .runtime.program import Step, launch
from .simd.instructions import copy


class Sizes(NamedTuple):
    width: int
    total: int
    offset: int


def concat(arrays: Sequence[np.ndarray], out: np.ndarray | None = None) -> np.ndarray:
    """Float32 arrays (..., C1), (..., C2), ... side by side along their last axis: (..., C1 + C2 + ...).

    Raises TypeError or ValueError, one line, if there is none, or for an argument of the wrong type or shape.
    """
    if not arrays:
        raise ValueError("concat: arrays must not be empty")
    arrays = [arguments.tensor(array, f"concat: array {i}", "(..., C)") for i, array in enumerate(arrays)]
    leading = arrays[0].shape[:-1]
    for i, array in enumerate(arrays):
        if array.shape[:-1] != leading:
            expected = ", ".join(map(str, (*leading, "C")))
            raise ValueError(f"concat: array {i} must be ({expected}), not of shape {array.shape}")
    total = sum(array.shape[-1] for array in arrays)
    out = arguments.output(out, "concat: out", (*leading, total), arrays)
    offset = 0
    for array in arrays:
        width = array.shape[-1]
        launch(Step(_place, array.size // width, [array], out, Sizes(width, total, offset)))
        offset += width
    return out


@kernel
def _place(arrays, sizes, first, last):
    """A unit of work is one row."""
    source, _, _, _, out, _ = arrays
    size = unpack(sizes, Sizes)
    for row in range(first, last):
        copy(source, row * size.width, out, row * size.total + size.offset, size.width)
