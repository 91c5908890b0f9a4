"""Test vectors: all ops there, right to the bit, tight enough for known mistakes, readable in every format and in C."""

import errno
import hashlib
import json
import math
import os
import shutil
import subprocess
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import tinymvit
from command_line import run
from frameworks import F, torch
from oracle import assert_same
from tinymvit import ops, reference
from tinymvit.config import MobileViTConfig
from tinymvit.errors import CheckpointError, OutputError
from tinymvit.inspection.trace import attributes
from tinymvit.vectors import noise, vectors, write_vectors
from tinymvit.vectors.make import ODD_SIZE, model_graph
from torch_models import TINY
from torch_ops import port

CLASSES = ("MobileViTForImageClassification", "MobileViTForSemanticSegmentation")


@pytest.fixture(scope="module", params=CLASSES)
def model(request):
    return getattr(tinymvit, request.param)(MobileViTConfig(**TINY, output_stride=8))


@pytest.fixture(scope="module")
def made(model):
    return {vector.name: vector for vector in vectors(model)}


def passes(vector, output):
    """The rule of the README: every value within the tolerance."""
    [result] = vector.outputs.values()
    value, expected = np.asarray(output, np.float64), result.value.astype(np.float64)
    assert value.shape == expected.shape
    with np.errstate(invalid="ignore"):
        return bool((np.abs(value - expected) <= result.absolute + result.relative * np.abs(expected)).all())


# ---- which there are ----


def test_every_node_is_in_one_vector(model, made):
    graph = model_graph(model, None)
    nodes = [name for vector in made.values() if vector.op for name in vector.nodes]
    assert sorted(nodes) == sorted(set(graph.nodes) - {"pixel_values"})
    for vector in made.values():
        for name in vector.nodes if vector.op else ():
            op = graph[name].op
            resized = isinstance(op, ops.Resize | ops.Fold)
            assert vector.op == (replace(op, height=vector.op.height, width=vector.op.width) if resized else op)


def test_vectors_are_distinct_named_for_c_and_float32(made):
    keys = {(vector.op, *(array.shape for array in vector.inputs.values())) for vector in made.values() if vector.op}
    assert len(keys) == len(made) - 1
    for name, vector in made.items():
        assert name.isidentifier()
        assert all(tensor.dtype == np.float32 and np.isfinite(tensor).all() for tensor in vector.tensors.values())


def test_maps_are_small_and_show_every_weight_of_a_dilated_kernel(made):
    for vector in made.values():
        if isinstance(vector.op, ops.Conv2d):
            [x] = vector.inputs.values()
            ones = [np.ones_like(w) for w in vector.weights.values()]
            for u in range(vector.op.kernel_size):
                for v in range(vector.op.kernel_size):
                    tap = [np.zeros_like(ones[0]), *ones[1:]]
                    tap[0][:, :, u, v] = 1
                    assert np.abs(reference.compute(vector.op, [x], tap)).max() > 1, (vector.name, u, v)
    sizes = [x.shape for vector in made.values() if vector.op for x in vector.inputs.values() if x.ndim == 4]
    assert max(max(shape[2:]) for shape in sizes) <= 20


def test_resizing_is_there_although_the_checkpoints_own_size_needs_none(made):
    names = [name for name in made if name.startswith("resize")]
    assert any("3x5_to_4x6" in name for name in names)
    assert any("4x6_to_3x5" in name for name in names)


def test_sides_differ_and_where_positions_and_images_share_an_axis_there_are_two_images(made):
    for name, vector in made.items():
        if vector.op and not isinstance(vector.op, ops.Scores | ops.Softmax | ops.Context):
            resized = [vector.outputs["output"].value] if isinstance(vector.op, ops.Resize | ops.Fold) else []
            for x in [*vector.inputs.values(), *resized]:
                assert x.ndim < 4 or x.shape[2] != x.shape[3] or x.shape[2:] == (1, 1), name
    unfold, fold = _first(made, ops.Unfold), _first(made, ops.Fold)
    assert unfold.inputs["input"].shape[0] == fold.outputs["output"].value.shape[0] == 2
    result = unfold.outputs["output"].value
    assert not passes(unfold, result.reshape(2, 4, *result.shape[1:]).swapaxes(0, 1).reshape(result.shape))


def test_with_a_size_the_ops_have_its_maps(model):
    graph = model_graph(model, (64, 96))
    for vector in vectors(model, (64, 96)):
        if vector.op:
            node = graph[vector.nodes[0]]
            assert vector.op == node.op
            assert [x.shape for x in vector.inputs.values()] == [source.shape for source in graph.inputs_of(node)]
        else:
            assert vector.inputs["pixel_values"].shape == (1, 3, 64, 96)


# ---- what they hold ----


@pytest.mark.torch
def test_expected_outputs_are_those_of_pytorch_in_float64(made):
    for vector in made.values():
        if vector.op:
            expected = port(vector.op, vector.inputs, vector.weights, torch.float64).numpy()
            assert_same(vector.outputs["output"].value, expected, 2**-24, vector.name)


@pytest.mark.torch
def test_pytorch_in_float32_passes(made):
    for vector in made.values():
        if vector.op:
            assert passes(vector, port(vector.op, vector.inputs, vector.weights, torch.float32)), vector.name


def test_one_running_sum_in_float32_passes():
    """A plain C loop, on the longest sums of the published shapes."""
    model = tinymvit.MobileViTForImageClassification(MobileViTConfig.preset("small"))
    wanted = {"linear_480_to_240", "linear_640_to_1000", "linear_240_to_240"}
    found = [vector for vector in vectors(model) if vector.name in wanted]
    assert len(found) == 3
    for vector in found:
        x, weight, bias = vector.inputs["input"], vector.weights["weight"], vector.weights["bias"]
        y = np.zeros((*x.shape[:-1], len(weight)), np.float32)
        for k in range(x.shape[-1]):
            y = y + x[..., k : k + 1] * weight[:, k]
        assert passes(vector, y + bias), vector.name


def test_products_are_exact_in_float64_so_every_machine_has_the_same_bits(made):
    for name in ("linear_8_to_16", "conv2d_3x3_16_to_8", "scores_2_heads_16"):
        vector = made[name]
        inputs = [x.astype(np.float64) for x in vector.inputs.values()]
        weights = [w.astype(np.float64) for w in vector.weights.values()]
        result = reference.compute(vector.op, inputs, weights)
        if isinstance(vector.op, ops.Linear):
            exact = sum(Fraction(a) * Fraction(b) for a, b in zip(inputs[0][1, 3], weights[0][5], strict=True))
            assert result[1, 3, 5] == float(exact + Fraction(weights[1][5]))
            assert vector.outputs["output"].value[1, 3, 5] == np.float32(result[1, 3, 5])
        axis = 1 if isinstance(vector.op, ops.Conv2d) else 2
        if not isinstance(vector.op, ops.Scores):  # another order of the sum gives the same bits
            backwards = [np.flip(weights[0], 1), *weights[1:]]
            assert_same(reference.compute(vector.op, [np.flip(inputs[0], axis)], backwards), result)
        else:
            query, key = inputs[0][1, 2, :8], inputs[1][1, 4, :8]
            exact = sum(Fraction(a) * Fraction(b) for a, b in zip(query, key, strict=True))
            assert result[1, 0, 2, 4] == float(exact) / math.sqrt(8)


def test_the_bits_are_pinned():
    """These digests hold on any machine and any NumPy: integers, powers of two, exact sums."""
    model = tinymvit.MobileViTForImageClassification(MobileViTConfig(**TINY))
    digest = hashlib.sha256()
    for vector in vectors(model):
        if isinstance(vector.op, ops.Conv2d | ops.Linear | ops.Scores | ops.Context | ops.BatchNorm):
            digest.update(b"".join(tensor.astype("<f4").tobytes() for tensor in vector.tensors.values()))
    assert digest.hexdigest() == "755909792dd76b3b49926ba3140f2fccefad75e582b059351e11bb434a190670"


def test_inputs_are_exact_in_float16_and_hold_the_edges(made):
    for vector in made.values():
        for x in vector.inputs.values():
            assert_same(x.astype(np.float16).astype(np.float32), x)
    silu = next(v for v in made.values() if isinstance(v.op, ops.Activation)).inputs["input"]
    assert {-100, -20, 0, 20, 100} <= set(silu.ravel().tolist())
    assert np.signbit(silu[silu == 0]).any()
    softmax = next(v for v in made.values() if isinstance(v.op, ops.Softmax))
    assert softmax.outputs["output"].value[0, 0, :3, 0].tolist() == pytest.approx([0.2, 1.0, 0.2])
    norm = next(v for v in made.values() if isinstance(v.op, ops.LayerNorm))
    assert_same(norm.outputs["output"].value[0, 0], norm.weights["bias"])  # no variance: the bias is left


def test_the_whole_model_is_the_checkpoints(model, made):
    vector = made["model"]
    assert_same(vector.inputs["pixel_values"], noise((1, 3, *ODD_SIZE)))
    logits, result = model(vector.inputs["pixel_values"]).logits, vector.outputs["logits"]
    exact = reference.run(model_graph(model, None), model.weights, vector.inputs["pixel_values"])["logits"]
    assert_same(result.value, exact.astype(np.float32))
    assert (np.abs(logits - result.value) <= 4 * (result.absolute + result.relative * np.abs(result.value))).all()


# ---- what they catch ----


def _first(made, kind, **attributes):
    for vector in made.values():
        if isinstance(vector.op, kind) and all(getattr(vector.op, k) == v for k, v in attributes.items()):
            return vector
    raise AssertionError(f"no {kind.__name__} with {attributes}")


def wrong(vector, op=None, inputs=None, weights=None):
    with np.errstate(all="ignore"):
        return not passes(
            vector,
            reference.compute(
                op or vector.op,
                [x.astype(np.float64) for x in (inputs or list(vector.inputs.values()))],
                [w.astype(np.float64) for w in (weights or list(vector.weights.values()))],
            ),
        )


def test_known_mistakes_fail(made):
    norm = _first(made, ops.BatchNorm)
    assert not wrong(norm)
    assert wrong(norm, op=replace(norm.op, eps=1e-3))
    assert wrong(norm, op=replace(norm.op, eps=0.0))
    norm = _first(made, ops.LayerNorm)
    assert not wrong(norm)
    assert wrong(norm, op=replace(norm.op, eps=1e-6))
    assert wrong(norm, op=replace(norm.op, eps=0.0))
    assert wrong(norm, weights=[norm.weights["weight"], np.zeros_like(norm.weights["bias"])])
    stem = _first(made, ops.Conv2d, stride=2)
    x, w = stem.inputs["input"], stem.weights["weight"]
    assert wrong(stem, inputs=[x[:, ::-1]])  # RGB for BGR
    assert wrong(stem, weights=[w.swapaxes(2, 3)])
    scores = _first(made, ops.Scores)
    assert not passes(scores, scores.outputs["output"].value / math.sqrt(scores.op.heads))
    softmax = _first(made, ops.Softmax)
    [x] = softmax.inputs.values()
    with np.errstate(all="ignore"):
        e = np.exp(x)
        assert not passes(softmax, e / e.sum(-1, keepdims=True))  # overflows
    assert not passes(softmax, reference.compute(softmax.op, [x.swapaxes(2, 3)], []).swapaxes(2, 3))
    silu = _first(made, ops.Activation, function="silu")
    assert not passes(silu, ops.Activation("gelu").compute(silu.inputs["input"]))
    unfold = _first(made, ops.Unfold)
    [x] = unfold.inputs.values()
    assert not passes(unfold, x.reshape(unfold.outputs["output"].value.shape))


@pytest.mark.torch
def test_paddings_and_corners_of_other_frameworks_fail(made):
    stem = _first(made, ops.Conv2d, stride=2)
    x, w = stem.inputs["input"], stem.weights["weight"]
    # TensorFlow's SAME with stride 2: on an even side the one row of zeros goes after the map, not before it.
    assert [side % 2 for side in x.shape[2:]] == [1, 0]
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 1)))
    assert not passes(stem, F.conv2d(torch.tensor(padded), torch.tensor(w), stride=2))
    resize = _first(made, ops.Resize)
    [x] = resize.inputs.values()
    size = (resize.op.height, resize.op.width)
    assert not passes(resize, F.interpolate(torch.tensor(x), size=size, mode="bilinear", align_corners=True))


def test_dilation_ignored_fails(made):
    dilated = [v for v in made.values() if isinstance(v.op, ops.Conv2d) and v.op.dilation > 1]
    assert dilated  # with output_stride=8
    for vector in dilated:
        assert not wrong(vector)
        assert wrong(vector, op=replace(vector.op, dilation=1, padding=vector.op.padding // vector.op.dilation))


# ---- files ----


def test_two_runs_write_the_same_bytes(model, tmp_path):
    for form in ("npy", "raw", "safetensors", "c"):
        for turn in "ab":
            write_vectors(model, tmp_path / form / turn, form)
        first, second = (sorted((tmp_path / form / turn).iterdir()) for turn in "ab")
        assert [path.name for path in first] == [path.name for path in second]
        assert all(a.read_bytes() == b.read_bytes() for a, b in zip(first, second, strict=True))


def test_every_format_holds_the_same_tensors(model, made, tmp_path):
    from safetensors.numpy import load_file

    read = {
        "npy": lambda path, name: np.load(path),
        "raw": lambda path, name: np.fromfile(path, "<f4"),
        "safetensors": lambda path, name: load_file(path)[name],
    }
    for form, reader in read.items():
        manifest = write_vectors(model, tmp_path / form, form, source="tiny")
        assert manifest == json.loads((tmp_path / form / "manifest.json").read_text())
        assert [entry["name"] for entry in manifest["vectors"]] == list(made)
        listed = {tensor["name"]: tensor for tensor in manifest["tensors"]}
        assert len(listed) == sum(len(vector.tensors) for vector in made.values())
        for vector in made.values():
            for name, array in vector.tensors.items():
                entry = listed[f"{vector.name}.{name}"]
                tensor = reader(tmp_path / form / entry["file"], name).reshape(entry["shape"])
                assert_same(tensor, array, name=entry["name"])
                assert entry["sha256"] == hashlib.sha256(array.astype("<f4").tobytes()).hexdigest()
        named = {tensor["file"] for tensor in listed.values()} | {"manifest.json", "README.md"}
        assert named == {path.name for path in (tmp_path / form).iterdir()}


def test_the_manifest_and_the_readme_say_what_a_port_needs(model, tmp_path):
    manifest = write_vectors(model, tmp_path / "v", source="tiny")
    stem = manifest["vectors"][0]
    assert stem["op"] == "Conv2d"
    assert stem["attributes"]["stride"] == 2
    assert (stem["inputs"], stem["weights"]) == (["input"], ["weight"])
    assert 0 < stem["outputs"]["output"]["absolute_tolerance"] < 1e-5
    assert stem["nodes"] == ["mobilevit.conv_stem.convolution"]
    text = (tmp_path / "v" / "README.md").read_text()
    assert text.startswith("# Test vectors of tiny\n")
    assert all(f"| `{entry['name']}` |" in text for entry in manifest["vectors"])


CHECK_IN_C = """
#include <math.h>
#include <stdio.h>
#include "linear_8_to_16.h"
#define V(name) TINYMVIT_LINEAR_8_TO_16_##name
int main(void) {
    static const int shape[] = V(INPUT_SHAPE);
    int rows = shape[0] * shape[1], bad = 0;
    for (int r = 0; r < rows; r++)
        for (int o = 0; o < V(OUT_FEATURES); o++) {
            float sum = tinymvit_linear_8_to_16_bias[o];
            for (int k = 0; k < V(IN_FEATURES); k++)
                sum += tinymvit_linear_8_to_16_input[r * V(IN_FEATURES) + k]
                     * tinymvit_linear_8_to_16_weight[o * V(IN_FEATURES) + k];
            float expected = tinymvit_linear_8_to_16_output[r * V(OUT_FEATURES) + o];
            float allowed = V(OUTPUT_ABSOLUTE_TOLERANCE) + V(OUTPUT_RELATIVE_TOLERANCE) * fabsf(expected);
            bad += !(fabsf(sum - expected) <= allowed);
            printf("%a\\n", (double)expected);
        }
    return bad;
}
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_c_headers_compile_and_hold_the_same_bits(model, made, tmp_path):
    write_vectors(model, tmp_path / "c", "c")
    everything = "".join(f'#include "{name}.h"\n#include "{name}.h"\n' for name in made)  # twice: the guards
    (tmp_path / "all.c").write_text(everything + "int main(void) { return 0; }\n")
    (tmp_path / "check.c").write_text(CHECK_IN_C)
    strict = ["gcc", "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-I", str(tmp_path / "c")]
    for name in ("all", "check"):
        command = [*strict, str(tmp_path / f"{name}.c"), "-o", str(tmp_path / name), "-lm"]
        built = subprocess.run(command, capture_output=True, text=True)
        assert built.returncode == 0, built.stderr[:2000]
    result = subprocess.run([tmp_path / "check"], capture_output=True, text=True)
    assert result.returncode == 0
    printed = np.array([float.fromhex(line) for line in result.stdout.split()], np.float32)
    assert_same(printed, made["linear_8_to_16"].outputs["output"].value.ravel())


def test_what_is_no_model_has_no_vectors(tmp_path):
    with pytest.raises(TypeError, match="model: str, expected one of the MobileViT models"):
        write_vectors("digits", tmp_path / "vectors")


def test_a_folder_is_called_what_the_caller_calls_it(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("full").mkdir()
    Path("full", "notes.txt").write_text("keep")
    with pytest.raises(OutputError, match=r"\Afull: is there already"):
        write_vectors(model, "full")


def test_a_folder_in_use_stays_as_it_is(model, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(OutputError, match="mine: is there already; expected the name of a new folder"):
        write_vectors(model, tmp_path / "mine")
    (tmp_path / "file").write_text("keep")
    with pytest.raises(OutputError, match="file: is there already"):
        write_vectors(model, tmp_path / "file")
    with pytest.raises(OutputError, match="cannot be written: Not a directory"):
        write_vectors(model, tmp_path / "file" / "v")
    with pytest.raises(OutputError, match="format 'bin'; expected npy, raw, safetensors, c"):
        write_vectors(model, tmp_path / "v", "bin")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "mine", "notes.txt"]


def test_an_empty_folder_is_filled_and_a_failure_leaves_nothing(model, tmp_path, monkeypatch):
    (tmp_path / "v").mkdir()
    monkeypatch.setattr("tinymvit.vectors.write.read_me", lambda manifest: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_vectors(model, tmp_path / "v")
    assert [path.name for path in tmp_path.rglob("*")] == ["v"]
    monkeypatch.undo()
    write_vectors(model, tmp_path / "v")
    assert (tmp_path / "v" / "manifest.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["v"]


def test_a_disk_that_is_full_only_when_all_must_have_reached_it_leaves_nothing(model, tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="v: cannot be written: No space left on device"):
        write_vectors(model, tmp_path / "v")
    assert list(tmp_path.iterdir()) == []


def test_every_file_reaches_the_disk_before_the_folder_has_its_name(model, tmp_path, monkeypatch):
    flushed = set()

    def fsync(file):
        assert not (tmp_path / "v").exists()
        flushed.add(os.fstat(file).st_ino)

    monkeypatch.setattr(os, "fsync", fsync)
    write_vectors(model, tmp_path / "v")
    assert flushed == {path.stat().st_ino for path in (tmp_path / "v").iterdir()}


def test_a_bare_model_and_an_activation_of_ones_own(tmp_path):
    model = tinymvit.MobileViTModel(MobileViTConfig(**TINY, hidden_act=lambda x: x * 2))
    manifest = write_vectors(model, tmp_path / "v", "c")
    header = (tmp_path / "v" / "_lambda__map_4.h").read_text()
    assert header.startswith("/* Activation(function='<lambda>') */\n")  # and no address, which differs between runs
    assert list(manifest["vectors"][-1]["outputs"]) == ["last_hidden_state", "pooler_output"]
    assert manifest["vectors"][2]["name"] == "_lambda__map_4"
    assert manifest["vectors"][2]["attributes"] == {"function": "<lambda>"}


def test_an_activation_without_a_name_is_called_by_its_type():
    assert attributes(ops.Activation(partial(np.multiply, 2))) == {"function": "partial"}


def test_weights_that_give_nothing_to_compare(model, tmp_path):
    name = next(name for name in reversed(model.weights) if name.endswith("bias"))
    zeros = {key: np.zeros_like(w) if "classifier" in key else w for key, w in model.weights.items()}
    other = type(model).from_tensors(model.config, zeros)
    *_, vector = vectors(other)
    assert not vector.outputs["logits"].value.any()
    assert vector.outputs["logits"].absolute == 0
    other = type(model).from_tensors(model.config, zeros | {name: np.full_like(zeros[name], np.nan)})
    with pytest.raises(CheckpointError, match="logits: not finite for pixels from 0 to 1; expected finite weights"):
        write_vectors(other, tmp_path / "v")
    assert list(tmp_path.iterdir()) == []


# ---- the command ----


def test_help_shows_an_example(capsys):
    code, out, _ = run(capsys, "vectors", "--help")
    assert code == 0
    assert "example: tinymvit vectors" in out


def test_the_command(capsys, tmp_path):
    code, out, err = run(capsys, "vectors", "--model", "digits", "--output", tmp_path / "v", "--format", "raw")
    assert (code, err) == (0, "")
    assert out.startswith(f"{tmp_path / 'v'}: 91 operations and the whole model, 3.6 MB as raw\n")
    manifest = json.loads((tmp_path / "v" / "manifest.json").read_text())
    assert manifest["model"] == "digits"
    code, _, err = run(capsys, "vectors", "--output", tmp_path / "v")
    assert code == 2
    assert "is there already" in err
    code, _, err = run(capsys, "vectors", "--model", "digist", "--output", tmp_path / "w")
    assert (code, 'did you mean "digits"' in err) == (2, True)
    code, _, err = run(capsys, "vectors")
    assert (code, "--output" in err) == (2, True)
