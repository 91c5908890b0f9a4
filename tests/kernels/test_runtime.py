"""Each kernel against PyTorch in float64, by hand and by Hypothesis; its bits; its errors; threads and forks."""

import inspect
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from llvmlite import binding
from torch.nn import functional as F  # noqa: N812
from transformers.models.mobilevit.modeling_mobilevit import MobileViTLayer

from oracle import KERNEL_FLOAT32, assert_same
from tinymvit import kernels
from tinymvit.kernels.runtime import cache, jit

TORCH_ACTIVATIONS = {
    "identity": lambda x: x,
    "silu": F.silu,
    "relu": F.relu,
    "relu6": F.relu6,
    "gelu": lambda x: x * torch.special.erfc(-x / 2**0.5) / 2,  # PyTorch's own 1 + erf cancels for x < 0
    "gelu_tanh": lambda x: x * torch.sigmoid(2 * (2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)),
    "hardswish": F.hardswish,
    "leaky_relu": F.leaky_relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}
LAYOUTS = ["plain", "read-only", "sliced", "reversed", "column-major", "misaligned"]

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 9)
batches = st.integers(1, 3)
channel_counts = st.one_of(st.integers(1, 9), st.integers(10, 70))  # below, at and beyond one vector and one panel
layouts = st.sampled_from(LAYOUTS)
activations = st.sampled_from(kernels.ACTIVATIONS)


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def laid_out(array, layout):
    """The same values, otherwise in memory."""
    if layout == "sliced":
        array = np.repeat(array, 2, axis=-1)[..., ::2]
    elif layout == "reversed":
        array = np.ascontiguousarray(array[::-1])[::-1]
    elif layout == "column-major":
        array = np.asfortranarray(array)
    elif layout == "misaligned":
        array = np.frombuffer(b"?" + array.tobytes(), np.float32, offset=1).reshape(array.shape)
    elif layout == "read-only":
        array.flags.writeable = False
    return array


def double(array):
    return torch.tensor(array.astype(np.float64))


def channels_first(array):
    return double(array).permute(0, 3, 1, 2)


def channels_last(tensor):
    return tensor.permute(0, 2, 3, 1).numpy()


@contextmanager
def threads(count):
    before = kernels.get_num_threads()
    kernels.set_num_threads(count)
    try:
        yield
    finally:
        kernels.set_num_threads(before)


# ---- convolutions ----


def test_convolution_by_hand():
    x = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    weight = kernels.pack_conv2d(np.ones((1, 1, 3, 3), np.float32))
    sums = kernels.conv2d(x, weight, np.float32([0.5]), padding=1)
    assert sums[0, :, :, 0].tolist() == [[8.5, 15.5, 12.5], [21.5, 36.5, 27.5], [20.5, 33.5, 24.5]]


def test_residual_is_added_after_the_activation():
    x = np.float32([-1, 2]).reshape(1, 1, 2, 1)
    weight = kernels.pack_conv2d(np.ones((1, 1, 1, 1), np.float32))
    out = kernels.conv2d(x, weight, None, activation="relu", residual=np.full_like(x, -10))
    assert out.ravel().tolist() == [-10, -8]


@given(seeds, batches, sizes, sizes, st.sampled_from([(1, 1), (3, 3), (2, 2), (1, 3), (5, 2)]), st.integers(1, 3),
       st.integers(0, 3), st.integers(1, 3), st.integers(1, 3), channel_counts, channel_counts, st.booleans(),
       st.booleans(), activations, layouts)  # fmt: skip
def test_convolution(seed, batch, height, width, kernel, stride, padding, dilation, groups, inputs, outputs, with_bias,
                     with_residual, activation, layout):  # fmt: skip
    padding += dilation * max(kernel[0], kernel[1])  # so that the kernel fits
    x = normal(seed, batch, height, width, inputs * groups)
    weight = normal(seed + 1, outputs * groups, inputs, *kernel)
    bias = normal(seed + 2, outputs * groups) if with_bias else None
    expected = F.conv2d(channels_first(x), double(weight), double(bias) if with_bias else None, stride, padding,
                        dilation, groups)  # fmt: skip
    expected = channels_last(TORCH_ACTIVATIONS[activation](expected))
    residual = normal(seed + 3, *expected.shape) if with_residual else None
    actual = kernels.conv2d(
        laid_out(x, layout),
        kernels.pack_conv2d(laid_out(weight, layout), groups),
        laid_out(bias, layout) if with_bias else None,
        stride=stride,
        padding=padding,
        dilation=dilation,
        activation=activation,
        residual=laid_out(residual, layout) if with_residual else None,
    )
    assert_same(actual, expected + residual if with_residual else expected, KERNEL_FLOAT32, dtype=np.float32)


def test_winograd_by_hand():
    x = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    sums = kernels.winograd(x, kernels.pack_winograd(np.ones((1, 1, 3, 3), np.float32)), np.float32([0.5]))
    assert sums[0, :, :, 0].tolist() == [[8.5, 15.5, 12.5], [21.5, 36.5, 27.5], [20.5, 33.5, 24.5]]


@given(seeds, batches, sizes, sizes, channel_counts, channel_counts, st.booleans(), st.booleans(), activations, layouts)
def test_winograd(seed, batch, height, width, inputs, outputs, with_bias, with_residual, activation, layout):
    x, weight = normal(seed, batch, height, width, inputs), normal(seed + 1, outputs, inputs, 3, 3)
    bias = normal(seed + 2, outputs) if with_bias else None
    expected = F.conv2d(channels_first(x), double(weight), double(bias) if with_bias else None, padding=1)
    expected = channels_last(TORCH_ACTIVATIONS[activation](expected))
    residual = normal(seed + 3, *expected.shape) if with_residual else None
    actual = kernels.winograd(
        laid_out(x, layout),
        kernels.pack_winograd(laid_out(weight, layout)),
        laid_out(bias, layout) if with_bias else None,
        activation=activation,
        residual=laid_out(residual, layout) if with_residual else None,
    )
    assert_same(actual, expected + residual if with_residual else expected, KERNEL_FLOAT32, dtype=np.float32)


@pytest.mark.parametrize(("height", "width", "inputs"), [(8, 9, 320), (33, 32, 96), (3, 150, 40)])
def test_winograd_on_large_maps(height, width, inputs):
    x, weight = normal(0, 2, height, width, inputs), normal(1, 50, inputs, 3, 3)
    expected = F.conv2d(channels_first(x), double(weight), padding=1)
    assert_same(kernels.winograd(x, kernels.pack_winograd(weight), None), channels_last(expected), KERNEL_FLOAT32)


@pytest.mark.parametrize(("kernel", "inputs"), [(1, 2000), (3, 222), (5, 80)])
def test_convolution_with_long_sums(kernel, inputs):
    x, weight = normal(0, 1, 7, 7, inputs), normal(1, 50, inputs, kernel, kernel)
    expected = F.conv2d(channels_first(x), double(weight), padding=kernel // 2)
    actual = kernels.conv2d(x, kernels.pack_conv2d(weight), None, padding=kernel // 2)
    assert_same(actual, channels_last(expected), KERNEL_FLOAT32)


def test_depthwise_convolution_by_hand():
    x = np.stack([np.arange(9), np.ones(9)], -1).reshape(1, 3, 3, 2).astype(np.float32)
    weight = np.stack([np.ones((1, 3, 3)), np.full((1, 3, 3), 2)]).astype(np.float32)
    out = kernels.depthwise_conv2d(x, kernels.pack_depthwise_conv2d(weight), None, stride=2, padding=1)
    assert out[0, :, :, 0].tolist() == [[8, 12], [20, 24]]
    assert out[0, :, :, 1].tolist() == [[8, 8], [8, 8]]


@given(seeds, batches, sizes, st.integers(1, 20), st.sampled_from([(1, 1), (3, 3), (2, 2), (1, 3), (5, 2)]),
       st.integers(1, 3), st.integers(0, 3), st.integers(1, 3), channel_counts, st.booleans(), activations,
       layouts)  # fmt: skip
def test_depthwise_convolution(seed, batch, height, width, kernel, stride, padding, dilation, channels, with_bias,
                               activation, layout):  # fmt: skip
    padding += dilation * max(kernel[0], kernel[1]) // 2
    height, width = height + dilation * kernel[0], width + dilation * kernel[1]
    x, weight = normal(seed, batch, height, width, channels), normal(seed + 1, channels, 1, *kernel)
    bias = normal(seed + 2, channels) if with_bias else None
    expected = F.conv2d(channels_first(x), double(weight), double(bias) if with_bias else None, stride, padding,
                        dilation, channels)  # fmt: skip
    actual = kernels.depthwise_conv2d(
        laid_out(x, layout),
        kernels.pack_depthwise_conv2d(laid_out(weight, layout)),
        laid_out(bias, layout) if with_bias else None,
        stride=stride,
        padding=padding,
        dilation=dilation,
        activation=activation,
    )
    assert_same(actual, channels_last(TORCH_ACTIVATIONS[activation](expected)), KERNEL_FLOAT32, dtype=np.float32)


# ---- tokens ----


def inverted_residual_weights(rng, inputs, expanded, outputs):
    """Weights and biases of the three convolutions, as PyTorch has them."""
    shapes = [(expanded, inputs, 1, 1), (expanded,), (expanded, 1, 3, 3), (expanded,), (outputs, expanded, 1, 1),
              (outputs,)]  # fmt: skip
    return [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]


def packed_inverted_residual(expand, expand_bias, depthwise, depthwise_bias, reduce, reduce_bias):
    return kernels.pack_inverted_residual(
        kernels.pack_conv2d(expand), expand_bias, kernels.pack_depthwise_conv2d(depthwise), depthwise_bias,
        kernels.pack_conv2d(reduce), reduce_bias,
    )  # fmt: skip


def test_inverted_residual_by_hand():
    x = np.float32([1, -2, 3]).reshape(1, 1, 3, 1)
    one, ones = np.ones((1, 1, 1, 1), np.float32), np.ones((1, 1, 3, 3), np.float32)
    weights = packed_inverted_residual(one, np.float32([1]), ones, np.float32([-5]), -one, np.float32([0.5]))
    out = kernels.inverted_residual(x, weights, activation="relu", residual=True)
    # x + 1 is 2, -1, 4, so 2, 0, 4; sums of three neighbours, 2, 6, 4, less 5, so 0, 1, 0; 0.5 less that, plus x.
    # Outside the map are zeros, not relu(0 + 1).
    assert out.ravel().tolist() == [1.5, -2.5, 3.5]


@given(seeds, batches, sizes, sizes, st.integers(1, 3), st.integers(1, 3), channel_counts, channel_counts,
       channel_counts, st.booleans(), activations, layouts)  # fmt: skip
def test_inverted_residual(seed, batch, height, width, stride, dilation, inputs, expanded, outputs, with_residual,
                           activation, layout):  # fmt: skip
    if with_residual:
        stride, outputs = 1, inputs
    x = normal(seed, batch, height, width, inputs)
    weights = inverted_residual_weights(np.random.default_rng(seed + 1), inputs, expanded, outputs)
    expand, expand_bias, depthwise, depthwise_bias, reduce, reduce_bias = map(double, weights)
    apply = TORCH_ACTIVATIONS[activation]
    expected = apply(F.conv2d(channels_first(x), expand, expand_bias))
    expected = apply(F.conv2d(expected, depthwise, depthwise_bias, stride, dilation, dilation, expanded))
    expected = channels_last(F.conv2d(expected, reduce, reduce_bias))
    actual = kernels.inverted_residual(
        laid_out(x, layout),
        packed_inverted_residual(*weights),
        stride=stride,
        dilation=dilation,
        activation=activation,
        residual=with_residual,
    )
    assert_same(actual, expected + x if with_residual else expected, KERNEL_FLOAT32, dtype=np.float32)


def test_linear_by_hand():
    weight = kernels.pack_linear(np.float32([[1, 2], [3, 4], [5, 6]]))
    out = kernels.linear(np.float32([[1, 10]]), weight, np.float32([0.5, 0, -0.5]))
    assert out.tolist() == [[21.5, 43, 64.5]]


@given(seeds, st.lists(sizes, max_size=3), channel_counts, channel_counts, st.booleans(), st.booleans(), activations,
       layouts)  # fmt: skip
def test_linear(seed, leading, inputs, outputs, with_bias, with_residual, activation, layout):
    x, weight = normal(seed, *leading, inputs), normal(seed + 1, outputs, inputs)
    bias = normal(seed + 2, outputs) if with_bias else None
    expected = F.linear(double(x), double(weight), double(bias) if with_bias else None)
    expected = TORCH_ACTIVATIONS[activation](expected).numpy()
    residual = normal(seed + 3, *expected.shape) if with_residual else None
    actual = kernels.linear(
        laid_out(x, layout),
        kernels.pack_linear(laid_out(weight, layout)),
        laid_out(bias, layout) if with_bias else None,
        activation=activation,
        residual=laid_out(residual, layout) if with_residual else None,
    )
    assert_same(actual, expected + residual if with_residual else expected, KERNEL_FLOAT32, dtype=np.float32)


def test_gemv_by_hand():
    weight = kernels.pack_linear(np.float32([[1, 2], [3, 4], [5, 6]]))
    out = kernels.matrix_vector(np.float32([[1, 10], [0, 1]]), weight, np.float32([0.5, 0, -0.5]))
    assert out.tolist() == [[21.5, 43, 64.5], [2.5, 4, 5.5]]


@given(seeds, st.integers(1, 3), channel_counts, st.integers(1, 150), st.booleans(), layouts)
def test_gemv_rounds_once(seed, batch, inputs, outputs, with_bias, layout):
    x, weight = normal(seed, batch, inputs), normal(seed + 1, outputs, inputs)
    bias = normal(seed + 2, outputs) if with_bias else None
    expected = F.linear(double(x), double(weight), double(bias) if with_bias else None).numpy()
    packed = kernels.pack_linear(laid_out(weight, layout))
    actual = kernels.matrix_vector(laid_out(x, layout), packed, laid_out(bias, layout) if with_bias else None)
    assert actual.dtype == np.float32
    assert np.all(np.abs(actual - expected) <= 0.5001 * np.spacing(np.abs(actual)) + 1e-12)


def test_layer_norm_by_hand():
    out = kernels.layer_norm(np.float32([[1, 3]]), np.float32([1, 2]), np.float32([0, 5]), 0.0)
    assert out.tolist() == [[-1, 7]]


@given(seeds, st.lists(sizes, max_size=2), channel_counts, st.sampled_from([1e-5, 1e-12, 0.1]), layouts)
def test_layer_norm(seed, leading, width, eps, layout):
    x, weight, bias = normal(seed, *leading, width) + 3, normal(seed + 1, width), normal(seed + 2, width)
    expected = F.layer_norm(double(x), (width,), double(weight), double(bias), float(np.float32(eps)))
    if width == 1:
        eps = 1e-5  # a variance of 0 leaves only eps
        expected = F.layer_norm(double(x), (width,), double(weight), double(bias), eps)
    actual = kernels.layer_norm(laid_out(x, layout), laid_out(weight, layout), laid_out(bias, layout), eps)
    # The mean is rounded to float32 in units of itself, so the differences carry that much more than their own size.
    spread = float(x.std(-1).min()) or 1.0
    assert_same(actual, expected.numpy(), KERNEL_FLOAT32 * max(1.0, float(np.abs(x).max()) / spread), dtype=np.float32)


def test_attention_by_hand():
    query = np.zeros((1, 2, 1), np.float32)  # no preference: the mean of the values
    assert kernels.attention(query, query + 5, np.float32([[[1], [4]]]), 1).tolist() == [[[2.5], [2.5]]]
    query = np.float32([[[100], [-100]]])  # certainty: the value of the best key
    assert kernels.attention(query, query, np.float32([[[1], [4]]]), 1).tolist() == [[[1], [4]]]


def torch_attention(query, key, value, heads):
    query, key, value = (double(a).unflatten(-1, (heads, -1)).transpose(1, 2) for a in (query, key, value))
    weights = torch.softmax(query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5, -1)
    return (weights @ value).transpose(1, 2).flatten(2).numpy()


@given(seeds, st.integers(1, 5), st.integers(1, 70), st.integers(1, 4), st.integers(1, 50), layouts)
def test_attention(seed, sequences, tokens, heads, width, layout):
    query, key, value = (normal(seed + i, sequences, tokens, heads * width) for i in range(3))
    expected = torch_attention(query, key, value, heads)
    actual = kernels.attention(*(laid_out(a, layout) for a in (query, key, value)), heads)
    assert_same(actual, expected, KERNEL_FLOAT32, dtype=np.float32)


def test_attention_is_stable_for_large_scores():
    query, key, value = (normal(i, 2, 40, 8) * scale for i, scale in enumerate([1000, 1000, 1]))
    # The scores are near 1e6, where float32 has steps of 1/16; the weights are nearly all 0 or 1.
    query, key = np.round(query), np.round(key)
    assert_same(kernels.attention(query, key, value, 2), torch_attention(query, key, value, 2), KERNEL_FLOAT32)
    # Scores of 1e11 and a scale that is no power of two: a weight is 1 or 0, whatever rounds where.
    query, key, value = (normal(i, 2, 40, 9) * scale for i, scale in enumerate([1e5, 1e6, 1]))
    out = kernels.attention(query, key, value, 3)
    assert np.isfinite(out).all()
    assert np.abs(out).max() <= np.abs(value).max()


# ---- moving values ----


def test_unfold_by_hand():
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    tokens = kernels.unfold(x, 2, 2)
    assert tokens[..., 0].tolist() == [[0, 2, 8, 10], [1, 3, 9, 11], [4, 6, 12, 14], [5, 7, 13, 15]]


@given(seeds, batches, st.integers(1, 4), st.integers(1, 4), sizes, sizes, channel_counts, layouts)
def test_fold_undoes_unfold(seed, batch, patch_height, patch_width, rows, columns, channels, layout):
    height, width = rows * patch_height, columns * patch_width
    x = normal(seed, batch, height, width, channels)
    tokens = kernels.unfold(laid_out(x, layout), patch_height, patch_width)
    assert tokens.shape == (batch * patch_height * patch_width, rows * columns, channels)
    assert_same(kernels.fold(laid_out(tokens, layout), batch, height, width, patch_height, patch_width), x)


@given(seeds, batches, st.integers(1, 4), st.integers(1, 6), st.integers(1, 6), channel_counts)
def test_unfold_and_fold_are_transformers_s(seed, batch, patch, rows, columns, channels):
    layer = MobileViTLayer.__new__(MobileViTLayer)
    torch.nn.Module.__init__(layer)
    layer.patch_height = layer.patch_width = patch
    x = normal(seed, batch, rows * patch, columns * patch, channels)
    tokens, info = layer.unfolding(torch.tensor(x).permute(0, 3, 1, 2))
    assert_same(kernels.unfold(x, patch, patch), tokens.numpy())
    folded = layer.folding(tokens, info)
    assert_same(kernels.fold(tokens.numpy(), *x.shape[:3], patch, patch), channels_last(folded))


def test_resize_by_hand():
    x = np.float32([0, 4]).reshape(1, 1, 2, 1)
    assert kernels.resize_bilinear(x, 1, 4).ravel().tolist() == [0, 1, 3, 4]
    assert kernels.resize_bilinear(x, 2, 1).ravel().tolist() == [2, 2]


@given(seeds, batches, st.integers(1, 20), st.integers(1, 20), st.integers(1, 40), st.integers(1, 40), channel_counts,
       layouts)  # fmt: skip
def test_resize(seed, batch, height, width, new_height, new_width, channels, layout):
    x = normal(seed, batch, height, width, channels)
    expected = F.interpolate(torch.tensor(x).permute(0, 3, 1, 2), (new_height, new_width), mode="bilinear")
    actual = kernels.resize_bilinear(laid_out(x, layout), new_height, new_width)
    # PyTorch in float32, whose rounded coordinates are part of the definition.
    assert_same(actual, channels_last(expected), KERNEL_FLOAT32, dtype=np.float32)


def test_bands_of_a_resized_map_are_the_whole():
    x = np.random.default_rng(0).random((2, 7, 5, 3), np.float32)
    whole = kernels.resize_bilinear(x, 23, 11)
    bands = [kernels.resize_bilinear(x, 23, 11, rows=range(at, min(at + 4, 23))) for at in range(0, 23, 4)]
    assert_same(np.concatenate(bands, axis=1), whole)


@pytest.mark.parametrize(("size", "new_size"), [(1, 1000), (1000, 1), (32, 512), (999, 1000), (1000, 999), (7, 7)])
def test_resize_of_long_maps(size, new_size):
    x = normal(0, 1, size, 3, 2)
    expected = F.interpolate(torch.tensor(x).permute(0, 3, 1, 2), (new_size, 3), mode="bilinear")
    assert_same(kernels.resize_bilinear(x, new_size, 3), channels_last(expected), KERNEL_FLOAT32)


@given(seeds, batches, sizes, st.integers(1, 30), channel_counts, layouts)
def test_mean_pool(seed, batch, height, width, channels, layout):
    x = normal(seed, batch, height, width, channels) + 1
    expected = x.mean((1, 2), dtype=np.float64)
    assert_same(kernels.mean_pool(laid_out(x, layout)), expected, KERNEL_FLOAT32, dtype=np.float32)


def test_mean_pool_by_hand():
    assert kernels.mean_pool(np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)).tolist() == [[3, 4]]


@given(seeds, st.lists(sizes, max_size=4), layouts)
def test_add(seed, shape, layout):
    a, b = normal(seed, *shape, 1), normal(seed + 1, *shape, 1)
    assert_same(kernels.add(laid_out(a, layout), laid_out(b, layout)), a + b)
    out = a.copy()
    assert kernels.add(out, b, out=out) is out
    assert_same(out, a + b)


@given(seeds, st.lists(sizes, max_size=3), st.lists(channel_counts, min_size=1, max_size=5), layouts)
def test_concat(seed, leading, widths, layout):
    arrays = [normal(seed + i, *leading, width) for i, width in enumerate(widths)]
    assert_same(kernels.concat([laid_out(a, layout) for a in arrays]), np.concatenate(arrays, -1))


@pytest.mark.parametrize("mode", ["r", "c", "r+"])
def test_memory_mapped_files(tmp_path, mode):
    a, b = normal(0, 3, 5), normal(1, 3, 5)
    a.tofile(tmp_path / "a")
    mapped = np.memmap(tmp_path / "a", np.float32, mode, shape=(3, 5))
    assert_same(kernels.add(mapped, b), a + b)
    if mode == "r+":
        kernels.add(b, b, out=mapped)
        mapped.flush()
        assert_same(np.fromfile(tmp_path / "a", np.float32), (b + b).ravel())


# ---- activations ----

# Largest relative error where |x| <= 8, in units of 2^-24. That of gelu_tanh grows as x falls below 0, with the
# rounding of its exponent.
UNITS = {
    "identity": 0,
    "silu": 5,
    "relu": 0,
    "relu6": 0,
    "gelu": 12,
    "gelu_tanh": 200,
    "hardswish": 5,
    "leaky_relu": 2,
    "sigmoid": 5,
    "tanh": 3,
}


@pytest.mark.parametrize("name", kernels.ACTIVATIONS)
def test_activation_is_accurate_for_each_value_by_itself(name):
    x = np.concatenate([np.linspace(-8, 8, 50_001), np.geomspace(1e-30, 1, 1001), -np.geomspace(1e-30, 1, 1001)])
    x = x[x != 0].astype(np.float32)
    actual = kernels.activate(x, name).astype(np.float64)
    expected = TORCH_ACTIVATIONS[name](double(x)).numpy()
    zero = expected == 0
    assert_same(actual[zero], expected[zero])
    assert_same(actual[~zero] / expected[~zero], np.ones((~zero).sum()), UNITS[name] * 2**-24, name)


@given(seeds, st.lists(sizes, max_size=4), activations, layouts)
def test_activation_of_any_shape(seed, shape, name, layout):
    x = normal(seed, *shape, 1) * 5
    expected = TORCH_ACTIVATIONS[name](double(x)).numpy()
    assert_same(kernels.activate(laid_out(x, layout), name), expected, KERNEL_FLOAT32, name, np.float32)
    out = x.copy()
    assert kernels.activate(out, name, out=out) is out
    assert_same(out, kernels.activate(x, name))


@pytest.mark.parametrize("name", kernels.ACTIVATIONS)
def test_activation_at_the_ends(name):
    x = np.float32([np.nan, np.inf, -np.inf, 3e38, -3e38, 200, -200, 0])
    function = {"gelu": F.gelu, "gelu_tanh": lambda v: F.gelu(v, approximate="tanh")}.get(name, TORCH_ACTIVATIONS[name])
    assert_same(kernels.activate(x, name), function(double(x)).numpy(), KERNEL_FLOAT32, name)
    nans = np.array([0x7FC00000, 0xFFC00001, 0x7FC00123, 0x7FFFFFFF, 0x7F800001], np.uint32).view(np.float32)
    assert np.isnan(kernels.activate(nans, name)).all()


def test_exp_and_normal_tail_over_their_whole_range():
    from tinymvit.kernels.simd import LANES, load, store
    from tinymvit.kernels.simd.elementary import exp, normal_tail, one_plus_exp_of_negative

    def over_array(function):
        @numba.njit(**jit.OPTIONS)
        def loop(x, out):
            for i in range(0, x.size, LANES):
                store(out, i, x.size - i, function(load(x, i, x.size - i, 0.0)))

        def apply(x):
            out = np.empty_like(x)
            loop(x, out)
            return out

        return apply

    x = np.linspace(-87, 88.37, 100_001, dtype=np.float32)
    assert_same(over_array(exp)(x) / np.exp(x.astype(np.float64)), np.ones(x.size), 2 * 2**-24)
    ends = np.float32([-np.inf, -1000, -104, -87.7, 88.38, 1000, np.inf, np.nan])
    assert over_array(exp)(ends).tolist()[:-1] == [0, 0, 0, 0, np.inf, np.inf, np.inf]
    exact = 1 + np.exp(x.astype(np.float64))
    assert_same(over_array(one_plus_exp_of_negative)(-x) / exact, np.ones(x.size), 2 * 2**-24)
    assert np.isnan(over_array(exp)(ends)[-1])
    t = np.linspace(0, 13, 100_001, dtype=np.float32)
    exact = torch.special.erfc(double(t) / 2**0.5).numpy() / 2
    assert_same(over_array(normal_tail)(t) / exact, np.ones(t.size), 12 * 2**-24)


# ---- NaN ----


def test_nan_reaches_what_it_should_and_nothing_else():
    x, weight, bias = normal(0, 2, 9, 9, 20), normal(1, 30, 20, 3, 3), normal(2, 30)
    x[1, 4, 4, 7] = np.nan
    out = kernels.conv2d(x, kernels.pack_conv2d(weight), bias, padding=1, activation="silu")
    expected = F.silu(F.conv2d(channels_first(x), double(weight), double(bias), padding=1))
    assert_same(out, channels_last(expected), KERNEL_FLOAT32)
    assert np.isnan(out).sum() == 9 * 30

    out = kernels.winograd(x, kernels.pack_winograd(weight), bias, activation="silu")
    assert_same(out, channels_last(expected), KERNEL_FLOAT32)
    x[1, 4, 4, 7] = np.inf
    out = kernels.winograd(x, kernels.pack_winograd(weight), bias)
    assert (~np.isfinite(out)).sum() == 9 * 30
    x[1, 4, 4, 7] = np.nan

    out = kernels.depthwise_conv2d(x, kernels.pack_depthwise_conv2d(weight[:20, :1]), bias[:20], padding=1)
    assert np.isnan(out).sum() == 9
    assert np.isnan(out[1, 3:6, 3:6, 7]).all()

    tokens = x.reshape(2, 81, 20)
    assert np.isnan(kernels.layer_norm(tokens, bias[:20], bias[:20], 1e-5)).sum() == 20
    assert np.isnan(kernels.linear(tokens, kernels.pack_linear(weight[:, :, 0, 0]), None)).sum() == 30
    assert np.isnan(kernels.matrix_vector(tokens[:, 40], kernels.pack_linear(weight[:, :, 0, 0]), None)).sum() == 30
    clean = np.nan_to_num(tokens)
    head = np.arange(20) // 5 == 1  # channel 7 is the second head's
    out = np.isnan(kernels.attention(clean, clean, tokens, 4))
    assert_same(out, np.isnan(torch_attention(clean, clean, tokens, 4)))
    out = np.isnan(kernels.attention(tokens, clean, clean, 4))
    assert out[1, 40, head].all()
    assert out.sum() == 5
    assert np.isnan(kernels.mean_pool(x)).sum() == 1
    assert np.isnan(kernels.resize_bilinear(x, 18, 18)).sum() == 16
    assert np.isnan(kernels.unfold(x, 3, 3)).sum() == 1
    assert np.isnan(kernels.add(x, x)).sum() == 1


def test_results_begin_at_a_cache_line():
    for size in (1, 1000, 1_000_000):
        for array in (kernels.empty((size,)), kernels.add(normal(0, size), normal(1, size))):
            assert array.shape == (size,)
            assert array.dtype == np.float32
            assert array.ctypes.data % 64 == 0


# ---- the same bits ----


def every_op(x, place=np.ascontiguousarray):
    """The results of all kernels on maps (B, 11, 13, 37), each (B, ...). `place` puts their inputs into memory."""
    batch = len(x)
    rng = np.random.default_rng(0)
    x = place(x)

    def weights(*shape):
        return place(rng.standard_normal(shape, dtype=np.float32))

    bias = weights(53)
    tokens = kernels.unfold(place(x[:, :10, :12, :36]), 2, 2)
    query, key, value = place(tokens), place(tokens[:, ::-1]), place(tokens * 2)
    results = {
        "dense": kernels.conv2d(x, kernels.pack_conv2d(weights(53, 37, 3, 3)), bias, padding=1, activation="silu"),
        "winograd": kernels.winograd(x, kernels.pack_winograd(weights(53, 37, 3, 3)), bias, activation="silu"),
        "1x1": kernels.conv2d(x, kernels.pack_conv2d(weights(53, 37, 1, 1)), bias),
        "depthwise": kernels.depthwise_conv2d(x, kernels.pack_depthwise_conv2d(weights(37, 1, 3, 3)), None, stride=2),
        "inverted residual": kernels.inverted_residual(
            x,
            kernels.pack_inverted_residual(
                kernels.pack_conv2d(weights(53, 37, 1, 1)),
                bias,
                kernels.pack_depthwise_conv2d(weights(53, 1, 3, 3)),
                bias,
                kernels.pack_conv2d(weights(37, 53, 1, 1)),
                weights(37),
            ),
            residual=True,
        ),
        "linear": kernels.linear(x, kernels.pack_linear(weights(20, 37)), None, activation="gelu"),
        "matrix_vector": kernels.matrix_vector(place(x[:, 0, 0]), kernels.pack_linear(weights(70, 37)), weights(70)),
        "layer_norm": kernels.layer_norm(x, weights(37), weights(37), 1e-5),
        "attention": kernels.attention(query, key, value, 4),
        "resize": kernels.resize_bilinear(x, 5, 29),
        "mean_pool": kernels.mean_pool(x),
        "fold": kernels.fold(place(tokens), batch, 10, 12, 2, 2),
        "add": kernels.add(x, x),
        "concat": kernels.concat([x, place(x[..., :5])]),
        **{name: kernels.activate(x, name) for name in kernels.ACTIVATIONS},
    }
    return {name: result.reshape(batch, -1) for name, result in results.items()}


def test_bits_do_not_depend_on_threads_or_batch():
    x = normal(7, 3, 11, 13, 37)
    results = {}
    for count in range(1, kernels.max_num_threads() + 1):
        with threads(count):
            results[count] = every_op(x)
            alone = every_op(x[1:2])
        for name, result in results[count].items():
            assert_same(result, results[1][name], name=f"{name} on {count} threads")
            assert_same(alone[name], result[1:2], name=f"{name} alone")


DIGESTS = """
import hashlib
if not kernels.is_cached():
    assert len(list(kernels.warm_up())) > 10 and kernels.is_cached()
for name, result in every_op(normal(7, 3, 11, 13, 37)).items():
    print(name, hashlib.sha256(result.tobytes()).hexdigest())
"""


def run_python(program, **environment):
    """What a new process prints. The program may call `normal` and `every_op`, without this file's imports."""
    imports = "import numpy as np\nfrom tinymvit import kernels\n"
    program = imports + inspect.getsource(normal) + inspect.getsource(every_op) + program
    environment = os.environ | environment
    process = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="compiles for another x86-64 processor")
def test_bits_do_not_depend_on_the_processor(haswell):
    there, here = run_python(DIGESTS, **haswell), run_python(DIGESTS)
    assert len(here.splitlines()) > 15
    assert here == there


@pytest.mark.skipif(sys.platform != "linux", reason="protects memory as Linux does")
def test_nothing_is_read_beyond_the_end_of_an_input():
    program = """
import ctypes, mmap
libc = ctypes.CDLL(None, use_errno=True)
def place(array):
    # The array ends where a page begins that must not be touched.
    pages = -(-array.nbytes // mmap.PAGESIZE)
    memory = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert libc.mprotect(ctypes.c_void_p(start + pages * mmap.PAGESIZE), mmap.PAGESIZE, 0) == 0
    placed = np.frombuffer(memory, np.float32, array.size, pages * mmap.PAGESIZE - array.nbytes)
    placed = placed.reshape(array.shape)
    placed[...] = array
    return placed
for batch in (1, 2):
    x = normal(7, batch, 11, 13, 37)
    expected = every_op(x)
    for name, result in every_op(x, place).items():
        assert (result == expected[name]).all()
print("done")
"""
    assert run_python(program) == "done\n"


# ---- threads, forks and the cache ----


def test_thread_count():
    with threads(1):
        assert kernels.get_num_threads() == 1
    most = kernels.max_num_threads()
    assert 1 <= kernels.get_num_threads() <= most
    for wrong in (0, -1, most + 1):
        with pytest.raises(ValueError, match=rf"^threads must be from 1 to {most} \(.*\), not {wrong}$"):
            kernels.set_num_threads(wrong)
    for wrong in (1.5, "2", True, None):
        with pytest.raises(TypeError, match=r"^threads must be an integer, not "):
            kernels.set_num_threads(wrong)


def test_numba_s_own_thread_count_is_left_alone():
    before = numba.get_num_threads()
    kernels.add(normal(0, 100, 100), normal(1, 100, 100))
    assert numba.get_num_threads() == before


@pytest.mark.parametrize("count", [1, 2])
def test_several_python_threads_may_call_at_once(count):
    if count > kernels.max_num_threads():
        pytest.skip("one processor")
    inputs = [normal(i, 1, 11, 13, 37) for i in range(8)]
    with threads(count):
        expected = [every_op(x) for x in inputs]
        with ThreadPoolExecutor(4) as pool:
            actual = list(pool.map(every_op, inputs))
    for one, other in zip(actual, expected, strict=True):
        for name, result in one.items():
            assert_same(result, other[name], name=name)


@pytest.mark.skipif(kernels.max_num_threads() == 1, reason="one processor")
def test_several_python_threads_may_call_where_numba_has_only_its_workqueue():
    program = """
from concurrent.futures import ThreadPoolExecutor
import numba
x = normal(7, 1, 11, 13, 37)
expected = every_op(x)
with ThreadPoolExecutor(4) as pool:
    for results in pool.map(every_op, [x] * 16):
        assert all((results[name] == expected[name]).all() for name in expected)
print(numba.threading_layer())
"""
    assert run_python(program, NUMBA_THREADING_LAYER="workqueue") == "workqueue\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_works_on_one_thread():
    program = """
import os
x = normal(7, 2, 11, 13, 37)
expected = every_op(x)
child = os.fork()
if child == 0:
    ok = kernels.get_num_threads() == 1 and kernels.max_num_threads() == 1
    try:
        kernels.set_num_threads(2)
    except ValueError as error:
        ok = ok and str(error) == "threads must be from 1 to 1 (a forked process cannot use more), not 2"
    else:
        ok = False
    list(kernels.warm_up())
    actual = every_op(x)
    os._exit(0 if ok and all((actual[name] == expected[name]).all() for name in expected) else 1)
again = every_op(x)
print("child", os.waitpid(child, 0)[1], "parent", all((again[name] == expected[name]).all() for name in expected))
"""
    assert run_python(program) == "child 0 parent True\n"


def test_a_second_process_compiles_from_the_other_end(monkeypatch):
    class Fake:
        def __init__(self, name, ready):
            self.name, self.is_ready = name, lambda: ready
            self.address = 0

        @property
        def run(self):
            compiled.append(self.name)

    compiled = []
    module = sys.modules["tinymvit.kernels.runtime.warm_up"]
    monkeypatch.setattr(module, "KERNELS", [Fake("first", False), Fake("second", True), Fake("third", False)])
    module.compile_backwards()
    assert compiled == ["third", "first"]


def test_the_second_process_is_started_with_what_it_needs(monkeypatch):
    started = []
    module = sys.modules["tinymvit.kernels.runtime.warm_up"]
    with monkeypatch.context() as patch:
        patch.setattr(module, "is_cached", lambda: False)
        patch.setattr(module, "cache_folder", lambda: Path("somewhere"))
        patch.setattr(module, "max_num_threads", lambda: 2)
        patch.setattr(module.subprocess, "Popen", lambda command, **_: started.append(command) or 1 / 0)
        with pytest.raises(ZeroDivisionError):
            list(kernels.warm_up())
    ((*command, program),) = started
    program = program.replace("compile_backwards()", "print(compile_backwards.__module__)")
    printed = subprocess.run([*command, program], capture_output=True, text=True, check=True).stdout
    assert printed == "tinymvit.kernels.runtime.warm_up\n"


def test_without_a_second_process_one_compiles_it_all(monkeypatch):
    module = sys.modules["tinymvit.kernels.runtime.warm_up"]
    monkeypatch.setattr(module, "is_cached", lambda: False)
    monkeypatch.setattr(module, "cache_folder", lambda: Path("somewhere"))
    monkeypatch.setattr(module.sys, "executable", "/no/python/here")
    names = [name for _, _, name in kernels.warm_up()]
    assert names[1:] == [kernel.name for kernel in jit.KERNELS]


def test_helpers_have_names_of_their_own():
    """Else a kernel from the cache could call another's helper: machine code is found by name."""
    names = [(helper.__module__, helper.__qualname__) for helper in jit.HELPERS]
    assert len(set(names)) == len(names)


def _copy_first(arrays, sizes, first, last):
    arrays[4][0] = arrays[0][0]


def run_copy_first(kernel):
    out = np.zeros(1, np.float32)
    kernel.run((np.float32([7]), jit.EMPTY, jit.EMPTY, jit.EMPTY, out, jit.EMPTY), np.zeros(0, np.int64), 0, 1)
    assert out[0] == 7


def copy_first_ready():
    return jit.Kernel(_copy_first, jit.SIGNATURE).is_ready()


def test_kernels_work_where_no_cache_can_be_written(monkeypatch):
    monkeypatch.setattr(cache, "_folders", lambda: [])
    kernel = jit.Kernel(_copy_first, jit.SIGNATURE)
    assert kernel.file is None
    assert not kernel.is_ready()
    run_copy_first(kernel)
    assert kernel.is_ready()


@pytest.mark.parametrize("damage", [lambda content: content[:100], lambda content: content[:-1] + b"?", lambda _: b""])
def test_a_damaged_cache_is_replaced(monkeypatch, tmp_path, damage):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    run_copy_first(jit.Kernel(_copy_first, jit.SIGNATURE))
    (file,) = tmp_path.rglob("*.pickle")
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    run_copy_first(jit.Kernel(_copy_first, jit.SIGNATURE))
    assert len(file.read_bytes()) == pytest.approx(len(whole), rel=0.1)


def test_the_cache_is_keyed_by_the_sources_the_processor_and_the_versions(monkeypatch, tmp_path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    run_copy_first(jit.Kernel(_copy_first, jit.SIGNATURE))
    assert copy_first_ready()
    names = {(cache, "SOURCES"), (cache.numba, "__version__"), (cache.llvmlite, "__version__"), (sys, "version")}
    for place, name in names:
        with monkeypatch.context() as changed:
            changed.setattr(place, name, "another")
            assert not copy_first_ready()
    kernel = jit.Kernel(_copy_first, jit.SIGNATURE)
    triple, cpu, features = kernel._target()
    assert cpu in (numba.config.CPU_NAME, binding.get_host_cpu_name())
    assert "+fma" in features or platform.machine() not in ("x86_64", "AMD64")
    for target in ((triple, "i486", features), (triple, cpu, "")):
        assert not cache.KernelCache(_copy_first, jit.SIGNATURE, lambda target=target: target).file.exists()
    run_copy_first(kernel)


def test_the_sources_are_all_files_of_the_folder():
    contents = [path.read_bytes() for path in sorted(Path(cache.__file__).parent.parent.rglob("*.py"))]
    assert cache.digest(*contents) == cache.SOURCES
    assert len(contents) > 20


def test_kernels_of_sources_that_are_no_more_are_removed(monkeypatch, tmp_path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    with monkeypatch.context() as changed:
        changed.setattr(cache, "SOURCES", "yesterday")
        run_copy_first(jit.Kernel(_copy_first, jit.SIGNATURE))
    other = jit.Kernel(_copy_first, jit.SIGNATURE).file.parent / "another.kernel.yesterday.pickle"
    other.write_bytes(b"")
    run_copy_first(jit.Kernel(_copy_first, jit.SIGNATURE))
    assert {file.name.split(".")[-2] for file in other.parent.iterdir()} == {cache.SOURCES, "yesterday"}
    assert len(list(other.parent.iterdir())) == 2


def test_a_full_disk_costs_only_the_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    kernel = jit.Kernel(_copy_first, jit.SIGNATURE)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    run_copy_first(kernel)
    assert list(kernel.file.parent.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="each user has temporary files of their own")
def test_a_temporary_cache_that_others_can_write_is_not_used(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = cache._private_temporary_folder()
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    assert cache._private_temporary_folder() is None
    folder.rmdir()
    folder.symlink_to(tmp_path)
    assert cache._private_temporary_folder() is None
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert cache._private_temporary_folder() is None


# An installation that nobody may write, not even root, who gives up the right to write everywhere by `exec`.
WITHOUT_RIGHTS = """
import ctypes, os, sys
for capability in (1, 2, 3):  # to write, to read, to change the mode of what is another's or locked
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-P", "-c", sys.argv[1]])
"""
ADD_ON_ONE_THREAD = """
import numpy as np
from tinymvit import kernels
from tinymvit.kernels.add import _add
kernels.set_num_threads(1)
ready = _add.is_ready()
assert kernels.add(np.ones(3, np.float32), np.ones(3, np.float32)).tolist() == [2, 2, 2]
print(ready, _add.file and _add.file.parent)
"""


@pytest.fixture
def installation(tmp_path):
    """A copy of the package without compiled kernels, and how to run a program with it where no home is."""
    root = Path(cache.__file__).parent.parent.parent
    package = tmp_path / "site" / "tinymvit"
    for part, place in (("tinymvit", package), ("kernels", package / "kernels"), ("weights", package / "weights")):
        shutil.copytree(root / part, place, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    (tmp_path / "tmp").mkdir()
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    environment |= {"HOME": str(locked), "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(package.parent)}
    # The folder that PYTHONPATH names comes after an editable installation of the package, which is left out.
    program = "import sys\nsys.meta_path = [each for each in sys.meta_path if 'ditable' not in str(each)]\n"

    def run(**changed):
        command = [sys.executable, "-c", WITHOUT_RIGHTS, program + ADD_ON_ONE_THREAD]
        result = subprocess.run(command, env=environment | changed, cwd=locked, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        ready, _, folder = result.stdout.strip().partition(" ")
        return ready == "True", folder

    yield package / "kernels", run
    for path in (package / "kernels", package / "kernels" / "__pycache__", locked):
        if path.exists():
            path.chmod(0o755)


@pytest.mark.skipif(sys.platform != "linux", reason="gives up rights as Linux does")
def test_an_installation_that_cannot_be_written(installation, tmp_path):
    folder, run = installation
    folder.chmod(0o555)
    nowhere = {"NUMBA_CACHE_DIR": str(tmp_path / "locked" / "cache")}
    ready, place = run(**nowhere)
    assert (ready, Path(place).parent) == (False, tmp_path / "tmp" / f"tinymvit-{os.getuid()}")
    assert run(**nowhere) == (True, place)


@pytest.mark.skipif(sys.platform != "linux", reason="gives up rights as Linux does")
def test_kernels_compiled_ahead_are_used_where_they_cannot_be_written(installation):
    folder, run = installation
    beside = str(folder / "__pycache__")
    assert run() == (False, beside)
    (folder / "__pycache__").chmod(0o555)
    folder.chmod(0o555)
    assert run() == (True, beside)
    with (folder / "unfold.py").open("a") as file:  # another kernel's file
        file.write("# edited\n")
    ready, place = run()
    assert not ready
    assert place != beside


# ---- one clear line for each mistake ----

X = normal(0, 1, 4, 6, 8)
TOKENS = normal(0, 4, 6, 8)
CONV = kernels.pack_conv2d(normal(1, 5, 8, 3, 3))
DEPTHWISE = kernels.pack_depthwise_conv2d(normal(1, 8, 1, 3, 3))
POINTWISE = kernels.pack_conv2d(normal(1, 5, 8, 1, 1))
WINOGRAD = kernels.pack_winograd(normal(1, 5, 8, 3, 3))
LINEAR = kernels.pack_linear(normal(1, 5, 8))
EIGHT = normal(2, 8)
INVERTED_RESIDUAL = packed_inverted_residual(*inverted_residual_weights(np.random.default_rng(1), 8, 16, 4))
LOCKED = laid_out(np.zeros((1, 2, 4, 5), np.float32), "read-only")

MISTAKES = {
    "conv2d: x must be a NumPy array (B, H, W, C), not list": lambda: kernels.conv2d([1.0], CONV, None),
    "conv2d: x must be float32, not float64": lambda: kernels.conv2d(X.astype(np.float64), CONV, None),
    "conv2d: x must be float32, not >f4": lambda: kernels.conv2d(X.astype(">f4"), CONV, None),
    "conv2d: x must be (B, H, W, C), not of shape (4, 6, 8)": lambda: kernels.conv2d(X[0], CONV, None),
    "conv2d: x must not be empty, but its shape is (0, 4, 6, 8)": lambda: kernels.conv2d(X[:0], CONV, None),
    "conv2d: x must have 8 channels, not 7": lambda: kernels.conv2d(X[..., 1:], CONV, None),
    "conv2d: weight must come from pack_conv2d, not be ndarray": lambda: kernels.conv2d(X, X, None),
    "conv2d: bias must have 5 values, not 8": lambda: kernels.conv2d(X, CONV, EIGHT),
    "conv2d: bias must be (C), not of shape (1, 4, 6, 8)": lambda: kernels.conv2d(X, CONV, X),
    "conv2d: stride must be at least 1, not 0": lambda: kernels.conv2d(X, CONV, None, stride=0),
    "conv2d: stride must be an integer, not (1, 1)": lambda: kernels.conv2d(X, CONV, None, stride=(1, 1)),
    "conv2d: padding must be at least 0, not -1": lambda: kernels.conv2d(X, CONV, None, padding=-1),
    "conv2d: dilation must be an integer, not 1.0": lambda: kernels.conv2d(X, CONV, None, dilation=1.0),
    "conv2d: the 3 x 3 kernel, dilation 2, does not fit in a 4 x 6 map with padding 0": lambda: kernels.conv2d(
        X, CONV, None, dilation=2
    ),
    "conv2d: activation must be one of identity, silu, relu, relu6, gelu, gelu_tanh, hardswish, leaky_relu, sigmoid, "
    "tanh, not 'swish'": lambda: kernels.conv2d(X, CONV, None, activation="swish"),
    "conv2d: residual must have shape (1, 2, 4, 5), not (1, 4, 6, 8)": lambda: kernels.conv2d(
        X, CONV, None, residual=X
    ),
    "conv2d: out must have shape (1, 2, 4, 5), not (1, 4, 6, 8)": lambda: kernels.conv2d(
        X, CONV, None, out=np.empty_like(X)
    ),
    "conv2d: out must be a float32 array, not float64": lambda: kernels.conv2d(
        X, CONV, None, out=np.zeros((1, 2, 4, 5))
    ),
    "conv2d: out must be a float32 array, not list": lambda: kernels.conv2d(X, CONV, None, out=[0.0]),
    "conv2d: out must be C-contiguous and writable": lambda: kernels.conv2d(X, CONV, None, out=LOCKED),
    "pack_conv2d: weight must be (O, I / groups, kh, kw), not of shape (8,)": lambda: kernels.pack_conv2d(EIGHT),
    "pack_conv2d: groups must divide the 5 output channels, but is 2": lambda: kernels.pack_conv2d(
        normal(1, 5, 8, 3, 3), 2
    ),
    "winograd: x must be (B, H, W, C), not of shape (4, 6, 8)": lambda: kernels.winograd(X[0], WINOGRAD, None),
    "winograd: x must have 8 channels, not 7": lambda: kernels.winograd(X[..., 1:], WINOGRAD, None),
    "winograd: weight must come from pack_winograd, not be PackedConv2d": lambda: kernels.winograd(X, CONV, None),
    "winograd: bias must have 5 values, not 8": lambda: kernels.winograd(X, WINOGRAD, EIGHT),
    "winograd: residual must have shape (1, 4, 6, 5), not (1, 4, 6, 8)": lambda: kernels.winograd(
        X, WINOGRAD, None, residual=X
    ),
    "winograd: out must have shape (1, 4, 6, 5), not (1, 4, 6, 8)": lambda: kernels.winograd(
        X, WINOGRAD, None, out=np.empty_like(X)
    ),
    "pack_winograd: weight must be (O, I, 3, 3), not of shape (5, 8, 1, 1)": lambda: kernels.pack_winograd(
        normal(1, 5, 8, 1, 1)
    ),
    "depthwise_conv2d: x must have 8 channels, not 4": lambda: kernels.depthwise_conv2d(X[..., :4], DEPTHWISE, None),
    "depthwise_conv2d: weight must come from pack_depthwise_conv2d, not be PackedConv2d": (
        lambda: kernels.depthwise_conv2d(X, CONV, None)
    ),
    "depthwise_conv2d: the 3 x 3 kernel, dilation 3, does not fit in a 4 x 6 map with padding 1": (
        lambda: kernels.depthwise_conv2d(X, DEPTHWISE, None, dilation=3, padding=1)
    ),
    "pack_depthwise_conv2d: weight must be (C, 1, kh, kw), not of shape (5, 8, 3, 3)": (
        lambda: kernels.pack_depthwise_conv2d(normal(1, 5, 8, 3, 3))
    ),
    "inverted_residual: x must have 8 channels, not 7": lambda: kernels.inverted_residual(
        X[..., 1:], INVERTED_RESIDUAL
    ),
    "inverted_residual: weights must come from pack_inverted_residual, not be PackedConv2d": (
        lambda: kernels.inverted_residual(X, CONV)
    ),
    "inverted_residual: residual needs an output like x, (1, 4, 6, 8), but it is (1, 4, 6, 4)": (
        lambda: kernels.inverted_residual(X, INVERTED_RESIDUAL, residual=True)
    ),
    "inverted_residual: stride must be at least 1, not 0": lambda: kernels.inverted_residual(
        X, INVERTED_RESIDUAL, stride=0
    ),
    "pack_inverted_residual: expand must be a 1x1 convolution in one group": lambda: kernels.pack_inverted_residual(
        CONV, EIGHT, DEPTHWISE, EIGHT, CONV, EIGHT
    ),
    "pack_inverted_residual: depthwise must be 3x3 on 5 channels and reduce take as many, not (3, 3, 8) and 8": (
        lambda: kernels.pack_inverted_residual(POINTWISE, EIGHT[:5], DEPTHWISE, EIGHT, POINTWISE, EIGHT[:5])
    ),
    "linear: x must have 8 values in its last axis, not 7": lambda: kernels.linear(X[..., 1:], LINEAR, None),
    "linear: weight must come from pack_linear, not be PackedConv2d": lambda: kernels.linear(X, CONV, None),
    "linear: x must be (..., I), not of shape ()": lambda: kernels.linear(np.array(1, np.float32), LINEAR, None),
    "matrix_vector: x must have 8 values in its last axis, not 7": lambda: kernels.matrix_vector(
        X[0, 0, :, 1:], LINEAR, None
    ),
    "matrix_vector: weight must come from pack_linear, not be PackedConv2d": lambda: kernels.matrix_vector(
        X[0, 0], CONV, None
    ),
    "matrix_vector: x must be (B, I), not of shape (1, 4, 6, 8)": lambda: kernels.matrix_vector(X, LINEAR, None),
    "layer_norm: weight must have 8 values, not 5": lambda: kernels.layer_norm(X, EIGHT[:5], EIGHT, 1e-5),
    "layer_norm: bias must be a NumPy array (C), not NoneType": lambda: kernels.layer_norm(X, EIGHT, None, 1e-5),
    "layer_norm: eps must be at least 0, not -1": lambda: kernels.layer_norm(X, EIGHT, EIGHT, -1),
    "layer_norm: eps must be a number, not '1e-5'": lambda: kernels.layer_norm(X, EIGHT, EIGHT, "1e-5"),
    "layer_norm: out must not overlap an input": lambda: kernels.layer_norm(X, EIGHT, EIGHT, 1e-5, out=X),
    "attention: key must have shape (4, 6, 8), not (4, 5, 8)": lambda: kernels.attention(
        TOKENS, TOKENS[:, 1:], TOKENS, 2
    ),
    "attention: heads must divide the 8 channels, but is 3": lambda: kernels.attention(TOKENS, TOKENS, TOKENS, 3),
    "attention: heads must be at least 1, not 0": lambda: kernels.attention(TOKENS, TOKENS, TOKENS, 0),
    "attention: out must not overlap an input": lambda: kernels.attention(TOKENS, TOKENS, TOKENS, 2, out=TOKENS),
    "unfold: 3 x 2 patches do not divide a 4 x 6 map": lambda: kernels.unfold(X, 3, 2),
    "unfold: patch_width must be at least 1, not 0": lambda: kernels.unfold(X, 2, 0),
    "fold: tokens must be (4, 4, C), not of shape (4, 6, 8)": lambda: kernels.fold(TOKENS, 1, 4, 4, 2, 2),
    "fold: 2 x 2 patches do not divide a 4 x 5 map": lambda: kernels.fold(TOKENS, 1, 4, 5, 2, 2),
    "resize_bilinear: rows must be consecutive ones of 5, not range(3, 6)": lambda: kernels.resize_bilinear(
        X, 5, 5, rows=range(3, 6)
    ),
    "resize_bilinear: height must be at least 1, not 0": lambda: kernels.resize_bilinear(X, 0, 5),
    "mean_pool: x must be (B, H, W, C), not of shape (4, 6, 8)": lambda: kernels.mean_pool(TOKENS),
    "activate: activation must be one of identity, silu, relu, relu6, gelu, gelu_tanh, hardswish, leaky_relu, "
    "sigmoid, tanh, not None": lambda: kernels.activate(X, None),
    "activate: out must not overlap an input": lambda: kernels.activate(EIGHT[:6], "silu", out=EIGHT[2:]),
    "add: b must have shape (1, 4, 6, 8), not (4, 6, 8)": lambda: kernels.add(X, TOKENS),
    "concat: arrays must not be empty": lambda: kernels.concat([]),
    "concat: array 1 must be (1, 4, 6, C), not of shape (4, 6, 8)": lambda: kernels.concat([X, TOKENS]),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_a_mistake_is_one_clear_line(message):
    with pytest.raises((TypeError, ValueError)) as error:
        MISTAKES[message]()
    assert str(error.value) == message
    type_error = any(
        words in message for words in (" array, ", "float32, not", "an integer", "come from", "a NumPy", "a number")
    )
    assert isinstance(error.value, TypeError) == type_error
