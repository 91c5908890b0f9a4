"""`MobileViTConfig`: every number that shapes a MobileViT, under the names that the transformers library gave them.

Reads and writes `config.json` and checks each value on construction. The published shapes are in `presets`; what the
numbers mean for the network is left to `networks`.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tinymvit import checks
from tinymvit.errors import ConfigError
from tinymvit.files import json_writer, named_json, read_json, write_files
from tinymvit.presets import PRESETS, SEGMENTER
from tinymvit.text import did_you_mean, short

if TYPE_CHECKING:
    from tinymvit.weights import Checkpoint

# Names a configuration may use -> the function they mean, as transformers' ACT2FN has it.
ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
    "relu6": "relu6",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "hardswish": "hardswish",
    "leaky_relu": "leaky_relu",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "linear": "identity",
}

PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")


@dataclass(frozen=True, kw_only=True, repr=False)
class MobileViTConfig:
    """The shape of a MobileViT and what its outputs are called. Immutable and hashable; defaults are MobileViT-S.

    Lists are kept as tuples. `num_labels`, `id2label` and `label2id` follow from one another as in transformers:
    without any there are two labels, LABEL_0 and LABEL_1; `id2label` alone fixes the number; a `num_labels` that
    contradicts it wins, with a warning. Raises ConfigError naming the field, its value and what was expected.
    Source: `MobileViTConfig` of transformers 5.
    """

    num_channels: int = 3  # of the input image
    image_size: int | tuple[int, int] = 256  # the input the checkpoint was trained for; any size runs
    patch_size: int | tuple[int, int] = 2  # of the unfolding, one side or (height, width); transformers: one side
    hidden_sizes: tuple[int, ...] = (144, 192, 240)  # token widths D of the three MobileViT blocks
    neck_hidden_sizes: tuple[int, ...] = (16, 32, 64, 96, 128, 160, 640)  # channels: stem, five stages, expansion
    num_attention_heads: int = 4
    mlp_ratio: float = 2.0  # width inside a transformer layer's feed-forward network / D
    expand_ratio: float = 4.0  # width inside an inverted residual / its input channels
    hidden_act: str | Callable[..., Any] = "silu"  # a name in ACTIVATIONS, or a function of an array
    conv_kernel_size: int = 3  # of the MobileViT blocks' two KxK convolutions
    output_stride: int = 32  # input side / side of the last feature map; below 32 by dilation
    hidden_dropout_prob: float = 0.1  # the dropout probabilities only matter in training
    attention_probs_dropout_prob: float = 0.0
    classifier_dropout_prob: float = 0.1
    initializer_range: float = 0.02  # standard deviation of random weights
    layer_norm_eps: float = 1e-5
    qkv_bias: bool = True
    aspp_out_channels: int = 256  # DeepLabV3 head
    atrous_rates: tuple[int, ...] = (6, 12, 18)  # dilations of the DeepLabV3 head's three 3x3 convolutions
    aspp_dropout_prob: float = 0.1
    semantic_loss_ignore_index: int = 255  # the label that the segmentation loss skips
    problem_type: str | None = None  # of the classification loss; None: told from the labels
    output_hidden_states: bool = False
    return_dict: bool = True
    # None only on the way in: after construction all three are set.
    num_labels: int = None  # type: ignore[assignment]
    id2label: dict[int, str] = field(default=None, hash=False)  # type: ignore[arg-type]
    label2id: dict[str, int] = field(default=None, hash=False)  # type: ignore[arg-type]
    # The other keys of the config.json it came from (architectures, transformers_version, ...): written back, not read.
    extra: dict[str, Any] = field(default_factory=dict, compare=False)

    def __new__(cls, **values: Any) -> Self:
        for name in values:
            checks.known(name, _FIELDS)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for name, rule in _RULES.items():
            self._set(name, rule(name, getattr(self, name)))
        self._settle_labels()
        for size in self.hidden_sizes:
            if size % self.num_attention_heads:
                raise ConfigError(
                    f"num_attention_heads: {self.num_attention_heads}, expected a divisor of each of "
                    f"hidden_sizes {self.hidden_sizes}"
                )
            if int(size * self.mlp_ratio) < 1:
                raise ConfigError(f"mlp_ratio: {self.mlp_ratio}, expected at least 1 / {size}, for {size} wide tokens")
        if self.problem_type == "single_label_classification" and self.num_labels == 1:
            raise ConfigError("problem_type: single_label_classification, expected num_labels of at least 2, not 1")

    def _settle_labels(self) -> None:
        """Give num_labels, id2label and label2id, any of which may still be None, values that agree."""
        count, ids = self.num_labels, self.label2id
        names: dict[int, str] | None = self.id2label
        if names is not None and count not in (None, len(names)):
            warnings.warn(f"num_labels: {count}, so the {len(names)} names in id2label are dropped", stacklevel=4)
            names = None
        if names is None:
            names = {label: f"LABEL_{label}" for label in range(2 if count is None else count)}
            ids = {}
        self._set("num_labels", len(names))
        self._set("id2label", names)
        self._set("label2id", ids or {name: label for label, name in names.items()})

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # the class is frozen for everyone else

    @property
    def image_shape(self) -> tuple[int, int]:
        """(height, width) of the input the checkpoint was trained for."""
        return (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size

    @property
    def patch_shape(self) -> tuple[int, int]:
        """(height, width) of a patch in pixels."""
        return (self.patch_size, self.patch_size) if isinstance(self.patch_size, int) else self.patch_size

    @property
    def task(self) -> str | None:
        """What the config.json that it came from says the model is for: "classify", "segment", or "features" for one
        without a head; None if there was none, or it does not say."""
        from tinymvit.weights.families import transformers

        return transformers.task(self.extra)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """A published shape, `changes` applied: "small", "x-small", "xx-small", or one of these after "deeplabv3-".

        The published checkpoints' names ("mobilevit-small", "apple/deeplabv3-mobilevit-small") mean their shapes.
        Raises ConfigError for another name or change.
        """
        if not isinstance(name, str):
            raise ConfigError(f"preset: a {type(name).__name__}, expected the name of one")
        shape = _shape(name)
        if shape not in PRESETS:
            raise ConfigError(
                f"{name}: no such preset, expected one of {', '.join(PRESETS)}{did_you_mean(shape, PRESETS)}"
            )
        return cls(**PRESETS[shape]).replace(**changes)

    @classmethod
    def from_pretrained(cls, name: str | Path | Checkpoint, **changes: Any) -> Self:
        """The configuration of a checkpoint (anything `weights.open_checkpoint` takes) or in a JSON file, `changes`
        applied.

        Raises ConfigError naming the file, CheckpointError when there is no such checkpoint.
        """
        from tinymvit.weights import open_checkpoint

        path = named_json(name)
        if path is None:
            path, values, _ = open_checkpoint(name).config
        else:
            values = read_json(path, ConfigError)
        try:
            config = cls.from_dict(values)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
        return config.replace(**changes)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], **changes: Any) -> Self:
        """The configuration that a parsed `config.json` describes, `changes` applied; unknown keys go to `extra`.

        Raises ConfigError naming the field, its value and what was expected.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"from_dict: a {type(values).__name__}, expected a mapping of option names to values")
        model_type = values.get("model_type", "mobilevit")
        if checks.is_one_of(model_type, ["mobilevitv2"]):
            raise ConfigError("model_type: mobilevitv2 is another network (separable attention), expected mobilevit")
        if not checks.is_one_of(model_type, ["mobilevit"]):
            raise ConfigError(f"model_type: {short(model_type)}, expected 'mobilevit'")
        known = {name: value for name, value in values.items() if name in _FIELDS and name != "extra"}
        extra = {name: value for name, value in values.items() if name not in known and name != "model_type"}
        return cls(**known, extra=extra).replace(**changes)

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed. New labels replace the old ones: give `num_labels` or `id2label`."""
        if not changes:
            return self
        values = {name: getattr(self, name) for name in _FIELDS}
        if not changes.keys().isdisjoint(("num_labels", "id2label")):
            values |= {"num_labels": None, "id2label": None, "label2id": None}
        return type(self)(**values | changes)

    def to_dict(self) -> dict[str, Any]:
        """The content of a `config.json`: `extra`, `model_type` and every field, lists for tuples.

        `num_labels` is left out, as transformers does: the length of `id2label` says it. Raises ConfigError if
        `hidden_act` is a function, which no file can hold.
        """
        if not isinstance(self.hidden_act, str):
            raise ConfigError(f"hidden_act: the function {self.hidden_act!r} cannot be saved, expected a name")
        fields = {name: getattr(self, name) for name in _FIELDS if name not in ("num_labels", "extra")}
        for name, value in fields.items():
            if isinstance(value, (tuple, dict)):
                fields[name] = list(value) if isinstance(value, tuple) else dict(value)
        return self.extra | {"model_type": "mobilevit"} | fields

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` into `folder`, made if need be; transformers reads it. Raises OutputError."""
        from tinymvit.weights.families.transformers import CONFIG_FILE

        write_files(folder, {CONFIG_FILE: json_writer(self.to_dict())})

    def __repr__(self) -> str:
        """The fields that differ from the defaults, long label tables shortened."""
        default = type(self)()
        changed = [name for name in _FIELDS if getattr(self, name) != getattr(default, name)]
        if self.id2label == {label: f"LABEL_{label}" for label in range(self.num_labels)}:
            derived = {"id2label", "label2id", "extra"}
        else:
            derived = {"num_labels", "label2id", "extra"}
        fields = (f"{name}={short(getattr(self, name))}" for name in changed if name not in derived)
        return f"{type(self).__name__}({', '.join(fields)})"


_FIELDS = tuple(spec.name for spec in dataclasses.fields(MobileViTConfig))


def preset_task(name: str) -> str:
    """What a published shape is for, by any name that `MobileViTConfig.preset` takes: "classify" or "segment"."""
    return "segment" if _shape(name).startswith(SEGMENTER) else "classify"


def preset_with_segmenter(name: str) -> str:
    """The name of the published shape of the same size that is for segmentation."""
    return SEGMENTER + _shape(name).removeprefix(SEGMENTER)


def _shape(name: str) -> str:
    """The name in PRESETS of a published shape or checkpoint."""
    return str(name).removeprefix("apple/").replace("mobilevit-", "")


def _stride(name: str, value: Any) -> int:
    if checks.integer(name, value) not in (8, 16, 32):
        raise ConfigError(f"{name}: {value}, expected 8, 16 or 32")
    return int(value)


def _activation(name: str, value: Any) -> Any:
    if isinstance(value, str) and value not in ACTIVATIONS:
        hint = did_you_mean(value, ACTIVATIONS)
        raise ConfigError(f"{name}: {short(value)}, expected a function or one of {', '.join(ACTIVATIONS)}{hint}")
    if not isinstance(value, str) and not callable(value):
        raise ConfigError(f"{name}: {short(value)}, expected the name of an activation or a function")
    return value


def _problem_type(name: str, value: Any) -> Any:
    if value is not None and not (isinstance(value, str) and value in PROBLEM_TYPES):
        raise ConfigError(f"{name}: {short(value)}, expected {', '.join(PROBLEM_TYPES)} or none")
    return value


def _label_count(name: str, value: Any) -> int | None:
    return None if value is None else checks.integer(name, value, low=0)


def _label_names(name: str, value: Any) -> dict[int, str] | None:
    """id2label with integers for keys (JSON's are text), in order and without gaps."""
    if value is None:
        return None
    try:
        names = {int(label): text for label, text in value.items() if not isinstance(label, float)}
    except (AttributeError, TypeError, ValueError):
        raise ConfigError(f"{name}: {short(value)}, expected a mapping of class ids to names") from None
    if sorted(names) != list(range(len(value))):
        raise ConfigError(f"{name}: the ids {short(list(value))}, expected 0 to {len(value) - 1}")
    for label, text in names.items():
        if not isinstance(text, str):
            raise ConfigError(f"{name}: {label} is named {short(text)}, expected text")
    return {label: names[label] for label in sorted(names)}


def _label_ids(name: str, value: Any) -> dict[str, int] | None:
    """label2id with integers for values; shorter than id2label where names repeat (ImageNet has two cranes)."""
    if value is None:
        return None
    try:
        return {str(text): int(label) for text, label in value.items()}
    except (AttributeError, TypeError, ValueError, OverflowError):
        raise ConfigError(f"{name}: {short(value)}, expected a mapping of names to class ids") from None


def _other_keys(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name}: {short(value)}, expected a mapping of a config.json's other keys to their values")
    return dict(value)


_RULES: dict[str, Callable[[str, Any], Any]] = {
    "num_channels": checks.positive_integer,
    "image_size": checks.side_or_sides,
    "patch_size": checks.side_or_sides,
    "hidden_sizes": checks.positive_integers(3),
    "neck_hidden_sizes": checks.positive_integers(7),
    "num_attention_heads": checks.positive_integer,
    "mlp_ratio": checks.positive_number,
    "expand_ratio": checks.positive_number,
    "hidden_act": _activation,
    "conv_kernel_size": checks.odd_integer,
    "output_stride": _stride,
    "hidden_dropout_prob": checks.probability,
    "attention_probs_dropout_prob": checks.probability,
    "classifier_dropout_prob": checks.probability,
    "initializer_range": checks.number,
    "layer_norm_eps": checks.positive_number,
    "qkv_bias": checks.boolean,
    "aspp_out_channels": checks.positive_integer,
    "atrous_rates": checks.positive_integers(3),
    "aspp_dropout_prob": checks.probability,
    "semantic_loss_ignore_index": checks.integer,
    "problem_type": _problem_type,
    "output_hidden_states": checks.boolean,
    "return_dict": checks.boolean,
    "num_labels": _label_count,
    "id2label": _label_names,
    "label2id": _label_ids,
    "extra": _other_keys,
}
