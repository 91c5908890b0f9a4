import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frameworks import F, torch
from kernel_cases import arrays, channel_counts, channels_first, channels_last, double, maps
from oracle import KERNEL_FLOAT32, assert_same
from tinymvit import kernels


def test_batch_norm_by_hand():
    norm = kernels.pack_batch_norm(*np.float32([[1, 4], [0, 5], [1, 2], [4, 15]]), 1.0)
    out = kernels.batch_norm(np.float32([[1, 3]]), norm)
    assert out.tolist() == [[0, 6]]


@pytest.mark.torch
@given(st.data(), channel_counts, st.sampled_from([1e-5, 0.1]))
def test_batch_norm(data, channels, eps):
    x = data.draw(maps(channels))
    weight, bias, mean = (data.draw(arrays(channels)) for _ in range(3))
    variance = np.abs(data.draw(arrays(channels))) + np.float32(0.1)
    expected = F.batch_norm(channels_first(x), *map(double, (mean, variance, weight, bias)), eps=eps)
    actual = kernels.batch_norm(x, kernels.pack_batch_norm(weight, bias, mean, variance, eps))
    assert_same(actual, channels_last(expected), KERNEL_FLOAT32, dtype=np.float32)


def test_what_is_near_its_mean_is_not_rounded_away():
    x = np.float32(1e6) + np.arange(8, dtype=np.float32)[:, None]
    norm = kernels.pack_batch_norm(*np.float32([[1000.1], [0.3], [1e6], [1]]), 0.0)
    assert_same(kernels.batch_norm(x, norm), (x - 1e6) * np.float64(np.float32(1000.1)) + 0.3, 1e-7)


def test_a_negative_variance_is_nan_without_a_warning():
    ones = np.ones(3, np.float32)
    norm = kernels.pack_batch_norm(ones, ones, ones, np.float32([1, -1, 1]), 1e-5)
    assert np.isnan(kernels.batch_norm(ones[None], norm)).tolist() == [[False, True, False]]


@pytest.mark.torch
@given(st.data())
def test_what_is_infinite_or_nan_is_pytorch_s(data):
    extremes = st.sampled_from(np.float32([0, 1, -1, 1e-5, -1e-5, 1e-30, 1e10, -1e20, 1e30, 3e38, -3e38]))
    x, weight, bias, mean, variance = (
        np.array(data.draw(st.lists(extremes, min_size=20, max_size=20)), np.float32) for _ in range(5)
    )
    others = (torch.from_numpy(values) for values in (mean, variance, weight, bias))
    expected = F.batch_norm(torch.from_numpy(x)[None, :, None, None], *others, eps=1e-5).numpy()[0, :, 0, 0]
    actual = kernels.batch_norm(x[None], kernels.pack_batch_norm(weight, bias, mean, variance, 1e-5))[0]
    assert_same(kind(actual), kind(expected))


def kind(x):
    """Each number as 0, an infinity or NaN."""
    return np.where(np.isfinite(x), 0, x)
