"""The TensorFlow classes that transformers 4 had and transformers 5 dropped, for code and checkpoints that know them.

They take what those took, in the same order, and give what those gave: images and maps with their channels first, as
everywhere, losses of one number for each image. What they compute is what `modeling` computes, on NumPy arrays; there
is no TensorFlow in it. Source: modeling_tf_mobilevit.py of transformers 4.57.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from tinymvit.config import MobileViTConfig
from tinymvit.modeling.losses import image_losses, segmentation_loss
from tinymvit.modeling.models import (
    MobileViTForImageClassification,
    MobileViTForSemanticSegmentation,
    MobileViTModel,
    MobileViTPreTrainedModel,
)
from tinymvit.modeling.outputs import BaseModelOutputWithPooling, ImageClassifierOutput, SemanticSegmenterOutput
from tinymvit.numerics import Array
from tinymvit.text import did_you_mean
from tinymvit.weights.checkpoint import Checkpoint


class TFMobileViTPreTrainedModel(MobileViTPreTrainedModel):
    """What the three models share."""

    @classmethod
    def from_pretrained(
        cls, name: str | Path | Checkpoint, *, config: MobileViTConfig | None = None, from_pt: bool = False
    ) -> Self:
        """Load a checkpoint strictly, as the PyTorch classes' `from_pretrained` does: a folder or hub id with
        `tf_model.h5`, or any other checkpoint.

        from_pt: accepted, as by the original, and not needed: the file itself tells what it is.
        """
        return super().from_pretrained(name, config=config)

    def save_pretrained(self, folder: str | Path, *, family: str = "tensorflow") -> None:
        """Write tf_model.h5 and config.json, which transformers 4 loads too; or what another `family` loads, as the
        PyTorch classes' `save_pretrained` says. tf_model.h5 needs the library h5py, `pip install "tinymvit[h5]"`.

        Raises OutputError, a ValueError, if the folder cannot be written; files already there then stay whole.
        """
        super().save_pretrained(folder, family=family)

    def num_parameters(self, only_trainable: bool = False) -> int:
        """The number of parameters as Keras counts them: with the running means and variances of the normalisations,
        which the PyTorch classes do not count, unless only_trainable."""
        return super().num_parameters() if only_trainable else sum(tensor.size for tensor in self.weights.values())


class TFMobileViTModel(TFMobileViTPreTrainedModel, MobileViTModel):
    """The network without a head. expand_output=False leaves out the last 1x1 convolution and the pooling."""

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path | Checkpoint,
        expand_output: bool = True,
        *,
        config: MobileViTConfig | None = None,
        from_pt: bool = False,
    ) -> Self:
        """As the other models', from a checkpoint with or without a head. The DeepLabV3 checkpoints have no expanding
        convolution: load them with expand_output=False."""
        return super(TFMobileViTPreTrainedModel, cls).from_pretrained(name, expand_output, config=config)

    def __call__(
        self,
        pixel_values: Any = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        training: bool = False,
    ) -> BaseModelOutputWithPooling:
        """pixel_values (B, C, H, W) floats from 0 to 1, any H and W; or a mapping of the arguments by their names, or
        a list of them in order, as Keras passes inputs. Options left out are the configuration's.

        Raises TypeError or ValueError for pixels of another dtype, rank or number of channels, for NaN, and for
        training=True.
        """
        given = _unpacked(
            pixel_values, output_hidden_states=output_hidden_states, return_dict=return_dict, training=training
        )
        return MobileViTModel.__call__(self, **given)


class TFMobileViTForImageClassification(TFMobileViTPreTrainedModel, MobileViTForImageClassification):
    """The network with a linear classifier on the pooled features."""

    def __call__(
        self,
        pixel_values: Any = None,
        output_hidden_states: bool | None = None,
        labels: Array | None = None,
        return_dict: bool | None = None,
        training: bool = False,
    ) -> ImageClassifierOutput:
        """pixel_values as `TFMobileViTModel` takes them. With labels (B,) the output has a loss for each image, (B,):
        see `losses.image_losses`. Options left out are the configuration's.

        Raises TypeError or ValueError for pixels or labels of another dtype, shape or range, for NaN, and for
        training=True.
        """
        given = _unpacked(
            pixel_values,
            output_hidden_states=output_hidden_states,
            labels=labels,
            return_dict=return_dict,
            training=training,
        )
        labels, return_dict = given.pop("labels"), self._option(given.pop("return_dict"), "return_dict")
        output = MobileViTForImageClassification.__call__(self, **given, return_dict=True)
        if labels is not None:
            output = replace(output, loss=image_losses(output.logits, labels))
        return self._as_asked(output, return_dict)


class TFMobileViTForSemanticSegmentation(TFMobileViTPreTrainedModel, MobileViTForSemanticSegmentation):
    """The network with a DeepLabV3 head."""

    def __call__(
        self,
        pixel_values: Any = None,
        labels: Array | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        training: bool = False,
    ) -> SemanticSegmenterOutput:
        """pixel_values as `TFMobileViTModel` takes them. With labels (B, H', W') the output has a loss (1,): see
        `losses.segmentation_loss`. Options left out are the configuration's.

        Raises TypeError or ValueError for pixels or labels of another dtype, shape or range, for NaN, and for
        training=True.
        """
        given = _unpacked(
            pixel_values,
            labels=labels,
            output_hidden_states=output_hidden_states,
            return_dict=return_dict,
            training=training,
        )
        labels, return_dict = given.pop("labels"), self._option(given.pop("return_dict"), "return_dict")
        output = MobileViTForSemanticSegmentation.__call__(self, **given, return_dict=True)
        if labels is not None:
            output = replace(output, loss=segmentation_loss(output.logits, labels, self.config).reshape(1))
        return self._as_asked(output, return_dict)


def _unpacked(pixel_values: Any, **others: Any) -> dict[str, Any]:
    """The arguments of a call by their names, without `training`. Those in a mapping or a list, which stands in the
    first one's place, come before the others, as in the original."""
    names = ("pixel_values", *others)
    given: dict[Any, Any] = {"pixel_values": pixel_values}
    if isinstance(pixel_values, Mapping):
        given = dict(pixel_values)
    elif isinstance(pixel_values, list | tuple):
        if len(pixel_values) > len(names):
            raise ValueError(
                f"a list of {len(pixel_values)} inputs; expected at most {', '.join(names)}, in this order"
            )
        given = dict(zip(names, pixel_values, strict=False))
    for name in given:
        if name not in names:
            raise ValueError(f"{name}: no such input{did_you_mean(str(name), names)}; expected {', '.join(names)}")
    arguments = {"pixel_values": None, **others, **given}
    if arguments.pop("training"):
        raise ValueError("training=True: these classes only predict; expected training=False")
    return arguments
