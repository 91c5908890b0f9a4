import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from every_op import normal
from frameworks import F, torch
from kernel_cases import channel_counts, channels_last, maps
from oracle import KERNEL_FLOAT32, assert_same
from tinymvit import kernels


def resized(x, height, width):
    """By PyTorch in float32, whose rounded coordinates are part of the definition."""
    x = torch.tensor(np.ascontiguousarray(x)).permute(0, 3, 1, 2)
    return channels_last(F.interpolate(x, (height, width), mode="bilinear"))


def test_resize_by_hand():
    x = np.float32([0, 4]).reshape(1, 1, 2, 1)
    assert kernels.resize_bilinear(x, 1, 4).ravel().tolist() == [0, 1, 3, 4]
    assert kernels.resize_bilinear(x, 2, 1).ravel().tolist() == [2, 2]


@pytest.mark.torch
@given(st.data(), st.integers(1, 40), st.integers(1, 40), channel_counts)
def test_resize(data, height, width, channels):
    x = data.draw(maps(channels, st.integers(1, 20), st.integers(1, 20)))
    actual = kernels.resize_bilinear(x, height, width)
    assert_same(actual, resized(x, height, width), KERNEL_FLOAT32, dtype=np.float32)


def test_bands_of_a_resized_map_are_the_whole():
    x = np.random.default_rng(0).random((2, 7, 5, 3), np.float32)
    whole = kernels.resize_bilinear(x, 23, 11)
    bands = [kernels.resize_bilinear(x, 23, 11, rows=range(at, min(at + 4, 23))) for at in range(0, 23, 4)]
    assert_same(np.concatenate(bands, axis=1), whole)


@pytest.mark.torch
@pytest.mark.parametrize(("size", "new_size"), [(1, 1000), (1000, 1), (32, 512), (999, 1000), (1000, 999), (7, 7)])
def test_resize_of_long_maps(size, new_size):
    x = normal(0, 1, size, 3, 2)
    assert_same(kernels.resize_bilinear(x, new_size, 3), resized(x, new_size, 3), KERNEL_FLOAT32)
