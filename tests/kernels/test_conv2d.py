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
    kernel_sizes,
    maps,
    perhaps,
    weights,
)
from oracle import KERNEL_FLOAT32, assert_same
from tinymvit import kernels


def test_convolution_by_hand():
    x = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    weight = kernels.pack_conv2d(np.ones((1, 1, 3, 3), np.float32))
    sums = kernels.conv2d(x, weight, np.float32([0.5]), padding=1)
    assert sums[0, :, :, 0].tolist() == [[8.5, 15.5, 12.5], [21.5, 36.5, 27.5], [20.5, 33.5, 24.5]]


def test_residual_is_added_after_the_activation():
    x = np.float32([-1, 2]).reshape(1, 1, 2, 1)
    weight = kernels.pack_conv2d(np.ones((1, 1, 1, 1), np.float32))
    out = kernels.conv2d(x, weight, None, activation="relu", residual=np.full_like(x, -10))
    assert out.ravel().tolist() == [-10, -8]


@pytest.mark.torch
@given(st.data(), kernel_sizes, st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_convolution(data, kernel_size, stride, dilation, groups):
    padding = data.draw(st.integers(0, 3)) + dilation * max(kernel_size)  # so that the kernel fits
    inputs, outputs = data.draw(channel_counts), data.draw(channel_counts)
    x = data.draw(maps(inputs * groups))
    weight = data.draw(weights(outputs * groups, inputs, *kernel_size))
    bias = data.draw(perhaps(arrays(outputs * groups)))
    expected = F.conv2d(channels_first(x), double(weight), double(bias), stride, padding, dilation, groups)
    expected = channels_last(expected)
    activation, residual = data.draw(activations), data.draw(perhaps(arrays(*expected.shape)))
    actual = kernels.conv2d(
        x,
        kernels.pack_conv2d(weight, groups),
        bias,
        stride=stride,
        padding=padding,
        dilation=dilation,
        activation=activation,
        residual=residual,
    )
    assert_same(actual, finished(expected, activation, residual), KERNEL_FLOAT32, dtype=np.float32)


@pytest.mark.torch
@pytest.mark.parametrize(("kernel", "inputs"), [(1, 2000), (3, 222), (5, 80)])
def test_convolution_with_long_sums(kernel, inputs):
    x, weight = normal(0, 1, 7, 7, inputs), normal(1, 50, inputs, kernel, kernel)
    expected = F.conv2d(channels_first(x), double(weight), padding=kernel // 2)
    actual = kernels.conv2d(x, kernels.pack_conv2d(weight), None, padding=kernel // 2)
    assert_same(actual, channels_last(expected), KERNEL_FLOAT32)
