import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frameworks import F, torch
from op_cases import check, normal, seeds, sizes, weights_of
from tinymvit import ops

EXAMPLES = [
    (ops.Conv2d(3, 5, 3, stride=2, padding=1, bias=True), (2, 3, 7, 6)),  # dense
    (ops.Conv2d(3, 5, 3, padding=1), (1, 3, 5, 4)),  # by Winograd's method
    (ops.Conv2d(3, 5, 1, bias=True), (1, 3, 5, 4)),  # a linear layer
    (ops.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2), (1, 4, 5, 4)),
    (ops.Conv2d(4, 4, 3, padding=1, groups=4), (1, 4, 5, 4)),  # depthwise
]


def test_by_hand():
    x = np.arange(9.0).reshape(1, 1, 3, 3)
    sums = ops.Conv2d(1, 1, 3, padding=1).compute(x, np.ones((1, 1, 3, 3)))
    assert sums[0, 0].tolist() == [[8, 15, 12], [21, 36, 27], [20, 33, 24]]
    strided = ops.Conv2d(1, 1, 3, stride=2, padding=1, bias=True).compute(x, np.ones((1, 1, 3, 3)), np.array([0.5]))
    assert strided[0, 0].tolist() == [[8.5, 12.5], [20.5, 24.5]]


def test_groups_and_dilation_by_hand():
    x = np.array([[[[1.0, 2, 3, 4]], [[10, 20, 30, 40]]]])  # two channels of one row
    right = np.zeros((2, 1, 3, 3))
    right[:, 0, 1, 2] = 1  # what stands `dilation` to the right, in each channel by itself
    moved = ops.Conv2d(2, 2, 3, padding=2, dilation=2, groups=2).compute(x, right)
    assert moved[0, :, 0].tolist() == [[3, 4, 0, 0], [30, 40, 0, 0]]


def test_multiply_adds_by_hand():
    op = ops.Conv2d(3, 5, 3, stride=2, padding=1)
    assert op.multiply_adds(op.output_shape((1, 3, 8, 8)), (1, 3, 8, 8)) == 5 * 4 * 4 * 3 * 9


@pytest.mark.torch
@given(seeds, st.integers(1, 3), sizes, sizes, st.sampled_from([1, 2, 3, 5]), st.integers(1, 3), st.integers(1, 3),
       st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.booleans())  # fmt: skip
def test_as_pytorch(seed, batch, height, width, kernel_size, stride, dilation, groups, inputs, outputs, bias):
    padding = (kernel_size - 1) // 2 * dilation + (1 - kernel_size % 2) * dilation
    op = ops.Conv2d(inputs * groups, outputs * groups, kernel_size, stride, padding, dilation, groups, bias)
    x, weights = normal(seed, batch, inputs * groups, height, width), weights_of(op, seed + 1)
    w, b = map(torch.tensor, weights) if bias else (torch.tensor(weights[0]), None)
    expected = F.conv2d(torch.tensor(x), w, b, stride, padding, dilation, groups)
    check(op, expected, x, weights=weights)
