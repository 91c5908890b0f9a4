import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frameworks import F
from kernel_cases import arrays, channel_counts, double, sizes
from oracle import KERNEL_FLOAT32, assert_same
from tinymvit import kernels


def test_layer_norm_by_hand():
    out = kernels.layer_norm(np.float32([[1, 3]]), np.float32([1, 2]), np.float32([0, 5]), 0.0)
    assert out.tolist() == [[-1, 7]]


@pytest.mark.torch
@given(st.data(), st.lists(sizes, max_size=2), channel_counts, st.sampled_from([1e-5, 1e-12, 0.1]))
def test_layer_norm(data, leading, width, eps):
    eps = 1e-5 if width == 1 else float(np.float32(eps))  # a variance of 0 leaves only eps
    x = data.draw(arrays(*leading, width, mean=3))
    weight, bias = data.draw(arrays(width)), data.draw(arrays(width))
    expected = F.layer_norm(double(x), (width,), double(weight), double(bias), eps)
    actual = kernels.layer_norm(x, weight, bias, eps)
    # The mean is rounded to float32 in units of itself, so the differences carry that much more than their own size.
    spread = float(x.std(-1).min()) or 1.0
    assert_same(actual, expected.numpy(), KERNEL_FLOAT32 * max(1.0, float(np.abs(x).max()) / spread), dtype=np.float32)


@pytest.mark.torch
@given(st.data(), channel_counts.filter(lambda width: width > 1), st.sampled_from([1e3, 1e7, 1e15, 1e25, 1e38]))
def test_values_far_from_zero(data, width, mean):
    """All but the same, or so large that their squares are infinite in float32."""
    x = data.draw(arrays(5, width))
    x = np.float32(mean) + x * np.float32(data.draw(st.sampled_from([1, mean * 1e-6, mean / 10])))
    ones, zeros = np.ones(width, np.float32), np.zeros(width, np.float32)
    expected = F.layer_norm(double(x), (width,), eps=float(np.float32(1e-5))).numpy()
    error = 2e-4 if mean == 1e3 else KERNEL_FLOAT32  # a deviation of just over a thousandth is still done in float32
    assert_same(kernels.layer_norm(x, ones, zeros, 1e-5), expected, error, dtype=np.float32)


def test_equal_values_give_the_bias():
    x = np.float32([[1e15] * 20, [3e38] * 20, [0.1] * 20])
    weight, bias = np.full(20, 7, np.float32), np.arange(20, dtype=np.float32)
    assert_same(kernels.layer_norm(x, weight, bias, 1e-5)[:2], np.stack([bias] * 2))
