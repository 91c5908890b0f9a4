import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frameworks import F
from kernel_cases import activations, arrays, channel_counts, double, finished, perhaps, sizes, weights
from oracle import KERNEL_FLOAT32, assert_same
from tinymvit import kernels


def test_linear_by_hand():
    weight = kernels.pack_linear(np.float32([[1, 2], [3, 4], [5, 6]]))
    out = kernels.linear(np.float32([[1, 10]]), weight, np.float32([0.5, 0, -0.5]))
    assert out.tolist() == [[21.5, 43, 64.5]]


@pytest.mark.torch
@given(st.data(), st.lists(sizes, max_size=3), channel_counts, channel_counts, activations)
def test_linear(data, leading, inputs, outputs, activation):
    x, weight = data.draw(arrays(*leading, inputs)), data.draw(weights(outputs, inputs))
    bias, residual = data.draw(perhaps(arrays(outputs))), data.draw(perhaps(arrays(*leading, outputs)))
    expected = F.linear(double(x), double(weight), double(bias)).numpy()
    actual = kernels.linear(x, kernels.pack_linear(weight), bias, activation=activation, residual=residual)
    assert_same(actual, finished(expected, activation, residual), KERNEL_FLOAT32, dtype=np.float32)
