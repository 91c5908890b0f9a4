import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frameworks import F
from kernel_cases import (
    activations,
    arrays,
    channel_counts,
    channels_first,
    channels_last,
    double,
    finished,
    kernel_sizes,
    maps,
    perhaps,
    weights,
)
from oracle import KERNEL_FLOAT32, assert_same
from tinymvit import kernels


def test_depthwise_convolution_by_hand():
    x = np.stack([np.arange(9), np.ones(9)], -1).reshape(1, 3, 3, 2).astype(np.float32)
    weight = np.stack([np.ones((1, 3, 3)), np.full((1, 3, 3), 2)]).astype(np.float32)
    out = kernels.depthwise_conv2d(x, kernels.pack_depthwise_conv2d(weight), None, stride=2, padding=1)
    assert out[0, :, :, 0].tolist() == [[8, 12], [20, 24]]
    assert out[0, :, :, 1].tolist() == [[8, 8], [8, 8]]


@pytest.mark.torch
@given(st.data(), kernel_sizes, st.integers(1, 3), st.integers(1, 3), channel_counts, activations)
def test_depthwise_convolution(data, kernel_size, stride, dilation, channels, activation):
    least_height, least_width = (dilation * size for size in kernel_size)  # so that the kernel fits
    x = data.draw(
        maps(channels, st.integers(1 + least_height, 9 + least_height), st.integers(1 + least_width, 20 + least_width))
    )
    padding = data.draw(st.integers(0, 3)) + dilation * max(kernel_size) // 2
    weight, bias = data.draw(weights(channels, 1, *kernel_size)), data.draw(perhaps(arrays(channels)))
    expected = F.conv2d(channels_first(x), double(weight), double(bias), stride, padding, dilation, channels)
    expected = channels_last(expected)
    residual = data.draw(perhaps(arrays(*expected.shape)))
    actual = kernels.depthwise_conv2d(
        x,
        kernels.pack_depthwise_conv2d(weight),
        bias,
        stride=stride,
        padding=padding,
        dilation=dilation,
        activation=activation,
        residual=residual,
    )
    assert_same(actual, finished(expected, activation, residual), KERNEL_FLOAT32, dtype=np.float32)
