"""A port with one mistake, dumped through hooks: `compare` names the op that is wrong and what is wrong with it."""

import copy
from functools import cache

import pytest
import torch

from ports import MISTAKES, dilation_ignored, dump, pair
from tinymvit.comparison import compare
from torch_models import PUBLISHED, TINY

MODELS = {  # class, options, size of the input: the last stage's map has odd sides
    "tiny": ("MobileViTForImageClassification", TINY, 96),
    "xx-small": ("MobileViTForImageClassification", PUBLISHED["xx-small"], 96),
    "segmentation": ("MobileViTForSemanticSegmentation", TINY | {"output_stride": 16}, 80),
}


@cache
def models(name):
    kind, options, size = MODELS[name]
    theirs, ours = pair(kind, options)
    return theirs, ours, torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))


def port_with(mistake, name):
    """The dump of a port that makes this mistake, our model, and what compare should find."""
    theirs, ours, pixels = models(name)
    port = copy.deepcopy(theirs)
    node, sentence = mistake(port)
    return {key: tensor.numpy() for key, tensor in dump(port, pixels).items()}, ours, node, sentence


@pytest.mark.parametrize("name", MODELS)
def test_a_port_without_a_mistake_agrees(name):
    tensors, ours, *_ = port_with(lambda model: (None, None), name)
    for isolate in (False, True):
        comparison = compare(ours, tensors, isolate=isolate)
        assert comparison.first == "agree"
        assert len(comparison.rows) > 200


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
@pytest.mark.parametrize("name", MODELS)
def test_a_mistake_is_found_where_it_is_and_named(name, mistake):
    if mistake is dilation_ignored and name != "segmentation":
        pytest.skip("a classifier has no dilated convolution")
    tensors, ours, node, sentence = port_with(mistake, name)
    comparison = compare(ours, tensors, isolate=True)
    assert comparison.first == node
    assert comparison.divergence.hints
    assert comparison.divergence.hints[0].mistake.startswith(sentence)
