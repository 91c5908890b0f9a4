"""The classes people know from transformers: a configuration, weights, and a call from pixels to outputs.

In here: `models` (the three classes, and `load_model`), `outputs` (what a call returns), `losses` (what it costs to be
wrong), `tensorflow` (the classes of transformers 4). Left to others: the architecture (`networks`), loading tensors
(`weights`), computing (`engine`). A new network's classes go into `models.py`, a new loss into `losses.py`.
"""

from tinymvit.modeling.models import (
    MODELS,
    MobileViTForImageClassification,
    MobileViTForSemanticSegmentation,
    MobileViTModel,
    MobileViTPreTrainedModel,
    check_pixel_values,
    load_model,
)

__all__ = [
    "MODELS",
    "MobileViTForImageClassification",
    "MobileViTForSemanticSegmentation",
    "MobileViTModel",
    "MobileViTPreTrainedModel",
    "check_pixel_values",
    "load_model",
]
