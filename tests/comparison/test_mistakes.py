"""A port with one mistake, dumped through hooks: `compare` names the op that is wrong and what is wrong with it."""

import copy
from functools import cache

import numpy as np
import pytest

import tinymvit
from frameworks import torch
from ports import MISTAKES, VARIANTS, WRONG_PIXELS, dump, pair, scale_and_shift_missing, with_input
from tiny_port import with_random_weights
from tinymvit import compare, ops, reference
from tinymvit.comparison.mistakes import CATALOGUE, mistakes, op_call
from torch_models import PUBLISHED, TINY

MODELS = {  # class, options, size of the input: the last stage's map has odd sides
    "tiny": ("MobileViTForImageClassification", TINY, 96),
    "xx-small": ("MobileViTForImageClassification", PUBLISHED["xx-small"], 96),
    "segmentation": ("MobileViTForSemanticSegmentation", TINY | {"output_stride": 16}, 80),
}


@cache
def models(name, **right):
    kind, options, size = MODELS[name]
    theirs, ours = pair(kind, options | right)
    return theirs, ours, torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))


def port_with(mistake, name):
    """The dump of a port that makes this mistake, our model, and what compare should find."""
    theirs, ours, pixels = models(name, **getattr(mistake, "right", {}))
    port = copy.deepcopy(theirs)
    node, sentence = mistake(port)
    return dump(port, pixels), ours, node, sentence


@pytest.mark.torch
@pytest.mark.parametrize("name", MODELS)
def test_a_port_without_a_mistake_agrees(name):
    tensors, ours, *_ = port_with(lambda model: (None, None), name)
    for isolate in (False, True):
        comparison = compare(ours, tensors, isolate=isolate)
        assert comparison.agrees
        assert len(comparison.rows) > 200


@pytest.mark.torch
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
@pytest.mark.parametrize("name", MODELS)
def test_a_mistake_is_found_where_it_is_and_named(name, mistake):
    check_finding(mistake, name)


@pytest.mark.torch
@pytest.mark.parametrize("mistake", VARIANTS, ids=lambda mistake: mistake.__name__)
def test_so_are_the_others_of_the_catalogue(mistake):
    check_finding(mistake, "segmentation")


def check_finding(mistake, name):
    tensors, ours, node, sentence = port_with(mistake, name)
    comparison = compare(ours, tensors, isolate=True)
    assert comparison.first == node
    assert comparison.divergence.hints
    assert comparison.divergence.hints[0].mistake == sentence


@pytest.mark.torch
@pytest.mark.parametrize("sentence", WRONG_PIXELS)
def test_wrong_pixels_are_named(sentence):
    _, ours, pixels = models("tiny")
    right = ours.trace(pixels.numpy(), names=["pixel_values", "logits"])
    comparison = compare(right, {"pixel_values": WRONG_PIXELS[sentence](pixels).contiguous().numpy()})
    assert comparison.first == "pixel_values"
    assert comparison.divergence.hints[0].mistake == sentence


@pytest.mark.torch
@pytest.mark.parametrize("sentence", WRONG_PIXELS)
def test_pixels_that_are_wrong_inside_the_graph_are_named(sentence):
    theirs, ours, pixels = models("tiny")
    stem = "mobilevit.conv_stem.convolution"
    with torch.inference_mode():
        value = theirs.get_submodule(stem)(WRONG_PIXELS[sentence](pixels))
    comparison = compare(ours, {"pixel_values": pixels.numpy(), stem: value.numpy()})
    assert comparison.first == stem
    assert comparison.divergence.hints[0].mistake == f"{sentence} before it"


@pytest.mark.torch
def test_every_mistake_of_the_catalogue_has_a_port():
    """Roundings and epsilons are the same function at several ops: one port is enough."""
    found = {id(CATALOGUE[ops.Input][sentence]) for sentence in WRONG_PIXELS}
    found |= {id(CATALOGUE[ops.Conv2d][f"{sentence} before it"]) for sentence in WRONG_PIXELS}
    for mistake in (*MISTAKES, *VARIANTS):
        right = getattr(mistake, "right", {})
        theirs, ours, pixels = models("segmentation", **right)
        node, sentence = mistake(copy.deepcopy(theirs))
        found.add(id(CATALOGUE[type(ours.graph(pixels.shape)[node].op)][sentence]))
    missing = {
        sentence for known in CATALOGUE.values() for sentence, mistake in known.items() if id(mistake) not in found
    }
    assert missing == set()


@pytest.mark.torch
@pytest.mark.parametrize("isolate", [False, True])
def test_a_normalisation_without_scale_and_shift_is_the_first_that_differs(isolate):
    tensors, ours, node, sentence = port_with(scale_and_shift_missing, "tiny")
    comparison = compare(ours, tensors, isolate=isolate)
    assert comparison.first == comparison.divergence.node == node
    assert comparison.divergence.hints[0].mistake == sentence
    assert not any("without scale and shift" in note for note in comparison.notes)
    assert not isolate or len(comparison.wrong) == 1


@pytest.mark.torch
@pytest.mark.parametrize("isolate", [False, True])
@pytest.mark.parametrize("beside", ["nothing", "a wrong reader", "blocks alone"])
def test_a_normalisation_without_scale_and_shift_is_named_whatever_follows(beside, isolate):
    """What reads it is wrong in a way that no hint knows, or far behind it; in a converter's dump it would be right."""
    tensors, ours, node, sentence = port_with(scale_and_shift_missing, "tiny")
    if beside == "a wrong reader":
        reader = node.replace("layernorm_before", "attention.attention")
        tensors |= {f"{reader}.{name}": tensors[f"{reader}.{name}"] * 1.5 for name in ("query", "key", "value")}
    elif beside == "blocks alone":
        kept = (node, "mobilevit.encoder.layer.2.conv_1x1.convolution", "mobilevit.encoder.layer.2")
        tensors = {name: tensors[name] for name in ("pixel_values", *kept)}
    else:
        tensors = {name: tensors[name] for name in list(tensors)[: list(tensors).index(node) + 1]}
    comparison = compare(ours, tensors, isolate=isolate)
    assert comparison.first == comparison.divergence.node == node
    assert comparison.divergence.hints[0].mistake == sentence


@pytest.mark.torch
def test_scale_and_shift_folded_into_a_wrong_matrix_are_not_missing():
    tensors, ours, node, _ = port_with(scale_and_shift_missing, "tiny")
    right, *_ = port_with(lambda model: (None, None), "tiny")
    reader = node.replace("layernorm_before", "attention.attention")
    weights = ours.weights
    wrong = {name: right[f"{reader}.{name}"] - weights[f"{reader}.{name}.bias"] for name in ("query", "key", "value")}
    found = right | {node: tensors[node]} | {f"{reader}.{name}": value for name, value in wrong.items()}
    comparison = compare(ours, found, isolate=True)
    assert comparison.first == f"{reader}.query"
    assert [row.hints[0].mistake for row in comparison.wrong[:3]] == ["the bias is missing"] * 3


def standardised(x):
    """By ImageNet's mean and deviation, of pixels in RGB."""
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    return (x - mean) / deviation


PREPARED = [  # what the port's graph does to the pixels before its first convolution, and what a hint says of it
    (lambda x: x * 255, "pixels are not divided by 255 before it"),
    (lambda x: x / 255, "pixels are divided by 255 once more before it"),
    (lambda x: x * 2 - 1, "pixels are scaled to run from -1 to 1 before it"),
    (lambda x: standardised(x.flip(1)).flip(1), "pixels are standardised with ImageNet's mean"),
    (lambda x: standardised(x.flip(1)), "channels are swapped (RGB for BGR) and pixels are standardised"),
    (lambda x: x.flip(1) / 255, "channels are swapped (RGB for BGR) and pixels are divided by 255 once more"),
    (lambda x: standardised(x.flip(1) / 255), "channels are swapped (RGB for BGR) and pixels are divided by 255"),
]


@pytest.mark.torch
@pytest.mark.parametrize("isolate", [False, True])
@pytest.mark.parametrize(("change", "sentence"), PREPARED, ids=lambda value: value if isinstance(value, str) else "")
def test_pixels_that_the_graph_prepares_itself(change, sentence, isolate):
    """Its convolution reads others than the dump has: raw bytes (once more divided is right then) or finished ones."""
    theirs, ours, pixels = models("tiny")
    port = copy.deepcopy(theirs)
    stem = port.mobilevit.conv_stem.convolution
    with_input(stem, change)
    pixels = (pixels * 255).round() if "once more" in sentence else pixels
    found = dump(port, pixels)
    folded = found | {"mobilevit.conv_stem.convolution": found["mobilevit.conv_stem.normalization"]}
    del folded["mobilevit.conv_stem.normalization"]
    for tensors in (found, folded):
        comparison = compare(ours, tensors, isolate=isolate)
        assert comparison.divergence.wrong_op == "mobilevit.conv_stem.convolution"
        assert comparison.divergence.hints[0].mistake.startswith(sentence)
        assert not isolate or len(comparison.wrong) == 1
        assert ("run from 0 to 255" in comparison.notes[0]) is ("once more" in sentence)


@pytest.mark.torch
def test_a_converter_that_folds_all_that_can_be_and_a_wrong_epsilon():
    """Layer norms without scale and shift, normalisations in their convolutions: only the epsilons are wrong."""

    def other_epsilons(model):
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eps = 1e-3
        return None, None

    found, ours, *_ = port_with(other_epsilons, "tiny")
    weights = ours.weights
    for name in [name for name in found if f"{name}.weight" in weights and "layernorm" in name]:
        found[name] = (found[name] - weights[f"{name}.bias"]) / weights[f"{name}.weight"]
    for name in [name for name in found if name.endswith(".normalization")]:
        found[name.replace("normalization", "convolution")] = found.pop(name)
    comparison = compare(ours, found, isolate=True)
    assert len(comparison.wrong) > 20
    assert {(row.wrong_op.rpartition(".")[2], row.hints[0].mistake) for row in comparison.wrong} == {
        ("normalization", "epsilon is 0.001")
    }


@pytest.mark.parametrize("noise", [1e-5, 1e-4, 1e-3, 2e-3])
def test_noise_is_no_mistake(noise):
    """Some numbers of this weight lie so near the middle of two int8 that float32 and float64 round them apart."""
    ours = tinymvit.MobileViTForImageClassification.from_pretrained("digits")
    rng = np.random.default_rng(0)
    pixels = rng.random((1, 3, 64, 64), np.float32)
    graph = ours.graph(pixels.shape)
    found = {node.name: value for node, value in reference.steps(graph, ours.weights, pixels, np.float32)}
    node = graph["mobilevit.encoder.layer.2.transformer.layer.1.output.dense"]
    right = found[node.name]
    spoilt = right + noise * right.std() * rng.standard_normal(right.shape, np.float32)
    inputs = {name: found[name] for name in ("pixel_values", *node.inputs)}
    row = compare(ours, inputs | {node.name: spoilt}, isolate=True).divergence
    assert (row.node, row.hints) == (node.name, ())


@pytest.mark.torch
def test_a_port_in_float16_is_not_accused_of_an_epsilon():
    theirs, ours, pixels = models("tiny")
    half = dump(copy.deepcopy(theirs).half(), pixels.half())
    comparison = compare(ours, half, isolate=True)
    assert not [hint for row in comparison.rows for hint in row.hints if "epsilon" in hint.mistake]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_mistake_of_the_catalogue_is_one(dtype):
    """Somewhere in a network each makes a difference, and it keeps the dtype. Inputs stay as they are."""
    config = tinymvit.MobileViTConfig(**TINY, output_stride=16)
    ours = with_random_weights(tinymvit.MobileViTForSemanticSegmentation, config)
    graph = ours.graph((2, 3, 80, 48))
    weights = {name: tensor.astype(dtype) for name, tensor in ours.weights.items()}
    weights["segmentation_head.classifier.convolution.bias"] = np.arange(5, dtype=dtype)
    pixels = np.random.default_rng(0).random((2, 3, 80, 48)) * 2 - 0.5
    values = {node.name: value for node, value in reference.steps(graph, weights, pixels, dtype)}
    different = set()
    for node in graph:
        inputs = tuple(values[name] for name in node.inputs) or (pixels.astype(dtype),)
        before = [x.copy() for x in inputs]
        call = op_call(node, graph, inputs, weights.__getitem__)
        for mistake in mistakes(node.op):
            sentence, wrong = mistake.sentence, mistake.compute(call)
            if wrong is not None:
                assert wrong.dtype == dtype, sentence
                if wrong.shape != node.shape or not np.allclose(wrong, values[node.name], rtol=1e-9, atol=1e-12):
                    different.add((type(node.op), sentence))
        assert all(np.array_equal(x, y) for x, y in zip(inputs, before, strict=True))
    assert set(CATALOGUE) <= {op for op in vars(ops).values() if isinstance(op, type)}
    missing = {(op, sentence) for op, known in CATALOGUE.items() for sentence in known} - different
    # 1e-5 is what the network has; it applies to a network that has another
    assert {sentence for _, sentence in missing} <= {"epsilon is 1e-05", "the activation is silu"}
