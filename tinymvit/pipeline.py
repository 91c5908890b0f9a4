"""From a picture to an answer: processor, model, and what the numbers mean. The short way and the one for many images.

`classify` and `segment` load a checkpoint and use it once; the pipeline objects keep it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinymvit import limits
from tinymvit.checks import is_positive_integer
from tinymvit.config import MobileViTConfig
from tinymvit.errors import CheckpointError, ImageError
from tinymvit.images.load import ImageSource, load_image
from tinymvit.images.processor import MobileViTImageProcessor
from tinymvit.modeling import MobileViTForImageClassification, MobileViTForSemanticSegmentation
from tinymvit.numerics import Array
from tinymvit.text import short
from tinymvit.weights import Checkpoint, open_checkpoint

Prediction = dict[str, Any]  # {"label": "7", "score": 0.998}, as transformers' pipelines give it

PIXEL_BYTES = 20  # of a segmented picture, as measured: a mask of 8, and the picture read again and drawn over
DEFAULT_CLASSIFIER = "digits"
DEFAULT_SEGMENTER = "digits-seg"


@dataclass(frozen=True)
class Segmentation:
    """What `segment` finds. mask: (H, W) int64 class ids, at the image's own size.
    labels: the names of the classes in the mask, by id. shares: the part of the image that each takes, 0 to 1."""

    mask: Array
    labels: dict[int, str]
    shares: dict[int, float]


class ImageClassificationPipeline:
    """A loaded classifier: call it with one image, or a list of them.

    model: anything `MobileViTForImageClassification.from_pretrained` takes. Raises CheckpointError or ConfigError.
    """

    def __init__(self, model: str | Path | Checkpoint = DEFAULT_CLASSIFIER) -> None:
        checkpoint, config = _open(model, "segment", "a segmentation checkpoint; use segment")
        self.model = MobileViTForImageClassification.from_pretrained(checkpoint, config=config)
        self.processor = MobileViTImageProcessor.from_pretrained(checkpoint)

    def __call__(self, images: ImageSource | list[ImageSource], top_k: int = 5) -> Any:
        """The top_k likeliest labels, best first: a list of {"label", "score"}, or a list of such lists for a list.

        images: see `images.load.load_image`. Scores are softmax probabilities. Raises ImageError (a ValueError) or
        TypeError.
        """
        if not is_positive_integer(top_k):
            raise ValueError(f"top_k is {short(top_k)}; expected a whole number of at least 1")
        if isinstance(images, list | tuple):
            return [self._classify(image, top_k) for image in images]
        return self._classify(images, top_k)

    def _classify(self, image: ImageSource, top_k: int) -> list[Prediction]:
        logits = self.model(**self.processor(image)).logits[0].astype(np.float64)
        scores = np.exp(logits - logits.max())
        scores /= scores.sum()
        best = np.argsort(-scores, kind="stable")[:top_k]
        return [{"label": self.model.config.id2label[int(i)], "score": float(scores[i])} for i in best]


class ImageSegmentationPipeline:
    """A loaded segmenter: call it with one image, or a list of them.

    model: anything `MobileViTForSemanticSegmentation.from_pretrained` takes. Raises CheckpointError or ConfigError.
    """

    def __init__(self, model: str | Path | Checkpoint = DEFAULT_SEGMENTER) -> None:
        checkpoint, config = _open(model, "classify", "a classification checkpoint; use classify")
        self.model = MobileViTForSemanticSegmentation.from_pretrained(checkpoint, config=config)
        self.processor = MobileViTImageProcessor.from_pretrained(checkpoint)

    def __call__(self, images: ImageSource | list[ImageSource]) -> Any:
        """A `Segmentation` at the image's own size, or a list of them for a list.

        images: see `images.load.load_image`. The whole image is used: it is resized as the processor says but not
        cropped, so that the logits, resized to the image's size, lie where they belong. Raises ImageError (a
        ValueError) or TypeError.
        """
        if isinstance(images, list | tuple):
            return [self._segment(image) for image in images]
        return self._segment(images)

    def _segment(self, image: ImageSource) -> Segmentation:
        pixels = load_image(image)  # (C, H, W)
        size = pixels.shape[1:]
        limits.check(math.prod(size) * PIXEL_BYTES, f"a picture of {size[0]} x {size[1]} and its mask", ImageError)
        inputs = self.processor(pixels, do_center_crop=False, input_data_format="channels_first")
        del pixels  # as large as all that follows
        outputs = self.model(**inputs)
        (mask,) = self.processor.post_process_semantic_segmentation(outputs, [size])
        counts = np.bincount(mask.ravel(), minlength=self.model.config.num_labels)
        names = self.model.config.id2label
        found = [int(i) for i in counts.nonzero()[0]]
        return Segmentation(mask, {i: names[i] for i in found}, {i: float(counts[i] / mask.size) for i in found})


def classify(
    image: ImageSource | list[ImageSource], model: str | Path | Checkpoint = DEFAULT_CLASSIFIER, top_k: int = 5
) -> Any:
    """Load a checkpoint and name what an image shows: see `ImageClassificationPipeline`, which is for many images."""
    return ImageClassificationPipeline(model)(image, top_k)


def segment(image: ImageSource | list[ImageSource], model: str | Path | Checkpoint = DEFAULT_SEGMENTER) -> Any:
    """Load a checkpoint and name what each pixel shows: see `ImageSegmentationPipeline`, which is for many images."""
    return ImageSegmentationPipeline(model)(image)


def _open(model: str | Path | Checkpoint, other: str, otherwise: str) -> tuple[Checkpoint, MobileViTConfig]:
    """The checkpoint and its configuration; a CheckpointError if it says that it is for the `other` task."""
    checkpoint = open_checkpoint(model)
    config = MobileViTConfig.from_pretrained(checkpoint)
    if config.task == other:
        raise CheckpointError(f"{model}: {otherwise}")
    return checkpoint, config
