"""The program in C: the bits of the ordered reference, whatever the compiler does short of fast-math."""

import re
import shutil
import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest

from checkpoints import complaint
from command_line import run
from frameworks import torch
from oracle import MODEL_FLOAT32, assert_same
from tinymvit import (
    MobileViTConfig,
    MobileViTForImageClassification,
    MobileViTForSemanticSegmentation,
    MobileViTModel,
    Trace,
    compare,
    modeling,
    open_dump,
    reference,
)
from tinymvit.config import ACTIVATIONS
from tinymvit.errors import OutputError, TinyMViTError
from tinymvit.exporters import c
from tinymvit.exporters.check import check, noise_for, pixels_of
from tinymvit.exporters.export import describe_network, export
from tinymvit.exporters.network import INT8, Network
from tinymvit.exporters.storage import as_int8
from tinymvit.files import write_files
from tinymvit.graph import Graph
from tinymvit.networks.layers import pixels
from tinymvit.networks.random_weights import as_trained
from tinymvit.ops import Activation, BatchNorm, Conv2d, Softmax
from tinymvit.presets import PRESETS
from torch_models import CLASSES, TINY, build, tensors

try:
    COMPILER = c.find_compiler()
except OutputError:
    COMPILER = []
needs_compiler = pytest.mark.skipif(not COMPILER, reason="no compiler of C: apt-get install gcc")

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-ffp-contract=off")
QUICK = (*STRICT, "-O1")
SANITIZED = (*QUICK, "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def model_of(make, **config):
    """A model with random weights, like those of a trained one."""
    model = make(MobileViTConfig(**config))
    return make.from_tensors(model.config, as_trained(model.graph(), seed=1))


def network_of(make=MobileViTForImageClassification, config=None, **settings):
    return describe_network(model_of(make, **TINY | (config or {})), **settings)


def compiled(network, folder, flags=SANITIZED, compiler=None):
    """The program of a network, whose source is written into `folder`."""
    write_files(folder, c.files(network, folder.name))
    return c.compile_folder(folder, folder / "program", compiler or COMPILER, flags)


def output_of(program, given, *options):
    done = subprocess.run([program, *options], input=given.tobytes(), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def results_of(program, given, network):
    """The results of a program by their public names."""
    data, results = output_of(program, given, "--raw"), {}
    for name, (shape, whole) in c.write_program(network).results.items():
        size = 4 * int(np.prod(shape))
        results[name] = np.frombuffer(data[:size], np.int32 if whole else np.float32).reshape(shape)
        data = data[size:]
    assert not data
    return results


def in_order(network, given):
    """What the program must give, to the last bit."""
    graph, weights = network.folded()
    weights = {name: weights[name] for name in graph.weight_shapes()}
    if network.precision == INT8:
        weights = {name: rounded(weight) if weight.ndim > 1 else weight for name, weight in weights.items()}
    results = reference.run(graph, weights, pixels_of(network, given), np.float32, in_order=True)
    if network.answer == "softmax":
        probabilities = Softmax().compute_in_order(np.moveaxis(results["logits"], 1, -1))
        return {"probabilities": np.ascontiguousarray(np.moveaxis(probabilities, -1, 1))}
    if network.answer == "argmax":
        return {"classes": results["logits"].argmax(1).astype(np.int32)}
    return results


def rounded(weight):
    multiples, scale = as_int8(weight)
    return multiples.astype(np.float32) * scale.reshape(-1, *[1] * (weight.ndim - 1))


def check_bits(network, folder, flags=SANITIZED, compiler=None):
    given = noise_for(network)
    found = results_of(compiled(network, folder, flags, compiler), given, network)
    expected = in_order(network, given)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_same(found[name], value, name=name)


# ---------------------------------------------------------------------------------------------------------------- bits

KINDS = {
    "classifier": (MobileViTForImageClassification, {}, {"precision": INT8}),
    "odd sizes": (MobileViTForImageClassification, {"hidden_act": "gelu"}, {"size": (33, 47)}),
    "no labels, no biases": (MobileViTForImageClassification, {"num_labels": 0, "qkv_bias": False}, {"size": (40, 32)}),
    "other patches": (MobileViTForImageClassification, {"patch_size": (4, 1), "conv_kernel_size": 5}, {"size": 48}),
    "one channel, two images": (MobileViTForImageClassification, {"num_channels": 1}, {"batch": 2}),
    "pictures, softmax": (
        MobileViTForImageClassification,
        {"hidden_act": "gelu_new"},
        {"with_preprocessing": True, "answer": "softmax", "batch": 3},
    ),
    "segmenter": (MobileViTForSemanticSegmentation, {"output_stride": 16}, {"size": (64, 48), "precision": INT8}),
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
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_bits_are_those_of_the_ordered_reference(kind, tmp_path):
    """And neither the compiler nor the sanitizers have anything to say."""
    make, config, settings = KINDS[kind]
    check_bits(network_of(make, config, **settings), tmp_path)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("activation", sorted(set(ACTIVATIONS.values()) | {"identity"}))
def test_every_activation_has_the_bits(activation, tmp_path):
    """In a graph of little else, at numbers near and far."""
    g = Graph()
    same = g.add("same", Conv2d(1, 1, 1), pixels(g, (1, 1, 50, 70)))
    g.outputs["last_hidden_state"] = g.add("act", Activation(activation), same).name
    network = Network(g, {"same.weight": np.ones((1, 1, 1, 1), np.float32)})
    x = np.random.default_rng(0).normal(0, 5, (1, 1, 50, 70)).astype(np.float32)
    x[0, 0, 0, :6] = 0.0, -0.0, 100, -100, 1e-30, -88.5
    found = results_of(compiled(network, tmp_path), x, network)
    assert_same(found["last_hidden_state"], in_order(network, x)["last_hidden_state"], name=activation)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize(("tensor", "factor"), [("running_mean", 2.0**14), ("weight", 2.0**25)])
def test_a_normalisation_that_is_not_folded(tensor, factor, tmp_path):
    """One that cancels, or is extreme, stays by itself, and its block is no inverted residual of one call."""
    model = model_of(MobileViTForImageClassification, **TINY)
    norms = [name for name in model.weights if name.endswith(f"normalization.{tensor}")]
    weights = {name: x * np.float32(factor if name in norms[::2] else 1) for name, x in model.weights.items()}
    network = describe_network(type(model).from_tensors(model.config, weights))
    assert any(isinstance(node.op, BatchNorm) for node in network.folded()[0])
    check_bits(network, tmp_path)


COMPILERS = {
    "nothing": ("-O0",),
    "some": ("-O2",),
    "all": ("-O3", "-march=native"),
    "all, traps ignored": ("-O3", "-fno-trapping-math"),
}


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("level", COMPILERS)
def test_the_bits_depend_on_no_compiler_and_no_level(level, compiler, tmp_path):
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}: apt-get install {compiler}")
    check_bits(network_of(size=48), tmp_path, (*STRICT, *COMPILERS[level]), [compiler])


@pytest.mark.torch
@pytest.mark.parametrize("name", CLASSES)
def test_the_ordered_reference_is_right(name):
    """Against PyTorch in float64; and so is the program, whose bits are the same."""
    theirs = build(name, TINY | {"hidden_act": "gelu"}, seed=3)
    ours = getattr(modeling, name).from_tensors(MobileViTConfig(**TINY | {"hidden_act": "gelu"}), tensors(theirs))
    network = describe_network(ours, batch=2)
    given = noise_for(network)
    expected = theirs(torch.tensor(given, dtype=torch.float64))
    for public, value in in_order(network, given).items():
        assert_same(value, expected[public].detach().numpy(), MODEL_FLOAT32, public)


# --------------------------------------------------------------------------------------------------------------- trace


TRACED = {
    "digits": ("digits", {}),
    "digits-seg": ("digits-seg", {"size": 96}),
    "two images": ((MobileViTForImageClassification, TINY), {"batch": 2}),
    "odd sizes": ((MobileViTForSemanticSegmentation, TINY), {"size": (33, 47)}),
} | {
    name: (
        (MobileViTForSemanticSegmentation if name.startswith("deeplab") else MobileViTForImageClassification, config),
        {"size": 64},  # at their own sizes, which `measures/exported_c.py` tries, this would take minutes
    )
    for name, config in PRESETS.items()
}


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("kind", TRACED)
def test_a_trace_has_every_node_with_its_bits_and_agrees(kind, tmp_path):
    model, settings = TRACED[kind]
    if not isinstance(model, str):
        make, config = model
        model = tmp_path / "model"
        model_of(make, **config).save_pretrained(model)
    network = describe_network(model, **settings)
    program, folder, given = compiled(network, tmp_path / "source", QUICK), tmp_path / "trace", noise_for(network)
    folder.mkdir()
    assert output_of(program, given, "--trace", folder) == b""
    dump = open_dump(folder)
    trace = Trace(network.graph, network.weights, given, source="ordered")
    assert list(dump) == list(trace.nodes)
    for node, value in trace:
        assert_same(dump[node], value, name=node)
    assert compare(model, folder, isolate=True).agrees


# --------------------------------------------------------------------------------------------------------------- files


def text_of(network):
    return {name: bytes_of(write) for name, write in c.files(network, "any").items()}


def bytes_of(write):
    file = BytesIO()
    write(file)
    return file.getvalue()


def test_the_same_network_gives_the_same_bytes():
    first, second = text_of(network_of()), text_of(network_of())
    assert first == second
    assert list(first) == ["mobilevit.h", "mobilevit.c", "weights.c", "main.c", "Makefile", "README.md"]


def test_the_library_needs_nothing():
    """No file, no allocation, no mathematics of the system; and no function that this network does not call."""
    source = re.sub(r"/\*.*?\*/", "", text_of(network_of(size=64))["mobilevit.c"].decode(), flags=re.DOTALL)
    assert set(re.findall(r"#include (\S+)", source)) == {'"mobilevit.h"', "<stdint.h>", "<string.h>"}
    assert not re.search(r"\b(malloc|calloc|alloca|free|printf|expf?|sqrtf?|erff?|tanhf?)\s*\(", source)
    defined = re.findall(r"^static (?:inline )?(?:const )?\w+ \*?(\w+)\(", source, re.MULTILINE)
    assert {"conv2d", "inverted_residual", "attention", "activate_silu"} <= set(defined)
    assert not {"batch_norm", "resize", "activate_relu", "normal_tail", "answer_softmax"} & set(defined)
    assert len(set(defined)) == len(defined)


def test_every_node_is_named_where_it_is_computed():
    network = network_of(MobileViTForSemanticSegmentation)
    source = text_of(network)["mobilevit.c"].decode()
    for node in list(network.folded()[0])[1:]:
        assert f"/* {node.name}: " in source
        assert f'{{"{node.name}", ' in source


def test_no_line_of_the_source_is_long():
    for name, content in text_of(network_of(MobileViTForSemanticSegmentation)).items():
        if name not in ("weights.c", "README.md"):
            assert max(map(len, content.decode().splitlines())) <= 120, name


def test_strings_in_the_weights_are_as_long_as_c99_allows():
    lines = text_of(network_of(precision=INT8))["weights.c"].splitlines()
    assert max(map(len, lines)) / 4 < 4095


ARENAS = {"xx-small": 2.8e6, "small": 4e6, "deeplabv3-xx-small": 11e6}  # bytes; values in whole take 9.1, 25 and 137 MB


@pytest.mark.parametrize("name", ARENAS)
def test_the_arena_is_small(name):
    make = MobileViTForSemanticSegmentation if "deeplab" in name else MobileViTForImageClassification
    network = describe_network(model_of(make, **PRESETS[name]))
    assert 4 * c.write_program(network).arena < ARENAS[name]


# ------------------------------------------------------------------------------------------------------------- answers


@needs_compiler
@pytest.mark.slow
def test_the_program_prints_its_answers(tmp_path):
    labels = {0: 'a "cat"', 1: "dog\\", 2: "??=", 3: "Bär\n", 4: "plain"}
    network = network_of(config={"id2label": labels})
    program, given = compiled(network, tmp_path), noise_for(network)
    logits = in_order(network, given)["logits"][0]
    probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    expected = [f"{100 * probabilities[i]:6.2f}%  {labels[i]}\n" for i in np.argsort(-probabilities)]
    assert output_of(program, given).decode() == "".join(expected)
    assert output_of(program, np.concatenate([given, given])).decode() == 2 * "".join(expected)
    assert output_of(program, given, "--describe") == b"pixel_values float32 1 3 32 32\nlogits float32 1 5\n"


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("answer", [None, "argmax"])
def test_a_segmenter_prints_shares(answer, tmp_path):
    network = network_of(MobileViTForSemanticSegmentation, size=64, answer=answer)
    given = noise_for(network)
    results = in_order(network, given)
    classes = results["classes"] if answer else results["logits"].argmax(1)
    expected = [f"{100 * np.mean(classes == k):6.2f}%  LABEL_{k}\n" for k in range(5) if (classes == k).any()]
    assert output_of(compiled(network, tmp_path), given).decode() == "".join(expected)


@needs_compiler
@pytest.mark.slow
def test_features_are_printed(tmp_path):
    network = network_of(MobileViTModel)
    given = noise_for(network)
    lines = output_of(compiled(network, tmp_path), given).decode().splitlines()
    assert [line.partition(":")[0] for line in lines] == ["last_hidden_state", "pooler_output"]
    assert float(lines[1].split()[1]) == pytest.approx(in_order(network, given)["pooler_output"][0, 0], rel=1e-5)


@needs_compiler
@pytest.mark.slow
def test_the_program_refuses_in_a_line(tmp_path):
    program = compiled(network_of(), tmp_path, QUICK)
    missing = tmp_path / "no" / "folder"
    for options, data, message in [
        (["--foo"], b"", "--foo: expected --raw, --trace FOLDER or --describe\n"),
        ([], b"", "stdin: 0 bytes, expected 12288 for each input\n"),
        ([], b"123", "stdin: 3 bytes, expected 12288 for each input\n"),
        (["--trace", missing], bytes(12288), f"{missing}: expected a folder that can be written into, with room\n"),
    ]:
        done = subprocess.run([program, *options], input=data, capture_output=True)
        assert (done.returncode, done.stderr.decode()) == (1, message)


# ------------------------------------------------------------------------------------------------------------- running


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_check_runs_the_program(precision, tmp_path, monkeypatch):
    monkeypatch.setattr(c, "FLAGS", QUICK)
    network = export(model_of(MobileViTForImageClassification, **TINY), tmp_path / "tiny", to="c", precision=precision)
    found = check(network, tmp_path / "tiny", to="c", threads=1)
    assert found.agrees
    assert found.results["logits"].relative < (0.1 if precision == INT8 else 1e-6)


@needs_compiler
@pytest.mark.slow
def test_a_program_takes_one_input_after_the_other(tmp_path, monkeypatch):
    monkeypatch.setattr(c, "FLAGS", QUICK)
    network = export(model_of(MobileViTModel, **TINY), tmp_path / "tiny", to="c", batch=2)
    program = c.load(tmp_path / "tiny", 1)
    for seed in range(3):
        given = np.random.default_rng(seed).random((2, 3, 32, 32), np.float32)
        for name, value in in_order(network, given).items():
            assert_same(program(given)[name], value, name=name)
    with complaint(ValueError, "input: float32 (1, 3, 32, 32), expected float32 (2, 3, 32, 32)"):
        program(given[:1])
    program._process.kill()
    with complaint(OutputError, "tiny: the program has ended, with exit code"):
        program(given)
        program(given)


@needs_compiler
def test_what_does_not_compile_is_said_in_a_line(tmp_path):
    for name in c.COMPILED:
        (tmp_path / name).write_text("nonsense;\n", "utf-8")
    with complaint(OutputError, str(tmp_path), "does not compile it: ", "error"):
        c.load(tmp_path, 1)


def test_a_compiler_that_is_missing_is_said_in_a_line(monkeypatch, tmp_path):
    monkeypatch.setenv("CC", "no-such-compiler -O2")
    with complaint(OutputError, "CC is 'no-such-compiler', expected the name of a compiler that is on the path"):
        c.find_compiler()
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", str(tmp_path))
    with complaint(OutputError, "no compiler of C: expected one of cc, gcc, clang on the path, or CC to name another"):
        c.load(tmp_path, 1)


def test_the_compiler_that_cc_names_is_taken(monkeypatch):
    monkeypatch.setenv("CC", f"'{sys.executable}' -O2")
    assert c.find_compiler() == [sys.executable, "-O2"]


# ------------------------------------------------------------------------------------------------------------- refused


def test_what_c_has_not_is_refused_in_a_line(capsys, tmp_path):
    open_batch = "dynamic_batch: a program in C has memory for so many images, expected a fixed batch"
    with complaint(TinyMViTError, open_batch):
        c.files(network_of(dynamic_batch=True), "any")
    with complaint(TinyMViTError, "hidden_act: the function sin, expected one of identity, silu"):
        c.files(network_of(config={"hidden_act": np.sin}), "any")
    code, out, err = run(capsys, "export", "digits", "--to", "c", "--dynamic-batch", "--output", tmp_path / "folder")
    assert (code, out) == (2, "")
    assert err == f"tinymvit: {open_batch}\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("op", "shape", "message"),
    [
        (Conv2d(4, 4, 3, groups=2), (1, 4, 8, 8), "x: a convolution of 2 groups, expected one group or one a channel"),
        (Softmax(), (1, 4, 8, 8), "x: Softmax, expected an op that there is in C"),
        (Conv2d(1, 1, 1), (1, 1, 2**16, 2**16), "pixel_values: 4,294,967,296 numbers, expected fewer than 2^31 in C"),
    ],
)
def test_an_op_that_c_has_not_is_refused_in_a_line(op, shape, message):
    g = Graph()
    g.outputs["last_hidden_state"] = g.add("x", op, pixels(g, shape)).name
    with complaint(TinyMViTError, message):
        c.files(Network(g, as_trained(g)), "any")
