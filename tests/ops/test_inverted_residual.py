import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frameworks import F, torch
from op_cases import check, normal, seeds, weights_of
from tinymvit import ops


def inverted_residual(stride, dilation, activation="silu", residual=False):
    """From 4 channels by 8 to 4."""
    depthwise = ops.Conv2d(8, 8, 3, stride, dilation, dilation, groups=8, bias=True)
    expand, reduce = ops.Conv2d(4, 8, 1, bias=True), ops.Conv2d(8, 4, 1, bias=True)
    return ops.InvertedResidual(expand, depthwise, reduce, activation, residual)


EXAMPLES = [
    (inverted_residual(1, 1, residual=True), (2, 4, 5, 6)),
    (inverted_residual(2, 1, "relu"), (1, 4, 5, 6)),
    (inverted_residual(1, 2), (1, 4, 5, 6)),
]


def test_zeros_outside_the_map_are_zeros_of_the_wide_map():
    """Only biases: each wide value is 1, and a corner's filter sees four of them, an edge's six, the middle's nine."""
    op = inverted_residual(1, 1, "identity")
    shapes = op.weight_shapes()
    weights = {role: np.zeros(shape) for role, shape in shapes.items()}
    weights["expand.bias"] += 1
    weights["depthwise.weight"] += 1
    weights["reduce.weight"] += np.eye(4, 8)[:, :, None, None]
    y = op.compute(np.ones((1, 4, 3, 3)), *weights.values())
    assert y[0, 0].tolist() == [[4, 6, 4], [6, 9, 6], [4, 6, 4]]


@pytest.mark.torch
@given(seeds, st.sampled_from([(1, 1), (2, 1), (1, 2)]), st.booleans())
def test_is_three_convolutions(seed, steps, residual):
    stride, dilation = steps
    op = inverted_residual(stride, dilation, residual=residual and stride == 1)
    x, weights = normal(seed, 2, 4, 5, 6), weights_of(op, seed + 1)
    expand, expand_bias, filters, filter_bias, reduce, reduce_bias = map(torch.tensor, weights)
    wide = F.silu(F.conv2d(torch.tensor(x), expand, expand_bias))
    wide = F.silu(F.conv2d(wide, filters, filter_bias, stride, dilation, dilation, groups=8))
    expected = F.conv2d(wide, reduce, reduce_bias)
    check(op, expected + torch.tensor(x) if op.residual else expected, x, weights=weights)
