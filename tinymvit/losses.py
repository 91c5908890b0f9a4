"""The losses that the models report when labels are given, as transformers computes them; in float64, then float32."""

from __future__ import annotations

import numpy as np

from tinymvit import ops
from tinymvit.config import MobileViTConfig
from tinymvit.numerics import Array


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
    if problem == "regression":
        return np.float32(np.mean((x - y) ** 2))
    return np.float32(np.mean(np.maximum(x, 0) - x * y + np.log1p(np.exp(-np.abs(x)))))


def segmentation_loss(logits: Array, labels: Array, config: MobileViTConfig) -> np.float32:
    """Cross entropy of the logits (B, K, h, w), resized bilinearly to the labels' (B, H, W), except where a label is
    config.semantic_loss_ignore_index. Raises ValueError for labels of another shape or range, TypeError for another
    dtype."""
    labels = _numbers(labels)
    if config.num_labels == 1:
        raise ValueError("a loss needs at least two labels, and the configuration has num_labels=1")
    if labels.ndim != 3 or len(labels) != len(logits):
        raise ValueError(f"labels have shape {labels.shape}; expected ({len(logits)}, height, width)")
    x = ops.Resize(*labels.shape[1:]).compute(logits)
    return cross_entropy(x.astype(np.float64), labels, config.semantic_loss_ignore_index)


def cross_entropy(logits: Array, labels: Array, ignore_index: int) -> np.float32:
    """The mean of -log softmax(logits)[label] over the labels (B, ...) that are not ignored; logits (B, K, ...).

    NaN if all labels are ignored, as in PyTorch.
    """
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels have dtype {labels.dtype}; expected class numbers of an integer dtype")
    used = labels != ignore_index
    bad = used & ((labels < 0) | (labels >= logits.shape[1]))
    if bad.any():
        raise ValueError(
            f"label {labels[bad][0]} is out of range; expected 0 to {logits.shape[1] - 1} or {ignore_index}"
        )
    if not used.any():
        return np.float32(np.nan)
    shifted = logits - logits.max(1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    picked = np.take_along_axis(log_probabilities, np.where(used, labels, 0)[:, None], axis=1)[:, 0]
    return np.float32(-picked[used].mean())


def _numbers(labels: Array) -> Array:
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iuf":
        raise TypeError(f"labels have dtype {labels.dtype}; expected integers or floats")
    return labels
