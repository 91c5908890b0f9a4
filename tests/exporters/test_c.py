"""The program in C: the bits of the ordered reference, whatever the compiler does short of fast-math."""

import subprocess

import numpy as np
import pytest

from oracle import assert_same
from tinymvit import (
    MobileViTConfig,
    MobileViTForImageClassification,
    MobileViTForSemanticSegmentation,
    MobileViTModel,
    reference,
)
from tinymvit.exporters import c
from tinymvit.exporters.check import given_to, pixels_of
from tinymvit.exporters.export import describe_network
from tinymvit.exporters.network import INT8
from tinymvit.exporters.storage import as_int8
from tinymvit.files import write_files
from tinymvit.networks.random_weights import as_trained
from tinymvit.ops import Softmax
from torch_models import TINY

try:
    COMPILER = c.find_compiler()
except ValueError:
    COMPILER = []
needs_compiler = pytest.mark.skipif(not COMPILER, reason="no compiler of C: apt-get install gcc")

STRICT = ("-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-pedantic", "-ffp-contract=off")
SANITIZED = (*STRICT, "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
SETTINGS = {
    "precision": "float32",
    "size": None,
    "batch": 1,
    "dynamic_batch": False,
    "backbone": False,
    "with_preprocessing": False,
    "answer": None,
}


def network_of(make=MobileViTForImageClassification, config=None, **settings):
    """The network of a tiny model with random weights, like those of a trained one."""
    model = make(MobileViTConfig(**TINY | (config or {})))
    model = type(model).from_tensors(model.config, as_trained(model.graph(), seed=1))
    return describe_network(model, **SETTINGS | settings)


def written(network, folder):
    write_files(folder, c.files(network, folder.name))
    return folder


def results_of(program, given, network):
    """The results of a program for an input, in their public names."""
    done = subprocess.run([program, "--raw"], input=given.tobytes(), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    results, start = {}, 0
    for name, (shape, whole) in c.write_program(network).results.items():
        dtype = np.dtype(np.int32 if whole else np.float32)
        stop = start + dtype.itemsize * int(np.prod(shape))
        results[name] = np.frombuffer(done.stdout[start:stop], dtype).reshape(shape)
        start = stop
    assert start == len(done.stdout)
    return results


def in_order(network, pixels):
    """What the program must give, to the last bit."""
    graph, weights = network.folded()
    weights = {name: weights[name] for name in graph.weight_shapes()}
    if network.precision == INT8:
        weights = {name: rounded(weight) if weight.ndim > 1 else weight for name, weight in weights.items()}
    results = reference.run(graph, weights, pixels, np.float32, in_order=True)
    logits = results.get("logits")
    if network.answer == "softmax":
        probabilities = np.moveaxis(Softmax().compute_in_order(np.moveaxis(logits, 1, -1)), -1, 1)
        return {"probabilities": np.ascontiguousarray(probabilities)}
    if network.answer == "argmax":
        return {"classes": logits.argmax(1).astype(np.int32)}
    return results


def rounded(weight):
    multiples, scale = as_int8(weight)
    return multiples.astype(np.float32) * scale.reshape(-1, *[1] * (weight.ndim - 1))


def check_bits(network, folder, flags=SANITIZED):
    program = c.compile_folder(written(network, folder), folder / "program", COMPILER, flags)
    given = given_to(network)
    found, expected = results_of(program, given, network), in_order(network, pixels_of(network, given))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_same(found[name], value, name=name)


KINDS = {
    "classifier": (MobileViTForImageClassification, {}, {}),
    "odd sizes": (MobileViTForImageClassification, {"hidden_act": "gelu"}, {"size": (33, 47)}),
    "no labels, no biases": (MobileViTForImageClassification, {"num_labels": 0, "qkv_bias": False}, {"size": (40, 32)}),
    "other patches": (MobileViTForImageClassification, {"patch_size": (4, 1), "conv_kernel_size": 5}, {"size": 48}),
    "one channel": (MobileViTForImageClassification, {"num_channels": 1, "hidden_act": "relu6"}, {"batch": 2}),
    "pictures, softmax": (
        MobileViTForImageClassification,
        {"hidden_act": "gelu_new"},
        {"with_preprocessing": True, "answer": "softmax", "batch": 3},
    ),
    "segmenter": (MobileViTForSemanticSegmentation, {"output_stride": 16}, {"size": (64, 48)}),
    "segmenter, classes": (
        MobileViTForSemanticSegmentation,
        {"output_stride": 8, "hidden_act": "hardswish"},
        {"size": 33, "answer": "argmax", "with_preprocessing": True},
    ),
    "segmenter, softmax": (MobileViTForSemanticSegmentation, {"hidden_act": "tanh"}, {"answer": "softmax"}),
    "features": (MobileViTModel, {"hidden_act": "leaky_relu"}, {"batch": 2}),
    "backbone": (MobileViTForSemanticSegmentation, {"hidden_act": "sigmoid"}, {"backbone": True}),
}


@needs_compiler
@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_bits_are_those_of_the_ordered_reference(kind, precision, tmp_path):
    make, config, settings = KINDS[kind]
    check_bits(network_of(make, config, precision=precision, **settings), tmp_path)
