import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frameworks import F, torch
from op_cases import check, normal, seeds, sizes, weights_of
from tinymvit import ops

EXAMPLES = [(ops.LayerNorm(6, 1e-5), (4, 3, 6))]


def test_by_hand():
    y = ops.LayerNorm(2, eps=0.0).compute(np.array([[[1.0, 3.0]]]), np.array([1.0, 1.0]), np.array([0.0, 10.0]))
    assert y.tolist() == [[[-1, 11]]]


@pytest.mark.torch
@given(seeds, st.integers(1, 3), sizes, st.integers(1, 40))
def test_as_pytorch(seed, sequences, tokens, width):
    op = ops.LayerNorm(width, 1e-3)
    x, weights = normal(seed, sequences, tokens, width), weights_of(op, seed + 1)
    expected = F.layer_norm(torch.tensor(x), (width,), *map(torch.tensor, weights), eps=1e-3)
    check(op, expected, x, weights=weights)
