"""What comes to the kernels: one clear line for each mistake, and where new arrays begin."""

import numpy as np
import pytest

from every_op import normal
from kernel_cases import laid_out
from tinymvit import kernels


def test_results_begin_at_a_cache_line():
    for size in (1, 1000, 1_000_000):
        for array in (kernels.empty((size,)), kernels.add(normal(0, size), normal(1, size))):
            assert array.shape == (size,)
            assert array.dtype == np.float32
            assert array.ctypes.data % 64 == 0


# ---- one clear line for each mistake ----

X = normal(0, 1, 4, 6, 8)
TOKENS = normal(0, 4, 6, 8)
CONV = kernels.pack_conv2d(normal(1, 5, 8, 3, 3))
DEPTHWISE = kernels.pack_depthwise_conv2d(normal(1, 8, 1, 3, 3))
POINTWISE = kernels.pack_conv2d(normal(1, 5, 8, 1, 1))
WINOGRAD = kernels.pack_winograd(normal(1, 5, 8, 3, 3))
LINEAR = kernels.pack_linear(normal(1, 5, 8))
EIGHT = normal(2, 8)
NORM = kernels.pack_batch_norm(EIGHT, EIGHT, EIGHT, EIGHT, 1e-5)
EXPAND, FILTER = kernels.pack_conv2d(normal(1, 16, 8, 1, 1)), kernels.pack_depthwise_conv2d(normal(1, 16, 1, 3, 3))
REDUCE = kernels.pack_conv2d(normal(1, 4, 16, 1, 1))
INVERTED_RESIDUAL = kernels.pack_inverted_residual(EXPAND, normal(1, 16), FILTER, normal(1, 16), REDUCE, normal(1, 4))
LOCKED = laid_out(np.zeros((1, 2, 4, 5), np.float32), "read-only")

MISTAKES = {
    "conv2d: x must be a NumPy array (B, H, W, C), not list": lambda: kernels.conv2d([1.0], CONV, None),
    "conv2d: x must be a NumPy array (B, H, W, C), but some of its values are masked": lambda: kernels.conv2d(
        np.ma.masked_less(X, 0), CONV, None
    ),
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
    "inverted_residual: dilation must be at least 1, not 0": lambda: kernels.inverted_residual(
        X, INVERTED_RESIDUAL, dilation=0
    ),
    "depthwise_conv2d: residual must have shape (1, 2, 4, 8), not (1, 4, 6, 8)": lambda: kernels.depthwise_conv2d(
        X, DEPTHWISE, None, residual=X
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
    "batch_norm: x must have 8 channels, not 7": lambda: kernels.batch_norm(X[..., 1:], NORM),
    "batch_norm: norm must come from pack_batch_norm, not be PackedConv2d": lambda: kernels.batch_norm(X, CONV),
    "batch_norm: out must not overlap an input": lambda: kernels.batch_norm(X, NORM, out=X),
    "pack_batch_norm: mean must have 8 values, not 5": lambda: kernels.pack_batch_norm(
        EIGHT, EIGHT, EIGHT[:5], EIGHT, 0.0
    ),
    "pack_batch_norm: eps must be at least 0, not -1": lambda: kernels.pack_batch_norm(EIGHT, EIGHT, EIGHT, EIGHT, -1),
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
