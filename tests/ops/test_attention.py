import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frameworks import F, torch
from op_cases import check, normal, seeds, sizes
from oracle import REFERENCE_FLOAT64, assert_same
from tinymvit import ops

TOKENS = (4, 3, 6)  # sequences, tokens, width
EXAMPLES = [
    (ops.Scores(2), TOKENS, TOKENS),
    (ops.Softmax(), (4, 2, 3, 3)),
    (ops.Context(), (4, 2, 3, 3), TOKENS),
    (ops.Attention(2), TOKENS, TOKENS, TOKENS),
]


def test_scores_by_hand():
    query = np.array([[[3.0, 4.0, 1.0, 0.0]]])  # one token; two heads of width two
    scores = ops.Scores(heads=2).compute(query, query * np.sqrt(2))
    assert_same(scores, np.array([[[[25.0]], [[1.0]]]]), 1e-15)


def test_softmax_by_hand():
    x = np.array([[[[0.0, np.log(3.0)], [1000.0, 1000.0]]]])
    assert_same(ops.Softmax().compute(x), np.array([[[[0.25, 0.75], [0.5, 0.5]]]]), 1e-15)


def test_context_by_hand():
    probabilities = np.array([[[[0.5, 0.5], [0.0, 1.0]]]])
    context = ops.Context().compute(probabilities, np.array([[[2.0, 0.0], [4.0, 8.0]]]))
    assert context.tolist() == [[[3, 4], [4, 8]]]


def test_attention_without_a_preference_is_the_mean_of_the_values():
    nothing, value = np.zeros((1, 2, 2)), np.array([[[2.0, 0.0], [4.0, 8.0]]])
    assert ops.Attention(2).compute(nothing, nothing, value).tolist() == [[[3, 4], [3, 4]]]


@pytest.mark.torch
@given(seeds, st.integers(1, 3), st.integers(1, 12), st.integers(1, 4), sizes)
def test_whole_and_in_parts_as_pytorch(seed, sequences, tokens, heads, head_width):
    query, key, value = (normal(seed + i, sequences, tokens, heads * head_width) for i in range(3))

    def split(x):
        return torch.tensor(x).view(sequences, tokens, heads, head_width).transpose(1, 2)

    scores = split(query) @ split(key).transpose(2, 3) / math.sqrt(head_width)
    probabilities = scores.softmax(-1)
    expected = (probabilities @ split(value)).transpose(1, 2).reshape(query.shape)
    check(ops.Scores(heads), scores, query, key)
    check(ops.Softmax(), probabilities, scores)
    check(ops.Context(), expected, probabilities, value)
    check(ops.Attention(heads), expected, query, key, value)
    fused = F.scaled_dot_product_attention(split(query), split(key), split(value))
    assert_same(expected, fused.transpose(1, 2).reshape(query.shape), REFERENCE_FLOAT64)
