"""ml-cvnets, Apple's own library, with which MobileViT was published: "the original code and weights".

Source of the names: the state dicts of ml-cvnets v0.1, and for a second DeepLabV3 of v0.2 (github.com/apple/ml-cvnets).
Its v0.1 reads pictures with OpenCV: BGR, without mean or deviation. From v0.2 on it reads RGB.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinymvit.errors import tell
from tinymvit.weights.families import transformers
from tinymvit.weights.families.naming import (
    SEGMENTER,
    TRANSFORMER_LAYERS,
    Naming,
    is_batch_count,
    rows,
    with_batch_counts,
)
from tinymvit.weights.families.read_off import UNTOLD
from tinymvit.weights.formats.pytorch import tensor_writer
from tinymvit.weights.stored import Assumptions, Settings, StoredSettings, StoredTensor, Tensors, Writer

NAME = "ml-cvnets"
WORD = "cvnets"
WEIGHTS_FILE = "mobilevit.pt"
CONFIG_FILES: tuple[str, ...] = (transformers.CONFIG_FILE,)
PROCESSOR_FILES: tuple[str, ...] = (transformers.PROCESSOR_FILE,)

# ---- the names of version 1 ----

_RESIDUALS = {
    "layer_1.0": "encoder.layer.0.layer.0",
    **{f"layer_2.{i}": f"encoder.layer.1.layer.{i}" for i in range(3)},
    **{f"layer_{stage + 1}.0": f"encoder.layer.{stage}.downsampling_layer" for stage in TRANSFORMER_LAYERS},
}
_BLOCKS = {f"layer_{stage + 1}.1": f"encoder.layer.{stage}" for stage in TRANSFORMER_LAYERS}
_LAYERS = {
    f"layer_{stage + 1}.1.global_rep.{i}": f"encoder.layer.{stage}.transformer.layer.{i}"
    for stage, depth in TRANSFORMER_LAYERS.items()
    for i in range(depth)
}
_ASPP = "seg_head.aspp.aspp_layer"
# Convolutions with a normalisation and, but for red_1x1, an activation.
_CONVOLUTIONS = {
    "conv_1": "conv_stem",
    **{f"{theirs}.block.exp_1x1": f"{ours}.expand_1x1" for theirs, ours in _RESIDUALS.items()},
    **{f"{theirs}.block.conv_3x3": f"{ours}.conv_3x3" for theirs, ours in _RESIDUALS.items()},
    **{f"{theirs}.block.red_1x1": f"{ours}.reduce_1x1" for theirs, ours in _RESIDUALS.items()},
    **{f"{theirs}.local_rep.conv_3x3": f"{ours}.conv_kxk" for theirs, ours in _BLOCKS.items()},
    **{f"{theirs}.conv_proj": f"{ours}.conv_projection" for theirs, ours in _BLOCKS.items()},
    **{f"{theirs}.fusion": f"{ours}.fusion" for theirs, ours in _BLOCKS.items()},
    "conv_1x1_exp": "conv_1x1_exp",
    **{f"{_ASPP}.convs.{i}": f"segmentation_head.aspp.convs.{i}" for i in range(4)},
    f"{_ASPP}.convs.4.aspp_pool.conv_1x1": "segmentation_head.aspp.convs.4.conv_1x1",
    f"{_ASPP}.project": "segmentation_head.aspp.project",
}
_LINEAR_CONVOLUTIONS = {f"{theirs}.local_rep.conv_1x1": f"{ours}.conv_1x1" for theirs, ours in _BLOCKS.items()}
_QUERY_KEY_VALUE = tuple(f"attention.attention.{part}" for part in ("query", "key", "value"))
_LOGITS = "segmentation_head.classifier.convolution"

V1 = Naming(
    mark="layer_3.1.global_rep.0.pre_norm_mha.1.qkv_proj.weight",
    modules={
        **{f"{theirs}.block.conv": f"{ours}.convolution" for theirs, ours in _CONVOLUTIONS.items()},
        **{f"{theirs}.block.norm": f"{ours}.normalization" for theirs, ours in _CONVOLUTIONS.items()},
        **{
            f"{theirs}.local_rep.conv_1x1.block.conv": f"{ours}.conv_1x1.convolution"
            for theirs, ours in _BLOCKS.items()
        },
        **rows(_LAYERS, "pre_norm_mha.0", "layernorm_before"),
        # One matrix computes all three: its rows are those of the query, then of the key, then of the value.
        **rows(_LAYERS, "pre_norm_mha.1.qkv_proj", *_QUERY_KEY_VALUE),
        **rows(_LAYERS, "pre_norm_mha.1.out_proj", "attention.output.dense"),
        **rows(_LAYERS, "pre_norm_ffn.0", "layernorm_after"),
        **rows(_LAYERS, "pre_norm_ffn.1", "intermediate.dense"),
        **rows(_LAYERS, "pre_norm_ffn.4", "output.dense"),
        # The last norm stands in one list with the transformer layers, behind them.
        **{
            f"layer_{stage + 1}.1.global_rep.{depth}": f"encoder.layer.{stage}.layernorm"
            for stage, depth in TRANSFORMER_LAYERS.items()
        },
        "classifier.fc": "classifier",
        "seg_head.classifier.classifier.block.conv": _LOGITS,  # of v0.1
        "seg_head.classifier.block.conv": _LOGITS,  # of v0.2
    },
    outputs={
        **_CONVOLUTIONS,
        **{f"{theirs}.block": ours for theirs, ours in _CONVOLUTIONS.items()},
        **{f"{theirs}.block.act": ours for theirs, ours in _CONVOLUTIONS.items()},
        **_RESIDUALS,
        **{f"{theirs}.block": f"{ours}.reduce_1x1" for theirs, ours in _RESIDUALS.items()},
        **{f"{theirs}.local_rep": f"{ours}.conv_1x1" for theirs, ours in _BLOCKS.items()},
        **_LINEAR_CONVOLUTIONS,
        **{f"{theirs}.block": ours for theirs, ours in _LINEAR_CONVOLUTIONS.items()},
        **_LAYERS,
        **rows(_LAYERS, "pre_norm_mha.1.softmax", "attention.attention.probabilities"),
        **rows(_LAYERS, "pre_norm_mha.1.attn_dropout", "attention.attention.probabilities"),
        **rows(_LAYERS, "pre_norm_mha.1", "attention.output.dense"),
        **rows(_LAYERS, "pre_norm_mha.2", "attention.output.dense"),
        **rows(_LAYERS, "pre_norm_mha", "attention.output.dense"),
        **rows(_LAYERS, "pre_norm_ffn.2", "intermediate.intermediate_act_fn"),
        **rows(_LAYERS, "pre_norm_ffn.3", "intermediate.intermediate_act_fn"),
        **rows(_LAYERS, "pre_norm_ffn.5", "output.dense"),
        **rows(_LAYERS, "pre_norm_ffn", "output.dense"),
        **{f"{theirs}.global_rep": f"{ours}.layernorm" for theirs, ours in _BLOCKS.items()},
        **_BLOCKS,
        **{f"layer_{stage + 1}": f"encoder.layer.{stage}" for stage in range(5)},
        "classifier.global_pool": "pooler_output",
        "classifier.dropout": "pooler_output",
        "classifier": "classifier",
        f"{_ASPP}.convs.4.aspp_pool.global_pool": "segmentation_head.aspp.convs.4.global_pool",
        f"{_ASPP}.convs.4.aspp_pool": "segmentation_head.aspp.convs.4.conv_1x1",
        f"{_ASPP}.convs.4": "segmentation_head.aspp.convs.4",
        f"{_ASPP}.dropout": "segmentation_head.aspp.project",  # of v0.1
        f"{_ASPP}.dropout_layer": "segmentation_head.aspp.project",  # of v0.2
        _ASPP: "segmentation_head.aspp.project",
        "seg_head.aspp": "segmentation_head.aspp.project",
        "seg_head.classifier.classifier_dropout": "segmentation_head.aspp.project",
        "seg_head.classifier.classifier.block": _LOGITS,
        "seg_head.classifier.classifier": _LOGITS,
        "seg_head.classifier.block": _LOGITS,
    },
    encoder="encoder.",
    encoder_under=(SEGMENTER,),
    # The auxiliary head of v0.2 helps in training alone.
    left_out=lambda name: is_batch_count(name) or name.startswith("seg_head.aux_head."),
)
NAMINGS: tuple[Naming, ...] = (V1,)

# ---- the settings ----

# Beside published weights lies no file that says them. What a conversion writes there is in transformers' form.


def read_config(folder: Path, tensors: Mapping[str, StoredTensor]) -> StoredSettings | None:
    found = transformers.read_config(folder, tensors)
    return found if found is not None and transformers.has_settings(found.values) else None


read_processor = transformers.read_processor

# Of v0.1, for classification and segmentation; and what the DeepLabV3 of v0.2 has otherwise.
_PROCESSORS: dict[str, dict[str, Any]] = {
    **transformers.PROCESSORS,
    "segment": {"size": {"height": 512, "width": 512}, "do_center_crop": False},  # not in proportion
}
_V0_2 = {"output_stride": 8, "atrous_rates": [12, 24, 36]}
_LAST, _LAST_OF_V0_2 = "seg_head.classifier.classifier.", "seg_head.classifier."
# What their software takes from a configuration of its own, and the usual values.
_CONFIGURED = {**UNTOLD, "output_stride": (32, 16, 8)}


def reads(config: Settings) -> str | None:
    return "RGB" if _is_of_v0_2(config) else "BGR"


def _is_of_v0_2(config: Settings) -> bool:
    """Whether these are the settings of the second DeepLabV3."""
    return transformers.task(config) == "segment" and all(config.get(name) == value for name, value in _V0_2.items())


def assume(task: str, tensors: Mapping[str, StoredTensor]) -> Assumptions:
    processor = _PROCESSORS.get(task, _PROCESSORS["classify"]) | {"do_flip_channel_order": True}
    if f"{_LAST_OF_V0_2}block.conv.weight" in tensors:
        return Assumptions(_V0_2, processor | {"do_flip_channel_order": False})
    return Assumptions({}, processor)


def files(tensors: Tensors, config: Settings, processor: Settings | None) -> dict[str, Writer]:
    """Their software reads the weights alone. The settings beside them are for us: they keep what names cannot say."""
    theirs = with_batch_counts(V1.to_theirs(tensors))
    if _is_of_v0_2(config):
        theirs = {name.replace(_LAST, _LAST_OF_V0_2): tensor for name, tensor in theirs.items()}
    unusual = [name for name, usual in _CONFIGURED.items() if name in config and config[name] not in usual]
    if unusual:
        told = ", ".join(f"{name} {config[name]}" for name in unusual)
        tell(f"{WEIGHTS_FILE}: does not say {told}; tinymvit reads it beside it, ml-cvnets must be configured so")
    return {WEIGHTS_FILE: tensor_writer(theirs), **transformers.settings_files(config, processor)}
