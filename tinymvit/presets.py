"""The published shapes of MobileViT, by name, the rule by which the widths inside a network are rounded, and the sizes
of pictures where nothing says them.

Read by `config`, `networks`, `images`, and by `weights`, which tells the shape of a checkpoint that has no config.json.
"""

from typing import Any

from tinymvit.labels import VOC_NAMES

# The paper's three sizes (table 4), each alone and under a DeepLabV3 head; what differs from the
# defaults. The label names of ImageNet come with the published checkpoints, not with the shape.
_SMALL = {
    "hidden_sizes": (144, 192, 240),
    "neck_hidden_sizes": (16, 32, 64, 96, 128, 160, 640),
}
_X_SMALL = {
    "hidden_sizes": (96, 120, 144),
    "neck_hidden_sizes": (16, 32, 48, 64, 80, 96, 384),
}
_XX_SMALL = {
    "hidden_sizes": (64, 80, 96),
    "neck_hidden_sizes": (16, 16, 24, 48, 64, 80, 320),
    "expand_ratio": 2.0,
    "hidden_dropout_prob": 0.05,
}
_IMAGENET = {"image_size": 256, "num_labels": 1000}
_PASCAL_VOC = {"image_size": 512, "output_stride": 16, "id2label": dict(enumerate(VOC_NAMES))}
SEGMENTER = "deeplabv3-"  # how the names of the shapes with that head begin
PRESETS: dict[str, dict[str, Any]] = {
    "small": _SMALL | _IMAGENET,
    "x-small": _X_SMALL | _IMAGENET,
    "xx-small": _XX_SMALL | _IMAGENET,
    "deeplabv3-small": _SMALL | _PASCAL_VOC,
    "deeplabv3-x-small": _X_SMALL | _PASCAL_VOC,
    "deeplabv3-xx-small": _XX_SMALL | _PASCAL_VOC,
}

# What a processor does where its settings do not say it, as transformers' own.
PROCESSOR_SIZES: dict[str, Any] = {"size": {"shortest_edge": 224}, "crop_size": {"height": 256, "width": 256}}


def make_divisible(channels: int, divisor: int = 8) -> int:
    """`channels` rounded to a multiple of divisor, never down by more than a tenth (MobileNetV2's rule)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor
