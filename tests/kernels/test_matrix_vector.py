import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kernel_cases import arrays, batches, channel_counts, perhaps
from tinymvit import kernels


def test_matrix_vector_by_hand():
    weight = kernels.pack_linear(np.float32([[1, 2], [3, 4], [5, 6]]))
    out = kernels.matrix_vector(np.float32([[1, 10], [0, 1]]), weight, np.float32([0.5, 0, -0.5]))
    assert out.tolist() == [[21.5, 43, 64.5], [2.5, 4, 5.5]]


@given(st.data(), batches, channel_counts, st.integers(1, 150))
def test_matrix_vector_rounds_once(data, batch, inputs, outputs):
    x, weight = data.draw(arrays(batch, inputs)), data.draw(arrays(outputs, inputs))
    bias = data.draw(perhaps(arrays(outputs)))
    expected = x.astype(np.float64) @ weight.astype(np.float64).T + (0 if bias is None else bias)
    actual = kernels.matrix_vector(x, kernels.pack_linear(weight), bias)
    assert actual.dtype == np.float32
    assert np.all(np.abs(actual - expected) <= 0.5001 * np.spacing(np.abs(actual)) + 1e-12)
