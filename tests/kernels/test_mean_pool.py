import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kernel_cases import arrays, batches, channel_counts, sizes
from oracle import KERNEL_FLOAT32, assert_same
from tinymvit import kernels


def test_mean_pool_by_hand():
    assert kernels.mean_pool(np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)).tolist() == [[3, 4]]


@given(st.data(), batches, sizes, st.integers(1, 30), channel_counts)
def test_mean_pool(data, batch, height, width, channels):
    x = data.draw(arrays(batch, height, width, channels, mean=1))
    expected = x.mean((1, 2), dtype=np.float64)
    assert_same(kernels.mean_pool(x), expected, KERNEL_FLOAT32, dtype=np.float32)
