import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frameworks import torch
from op_cases import check, normal, seeds, sizes
from tinymvit import ops

EXAMPLES = [(ops.MeanPool(), (2, 3, 4, 5)), (ops.MeanPool(keep_dims=True), (2, 3, 4, 5))]


def test_by_hand():
    x = np.array([[[[1.0, 2.0], [3.0, 6.0]]]])
    assert ops.MeanPool().compute(x).tolist() == [[3]]
    assert ops.MeanPool(keep_dims=True).compute(x).tolist() == [[[[3]]]]


@pytest.mark.torch
@given(seeds, st.integers(1, 3), sizes, sizes, sizes, st.booleans())
def test_as_pytorch(seed, batch, channels, height, width, keep_dims):
    x = normal(seed, batch, channels, height, width)
    check(ops.MeanPool(keep_dims), torch.tensor(x).mean((2, 3), keepdim=keep_dims), x)
