import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kernel_cases import arrays, channel_counts, sizes
from oracle import assert_same
from tinymvit import kernels


@given(st.data(), st.lists(sizes, max_size=3), st.lists(channel_counts, min_size=1, max_size=5))
def test_concat(data, leading, widths):
    parts = [data.draw(arrays(*leading, width)) for width in widths]
    assert_same(kernels.concat(parts), np.concatenate(parts, -1))
