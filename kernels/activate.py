"""An activation function of every value of an array; which there are, and how they are computed, is in `simd`.

Cost: 4 bytes read and 4 written a value.
"""

from typing import NamedTuple

import numpy as np

from .runtime import arguments
from .runtime.jit import kernel, unpack
from .runtime.program import Step, launch
from .simd.activations import IDENTITY, activation_code, apply_activation
from .simd.instructions import LANES, Matrix, copy


class Sizes(NamedTuple):
    values: int
    code: int


def activate(x: np.ndarray, name: str, out: np.ndarray | None = None) -> np.ndarray:
    """The activation called `name` of every value of `x`, any shape, float32.

    `out` may be `x` itself. Raises TypeError or ValueError, one line, for an argument of the wrong type or shape, and
    for a name that is not in `ACTIVATIONS`.
    """
    x = arguments.tensor(x, "activate: x", "(...)")
    code = activation_code(name, "activate")
    out = arguments.output(out, "activate: out", x.shape, [x], in_place=True)
    launch(Step(_activate, -(-x.size // LANES), [x], out, Sizes(x.size, code)))
    return out


@kernel
def _activate(arrays, sizes, first, last):
    """A unit of work is one vector."""
    x, _, _, _, out, _ = arrays
    size = unpack(sizes, Sizes)
    start, end = first * LANES, min(last * LANES, size.values)
    if size.code == IDENTITY:
        copy(x, start, out, start, end - start)
    apply_activation(x, Matrix(out, start, row=0), 1, end - start, size.code)
