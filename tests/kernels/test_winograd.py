import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from every_op import normal
from frameworks import F
from kernel_cases import (
    activations,
    arrays,
    channel_counts,
    channels_first,
    channels_last,
    double,
    finished,
    maps,
    perhaps,
    weights,
)
from oracle import KERNEL_FLOAT32, assert_same
from tinymvit import kernels


def test_winograd_by_hand():
    x = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    sums = kernels.winograd(x, kernels.pack_winograd(np.ones((1, 1, 3, 3), np.float32)), np.float32([0.5]))
    assert sums[0, :, :, 0].tolist() == [[8.5, 15.5, 12.5], [21.5, 36.5, 27.5], [20.5, 33.5, 24.5]]


@pytest.mark.torch
@given(st.data(), channel_counts, channel_counts, activations)
def test_winograd(data, inputs, outputs, activation):
    x, weight = data.draw(maps(inputs)), data.draw(weights(outputs, inputs, 3, 3))
    bias = data.draw(perhaps(arrays(outputs)))
    residual = data.draw(perhaps(arrays(*x.shape[:3], outputs)))
    expected = channels_last(F.conv2d(channels_first(x), double(weight), double(bias), padding=1))
    packed = kernels.pack_winograd(weight)
    actual = kernels.winograd(x, packed, bias, activation=activation, residual=residual)
    assert_same(actual, finished(expected, activation, residual), KERNEL_FLOAT32, dtype=np.float32)


@pytest.mark.torch
@pytest.mark.parametrize(("height", "width", "inputs"), [(8, 9, 320), (33, 32, 96), (3, 150, 40)])
def test_winograd_on_large_maps(height, width, inputs):
    x, weight = normal(0, 2, height, width, inputs), normal(1, 50, inputs, 3, 3)
    expected = F.conv2d(channels_first(x), double(weight), padding=1)
    assert_same(kernels.winograd(x, kernels.pack_winograd(weight), None), channels_last(expected), KERNEL_FLOAT32)
