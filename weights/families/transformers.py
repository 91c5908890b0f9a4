"""transformers, the library whose names are ours: every tensor keeps its name.

`docs/checkpoints.md` has the map of the names.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinymvit.errors import ConfigError
from tinymvit.files import json_writer, read_json, what_is
from tinymvit.text import short
from tinymvit.weights.families.naming import (
    BACKBONE,
    CLASSIFIER,
    INVERTED_RESIDUALS,
    SEGMENTER,
    TRANSFORMER_LAYERS,
    Naming,
    with_batch_counts,
)
from tinymvit.weights.formats.safetensors import WEIGHTS_FILE, tensor_writer
from tinymvit.weights.stored import Assumptions, Settings, StoredSettings, StoredTensor, Tensors, Writer

NAME = WORD = "transformers"
CONFIG_FILE = "config.json"
PROCESSOR_FILE = "preprocessor_config.json"
CONFIG_FILES: tuple[str, ...] = (CONFIG_FILE,)
PROCESSOR_FILES: tuple[str, ...] = (PROCESSOR_FILE,)

# The last layer of each head, by what such a model is for: its rows are the labels.
CLASSIFIERS = {
    "classify": f"{CLASSIFIER}weight",
    "segment": f"{SEGMENTER}classifier.convolution.weight",
}

# How the name of the class ends that a config.json gives under "architectures" -> what such a model is for.
_TASKS = {
    "ForImageClassification": "classify",
    "ForSemanticSegmentation": "segment",
    "MobileViTModel": "features",  # without a head
}

# ---- the names of version 1 ----

_RESIDUALS = (
    *(f"encoder.layer.{stage}.layer.{i}" for stage, count in INVERTED_RESIDUALS.items() for i in range(count)),
    *(f"encoder.layer.{stage}.downsampling_layer" for stage in TRANSFORMER_LAYERS),
)
_CONVOLUTIONS = (  # with a normalisation
    "conv_stem",
    *(f"{block}.{part}" for block in _RESIDUALS for part in ("expand_1x1", "conv_3x3", "reduce_1x1")),
    *(f"encoder.layer.{i}.{part}" for i in TRANSFORMER_LAYERS for part in ("conv_kxk", "conv_projection", "fusion")),
    "conv_1x1_exp",
    *(f"segmentation_head.aspp.convs.{i}" for i in range(4)),
    "segmentation_head.aspp.convs.4.conv_1x1",
    "segmentation_head.aspp.project",
)
_LAYERS = tuple(
    f"encoder.layer.{stage}.transformer.layer.{i}" for stage, depth in TRANSFORMER_LAYERS.items() for i in range(depth)
)
_IN_LAYERS = (
    "layernorm_before",
    *(f"attention.attention.{part}" for part in ("query", "key", "value")),
    "attention.output.dense",
    "layernorm_after",
    "intermediate.dense",
    "output.dense",
)
MODULES = (
    *(f"{layer}.{part}" for layer in _CONVOLUTIONS for part in ("convolution", "normalization")),
    *(f"encoder.layer.{stage}.conv_1x1.convolution" for stage in TRANSFORMER_LAYERS),
    *(f"{layer}.{part}" for layer in _LAYERS for part in _IN_LAYERS),
    *(f"encoder.layer.{stage}.layernorm" for stage in TRANSFORMER_LAYERS),
    "segmentation_head.classifier.convolution",
    "classifier",
)

STEM = "conv_stem.convolution.weight"
V1 = Naming(
    mark=STEM,
    modules={name: name for name in MODULES},
    encoder=BACKBONE,
)
NAMINGS: tuple[Naming, ...] = (V1,)

# ---- the settings ----

# As the published processors have it: an eighth and a sixteenth more than the side that is cut out, BGR.
PROCESSORS: dict[str, dict[str, Any]] = {
    "classify": {"size": {"shortest_edge": 288}, "crop_size": {"height": 256, "width": 256}},
    "segment": {"size": {"shortest_edge": 544}, "crop_size": {"height": 512, "width": 512}},
}


def reads(config: Settings) -> str | None:
    return None  # preprocessor_config.json says it


def has_settings(values: Settings) -> bool:
    """Whether a JSON object is a model's config.json of transformers, and not another program's settings."""
    return not values.keys().isdisjoint(("model_type", "architectures", "hidden_sizes", "id2label", "num_labels"))


def read_config(folder: Path, tensors: Mapping[str, StoredTensor]) -> StoredSettings | None:
    path = folder / CONFIG_FILE
    if what_is(path, ConfigError) is None:
        return None
    values = read_json(path, ConfigError)
    if "architecture" in values and "model_type" not in values:
        raise ConfigError(
            f"{path}: is timm's, for {short(values['architecture'])}, and no MobileViT of timm's is beside it"
        )
    return StoredSettings(path, values)


def read_processor(folder: Path, tensors: Mapping[str, StoredTensor]) -> StoredSettings | None:
    path = folder / PROCESSOR_FILE
    return StoredSettings(path, read_json(path, ConfigError)) if what_is(path, ConfigError) else None


def assume(task: str, tensors: Mapping[str, StoredTensor]) -> Assumptions:
    return Assumptions({}, PROCESSORS.get(task, PROCESSORS["classify"]))


def files(tensors: Tensors, config: Settings, processor: Settings | None) -> dict[str, Writer]:
    return {WEIGHTS_FILE: tensor_writer(with_batch_counts(tensors)), **settings_files(config, processor)}


def settings_files(config: Settings, processor: Settings | None) -> dict[str, Writer]:
    """config.json, and preprocessor_config.json if there is a processor."""
    # transformers converts the weights to the dtype that config.json names; one left from the checkpoint that these
    # weights came from (under the new key or the old) would round them.
    config = {key: value for key, value in config.items() if key != "torch_dtype"} | {"dtype": "float32"}
    found = {CONFIG_FILE: json_writer(config)}
    return found if processor is None else found | {PROCESSOR_FILE: json_writer(processor)}


def task(config: Mapping[str, Any]) -> str | None:
    """What a model is for, told from its config.json: "classify", "segment", or "features" for one without a head;
    None if it does not say."""
    named = config.get("architectures")
    classes = [str(name) for name in named] if isinstance(named, list) else []
    return next((task for name in classes for end, task in _TASKS.items() if name.endswith(end)), None)
