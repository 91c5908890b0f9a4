"""A NaN among the inputs reaches the outputs that are made of it, and no other, in every kernel."""

import numpy as np
import pytest

from every_op import normal
from frameworks import F
from kernel_cases import attended, channels_first, channels_last, double
from oracle import KERNEL_FLOAT32, assert_same
from tinymvit import kernels


@pytest.mark.torch
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
    assert_same(out, np.isnan(attended(clean, clean, tokens, 4)))
    out = np.isnan(kernels.attention(tokens, clean, clean, 4))
    assert out[1, 40, head].all()
    assert out.sum() == 5
    assert np.isnan(kernels.mean_pool(x)).sum() == 1
    assert np.isnan(kernels.resize_bilinear(x, 18, 18)).sum() == 16
    assert np.isnan(kernels.unfold(x, 3, 3)).sum() == 1
    assert np.isnan(kernels.add(x, x)).sum() == 1
