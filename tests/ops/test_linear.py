import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frameworks import F, torch
from op_cases import check, normal, seeds, sizes, weights_of
from tinymvit import ops

EXAMPLES = [
    (ops.Linear(6, 5), (4, 3, 6)),
    (ops.Linear(6, 5, bias=False), (4, 3, 6)),
    (ops.Linear(6, 5), (2, 6)),  # a matrix times a vector for each image
]


def test_by_hand():
    weight, bias = np.array([[1.0, 2.0], [0.0, 1.0], [1.0, 0.0]]), np.array([0.0, 0.0, 5.0])
    assert ops.Linear(2, 3).compute(np.array([[1.0, 10.0]]), weight, bias).tolist() == [[21, 10, 6]]
    assert ops.Linear(2, 3, bias=False).compute(np.array([[1.0, 10.0]]), weight).tolist() == [[21, 10, 1]]
    assert ops.Linear(2, 3).multiply_adds((4, 3), (4, 2)) == 4 * 2 * 3


@pytest.mark.torch
@given(seeds, st.integers(1, 3), sizes, st.integers(1, 40), sizes, st.booleans())
def test_as_pytorch(seed, sequences, tokens, inputs, outputs, bias):
    op = ops.Linear(inputs, outputs, bias)
    x, weights = normal(seed, sequences, tokens, inputs), weights_of(op, seed + 1)
    check(op, F.linear(torch.tensor(x), *map(torch.tensor, weights)), x, weights=weights)
