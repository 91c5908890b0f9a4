"""MobileViT as the paper draws it, top-down: network, backbone, block, transformer layer, attention.

Calling these functions records a graph (see `graph`); nothing is computed here and no weight is read. Names are the
PyTorch module paths of transformers' MobileViT, so a tensor of a checkpoint, a line of a trace and an error message
speak of the same thing. Dropout does nothing at inference and is only a name.

Sources: Mehta and Rastegari, "MobileViT: Light-weight, General-purpose, and Mobile-friendly Vision Transformer"
(arXiv 2110.02178); Sandler et al., MobileNetV2 (arXiv 1801.04381) for the inverted residual; details as in
transformers' implementation.
"""

from __future__ import annotations

import math

from tinymvit.config import MobileViTConfig
from tinymvit.errors import ConfigError
from tinymvit.graph import Graph, Node
from tinymvit.networks.heads import deeplabv3, linear_classifier
from tinymvit.networks.layers import activate, bare_conv_layer, conv_layer, inverted_residual, padded_conv2d, pixels
from tinymvit.ops import Add, Concat, Context, Fold, LayerNorm, Linear, MeanPool, Resize, Scores, Shape, Softmax, Unfold

# ---- whole networks: config and input shape (B, C, H, W) -> graph ----


def mobilevit(config: MobileViTConfig, shape: Shape, expand_output: bool = True) -> Graph:
    """The network without a head: `last_hidden_state`, `pooler_output` if expand_output, `hidden_states.0` to `.4`."""
    g = Graph()
    backbone(g, "", pixels(g, shape), config, expand_output)
    return g


def image_classification(config: MobileViTConfig, shape: Shape) -> Graph:
    """The network and a linear classifier: `logits` (B, num_labels)."""
    g = Graph()
    x = backbone(g, "mobilevit.", pixels(g, shape), config, expand_output=True)  # (B, neck_hidden_sizes[6])
    g.module("dropout", x)
    g.outputs["logits"] = linear_classifier(g, "classifier", x, config).name
    return g


def semantic_segmentation(config: MobileViTConfig, shape: Shape) -> Graph:
    """The network and the DeepLabV3 head: `logits` (B, num_labels, H / output_stride, W / output_stride).

    Raises ConfigError, a ValueError, for a configuration without labels.
    """
    if config.num_labels < 1:
        raise ConfigError(f"num_labels: {config.num_labels}, expected at least 1 for a segmentation head")
    g = Graph()
    x = backbone(g, "mobilevit.", pixels(g, shape), config, expand_output=False)
    g.outputs["logits"] = deeplabv3(g, "segmentation_head", x, config).name
    return g


# ---- the backbone ----

# Of the five stages: blocks, and the stride of the first. Stages 2 to 4 then have transformer layers (table 4).
INVERTED_RESIDUAL_STAGES = ((1, 1), (3, 2))
TRANSFORMER_LAYERS = (2, 4, 3)


def backbone(g: Graph, prefix: str, x: Node, config: MobileViTConfig, expand_output: bool) -> Node:
    """Stem, five stages, and if expand_output a 1x1 convolution and the mean over the map. `prefix` ends in a dot."""
    neck = config.neck_hidden_sizes
    x = conv_layer(g, f"{prefix}conv_stem", x, padded_conv2d(x, neck[0], 3, stride=2), config.hidden_act)  # H/2, W/2

    stage = 0
    for blocks, stride in INVERTED_RESIDUAL_STAGES:
        name = f"{prefix}encoder.layer.{stage}"
        for i in range(blocks):
            x = inverted_residual(g, f"{name}.layer.{i}", x, neck[stage + 1], config, stride=stride if i == 0 else 1)
        g.outputs[f"hidden_states.{stage}"] = g.module(name, x).name
        stage += 1

    # A smaller output_stride (DeepLab) keeps the last maps large: the stride of a stage becomes dilation of the next.
    dilation = 1
    for block in range(len(TRANSFORMER_LAYERS)):
        if (config.output_stride == 8 and stage == 3) or (config.output_stride in (8, 16) and stage == 4):
            dilation *= 2
        name = f"{prefix}encoder.layer.{stage}"
        x = mobilevit_block(g, name, x, block, dilation, config)
        g.outputs[f"hidden_states.{stage}"] = x.name
        stage += 1
    g.module(f"{prefix}encoder", x)

    if expand_output:
        x = conv_layer(g, f"{prefix}conv_1x1_exp", x, padded_conv2d(x, neck[6], 1), config.hidden_act)
    g.outputs["last_hidden_state"] = g.module(prefix.rstrip("."), x).name
    if expand_output:
        x = g.add(f"{prefix}pooler_output", MeanPool(), x)  # (B, C)
        g.outputs["pooler_output"] = x.name
    return x


def mobilevit_block(g: Graph, name: str, x: Node, block: int, dilation: int, config: MobileViTConfig) -> Node:
    """The MobileViT block (paper, section 3.1): local representation, transformer over patches, fusion.

    block: which of the three, from 0. It halves the map if dilation is 1, and else keeps it and dilates half as much.
    """
    act, kernel_size = config.hidden_act, config.conv_kernel_size
    channels = config.neck_hidden_sizes[len(INVERTED_RESIDUAL_STAGES) + 1 + block]
    width = config.hidden_sizes[block]
    stride, dilation = (2, 1) if dilation == 1 else (1, dilation // 2)
    x = inverted_residual(g, f"{name}.downsampling_layer", x, channels, config, stride, dilation)  # (B, C, H, W)
    residual = x

    # local representation
    x = conv_layer(g, f"{name}.conv_kxk", x, padded_conv2d(x, channels, kernel_size), act)
    x = bare_conv_layer(g, f"{name}.conv_1x1", x, padded_conv2d(x, width, 1))  # (B, D, H, W)

    # global representation
    x = unfold(g, f"{name}.unfolding", x, config)  # (B P, N, D)
    for layer in range(TRANSFORMER_LAYERS[block]):
        x = transformer_layer(g, f"{name}.transformer.layer.{layer}", x, config)
    g.module(f"{name}.transformer", x)
    x = g.add(f"{name}.layernorm", LayerNorm(width, config.layer_norm_eps), x)
    x = fold(g, f"{name}.folding", x, residual.shape[2:], config)  # (B, D, H, W)

    # fusion
    x = conv_layer(g, f"{name}.conv_projection", x, padded_conv2d(x, channels, 1), act)  # (B, C, H, W)
    x = g.add(f"{name}.concat", Concat(), residual, x)  # (B, 2 C, H, W)
    x = conv_layer(g, f"{name}.fusion", x, padded_conv2d(x, channels, kernel_size), act)  # (B, C, H, W)
    return g.module(name, x)


def unfold(g: Graph, name: str, x: Node, config: MobileViTConfig) -> Node:
    """Map to tokens. A map whose sides the patch does not divide is first resized up to the next multiple."""
    patch_height, patch_width = config.patch_shape
    height, width = x.shape[2:]
    multiple = math.ceil(height / patch_height) * patch_height, math.ceil(width / patch_width) * patch_width
    if multiple != (height, width):
        x = g.add(f"{name}.interpolate", Resize(*multiple), x)
    return g.add(name, Unfold(patch_height, patch_width), x)


def fold(g: Graph, name: str, x: Node, size: Shape, config: MobileViTConfig) -> Node:
    """Tokens to map; undoes `unfold`, the resize included."""
    patch_height, patch_width = config.patch_shape
    height, width = math.ceil(size[0] / patch_height) * patch_height, math.ceil(size[1] / patch_width) * patch_width
    x = g.add(name, Fold(patch_height, patch_width, height, width), x)
    return x if (height, width) == size else g.add(f"{name}.interpolate", Resize(*size), x)


def transformer_layer(g: Graph, name: str, x: Node, config: MobileViTConfig) -> Node:
    """A pre-norm transformer layer on (B P, N, D): attention and MLP, each with a residual connection."""
    width, eps = x.shape[-1], config.layer_norm_eps
    hidden = int(width * config.mlp_ratio)

    residual = x
    x = g.add(f"{name}.layernorm_before", LayerNorm(width, eps), x)
    x = self_attention(g, f"{name}.attention.attention", x, config)
    x = g.add(f"{name}.attention.output.dense", Linear(width, width), x)
    for path in ("attention.output.dropout", "attention.output", "attention"):
        g.module(f"{name}.{path}", x)
    x = g.add(f"{name}.attention_residual", Add(), x, residual)

    residual = x
    x = g.add(f"{name}.layernorm_after", LayerNorm(width, eps), x)
    x = g.add(f"{name}.intermediate.dense", Linear(width, hidden), x)
    x = activate(g, f"{name}.intermediate.intermediate_act_fn", x, config.hidden_act)
    g.module(f"{name}.intermediate", x)
    x = g.add(f"{name}.output.dense", Linear(hidden, width), x)
    g.module(f"{name}.output.dropout", x)
    x = g.add(f"{name}.output", Add(), x, residual)
    return g.module(name, x)


def self_attention(g: Graph, name: str, x: Node, config: MobileViTConfig) -> Node:
    """Multi-head attention among the tokens of each sequence of (B P, N, D)."""
    heads, width = config.num_attention_heads, x.shape[-1]
    query = g.add(f"{name}.query", Linear(width, width, config.qkv_bias), x)
    key = g.add(f"{name}.key", Linear(width, width, config.qkv_bias), x)
    value = g.add(f"{name}.value", Linear(width, width, config.qkv_bias), x)
    scores = g.add(f"{name}.scores", Scores(heads), query, key)  # (B P, h, N, N)
    probabilities = g.add(f"{name}.probabilities", Softmax(), scores)
    g.module(f"{name}.dropout", probabilities)
    return g.add(name, Context(), probabilities, value)  # (B P, N, D)
