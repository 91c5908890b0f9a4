"""The catalogue: what it says of the bundled and of the published checkpoints."""

import re

import pytest

from frameworks import torch, transformers
from tinymvit import modeling, weights
from tinymvit.config import MobileViTConfig
from tinymvit.weights.entries import CLASSIFICATION, PUBLISHED, SEGMENTATION


def test_the_catalog_describes_bundled_checkpoints(bundle, checkpoints):
    digits, digits_seg, *published = weights.catalog()
    assert tuple(published) == PUBLISHED
    assert (digits.name, digits.task, digits.revision) == ("digits", CLASSIFICATION, None)
    assert (digits_seg.name, digits_seg.task) == ("digits-seg", SEGMENTATION)
    assert (digits.num_labels, digits.image_size, digits.licence) == (3, 32, "apache-2.0")
    model = modeling.MobileViTForSemanticSegmentation.from_pretrained(checkpoints["segmenter"])
    assert digits_seg.num_parameters == model.num_parameters()
    assert digits_seg.num_bytes == (checkpoints["segmenter"] / "model.safetensors").stat().st_size


@pytest.mark.torch
@pytest.mark.parametrize("listed", PUBLISHED, ids=lambda listed: listed.name)
def test_the_catalog_describes_published_checkpoints(listed):
    timm = re.fullmatch(r"timm/mobilevit_(x*s)\.cvnets_in1k", listed.name)
    config = MobileViTConfig.preset(
        {"s": "small", "xs": "x-small", "xxs": "xx-small"}[timm[1]] if timm else listed.name
    )
    assert (config.num_labels, config.image_size) == (listed.num_labels, listed.image_size)
    head = "ForSemanticSegmentation" if listed.task == SEGMENTATION else "ForImageClassification"
    with torch.device("meta"):
        model = getattr(transformers, f"MobileViT{head}")(transformers.MobileViTConfig(**config.to_dict()))
    assert listed.num_parameters == sum(parameter.numel() for parameter in model.parameters())
