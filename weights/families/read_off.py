"""The settings of a network, read off its tensors, where no config.json lies beside them.

Heads of attention, the patch and the output stride leave no trace in a tensor: these are as in all published networks.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tinymvit.errors import ConfigError
from tinymvit.labels import VOC_NAMES
from tinymvit.presets import PRESETS, SEGMENTER, make_divisible
from tinymvit.weights.families.naming import BACKBONE, HEADS, TRANSFORMER_LAYERS, Naming, has_head
from tinymvit.weights.labels import IMAGENET, imagenet
from tinymvit.weights.stored import StoredTensor

_CLASSES = {  # of transformers, by the layer of the head whose rows are the labels
    "classifier": "MobileViTForImageClassification",
    "segmentation_head.classifier.convolution": "MobileViTForSemanticSegmentation",
}
# What no tensor tells, and the values that all published networks have.
UNTOLD: dict[str, tuple[Any, ...]] = {
    "num_attention_heads": (4,),
    "patch_size": (2, [2, 2]),
    "hidden_act": ("silu", "swish"),
    "layer_norm_eps": (1e-5,),
}
_RATIOS = (4.0, 2.0)  # of the published networks: of several that explain a width, these come first


class _Shapes:
    """The shapes of a network's weights by our names without the prefix of the backbone."""

    def __init__(self, tensors: Mapping[str, StoredTensor], naming: Naming, source: Path) -> None:
        self.tensors = {name.removeprefix(BACKBONE): tensor.shape for name, tensor in tensors.items()}
        self.heads = {name: tensor.shape for name, tensor in tensors.items() if name.startswith(HEADS)}
        self.prefix = BACKBONE if has_head(tensors) else ""
        self.naming, self.source = naming, source

    def of(self, module: str, axes: int) -> tuple[int, ...]:
        """The shape of a module's weight, which has so many axes. Raises ConfigError."""
        name = f"{module}.weight"
        shape = self.tensors.get(name)
        if shape is not None and len(shape) == axes and all(shape):
            return shape
        ours = name if name.startswith(HEADS) else f"{self.prefix}{name}"
        theirs = next(iter(self.naming.shapes_to_theirs({ours: (1,) * axes} | self.heads)))
        found = "is missing" if shape is None else f"has shape {list(shape)}, expected {axes} axes"
        raise ConfigError(f"{self.source}: the network's shape cannot be read off its tensors: {theirs} {found}")

    def has(self, name: str) -> bool:
        return name in self.tensors


def read_off(tensors: Mapping[str, StoredTensor], naming: Naming, source: Path) -> dict[str, Any]:
    """The settings of a network, as a config.json of transformers has them, told from its tensors under our names.

    `naming` and `source` are for messages. Raises ConfigError naming the tensor that is missing or has no such shape.
    """
    shapes = _Shapes(tensors, naming, source)
    stem = shapes.of("conv_stem.convolution", 4)
    residuals = ["encoder.layer.0.layer.0", "encoder.layer.1.layer.0"]
    residuals += [f"encoder.layer.{stage}.downsampling_layer" for stage in TRANSFORMER_LAYERS]
    expanded = [shapes.of(f"{block}.expand_1x1.convolution", 4) for block in residuals]
    reduced = [shapes.of(f"{block}.reduce_1x1.convolution", 4) for block in residuals]
    blocks = [f"encoder.layer.{stage}" for stage in TRANSFORMER_LAYERS]
    widths = [shapes.of(f"{block}.conv_1x1.convolution", 4)[0] for block in blocks]
    inside = [shapes.of(f"{block}.transformer.layer.0.intermediate.dense", 2)[0] for block in blocks]
    has_expansion = shapes.has("conv_1x1_exp.convolution.weight")
    last = shapes.of("conv_1x1_exp.convolution", 4)[0] if has_expansion else 4 * reduced[-1][0]
    config: dict[str, Any] = {
        "num_channels": stem[1],
        "hidden_sizes": widths,
        "neck_hidden_sizes": [stem[0], *(shape[0] for shape in reduced), last],
        "expand_ratio": _ratio(
            shapes.source,
            "inverted residuals",
            [(shape[1], shape[0]) for shape in expanded],
            lambda width, ratio: make_divisible(round(width * ratio)),
        ),
        "mlp_ratio": _ratio(
            shapes.source,
            "feed-forward networks",
            list(zip(widths, inside, strict=True)),
            lambda width, ratio: int(width * ratio),
        ),
        "conv_kernel_size": shapes.of(f"{blocks[0]}.conv_kxk.convolution", 4)[2],
        "qkv_bias": any(name.endswith("attention.attention.query.bias") for name in shapes.tensors),
    }
    return config | _head(shapes)


def in_words(config: Mapping[str, Any]) -> str:
    """The shape of a network by its published name, or as one of its own."""
    for name, preset in PRESETS.items():
        if not name.startswith(SEGMENTER) and all(
            list(preset[key]) == list(config[key]) for key in ("hidden_sizes", "neck_hidden_sizes")
        ):
            return f"MobileViT-{''.join(word[0] * (2 if word == 'xx' else 1) for word in name.split('-')).upper()}"
    return f"a MobileViT of widths {', '.join(map(str, config['hidden_sizes']))}"


def _ratio(source: Path, where: str, widths: Sequence[tuple[int, int]], rule: Callable[[int, float], int]) -> float:
    """The ratio that makes, by the rule, of each width the one behind it. Raises ConfigError if none does."""
    exact = [inside / width for width, inside in widths]
    fine = [hundredths / 100 for hundredths in range(1, 1601)]
    for ratio in (*_RATIOS, *exact, *fine):
        if all(rule(width, ratio) == inside for width, inside in widths):
            return ratio
    found = ", ".join(f"{width} to {inside}" for width, inside in widths)
    raise ConfigError(f"{source}: the {where} widen {found}, expected one ratio that explains them all")


def _head(shapes: _Shapes) -> dict[str, Any]:
    """What the head tells: the kind of model, its labels, and the settings of a DeepLabV3."""
    for module, name in _CLASSES.items():
        if not shapes.has(f"{module}.weight"):
            continue
        axes = 2 if module == "classifier" else 4
        config: dict[str, Any] = {"architectures": [name], "num_labels": shapes.of(module, axes)[0]}
        if axes == 2:
            names: Sequence[str] = imagenet() if config["num_labels"] == IMAGENET else ()
            config["image_size"] = 256
        else:
            names = VOC_NAMES if config["num_labels"] == len(VOC_NAMES) else ()
            config |= {"image_size": 512, "output_stride": 16}
            config["aspp_out_channels"] = shapes.of("segmentation_head.aspp.convs.0.convolution", 4)[0]
        return config | ({"id2label": dict(enumerate(names))} if names else {})
    return {"architectures": ["MobileViTModel"]}
