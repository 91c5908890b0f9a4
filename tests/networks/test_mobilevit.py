"""The graphs: names, shapes and sums agree with PyTorch's modules and the published figures."""

import pytest

from frameworks import torch, transformers
from tinymvit.config import MobileViTConfig
from tinymvit.errors import ConfigError
from tinymvit.graph import parameters
from tinymvit.networks import mobilevit
from torch_models import CLASSES, PUBLISHED, TINY, build, tensors

RECORD = {
    "MobileViTModel": mobilevit.mobilevit,
    "MobileViTForImageClassification": mobilevit.image_classification,
    "MobileViTForSemanticSegmentation": mobilevit.semantic_segmentation,
}


@pytest.mark.torch
@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_every_module_of_pytorch_is_a_name_in_the_graph(name, output_stride):
    oracle = build(name, TINY | {"output_stride": output_stride})
    g = RECORD[name](MobileViTConfig(**TINY, output_stride=output_stride), (1, 3, 32, 32))
    calls = []
    for path, module in oracle.named_modules():
        if path and not isinstance(module, torch.nn.ModuleList):
            module.register_forward_hook(lambda m, args, output, path=path: calls.append((path, output)))
    oracle(torch.zeros(1, 3, 32, 32, dtype=torch.float64))
    assert calls
    for path, output in calls:
        if isinstance(output, torch.Tensor):
            assert g[path].shape == tuple(output.shape), path


@pytest.mark.torch
@pytest.mark.parametrize("name", CLASSES)
def test_weights_are_those_of_the_checkpoint_in_its_shapes(name):
    g = RECORD[name](MobileViTConfig(**TINY), (1, 3, 32, 32))
    assert g.weight_shapes() == {key: value.shape for key, value in tensors(build(name, TINY)).items()}


def test_a_graph_knows_its_shapes_for_any_input_size():
    g = mobilevit.image_classification(MobileViTConfig(**TINY), (2, 3, 17, 50))
    assert g["mobilevit.conv_stem"].shape == (2, 4, 9, 25)
    assert g["mobilevit.encoder.layer.2.unfolding"].shape == (2 * 4, 2 * 4, 8)  # 3 x 7 pixels, resized to 4 x 8
    assert g["mobilevit.encoder.layer.2.folding.interpolate"].shape == (2, 8, 3, 7)
    assert g["classifier"].shape == (2, 5)


@pytest.mark.parametrize(
    ("shape", "classifier", "segmenter"),
    # millions of multiply-adds at 256 and 512, as published for these architectures
    [("small", 2001, 13694), ("x-small", 1026, 7378), ("xx-small", 407, 3953)],
)
def test_totals_equal_the_published_ones(shape, classifier, segmenter):
    g = mobilevit.image_classification(MobileViTConfig(**PUBLISHED[shape], num_labels=1000), (1, 3, 256, 256))
    assert round(sum(map(g.multiply_adds, g)) / 1e6) == classifier
    config = MobileViTConfig(**PUBLISHED[shape], num_labels=21, output_stride=16)
    g = mobilevit.semantic_segmentation(config, (1, 3, 512, 512))
    assert round(sum(map(g.multiply_adds, g)) / 1e6) == segmenter


@pytest.mark.torch
@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("shape", PUBLISHED)
def test_parameters_are_counted_as_pytorch_does(name, shape):
    with torch.device("meta"):
        oracle = getattr(transformers, name)(transformers.MobileViTConfig(**PUBLISHED[shape], num_labels=21))
    g = RECORD[name](MobileViTConfig(**PUBLISHED[shape], num_labels=21), (1, 3, 64, 64))
    assert sum(map(parameters, g)) == sum(p.numel() for p in oracle.parameters())


def test_a_segmentation_head_needs_labels():
    with pytest.raises(ConfigError, match="num_labels: 0, expected at least 1"):
        mobilevit.semantic_segmentation(MobileViTConfig(num_labels=0), (1, 3, 32, 32))
