"""The layers that networks share."""

import pytest

from tinymvit.config import MobileViTConfig
from tinymvit.graph import Graph
from tinymvit.networks.layers import (
    bare_conv_layer,
    conv_layer,
    inverted_residual,
    make_divisible,
    padded_conv2d,
    pixels,
)
from tinymvit.ops import Add, Conv2d


def test_a_convolution_layer_is_three_nodes_and_a_module():
    g = Graph()
    x = pixels(g, (1, 3, 7, 8))
    y = conv_layer(g, "stem", x, padded_conv2d(x, 5, 3), "silu")
    assert list(g.nodes) == ["pixel_values", "stem.convolution", "stem.normalization", "stem.activation"]
    assert g["stem"] is y
    assert y.shape == (1, 5, 7, 8)
    z = bare_conv_layer(g, "bare", y, padded_conv2d(y, 2, 1, bias=True))
    assert g["bare"] is z is g["bare.convolution"]


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("dilation", [1, 2])
def test_padding_keeps_the_size(kernel_size, dilation):
    g = Graph()
    x = pixels(g, (2, 3, 9, 11))
    op = padded_conv2d(x, 4, kernel_size, dilation=dilation)
    assert op == Conv2d(3, 4, kernel_size, padding=(kernel_size - 1) // 2 * dilation, dilation=dilation)
    assert op.output_shape(x.shape) == (2, 4, 9, 11)


@pytest.mark.parametrize(("channels", "stride", "added"), [(8, 1, True), (16, 1, False), (8, 2, False)])
def test_an_inverted_residual_adds_its_input_where_the_shape_stays(channels, stride, added):
    g = Graph()
    x = pixels(g, (1, 8, 4, 4))
    y = inverted_residual(g, "block", x, channels, MobileViTConfig(), stride)
    assert (type(y.op) is Add) == added
    assert y.shape == (1, channels, 4 // stride, 4 // stride)


@pytest.mark.parametrize(("channels", "expected"), [(1, 8), (16, 16), (20, 24), (19, 24), (91, 88), (28, 32)])
def test_make_divisible_by_hand(channels, expected):
    """A multiple of 8, and never below nine tenths."""
    assert make_divisible(channels) == expected
