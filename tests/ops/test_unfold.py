import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frameworks import torch
from op_cases import normal, seeds, sizes
from oracle import assert_same
from tinymvit import ops

EXAMPLES = [(ops.Unfold(2, 3), (2, 5, 4, 6)), (ops.Fold(2, 3, 4, 6), (12, 4, 5))]


def test_by_hand():
    x = np.array([[0, 1, 2, 3], [4, 5, 6, 7]]).reshape(1, 1, 2, 4)
    # There is a sequence for each position inside a 2 x 2 patch, and in it a token for each of the two patches.
    tokens = ops.Unfold(2, 2).compute(x)
    assert tokens[..., 0].tolist() == [[0, 2], [1, 3], [4, 6], [5, 7]]
    assert ops.Fold(2, 2, 2, 4).compute(tokens).tolist() == x.tolist()


def test_a_map_that_the_patches_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="reshape"):
        ops.Unfold(2, 2).compute(np.zeros((1, 1, 3, 4)))


@given(seeds, st.integers(1, 3), sizes, st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))
def test_fold_undoes_unfold(seed, batch, width, patch_height, patch_width, rows, columns):
    x = normal(seed, batch, width, patch_height * rows, patch_width * columns)
    tokens = ops.Unfold(patch_height, patch_width).compute(x)
    assert tokens.shape == (batch * patch_height * patch_width, rows * columns, width)
    assert_same(ops.Fold(patch_height, patch_width, *x.shape[2:]).compute(tokens), x)


@pytest.mark.torch
@given(seeds, st.integers(1, 3), sizes, st.sampled_from([1, 2, 4]), st.integers(1, 4), st.integers(1, 4))
def test_the_order_is_that_of_transformers(seed, batch, width, patch, rows, columns):
    from transformers.models.mobilevit.modeling_mobilevit import MobileViTLayer

    layer = MobileViTLayer.__new__(MobileViTLayer)
    torch.nn.Module.__init__(layer)
    layer.patch_width = layer.patch_height = patch
    x = normal(seed, batch, width, patch * rows, patch * columns)
    tokens, info = layer.unfolding(torch.tensor(x))
    assert_same(ops.Unfold(patch, patch).compute(x), tokens)
    other = normal(seed + 1, *tokens.shape)
    assert_same(ops.Fold(patch, patch, *x.shape[2:]).compute(other), layer.folding(torch.tensor(other), info))
