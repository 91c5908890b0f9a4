"""The sum of two arrays.

    out = a + b

Cost: one operation, 8 bytes read and 4 written a value: memory is the limit. Where a sum follows a convolution or a
linear layer, their `residual` saves this pass.
"""

from typing import NamedTuple

import numpy as np

from .runtime import arguments
from .runtime.jit import kernel, unpack
from .runtime.program import Step, launch
from .simd.instructions import LANES, load, store


class Sizes(NamedTuple):
    values: int


def add(a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """a + b for float32 arrays of one shape, any. `out` may be `a` or `b` itself.

    Raises TypeError or ValueError, one line, for an argument of the wrong type or shape.
    """
    a = arguments.tensor(a, "add: a", "(...)")
    b = arguments.same_shape(b, "add: b", a.shape)
    out = arguments.output(out, "add: out", a.shape, [a, b], in_place=True)
    launch(Step(_add, -(-a.size // LANES), [a, b], out, Sizes(a.size)))
    return out


@kernel
def _add(arrays, sizes, first, last):
    """A unit of work is one vector."""
    a, b, _, _, out, _ = arrays
    values = unpack(sizes, Sizes).values
    for at in range(first * LANES, min(last * LANES, values), LANES):
        lanes = values - at
        store(out, at, lanes, load(a, at, lanes, 0.0) + load(b, at, lanes, 0.0))
