"""The losses that the models report when labels are given, as transformers computes them; in float64, then float32."""

from __future__ import annotations

import numpy as np

from tinymvit import limits, ops
from tinymvit.config import MobileViTConfig
from tinymvit.numerics import Array, as_array

BAND_NUMBERS = 2**18  # numbers of the resized logits that a loss is computed from at a time, in whole rows
LABEL_BYTES = 26  # bytes for each label: the class number, the loss, the losses that count, and what is ignored


def classification_loss(logits: Array, labels: Array, config: MobileViTConfig) -> np.float32:
    """The loss that config.problem_type names; where it names none, num_labels and the labels' dtype decide.

    logits (B, K). "regression": mean squared error against labels (B, K), or (B,) for one label.
    "single_label_classification": cross entropy against class numbers (B,), where -100 is ignored.
    "multi_label_classification": binary cross entropy against (B, K) of 0 to 1.
    Raises ValueError for labels of another shape or range, TypeError for another dtype.
    """
    labels = _numbers(labels)
    batch, classes = logits.shape
    problem = config.problem_type
    if problem is None:
        single = np.issubdtype(labels.dtype, np.integer)
        problem = "single_label_classification" if single else "multi_label_classification"
        problem = "regression" if classes == 1 else problem
    x = logits.astype(np.float64)
    if problem == "single_label_classification":
        if labels.size != batch:
            raise ValueError(f"labels have shape {labels.shape}; expected one class number for each of {batch} images")
        return cross_entropy(x, labels.reshape(batch), ignore_index=-100)
    if labels.size != logits.size:
        raise ValueError(f"labels have shape {labels.shape}; expected {logits.shape} for problem_type {problem!r}")
    y = labels.reshape(logits.shape).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # of labels that are infinite or nearly, as in PyTorch
        if problem == "regression":
            return np.float32(np.mean((x - y) ** 2))
        return np.float32(np.mean(np.maximum(x, 0) - x * y + np.log1p(np.exp(-np.abs(x)))))


def image_losses(logits: Array, labels: Array) -> Array:
    """The loss (B,) of each image, as transformers' TensorFlow classes give it, whatever config.problem_type names.

    logits (B, K). With one label, the squared error against labels (B,) or (B, 1); else cross entropy against class
    numbers, of which none is ignored. Raises ValueError for labels of another shape or range, TypeError for another
    dtype.
    """
    labels = _numbers(labels)
    batch, classes = logits.shape
    if labels.shape not in ((batch,), (batch, 1)):
        raise ValueError(f"labels have shape {labels.shape}; expected one for each of {batch} images")
    labels, x = labels.reshape(batch), logits.astype(np.float64)
    if classes > 1:
        _used(labels, classes, ignore_index=None)
        return _losses(x, labels).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # of labels that are infinite or nearly
        return ((x[:, 0] - labels) ** 2).astype(np.float32)


def segmentation_loss(logits: Array, labels: Array, config: MobileViTConfig) -> np.float32:
    """Cross entropy of the logits (B, K, h, w), resized bilinearly to the labels' (B, H, W), except where a label is
    config.semantic_loss_ignore_index. Raises ValueError for labels of another shape or range, TypeError for another
    dtype."""
    labels = _numbers(labels)
    limits.check(LABEL_BYTES * labels.size, f"labels of shape {labels.shape}")
    if config.num_labels == 1:
        raise ValueError("a loss needs at least two labels, and the configuration has num_labels=1")
    if labels.ndim != 3 or len(labels) != len(logits) or labels.size == 0:
        raise ValueError(f"labels have shape {labels.shape}; expected ({len(logits)}, height, width)")
    used = _used(labels, logits.shape[1], config.semantic_loss_ignore_index)
    losses = np.empty(labels.shape)
    rows = max(1, BAND_NUMBERS // (labels.shape[2] * logits.shape[1]))
    for image, of_image, ids in zip(logits, losses, np.where(used, labels, 0), strict=True):
        for top in range(0, labels.shape[1], rows):
            band = range(top, min(top + rows, labels.shape[1]))
            resized = ops.Resize(*labels.shape[1:]).compute(image[None], rows=band)
            of_image[top : band.stop] = _losses(resized.astype(np.float64), ids[None, top : band.stop])[0]
    return _mean(losses, used)


def cross_entropy(logits: Array, labels: Array, ignore_index: int) -> np.float32:
    """The mean of -log softmax(logits)[label] over the labels (B, ...) that are not ignored; logits (B, K, ...).

    NaN if all labels are ignored, as in PyTorch.
    """
    used = _used(labels, logits.shape[1], ignore_index)
    return _mean(_losses(logits, np.where(used, labels, 0)), used)


def _used(labels: Array, classes: int, ignore_index: int | None) -> Array:
    """Where labels are not ignored. Raises TypeError or ValueError for what is no class number."""
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels have dtype {labels.dtype}; expected class numbers of an integer dtype")
    used: Array = np.ones(labels.shape, bool) if ignore_index is None else labels != ignore_index
    bad = used & ((labels < 0) | (labels >= classes))
    if bad.any():
        ignored = "" if ignore_index is None else f" or {ignore_index}"
        raise ValueError(f"label {labels[bad][0]} is out of range; expected 0 to {classes - 1}{ignored}")
    return used


def _losses(logits: Array, labels: Array) -> Array:
    """-log softmax(logits)[label] for labels (B, ...), none of them ignored; logits (B, K, ...)."""
    shifted = logits - logits.max(1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    picked: Array = -np.take_along_axis(log_probabilities, labels[:, None].astype(np.intp), axis=1)[:, 0]
    return picked


def _mean(losses: Array, used: Array) -> np.float32:
    return np.float32(losses[used].mean()) if used.any() else np.float32(np.nan)


def _numbers(labels: Array) -> Array:
    labels = as_array(labels, "labels")
    if labels.dtype.kind not in "iuf":
        raise TypeError(f"labels have dtype {labels.dtype}; expected integers or floats")
    return labels
