"""The layers that networks share: convolution layer, inverted residual, activation, and the input itself.

Each function appends nodes to a graph, names them by their module's path in PyTorch, and returns the last one.
"""

from __future__ import annotations

from collections.abc import Callable

from tinymvit.config import ACTIVATIONS, MobileViTConfig
from tinymvit.graph import Graph, Node
from tinymvit.ops import Activation, Add, BatchNorm, Conv2d, Input, Shape
from tinymvit.presets import make_divisible


def pixels(g: Graph, shape: Shape) -> Node:
    """The input, (B, C, H, W), which every graph begins with."""
    return g.append(Node("pixel_values", Input(), (), (), tuple(shape)))


def inverted_residual(
    g: Graph, name: str, x: Node, channels: int, config: MobileViTConfig, stride: int = 1, dilation: int = 1
) -> Node:
    """Expand by a 1x1 convolution, filter each channel by itself, reduce; add the input where the shape stays."""
    act = config.hidden_act
    residual = x
    expanded = make_divisible(round(x.shape[1] * config.expand_ratio))
    x = conv_layer(g, f"{name}.expand_1x1", x, padded_conv2d(x, expanded, 1), act)
    filtering = padded_conv2d(x, expanded, 3, stride=stride, dilation=dilation, groups=expanded)
    x = conv_layer(g, f"{name}.conv_3x3", x, filtering, act)
    x = conv_layer(g, f"{name}.reduce_1x1", x, padded_conv2d(x, channels, 1))
    if stride == 1 and residual.shape[1] == channels:
        return g.add(name, Add(), residual, x)
    return g.module(name, x)


def conv_layer(g: Graph, name: str, x: Node, conv: Conv2d, activation: str | Callable | None = None) -> Node:
    """Convolution, then batch normalisation, then activation if there is one."""
    x = g.add(f"{name}.convolution", conv, x)
    x = g.add(f"{name}.normalization", BatchNorm(conv.out_channels), x)
    if activation is not None:
        x = activate(g, f"{name}.activation", x, activation)
    return g.module(name, x)


def bare_conv_layer(g: Graph, name: str, x: Node, conv: Conv2d) -> Node:
    """A convolution layer without normalisation and activation: the convolution alone."""
    return g.module(name, g.add(f"{name}.convolution", conv, x))


def padded_conv2d(
    x: Node,
    channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = False,
) -> Conv2d:
    """A convolution of x to so many channels, whose padding keeps the map's size (with stride 1)."""
    padding = (kernel_size - 1) // 2 * dilation
    return Conv2d(x.shape[1], channels, kernel_size, stride, padding, dilation, groups, bias)


def activate(g: Graph, name: str, x: Node, function: str | Callable) -> Node:
    """`function` is a name of `config.ACTIVATIONS` or a callable; two names of one function record the same op."""
    return g.add(name, Activation(ACTIVATIONS[function] if isinstance(function, str) else function), x)
