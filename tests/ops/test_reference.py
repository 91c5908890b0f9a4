"""Each op of the reference against PyTorch, float64 to 1e-12 and float32; small cases by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812
from transformers.activations import ACT2FN
from transformers.models.mobilevit.modeling_mobilevit import MobileViTLayer

from oracle import KERNEL_FLOAT32, REFERENCE_FLOAT64, assert_same
from tinymvit import ops, reference
from tinymvit.config import ACTIVATIONS

DTYPES = {np.float64: REFERENCE_FLOAT64, np.float32: KERNEL_FLOAT32}


def check(op, expected, *inputs, weights=()):
    """The reference's float64 and float32 against PyTorch's float64 result."""
    for dtype, tolerance in DTYPES.items():
        values = [np.asarray(v).astype(dtype) for v in (*inputs, *weights)]
        actual = reference.compute(op, values[: len(inputs)], values[len(inputs) :])
        assert_same(actual, expected, tolerance, type(op).__name__, dtype)
        assert actual.shape == op.output_shape(*(np.shape(v) for v in inputs))


def normal(seed, *shape):
    # Rounded to float32, so that both dtypes start from the same numbers.
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32).astype(np.float64)


sizes = st.integers(1, 9)
seeds = st.integers(0, 2**32 - 1)


def test_convolution_by_hand():
    x = np.arange(9.0).reshape(1, 1, 3, 3)
    sums = reference.compute(ops.Conv2d(1, 1, 3, padding=1), [x], [np.ones((1, 1, 3, 3))])
    assert sums[0, 0].tolist() == [[8, 15, 12], [21, 36, 27], [20, 33, 24]]


@given(seeds, st.integers(1, 3), sizes, sizes, st.sampled_from([1, 2, 3, 5]), st.integers(1, 3), st.integers(1, 3),
       st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.booleans())  # fmt: skip
def test_convolution(seed, batch, height, width, kernel_size, stride, dilation, groups, inputs, outputs, bias):
    padding = (kernel_size - 1) // 2 * dilation + (1 - kernel_size % 2) * dilation
    op = ops.Conv2d(inputs * groups, outputs * groups, kernel_size, stride, padding, dilation, groups, bias)
    x = normal(seed, batch, inputs * groups, height, width)
    weights = [normal(seed + 1, *shape) for shape in op.weight_shapes().values()]
    w, b = map(torch.tensor, weights) if bias else (torch.tensor(weights[0]), None)
    expected = F.conv2d(torch.tensor(x), w, b, stride, padding, dilation, groups)
    check(op, expected, x, weights=weights)


@given(seeds, st.integers(1, 3), sizes, sizes, sizes)
def test_batch_norm(seed, batch, channels, height, width):
    x = normal(seed, batch, channels, height, width)
    weight, bias, mean, variance = (normal(seed + i, channels) for i in range(4))
    variance = variance**2 + 0.25
    op = ops.BatchNorm(channels, 1e-3)
    expected = F.batch_norm(*map(torch.tensor, (x, mean, variance, weight, bias)), eps=1e-3)
    check(op, expected, x, weights=[weight, bias, mean, variance])


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activations(name):
    x = np.concatenate([np.linspace(-12, 12, 1001), [0.0, -0.0, 1e-30, -1e-30]]).astype(np.float32).astype(np.float64)
    op = ops.Activation(ACTIVATIONS[name])
    check(op, ACT2FN[name](torch.tensor(x)), x)
    extremes = np.array([np.nan, 1e4, -1e4])
    assert_same(reference.compute(op, [extremes], []), ACT2FN[name](torch.tensor(extremes)), REFERENCE_FLOAT64, name)


def test_a_callable_activation_is_called_with_the_array():
    x = normal(0, 1, 2, 3, 3)
    assert_same(reference.compute(ops.Activation(np.sin), [x], []), np.sin(x))
    with pytest.raises(ValueError, match=r"gave shape \(2, 3, 3\) for an input of shape \(1, 2, 3, 3\)"):
        reference.compute(ops.Activation(lambda x: x[0]), [x], [])


@given(seeds, st.integers(1, 3), sizes, sizes, sizes, sizes, sizes)
def test_resize(seed, batch, channels, height, width, new_height, new_width):
    x = normal(seed, batch, channels, height, width)
    expected = F.interpolate(torch.tensor(x), size=(new_height, new_width), mode="bilinear", align_corners=False)
    check(ops.Resize(new_height, new_width), expected, x)


@pytest.mark.parametrize(("size", "new_size"), [(999, 1000), (1000, 999), (7, 4001)])
def test_resize_of_long_maps(size, new_size):
    x = normal(0, 1, 2, size, 3)
    expected = F.interpolate(torch.tensor(x), size=(new_size, 3), mode="bilinear", align_corners=False)
    assert_same(reference.compute(ops.Resize(new_size, 3), [x], []), expected, REFERENCE_FLOAT64)
    x = x.astype(np.float32)
    expected = F.interpolate(torch.tensor(x), size=(new_size, 3), mode="bilinear", align_corners=False)
    assert_same(reference.compute(ops.Resize(new_size, 3), [x], []), expected, KERNEL_FLOAT32)


def test_unfold_by_hand():
    x = np.array([[0, 1, 2, 3], [4, 5, 6, 7]]).reshape(1, 1, 2, 4)
    # One sequence for each position inside a 2 x 2 patch, one token for each of the two patches.
    assert reference.compute(ops.Unfold(2, 2), [x], [])[..., 0].tolist() == [[0, 2], [1, 3], [4, 6], [5, 7]]


@given(seeds, st.integers(1, 3), sizes, st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))
def test_fold_undoes_unfold(seed, batch, width, patch_height, patch_width, rows, columns):
    x = normal(seed, batch, width, patch_height * rows, patch_width * columns)
    tokens = reference.compute(ops.Unfold(patch_height, patch_width), [x], [])
    assert tokens.shape == (batch * patch_height * patch_width, rows * columns, width)
    fold = ops.Fold(patch_height, patch_width, *x.shape[2:])
    assert_same(reference.compute(fold, [tokens], []), x)


@given(seeds, st.integers(1, 3), sizes, st.sampled_from([1, 2, 4]), st.integers(1, 4), st.integers(1, 4))
def test_unfold_and_fold_order_is_that_of_transformers(seed, batch, width, patch, rows, columns):
    layer = MobileViTLayer.__new__(MobileViTLayer)
    torch.nn.Module.__init__(layer)
    layer.patch_width = layer.patch_height = patch
    x = normal(seed, batch, width, patch * rows, patch * columns)
    tokens, info = layer.unfolding(torch.tensor(x))
    assert_same(reference.compute(ops.Unfold(patch, patch), [x], []), tokens)
    other = normal(seed + 1, *tokens.shape)
    fold = ops.Fold(patch, patch, *x.shape[2:])
    assert_same(reference.compute(fold, [other], []), layer.folding(torch.tensor(other), info))


@given(seeds, st.integers(1, 3), sizes, st.integers(1, 40))
def test_layer_norm(seed, sequences, tokens, width):
    x, weight, bias = normal(seed, sequences, tokens, width), normal(seed + 1, width), normal(seed + 2, width)
    expected = F.layer_norm(torch.tensor(x), (width,), torch.tensor(weight), torch.tensor(bias), eps=1e-3)
    check(ops.LayerNorm(width, 1e-3), expected, x, weights=[weight, bias])


@given(seeds, st.integers(1, 3), sizes, st.integers(1, 40), sizes, st.booleans())
def test_linear(seed, sequences, tokens, inputs, outputs, bias):
    op = ops.Linear(inputs, outputs, bias)
    x = normal(seed, sequences, tokens, inputs)
    weights = [normal(seed + 1, *shape) for shape in op.weight_shapes().values()]
    check(op, F.linear(torch.tensor(x), *map(torch.tensor, weights)), x, weights=weights)


@given(seeds, st.integers(1, 3), st.integers(1, 12), st.integers(1, 4), sizes)
def test_attention_whole_and_in_parts(seed, sequences, tokens, heads, head_width):
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


@given(seeds, st.integers(1, 3), sizes, sizes, sizes, st.booleans())
def test_mean_pool(seed, batch, channels, height, width, keep_dims):
    x = normal(seed, batch, channels, height, width)
    check(ops.MeanPool(keep_dims), torch.tensor(x).mean((2, 3), keepdim=keep_dims), x)


def test_add_and_concat():
    a, b = normal(0, 2, 3, 4, 5), normal(1, 2, 3, 4, 5)
    check(ops.Add(), a + b, a, b)
    check(ops.Concat(), torch.cat([torch.tensor(a), torch.tensor(b)], 1), a, b)


@given(seeds, st.booleans(), st.booleans(), st.sampled_from(["identity", "silu"]))
def test_fused_is_the_op_then_the_activation_then_the_sum(seed, bias, residual, activation):
    op = ops.Fused(ops.Conv2d(3, 5, 3, padding=1, bias=bias), activation, residual)
    x, other = normal(seed, 2, 3, 4, 4), normal(seed + 1, 2, 5, 4, 4)
    weights = [normal(seed + 2, *shape) for shape in op.weight_shapes().values()]
    expected = F.conv2d(torch.tensor(x), *map(torch.tensor, weights), padding=1)
    expected = F.silu(expected) if activation == "silu" else expected
    inputs = (x, other) if residual else (x,)
    check(op, expected + torch.tensor(other) if residual else expected, *inputs, weights=weights)
