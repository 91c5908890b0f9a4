"""SiLU, x / (1 + e^-x), of many values: the code of docs/kernels.md."""

import math

import numba
import numpy as np

from tinymvit.kernels.runtime.jit import OPTIONS
from tinymvit.kernels.simd.elementary import one_plus_exp_of_negative
from tinymvit.kernels.simd.instructions import LANES, load, store

compiled = numba.njit(**OPTIONS)


@compiled
def by_numbers(x, out):
    for i in range(x.size):
        out[i] = x[i] / (1 + math.exp(-x[i]))


def with_numpy(x, out):
    out[:] = x / (1 + np.exp(-x))


@compiled
def by_vectors(x, out):
    for i in range(0, x.size, LANES):
        value = load(x, i, x.size - i, 0.0)
        store(out, i, x.size - i, value / one_plus_exp_of_negative(value))
