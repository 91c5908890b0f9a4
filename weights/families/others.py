"""Checkpoints of other networks, which people give by mistake: told by a tensor's name, so that they can be named."""

import re
from collections.abc import Collection

# How the name of a tensor ends that such a network has and MobileViT has not -> the network.
_MARKS = {
    "mobilevitv2.conv_stem.convolution.weight": "MobileViTV2, which is another network",
    "attention.qkv_proj.convolution.weight": "MobileViTV2, which is another network",
    "stages.2.1.transformer.0.attn.qkv_proj.weight": "MobileViTV2, which is another network",
    "pre_norm_attn.1.qkv_proj.block.conv.weight": "MobileViTV2, which is another network",
    "dist_token": "a DeiT",
    "distillation_token": "a DeiT",
    "cls_token": "a Vision Transformer, ViT or DeiT",
    "class_token": "a Vision Transformer, ViT or DeiT",
    "class_embedding": "CLIP's Vision Transformer",
    "relative_position_bias_table": "a Swin Transformer",
    "mobilenet_v1.conv_stem.convolution.weight": "a MobileNet",
    "mobilenet_v2.conv_stem.first_conv.convolution.weight": "a MobileNet",
    "features.0.0.weight": "a MobileNet or another network of torchvision",
    "blocks.0.0.conv_dw.weight": "a MobileNet or EfficientNet",
    "features.0.weight": "a VGG or AlexNet",
    "layer1.0.conv1.weight": "a ResNet",
    "layer4.0.conv1.weight": "a ResNet",
    "resnet.embedder.embedder.convolution.weight": "a ResNet",
    "downsample_layers.0.0.weight": "a ConvNeXt",
    "conv_stem.weight": "a MobileNet or EfficientNet",
    "ssd_heads.0.loc_cls_layer.pw_conv.block.conv.weight": "an SSDLite detector, which has other heads",
}


def other_network(names: Collection[str]) -> str | None:
    """The network that tensors of these names are of; None for one that is not known here."""
    # TensorFlow writes the names of PyTorch as paths, and weights as kernels.
    spelled = [re.sub(r"kernel$", "weight", name.removesuffix(":0").replace("/", ".")) for name in names]
    return next((network for end, network in _MARKS.items() if any(name.endswith(end) for name in spelled)), None)
