"""transformers, the library whose names are ours: every tensor keeps its name.

`docs/checkpoints.md` has the map of the names.
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from tinymvit.errors import ConfigError
from tinymvit.files import read_json, what_is
from tinymvit.weights.stored import StoredSettings, StoredTensor

NAME = "transformers"
CONFIG_FILE = "config.json"
PROCESSOR_FILE = "preprocessor_config.json"
CONFIG_FILES: tuple[str, ...] = (CONFIG_FILE,)
PROCESSOR_FILES: tuple[str, ...] = (PROCESSOR_FILE,)

BACKBONE = "mobilevit."  # the attribute under which a model with a head holds the bare MobileViTModel
_STEM = "conv_stem.convolution.weight"  # which every MobileViT has
# The last layer of each head, by what such a model is for: its rows are the labels.
CLASSIFIERS = {
    "classify": "classifier.weight",
    "segment": "segmentation_head.classifier.convolution.weight",
}
# PyTorch's count of the batches that a BatchNorm saw in training. No forward pass reads it, yet transformers calls a
# checkpoint without it incomplete: dropped when read, written as 0 beside each running variance.
BATCH_COUNT = ".num_batches_tracked"
RUNNING_VARIANCE = ".running_var"

# How the name of the class ends that a config.json gives under "architectures" -> what such a model is for.
_TASKS = {
    "ForImageClassification": "classify",
    "ForSemanticSegmentation": "segment",
    "MobileViTModel": "features",  # without a head
}


def recognise(names: Collection[str]) -> bool:
    return _STEM in names or f"{BACKBONE}{_STEM}" in names


def translate(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(BATCH_COUNT)}


def read_config(folder: Path, tensors: Mapping[str, StoredTensor]) -> StoredSettings:
    path = folder / CONFIG_FILE
    return StoredSettings(path, read_json(path, ConfigError))


def read_processor(folder: Path, tensors: Mapping[str, StoredTensor]) -> StoredSettings | None:
    path = folder / PROCESSOR_FILE
    return StoredSettings(path, read_json(path, ConfigError)) if what_is(path, ConfigError) else None


def task(config: Mapping[str, Any]) -> str | None:
    """What a model is for, told from its config.json: "classify", "segment", or "features" for one without a head;
    None if it does not say."""
    named = config.get("architectures")
    classes = [str(name) for name in named] if isinstance(named, list) else []
    return next((task for name in classes for end, task in _TASKS.items() if name.endswith(end)), None)


def has_head(names: Iterable[str]) -> bool:
    """Whether tensors of these names are those of a model with a head."""
    return any(name.startswith(BACKBONE) for name in names)
