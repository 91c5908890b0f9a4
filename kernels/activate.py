"""An activation function of every value of an array; which there are, and how they are computed, is in `simd`.

Cost: 4 bytes read and 4 written a value.
"""

import numpy as np

from .runtime import arguments
from .runtime.jit import kernel
from .runtime.program import Step, launch
from .simd import LANES, copy
from .simd.activations import IDENTITY, activation_code, apply_activation


def activate(x: np.ndarray, name: str, out: np.ndarray | None = None) -> np.ndarray:
    """The activation called `name` of every value of `x`, any shape, float32.

    `out` may be `x` itself. Raises ValueError for a name not in `ACTIVATIONS`.
    """
    x = arguments.tensor(x, "activate: x", "(...)")
    code = activation_code(name, "activate")
    out = arguments.output(out, "activate: out", x.shape, [x], in_place=True)
    launch(Step(_activate, -(-x.size // LANES), [x], out, [x.size, code]))
    return out


@kernel
def _activate(arrays, sizes, first, last):
    """A unit of work is one vector."""
    x, _, _, _, out, _ = arrays
    size, code = sizes[0], sizes[1]
    start, end = first * LANES, min(last * LANES, size)
    if code == IDENTITY:
        copy(x, start, out, start, end - start)
    apply_activation(x, (out, start, 0), 1, end - start, code)
