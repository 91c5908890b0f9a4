"""The elementary functions against float64, in units in the last place, and their bits on other processors."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest

from oracle import assert_same
from tinymvit import ops
from tinymvit.ops import elementary


def numbers(lowest, highest, seed=0):
    """Float32 numbers between two: evenly spread, and near 0."""
    rng = np.random.default_rng(seed)
    even, small = rng.uniform(lowest, highest, 200_000), highest * 10 ** rng.uniform(-30, 0, 20_000)
    return np.concatenate([even, small, [lowest, highest, 0.0]]).astype(np.float32)


def units(actual, expected):
    """The largest error in units in the last place of float32."""
    size = np.spacing(np.abs(expected).astype(np.float32)).astype(np.float64)
    return float((np.abs(actual.astype(np.float64) - expected) / size).max())


def tail(x):
    return np.vectorize(math.erfc)(x / math.sqrt(2)) / 2


@pytest.mark.parametrize(
    ("function", "true", "x", "limit"),
    [
        (elementary.exponential, np.exp, -numbers(0, 87), 1.0),
        (elementary.sigmoid, lambda x: 1 / (1 + np.exp(-x)), numbers(-87, 87), 2.5),
        (elementary.tanh, np.tanh, numbers(-20, 20), 1.6),
        (elementary.normal_tail, tail, numbers(0, 12.5), 7.0),
        (elementary.square_root, np.sqrt, numbers(0, 1e6), 1.0),
    ],
    ids=["exponential", "sigmoid", "tanh", "normal_tail", "square_root"],
)
def test_units_in_the_last_place(function, true, x, limit):
    assert units(function(x), true(x.astype(np.float64))) <= limit


def test_at_the_ends():
    def of(function, *x):
        with np.errstate(all="ignore"):
            return function(np.array(x, np.float32)).tolist()

    assert of(elementary.exponential, 0, -0.0, -88, -1e30, -np.inf) == [1, 1, 0, 0, 0]
    assert of(elementary.sigmoid, 0, 1e30, -1e30) == [0.5, 1, 0]
    assert of(elementary.tanh, 0, np.inf, -np.inf) == [0, 1, -1]
    assert of(elementary.normal_tail, 0, 14, np.inf) == [0.5, 0, 0]
    assert of(elementary.square_root, 0, 4) == [0, 2]
    for name in ("exponential", "sigmoid", "tanh", "normal_tail", "square_root"):
        assert math.isnan(of(getattr(elementary, name), np.nan)[0]), name


@pytest.mark.parametrize("name", ops.ACTIVATION_FUNCTIONS)
def test_an_activation_in_order(name):
    x = numbers(-15, 15)
    expected = ops.Activation(name).compute(x.astype(np.float64))
    assert_same(ops.Activation(name).compute_in_order(x), expected, 2e-7, name, np.float32)
    extremes = np.array([1e4, -1e4, np.nan], np.float32)
    with np.errstate(all="ignore"):  # as in `reference`
        y = ops.Activation(name).compute_in_order(extremes)
    assert np.isfinite(y[:2]).all()
    assert np.isnan(y[2])


def test_a_callable_does_what_it_does():
    x = numbers(-1, 1)
    assert_same(ops.Activation(np.sin).compute_in_order(x), np.sin(x))


PROGRAM = """
import hashlib
import numpy as np
from tinymvit import reference
from tinymvit.exporters.export import describe_network
from tinymvit.vectors import noise
network = describe_network("digits", size=64)
digest = hashlib.sha256()
for node, value in reference.steps(*network.folded(), noise((1, 3, 64, 64)), np.float32, in_order=True):
    digest.update(np.ascontiguousarray(value))
print(digest.hexdigest())
"""
DIGEST = "991af6a561bb5c1b6ebb7d48aa00db1a52226a40f4acdac99f90643bd354841a"  # of all values


@pytest.mark.slow
@pytest.mark.parametrize("disabled", ["", "AVX512F AVX512CD AVX512_SKX", "AVX512F AVX512CD AVX512_SKX AVX2 FMA3"])
def test_the_bits_are_the_same_on_every_processor(disabled):
    """NumPy's own functions take other paths there. Folding is in float64, by products and roots alone."""
    environment = os.environ | {"NPY_DISABLE_CPU_FEATURES": disabled}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == DIGEST
