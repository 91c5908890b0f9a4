import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frameworks import F
from kernel_cases import activated, activations, channel_counts, channels_first, channels_last, double, maps, weights
from oracle import KERNEL_FLOAT32, assert_same
from tinymvit import kernels


def packed(expand, expand_bias, depthwise, depthwise_bias, reduce, reduce_bias):
    """The three convolutions' weights and biases, as PyTorch has them, packed."""
    expand, reduce = kernels.pack_conv2d(expand), kernels.pack_conv2d(reduce)
    depthwise = kernels.pack_depthwise_conv2d(depthwise)
    return kernels.pack_inverted_residual(expand, expand_bias, depthwise, depthwise_bias, reduce, reduce_bias)


def test_inverted_residual_by_hand():
    x = np.float32([1, -2, 3]).reshape(1, 1, 3, 1)
    one, ones = np.ones((1, 1, 1, 1), np.float32), np.ones((1, 1, 3, 3), np.float32)
    weights = packed(one, np.float32([1]), ones, np.float32([-5]), -one, np.float32([0.5]))
    out = kernels.inverted_residual(x, weights, activation="relu", residual=True)
    # x + 1 is 2, -1, 4, so 2, 0, 4; sums of three neighbours, 2, 6, 4, less 5, so 0, 1, 0; 0.5 less that, plus x.
    # Outside the map are zeros, not relu(0 + 1).
    assert out.ravel().tolist() == [1.5, -2.5, 3.5]


@pytest.mark.torch
@given(st.data(), st.booleans(), st.integers(1, 3), channel_counts, channel_counts, activations)
def test_inverted_residual(data, residual, dilation, inputs, expanded, activation):
    stride, outputs = (1, inputs) if residual else (data.draw(st.integers(1, 3)), data.draw(channel_counts))
    x = data.draw(maps(inputs))
    shapes = [(expanded, inputs, 1, 1), (expanded,), (expanded, 1, 3, 3), (expanded,), (outputs, expanded, 1, 1)]
    tensors = [data.draw(weights(*shape)) for shape in [*shapes, (outputs,)]]
    expand, expand_bias, depthwise, depthwise_bias, reduce, reduce_bias = map(double, tensors)
    expected = activated(activation, F.conv2d(channels_first(x), expand, expand_bias))
    expected = F.conv2d(expected, depthwise, depthwise_bias, stride, dilation, dilation, expanded)
    expected = channels_last(F.conv2d(activated(activation, expected), reduce, reduce_bias))
    actual = kernels.inverted_residual(
        x, packed(*tensors), stride=stride, dilation=dilation, activation=activation, residual=residual
    )
    assert_same(actual, expected + x if residual else expected, KERNEL_FLOAT32, dtype=np.float32)
