"""What the loops are written in: elementary functions over their whole range."""

import numba
import numpy as np
import pytest

from frameworks import torch
from kernel_cases import double
from oracle import assert_same
from tinymvit.kernels.runtime.jit import OPTIONS
from tinymvit.kernels.simd.elementary import exp, normal_tail, one_plus_exp_of_negative
from tinymvit.kernels.simd.instructions import LANES, load, store


def over_array(function):
    """The function of every value of an array."""

    @numba.njit(**OPTIONS)
    def loop(x, out):
        for i in range(0, x.size, LANES):
            store(out, i, x.size - i, function(load(x, i, x.size - i, 0.0)))

    def apply(x):
        out = np.empty_like(x)
        loop(x, out)
        return out

    return apply


def test_exp_over_its_whole_range():
    x = np.linspace(-87, 88.37, 100_001, dtype=np.float32)
    exact = np.exp(x.astype(np.float64))
    assert_same(over_array(exp)(x) / exact, np.ones(x.size), 2 * 2**-24)
    assert_same(over_array(one_plus_exp_of_negative)(-x) / (1 + exact), np.ones(x.size), 2 * 2**-24)
    ends = np.float32([-np.inf, -1000, -104, -87.7, 88.38, 1000, np.inf, np.nan])
    assert over_array(exp)(ends).tolist()[:-1] == [0, 0, 0, 0, np.inf, np.inf, np.inf]
    assert np.isnan(over_array(exp)(ends)[-1])


@pytest.mark.torch
def test_normal_tail_over_its_whole_range():
    t = np.linspace(0, 13, 100_001, dtype=np.float32)
    exact = torch.special.erfc(double(t) / 2**0.5).numpy() / 2
    assert_same(over_array(normal_tail)(t) / exact, np.ones(t.size), 12 * 2**-24)
