import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from every_op import normal
from kernel_cases import arrays, attended
from oracle import KERNEL_FLOAT32, assert_same
from tinymvit import kernels


def test_attention_by_hand():
    query = np.zeros((1, 2, 1), np.float32)  # no preference: the mean of the values
    assert kernels.attention(query, query + 5, np.float32([[[1], [4]]]), 1).tolist() == [[[2.5], [2.5]]]
    query = np.float32([[[100], [-100]]])  # certainty: the value of the best key
    assert kernels.attention(query, query, np.float32([[[1], [4]]]), 1).tolist() == [[[1], [4]]]


@pytest.mark.torch
@given(st.data(), st.integers(1, 5), st.integers(1, 70), st.integers(1, 4), st.integers(1, 50))
def test_attention(data, sequences, tokens, heads, width):
    query, key, value = (data.draw(arrays(sequences, tokens, heads * width)) for _ in range(3))
    actual = kernels.attention(query, key, value, heads)
    assert_same(actual, attended(query, key, value, heads), KERNEL_FLOAT32, dtype=np.float32)


@pytest.mark.torch
def test_attention_is_stable_for_large_scores():
    query, key, value = (normal(i, 2, 40, 8) * scale for i, scale in enumerate([1000, 1000, 1]))
    # The scores are near 1e6, where float32 has steps of 1/16; the weights are nearly all 0 or 1.
    query, key = np.round(query), np.round(key)
    assert_same(kernels.attention(query, key, value, 2), attended(query, key, value, 2), KERNEL_FLOAT32)


def test_attention_is_finite_for_huge_scores():
    # Scores of 1e11 and a scale that is no power of two: a weight is 1 or 0, whatever rounds where.
    query, key, value = (normal(i, 2, 40, 9) * scale for i, scale in enumerate([1e5, 1e6, 1]))
    out = kernels.attention(query, key, value, 3)
    assert np.isfinite(out).all()
    assert np.abs(out).max() <= np.abs(value).max()
