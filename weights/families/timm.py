"""timm (PyTorch image models), whose `mobilevit_s`, `mobilevit_xs` and `mobilevit_xxs` are what most people fine-tune.

Source of the names: timm/models/mobilevit.py and byobnet.py of timm 1.0. Its version 1 reads RGB, where Apple's reads
BGR: the stem is Apple's with its input axis reversed. It stays as it is, and the processor does not flip the channels.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinymvit.errors import ConfigError, OutputError, tell
from tinymvit.files import json_writer, read_json, what_is
from tinymvit.presets import PRESETS
from tinymvit.text import short
from tinymvit.weights.families import transformers
from tinymvit.weights.families.naming import SEGMENTER, TRANSFORMER_LAYERS, Naming, rows, with_batch_counts
from tinymvit.weights.families.read_off import UNTOLD, read_off
from tinymvit.weights.formats.safetensors import WEIGHTS_FILE, tensor_writer
from tinymvit.weights.stored import Assumptions, Settings, StoredSettings, StoredTensor, Tensors, Writer

NAME = WORD = "timm"
CONFIG_FILES: tuple[str, ...] = (transformers.CONFIG_FILE,)
PROCESSOR_FILES: tuple[str, ...] = (transformers.PROCESSOR_FILE,)

# ---- the names of version 1 ----

_RESIDUALS = {
    "stages.0.0": "encoder.layer.0.layer.0",
    **{f"stages.1.{i}": f"encoder.layer.1.layer.{i}" for i in range(3)},
    **{f"stages.{stage}.0": f"encoder.layer.{stage}.downsampling_layer" for stage in TRANSFORMER_LAYERS},
}
_LAYERS = {
    f"stages.{stage}.1.transformer.{i}": f"encoder.layer.{stage}.transformer.layer.{i}"
    for stage, depth in TRANSFORMER_LAYERS.items()
    for i in range(depth)
}
# Convolutions with a normalisation.
_CONVOLUTIONS = {
    "stem": "conv_stem",
    **{f"{theirs}.conv1_1x1": f"{ours}.expand_1x1" for theirs, ours in _RESIDUALS.items()},
    **{f"{theirs}.conv2_kxk": f"{ours}.conv_3x3" for theirs, ours in _RESIDUALS.items()},
    **{f"{theirs}.conv3_1x1": f"{ours}.reduce_1x1" for theirs, ours in _RESIDUALS.items()},
    **{f"stages.{stage}.1.conv_kxk": f"encoder.layer.{stage}.conv_kxk" for stage in TRANSFORMER_LAYERS},
    **{f"stages.{stage}.1.conv_proj": f"encoder.layer.{stage}.conv_projection" for stage in TRANSFORMER_LAYERS},
    **{f"stages.{stage}.1.conv_fusion": f"encoder.layer.{stage}.fusion" for stage in TRANSFORMER_LAYERS},
    "final_conv": "conv_1x1_exp",
}
_QUERY_KEY_VALUE = tuple(f"attention.attention.{part}" for part in ("query", "key", "value"))

V1 = Naming(
    mark="stages.2.1.transformer.0.attn.qkv.weight",
    modules={
        **{f"{theirs}.conv": f"{ours}.convolution" for theirs, ours in _CONVOLUTIONS.items()},
        **{f"{theirs}.bn": f"{ours}.normalization" for theirs, ours in _CONVOLUTIONS.items()},
        **{f"stages.{stage}.1.conv_1x1": f"encoder.layer.{stage}.conv_1x1.convolution" for stage in TRANSFORMER_LAYERS},
        **rows(_LAYERS, "norm1", "layernorm_before"),
        # One matrix computes all three: its rows are those of the query, then of the key, then of the value.
        **rows(_LAYERS, "attn.qkv", *_QUERY_KEY_VALUE),
        **rows(_LAYERS, "attn.proj", "attention.output.dense"),
        **rows(_LAYERS, "norm2", "layernorm_after"),
        **rows(_LAYERS, "mlp.fc1", "intermediate.dense"),
        **rows(_LAYERS, "mlp.fc2", "output.dense"),
        **{f"stages.{stage}.1.norm": f"encoder.layer.{stage}.layernorm" for stage in TRANSFORMER_LAYERS},
        "head.fc": "classifier",
    },
    outputs={
        **_CONVOLUTIONS,
        # The normalisation's module activates too, where there is an activation.
        **{f"{theirs}.bn": ours for theirs, ours in _CONVOLUTIONS.items()},
        **{f"{theirs}.bn.drop": f"{ours}.normalization" for theirs, ours in _CONVOLUTIONS.items()},
        **{f"{theirs}.bn.act": ours for theirs, ours in _CONVOLUTIONS.items()},
        **_RESIDUALS,
        **{f"{theirs}.conv2b_kxk": f"{ours}.conv_3x3" for theirs, ours in _RESIDUALS.items()},
        **{f"{theirs}.attn": f"{ours}.conv_3x3" for theirs, ours in _RESIDUALS.items()},
        **{f"{theirs}.attn_last": f"{ours}.reduce_1x1" for theirs, ours in _RESIDUALS.items()},
        "stages.0.0.shortcut": "conv_stem",
        "stages.1.1.shortcut": "encoder.layer.1.layer.0",
        "stages.1.2.shortcut": "encoder.layer.1.layer.1",
        **{f"{theirs}.drop_path": f"{ours}.reduce_1x1" for theirs, ours in _RESIDUALS.items()},
        **{f"{theirs}.act": ours for theirs, ours in _RESIDUALS.items()},
        **_LAYERS,
        **rows(_LAYERS, "attn.q_norm", "attention.attention.query"),
        **rows(_LAYERS, "attn.k_norm", "attention.attention.key"),
        **rows(_LAYERS, "attn.attn_drop", "attention.attention.probabilities"),
        **rows(_LAYERS, "attn.norm", "attention.attention"),
        **rows(_LAYERS, "attn.proj_drop", "attention.output.dense"),
        **rows(_LAYERS, "attn", "attention.output.dense"),
        **rows(_LAYERS, "ls1", "attention.output.dense"),
        **rows(_LAYERS, "drop_path1", "attention.output.dense"),
        **rows(_LAYERS, "mlp.act", "intermediate.intermediate_act_fn"),
        **rows(_LAYERS, "mlp.drop1", "intermediate.intermediate_act_fn"),
        **rows(_LAYERS, "mlp.norm", "intermediate.intermediate_act_fn"),
        **rows(_LAYERS, "mlp.drop2", "output.dense"),
        **rows(_LAYERS, "mlp", "output.dense"),
        **rows(_LAYERS, "ls2", "output.dense"),
        **rows(_LAYERS, "drop_path2", "output.dense"),
        **{f"stages.{stage}.1.transformer": f"encoder.layer.{stage}.transformer" for stage in TRANSFORMER_LAYERS},
        **{f"stages.{stage}.1": f"encoder.layer.{stage}" for stage in TRANSFORMER_LAYERS},
        **{f"stages.{stage}": f"encoder.layer.{stage}" for stage in range(5)},
        "stages": "encoder",
        "head.global_pool.pool": "pooler_output",
        "head.global_pool.flatten": "pooler_output",
        "head.global_pool": "pooler_output",
        "head.drop": "pooler_output",
        "head.flatten": "classifier",
        "head": "classifier",
    },
)
NAMINGS: tuple[Naming, ...] = (V1,)

# ---- the settings ----

# What `_cfg` of its mobilevit.py has. The shorter side becomes floor(256 / 0.9) = 284, of which 256 are cut out.
_DEFAULTS: dict[str, Any] = {
    "input_size": [3, 256, 256],
    "crop_pct": 0.9,
    "crop_mode": "center",
    "interpolation": "bicubic",
    "mean": [0.0, 0.0, 0.0],
    "std": [1.0, 1.0, 1.0],
}
_FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}  # by Pillow's numbers
LARGEST_SIDE = 10**5  # of the input, in pixels: what is beyond it is a mistake
# The settings that no tensor tells, and the only values that timm's models have.
_FIXED = {**UNTOLD, "output_stride": (32,)}
_ARCHITECTURES = {
    "mobilevit_s": PRESETS["small"],
    "mobilevit_xs": PRESETS["x-small"],
    "mobilevit_xxs": PRESETS["xx-small"],
}
# The arguments of a model that change nothing, or what its tensors tell.
_ARGUMENTS = ("num_classes", "in_chans", "drop_rate", "drop_path_rate", "img_size", "global_pool")


def reads(config: Settings) -> str | None:
    return "RGB"


def read_config(folder: Path, tensors: Mapping[str, StoredTensor]) -> StoredSettings | None:
    """timm's config.json says the labels and the size of the input; the rest of the network its tensors tell."""
    found = _read(folder)
    if found is None:
        settings = transformers.read_config(folder, tensors)
        return settings if settings is not None and transformers.has_settings(settings.values) else None
    path, values, pictures = found
    if not tensors:
        raise ConfigError(f"{path}: says nothing of the network's shape, and the tensors beside it cannot be read")
    architecture = values.get("architecture", "mobilevit")
    if not isinstance(architecture, str) or not architecture.startswith("mobilevit"):
        raise ConfigError(f"{path}: architecture: {short(architecture)}, expected a mobilevit, as the tensors are")
    for name in _object(path, values, "model_args"):
        if name not in _ARGUMENTS:
            raise ConfigError(f"{path}: model_args: {short(name)}, expected at most {', '.join(_ARGUMENTS)}")
    config = read_off(V1.to_ours(tensors), V1, path) | {"image_size": _side(path, pictures)}
    if values.get("num_classes", config.get("num_labels")) not in (config.get("num_labels", 0), None):
        told = short(values["num_classes"])
        raise ConfigError(f"{path}: num_classes: {told}, expected {config.get('num_labels', 0)}, as the tensors have")
    labels = _labels(path, values, pictures) if "num_labels" in config else None
    if labels is not None and len(labels) != config["num_labels"]:
        raise ConfigError(f"{path}: label_names: {len(labels)} names, expected {config['num_labels']}")
    return StoredSettings(path, config if labels is None else config | {"id2label": dict(enumerate(labels))})


def read_processor(folder: Path, tensors: Mapping[str, StoredTensor]) -> StoredSettings | None:
    """How timm's own evaluation prepares pictures with these settings. Raises ConfigError for those whose effect no
    processor of transformers has."""
    found = _read(folder)
    if found is None:
        return transformers.read_processor(folder, tensors)
    path, _, pictures = found
    for name in ("mean", "std"):
        if pictures[name] != _DEFAULTS[name]:
            raise ConfigError(f"{path}: {name}: {short(pictures[name])}, expected {_DEFAULTS[name]}, as MobileViT has")
    return StoredSettings(path, _processor(path, pictures))


def files(tensors: Tensors, config: Settings, processor: Settings | None) -> dict[str, Writer]:
    """What `timm.create_model("local-dir:...")` takes; for a shape that timm has no model of, without the model's name.

    Raises OutputError for a model for segmentation, and for settings that neither timm nor its config.json knows.
    """
    theirs = with_batch_counts(V1.to_theirs(tensors))
    return {
        WEIGHTS_FILE: tensor_writer(theirs),
        transformers.CONFIG_FILE: json_writer(_config(tensors, config, processor)),
    }


def _config(tensors: Tensors, config: Settings, processor: Settings | None) -> dict[str, Any]:
    if any(name.startswith(SEGMENTER) for name in tensors):
        raise OutputError("timm has no MobileViT for segmentation, expected a classifier or a model without a head")
    for name, expected in _FIXED.items():
        if name in config and config[name] not in expected:
            raise OutputError(f"{name}: {short(config[name])}, expected {expected[0]}: timm's MobileViT has no other")
    names = dict(config.get("id2label") or {})
    unnamed = {label: f"LABEL_{label}" for label in names}
    classes = tensors["classifier.weight"].shape[0] if "classifier.weight" in tensors else 0
    architecture = next((name for name, widths in _ARCHITECTURES.items() if _has(config, widths)), None)
    if architecture is None:
        tell("timm has no model of this shape: config.json names none, and one must be built to load the weights")
    pictures = {**_DEFAULTS, **_pictures(config, processor), "num_classes": classes}
    written = {
        "architecture": architecture,
        "num_classes": classes,
        "num_features": config["neck_hidden_sizes"][-1],
        "global_pool": "avg" if classes else "",
        "label_names": list(names.values()) if classes and names != unnamed else None,
        "pretrained_cfg": pictures | {"first_conv": "stem.conv", "classifier": "head.fc"},
    }
    return {name: value for name, value in written.items() if value is not None}


def _has(config: Settings, preset: Settings) -> bool:
    """Whether a model has the shape of this preset, in all that timm's models of that name fix."""
    widths = ("hidden_sizes", "neck_hidden_sizes")
    fixed = {"num_channels": 3, "expand_ratio": 4.0, "mlp_ratio": 2.0, "conv_kernel_size": 3, "qkv_bias": True}
    return all(list(config[name]) == list(preset[name]) for name in widths) and all(
        config.get(name, value) == preset.get(name, value) for name, value in fixed.items()
    )


def _pictures(config: Settings, processor: Settings | None) -> dict[str, Any]:
    """What a `pretrained_cfg` says of pictures, for a processor's settings. Raises OutputError where it cannot."""
    if processor is None:
        side = config["image_size"]
        return {"input_size": [config["num_channels"], *((side, side) if isinstance(side, int) else side)]}
    resized, crop = dict(processor["size"]), dict(processor["crop_size"])
    mode = "center" if "shortest_edge" in resized else "squash"
    if not processor["do_center_crop"]:
        crop = resized
    sides, cut = set(resized.values()), set(crop.values())
    if (
        len(sides) != 1
        or len(cut) != 1
        or max(cut) > max(sides)
        or not (processor["do_resize"] and processor["do_rescale"])
    ):
        raise OutputError(
            f"the processor's size {short(resized)} and crop_size {short(crop)}: timm's config.json has no words for "
            "them, expected pictures resized, and of them a square that is cut out"
        )
    (side,), (large,) = cut, sides
    share = side / large
    while math.floor(side / share) < large:  # as timm computes it
        share = math.nextafter(share, 0)
    filters = {number: name for name, number in _FILTERS.items()}
    return {
        "input_size": [config["num_channels"], side, side],
        "crop_pct": share,
        "crop_mode": mode,
        "interpolation": filters[processor["resample"]],
    }


def assume(task: str, tensors: Mapping[str, StoredTensor]) -> Assumptions:
    return Assumptions({}, _processor(Path(), _DEFAULTS))


def _read(folder: Path) -> tuple[Path, dict[str, Any], dict[str, Any]] | None:
    """timm's config.json, and in it what it says of pictures; None if there is none, or it is another library's."""
    path = folder / transformers.CONFIG_FILE
    if what_is(path, ConfigError) is None:
        return None
    values = read_json(path, ConfigError)
    if values.keys().isdisjoint(("architecture", "pretrained_cfg")):
        return None
    pretrained = _object(path, values, "pretrained_cfg") or values  # older files have it all in one object
    return (
        path,
        values,
        _DEFAULTS | {name: pretrained[name] for name in (*_DEFAULTS, "label_names") if name in pretrained},
    )


def _object(path: Path, values: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = values.get(name, {})
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: {name}: {short(value)}, expected an object")
    return value


def _side(path: Path, pictures: Mapping[str, Any]) -> int:
    match pictures["input_size"]:
        case [int(), int(height), int(width)] if height == width and 0 < height <= LARGEST_SIDE:
            return height
    raise ConfigError(f"{path}: input_size: {short(pictures['input_size'])}, expected 3 and twice the side of a square")


def _labels(path: Path, values: Mapping[str, Any], pictures: Mapping[str, Any]) -> list[str] | None:
    names = values.get("label_names", pictures.get("label_names"))
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{path}: label_names: {short(names)}, expected a list of names")
    return names


def _processor(path: Path, pictures: Mapping[str, Any]) -> dict[str, Any]:
    side, share, filter = _side(path, pictures), pictures["crop_pct"], pictures["interpolation"]
    if not isinstance(share, int | float) or not 0.1 <= share <= 1:
        raise ConfigError(f"{path}: crop_pct: {short(share)}, expected a number of 0.1 to 1")
    if not isinstance(filter, str) or filter not in _FILTERS:
        raise ConfigError(f"{path}: interpolation: {short(filter)}, expected one of {', '.join(_FILTERS)}")
    resized = math.floor(side / share)
    sizes = {"center": {"shortest_edge": resized}, "squash": {"height": resized, "width": resized}}
    mode = pictures["crop_mode"]
    if not isinstance(mode, str) or mode not in sizes:
        raise ConfigError(f"{path}: crop_mode: {short(mode)}, expected {' or '.join(sizes)}")
    return {
        "size": sizes[mode],
        "crop_size": {"height": side, "width": side},
        "resample": _FILTERS[filter],
        "do_flip_channel_order": False,
    }
