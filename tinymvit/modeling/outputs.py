"""What the models return: dataclasses that also answer to keys and positions, as transformers' outputs do."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from tinymvit.numerics import Array


@dataclass
class ModelOutput:
    """Fields by attribute (`out.logits`), by key (`out["logits"]`) or by position among those present (`out[0]`)."""

    def keys(self) -> tuple[str, ...]:
        """Names of the fields that are present (not None), in order."""
        return tuple(f.name for f in fields(self) if getattr(self, f.name) is not None)

    def to_tuple(self) -> tuple[Any, ...]:
        """The fields that are present, in order."""
        return tuple(getattr(self, name) for name in self.keys())

    def __getitem__(self, key: str | int | slice) -> Any:
        if not isinstance(key, str):
            return self.to_tuple()[key]
        if key not in self.keys():
            raise KeyError(f"{key!r} is not in this {type(self).__name__}, which holds {', '.join(self.keys())}")
        return getattr(self, key)


@dataclass
class BaseModelOutputWithPooling(ModelOutput):
    """What `MobileViTModel` returns; every array is float32.

    last_hidden_state: (B, C, H, W), the expanded map, or with expand_output=False the last stage's.
    pooler_output: (B, C), its mean over the map; None with expand_output=False.
    hidden_states: the five stages' maps (B, C, H, W), if asked for.
    """

    last_hidden_state: Array
    pooler_output: Array | None = None
    hidden_states: tuple[Array, ...] | None = None


@dataclass
class ImageClassifierOutput(ModelOutput):
    """What `MobileViTForImageClassification` returns; every array is float32.

    loss: a scalar, if labels were given; (B,) of the TensorFlow class. logits: (B, num_labels), before softmax.
    hidden_states: the five stages' maps (B, C, H, W), if asked for.
    """

    loss: np.float32 | Array | None
    logits: Array
    hidden_states: tuple[Array, ...] | None = None


@dataclass
class SemanticSegmenterOutput(ModelOutput):
    """What `MobileViTForSemanticSegmentation` returns; every array is float32.

    loss: a scalar, if labels were given; (1,) of the TensorFlow class.
    logits: (B, num_labels, H / output_stride, W / output_stride).
    hidden_states: the five stages' maps (B, C, H, W), if asked for.
    """

    loss: np.float32 | Array | None
    logits: Array
    hidden_states: tuple[Array, ...] | None = None
