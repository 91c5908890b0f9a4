import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frameworks import F, torch
from op_cases import check, normal, seeds, sizes, weights_of
from tinymvit import ops

EXAMPLES = [(ops.BatchNorm(3), (2, 3, 4, 5))]


def test_by_hand():
    x = np.array([[[[1.0, 3.0, 5.0]]]])
    weight, bias, mean, variance = (np.array([v]) for v in (2.0, 0.5, 3.0, 4.0))
    y = ops.BatchNorm(1, eps=0.0).compute(x, weight, bias, mean, variance)
    assert y[0, 0].tolist() == [[-1.5, 0.5, 2.5]]


@pytest.mark.torch
@given(seeds, st.integers(1, 3), sizes, sizes, sizes)
def test_as_pytorch(seed, batch, channels, height, width):
    op = ops.BatchNorm(channels, 1e-3)
    x, weights = normal(seed, batch, channels, height, width), weights_of(op, seed + 1)
    weight, bias, mean, variance = map(torch.tensor, weights)
    check(op, F.batch_norm(torch.tensor(x), mean, variance, weight, bias, eps=1e-3), x, weights=weights)
