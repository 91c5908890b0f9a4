import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frameworks import F
from kernel_cases import activated, activations, arrays, double, sizes
from oracle import KERNEL_FLOAT32, assert_same
from tinymvit import kernels

# Largest relative error where |x| <= 8, in units of 2^-24. That of gelu_tanh grows as x falls below 0, with the
# rounding of its exponent.
UNITS = {
    "identity": 0,
    "silu": 5,
    "relu": 0,
    "relu6": 0,
    "gelu": 12,
    "gelu_tanh": 200,
    "hardswish": 5,
    "leaky_relu": 2,
    "sigmoid": 5,
    "tanh": 3,
}


def test_activation_by_hand():
    x = np.float32([-1000, -3, -0.0, 0, 3, 9])
    assert kernels.activate(x, "relu").tolist() == [0, 0, 0, 0, 3, 9]
    assert kernels.activate(x, "relu6").tolist() == [0, 0, 0, 0, 3, 6]
    assert kernels.activate(x, "hardswish").tolist() == [0, 0, 0, 0, 3, 9]
    assert kernels.activate(x, "sigmoid")[[0, 2, 3]].tolist() == [0, 0.5, 0.5]
    assert kernels.activate(x, "silu")[[0, 2, 3]].tolist() == [0, 0, 0]


@pytest.mark.torch
@pytest.mark.parametrize("name", kernels.ACTIVATIONS)
def test_activation_is_accurate_for_each_value_by_itself(name):
    x = np.concatenate([np.linspace(-8, 8, 50_001), np.geomspace(1e-30, 1, 1001), -np.geomspace(1e-30, 1, 1001)])
    x = x[x != 0].astype(np.float32)
    actual = kernels.activate(x, name).astype(np.float64)
    expected = activated(name, double(x)).numpy()
    zero = expected == 0
    assert_same(actual[zero], expected[zero])
    assert_same(actual[~zero] / expected[~zero], np.ones((~zero).sum()), UNITS[name] * 2**-24, name)


@pytest.mark.torch
@given(st.data(), st.lists(sizes, max_size=4), activations)
def test_activation_of_any_shape(data, shape, name):
    x = data.draw(arrays(*shape, 1, scale=5))
    assert_same(kernels.activate(x, name), activated(name, double(x)).numpy(), KERNEL_FLOAT32, name, np.float32)
    out = np.array(x, order="C")
    assert kernels.activate(out, name, out=out) is out
    assert_same(out, kernels.activate(x, name))


@pytest.mark.torch
@pytest.mark.parametrize("name", kernels.ACTIVATIONS)
def test_activation_at_the_ends(name):
    x = np.float32([np.nan, np.inf, -np.inf, 3e38, -3e38, 200, -200, 0])
    exact = double(x)
    if name == "gelu":
        expected = F.gelu(exact)
    elif name == "gelu_tanh":
        expected = F.gelu(exact, approximate="tanh")
    else:
        expected = activated(name, exact)
    assert_same(kernels.activate(x, name), expected.numpy(), KERNEL_FLOAT32, name)


@pytest.mark.parametrize("name", kernels.ACTIVATIONS)
def test_activation_of_each_nan_is_nan(name):
    nans = np.array([0x7FC00000, 0xFFC00001, 0x7FC00123, 0x7FFFFFFF, 0x7F800001], np.uint32).view(np.float32)
    assert np.isnan(kernels.activate(nans, name)).all()
