import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frameworks import F, torch
from op_cases import check, normal, seeds, sizes
from oracle import KERNEL_FLOAT32, REFERENCE_FLOAT64, assert_same
from tinymvit import ops

EXAMPLES = [(ops.Resize(4, 7), (2, 3, 3, 5))]


def test_by_hand():
    assert ops.Resize(1, 4).compute(np.array([[[[0.0, 4.0]]]])).tolist() == [[[[0, 1, 3, 4]]]]
    assert_same(ops.Resize(1, 2).compute(np.array([[[[0.0, 3.0, 6.0]]]])), np.array([[[[0.75, 5.25]]]]), 1e-15)
    assert ops.Resize(2, 2).compute(np.array([[[[7.0]]]])).tolist() == [[[[7, 7], [7, 7]]]]


def interpolated(x, height, width):
    return F.interpolate(torch.tensor(x), size=(height, width), mode="bilinear", align_corners=False)


@pytest.mark.torch
@given(seeds, st.integers(1, 3), sizes, sizes, sizes, sizes, sizes)
def test_as_pytorch(seed, batch, channels, height, width, new_height, new_width):
    x = normal(seed, batch, channels, height, width)
    check(ops.Resize(new_height, new_width), interpolated(x, new_height, new_width), x)


@pytest.mark.torch
@pytest.mark.parametrize(("size", "new_size"), [(999, 1000), (1000, 999), (7, 4001)])
def test_long_maps_as_pytorch_in_the_same_format(size, new_size):
    x = normal(0, 1, 2, size, 3)
    op = ops.Resize(new_size, 3)
    assert_same(op.compute(x), interpolated(x, new_size, 3), REFERENCE_FLOAT64)
    x = x.astype(np.float32)
    assert_same(op.compute(x), interpolated(x, new_size, 3), KERNEL_FLOAT32)
