"""The heads: what turns a backbone's features into an answer."""

from __future__ import annotations

from tinymvit.config import MobileViTConfig
from tinymvit.graph import Graph, Node
from tinymvit.networks.layers import bare_conv_layer, conv_layer, padded_conv2d
from tinymvit.ops import Concat, Linear, MeanPool, Resize


def linear_classifier(g: Graph, name: str, x: Node, config: MobileViTConfig) -> Node:
    """A number for each label from pooled features: (B, C) -> (B, num_labels). Without labels, the features."""
    if config.num_labels > 0:
        x = g.add(name, Linear(x.shape[1], config.num_labels), x)
    return g.module(name, x)


def deeplabv3(g: Graph, name: str, x: Node, config: MobileViTConfig) -> Node:
    """Atrous spatial pyramid pooling, then a 1x1 convolution to one channel a label: (B, C, H, W) ->
    (B, num_labels, H, W) (Chen et al., DeepLabV3, arXiv 1706.05587, section 3.3)."""
    channels = config.aspp_out_channels
    height, width = x.shape[2:]

    branches = [conv_layer(g, f"{name}.aspp.convs.0", x, padded_conv2d(x, channels, 1), "relu")]
    for i, rate in enumerate(config.atrous_rates, 1):
        atrous = padded_conv2d(x, channels, 3, dilation=rate)
        branches.append(conv_layer(g, f"{name}.aspp.convs.{i}", x, atrous, "relu"))
    pooled = g.add(f"{name}.aspp.convs.4.global_pool", MeanPool(keep_dims=True), x)  # (B, C, 1, 1)
    pooled = conv_layer(g, f"{name}.aspp.convs.4.conv_1x1", pooled, padded_conv2d(pooled, channels, 1), "relu")
    branches.append(g.add(f"{name}.aspp.convs.4", Resize(height, width), pooled))  # (B, C, H, W)

    x = g.add(f"{name}.aspp.concat", Concat(), *branches)  # (B, 5 C, H, W)
    x = conv_layer(g, f"{name}.aspp.project", x, padded_conv2d(x, channels, 1), "relu")
    for path in ("aspp.dropout", "aspp", "dropout"):
        g.module(f"{name}.{path}", x)
    x = bare_conv_layer(g, f"{name}.classifier", x, padded_conv2d(x, config.num_labels, 1, bias=True))
    return g.module(name, x)  # (B, num_labels, H, W)
