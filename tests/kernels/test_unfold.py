import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from every_op import normal
from frameworks import torch
from kernel_cases import arrays, batches, channel_counts, channels_last, seeds, sizes
from oracle import assert_same
from tinymvit import kernels


def test_unfold_by_hand():
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    tokens = kernels.unfold(x, 2, 2)
    assert tokens[..., 0].tolist() == [[0, 2, 8, 10], [1, 3, 9, 11], [4, 6, 12, 14], [5, 7, 13, 15]]


@given(st.data(), batches, st.tuples(st.integers(1, 4), st.integers(1, 4)), st.tuples(sizes, sizes), channel_counts)
def test_fold_undoes_unfold(data, batch, patch, patches, channels):
    height, width = (count * size for count, size in zip(patches, patch, strict=True))
    x = data.draw(arrays(batch, height, width, channels))
    tokens = kernels.unfold(x, *patch)
    assert tokens.shape == (batch * patch[0] * patch[1], patches[0] * patches[1], channels)
    assert_same(kernels.fold(tokens, batch, height, width, *patch), x)


@given(st.data(), batches, sizes, sizes, channel_counts)
def test_fold_takes_tokens_however_they_lie(data, batch, height, width, channels):
    tokens = data.draw(arrays(batch * 4, height * width, channels))
    folded = kernels.fold(tokens, batch, 2 * height, 2 * width, 2, 2)
    assert_same(kernels.unfold(folded, 2, 2), tokens)


@pytest.mark.torch
@given(seeds, batches, st.integers(1, 4), st.integers(1, 6), st.integers(1, 6), channel_counts)
def test_unfold_and_fold_are_transformers_s(seed, batch, patch, rows, columns, channels):
    from transformers.models.mobilevit.modeling_mobilevit import MobileViTLayer

    layer = MobileViTLayer.__new__(MobileViTLayer)
    torch.nn.Module.__init__(layer)
    layer.patch_height = layer.patch_width = patch
    x = normal(seed, batch, rows * patch, columns * patch, channels)
    tokens, info = layer.unfolding(torch.tensor(x).permute(0, 3, 1, 2))
    assert_same(kernels.unfold(x, patch, patch), tokens.numpy())
    folded = layer.folding(tokens, info)
    assert_same(kernels.fold(tokens.numpy(), *x.shape[:3], patch, patch), channels_last(folded))
