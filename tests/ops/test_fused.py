import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frameworks import F, torch
from op_cases import check, normal, seeds, weights_of
from tinymvit import ops

EXAMPLES = [
    (ops.Fused(ops.Conv2d(3, 5, 3, padding=1, bias=True), "silu", residual=True), (1, 3, 5, 4), (1, 5, 5, 4)),
    (ops.Fused(ops.Conv2d(3, 5, 3, stride=2, padding=1), "relu"), (1, 3, 5, 4)),
    (ops.Fused(ops.Conv2d(3, 5, 1, bias=True), residual=True), (1, 3, 5, 4), (1, 5, 5, 4)),
    (ops.Fused(ops.Conv2d(4, 4, 3, padding=1, groups=4, bias=True), "silu"), (1, 4, 5, 4)),
    (ops.Fused(ops.Conv2d(4, 4, 3, padding=1, groups=4), "relu", residual=True), (1, 4, 5, 4), (1, 4, 5, 4)),
    (ops.Fused(ops.Linear(6, 5), "gelu", residual=True), (4, 3, 6), (4, 3, 5)),
    (ops.Fused(ops.Linear(6, 5), "relu"), (2, 6)),
]


def test_by_hand():
    op = ops.Fused(ops.Linear(1, 1), activation="relu", residual=True)
    y = op.compute(np.array([[-2.0]]), np.array([[10.0]]), np.array([[3.0]]), np.array([1.0]))
    assert y.tolist() == [[10]]


@pytest.mark.torch
@given(seeds, st.booleans(), st.booleans(), st.sampled_from(["identity", "silu"]))
def test_is_the_op_then_the_activation_then_the_sum(seed, bias, residual, activation):
    op = ops.Fused(ops.Conv2d(3, 5, 3, padding=1, bias=bias), activation, residual)
    x, other, weights = normal(seed, 2, 3, 4, 4), normal(seed + 1, 2, 5, 4, 4), weights_of(op, seed + 2)
    expected = F.conv2d(torch.tensor(x), *map(torch.tensor, weights), padding=1)
    expected = F.silu(expected) if activation == "silu" else expected
    inputs = (x, other) if residual else (x,)
    check(op, expected + torch.tensor(other) if residual else expected, *inputs, weights=weights)
