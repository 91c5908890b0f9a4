"""Vectors in int8: to the bit what Python's and C's integers make of them, tight enough for known mistakes."""

import hashlib
import json
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

import tinymvit
from command_line import run
from tinymvit import ops
from tinymvit.config import MobileViTConfig
from tinymvit.errors import OutputError
from tinymvit.passes.quantise import computed_in_int8
from tinymvit.quantisation.ranges import folded
from tinymvit.vectors import int8_vectors, write_vectors
from tinymvit.vectors.make import model_graph
from torch_models import TINY

CLASSES = ("MobileViTForImageClassification", "MobileViTForSemanticSegmentation")


@pytest.fixture(scope="module", params=CLASSES)
def model(request):
    return getattr(tinymvit, request.param)(MobileViTConfig(**TINY))


@pytest.fixture(scope="module")
def made(model):
    return {vector.name: vector for vector in int8_vectors(model)}


def kinds(made, kind):
    return [vector for vector in made.values() if isinstance(vector.op, kind)]


def test_every_node_in_integers_is_in_one_vector(model, made):
    graph, _ = folded(model_graph(model, None), model.weights)
    nodes = [name for vector in made.values() for name in vector.nodes]
    assert sorted(nodes) == sorted(computed_in_int8(graph))
    for vector in [*kinds(made, ops.Quantised), *kinds(made, ops.QuantisedActivation)]:
        for name in vector.nodes:
            op = graph[name].op
            assert (vector.op.op if isinstance(vector.op, ops.Quantised) else ops.Activation(vector.op.function)) == op


def test_they_are_named_for_c_and_have_their_own_dtypes(made):
    for name, vector in made.items():
        assert name.isidentifier()
        dtypes = {tensor: array.dtype.name for tensor, array in vector.tensors.items()}
        expected = {"input": "int8", "output": "int8"}
        if isinstance(vector.op, ops.Quantised):
            expected |= {"weight": "int8", "scale": "float32", "bias": "int32", "multiplier": "int32", "shift": "int32"}
        elif isinstance(vector.op, ops.QuantisedActivation):
            expected |= {"table": "int8"}
        expected |= {"quantise": {"input": "float32"}, "dequantise": {"output": "float32"}}.get(name, {})
        assert dtypes == expected


def as_python_computes(vector):
    """The formula of the README, in Python's integers."""
    op, t = vector.op, {name: array.astype(object) for name, array in vector.tensors.items()}
    result = np.zeros(t["output"].shape, object)
    for place in np.ndindex(*result.shape):
        if isinstance(op.op, ops.Linear):
            o, products = place[-1], zip(t["input"][place[:-1]], t["weight"][place[-1]], strict=True)
        else:
            b, o, i, j = place
            first = o // (op.op.out_channels // op.op.groups) * t["weight"].shape[1]
            products = [
                (t["input"][b, first + c, y, x], t["weight"][o, c, u, v])
                for c, u, v in np.ndindex(*t["weight"].shape[1:])
                for y, x in [[op.op.stride * a + op.op.dilation * w - op.op.padding for a, w in ((i, u), (j, v))]]
                if 0 <= y < t["input"].shape[2] and 0 <= x < t["input"].shape[3]
            ]
        a = t["bias"][o] + sum((q - op.x.zero_point) * w for q, w in products)
        assert -(2**31) <= a < 2**31
        m, n = t["multiplier"][o], t["shift"][o]
        result[place] = min(max((a * m + (1 << (n - 1)) >> n) + op.y.zero_point, -128), 127)
    return result


def test_outputs_are_python_s_integers(made):
    for vector in kinds(made, ops.Quantised):
        assert (as_python_computes(vector) == vector.outputs["output"].value).all(), vector.name
    for vector in kinds(made, ops.QuantisedActivation):
        table = vector.derived["table"]
        assert (table[vector.inputs["input"].astype(int) + 128] == vector.outputs["output"].value).all()
    x, q = (made["quantise"].tensors[name] for name in ("input", "output"))
    by = made["quantise"].op.by
    assert (np.clip(np.rint(x / np.float32(by.scale)) + by.zero_point, -128, 127) == q).all()
    assert (x / by.scale % 1 == 0.5).sum() >= 8, "halves"


def test_they_fill_int8_and_exceed_it(made):
    for vector in kinds(made, ops.Quantised):
        q = vector.outputs["output"].value
        assert q.astype(float).std() > 12, vector.name
        assert abs(vector.op.x.zero_point) + abs(vector.op.y.zero_point) > 0
    ends = np.concatenate([v.outputs["output"].value.ravel() for v in kinds(made, ops.Quantised)])
    assert {-128, 127} <= set(ends.tolist())
    assert 0 < np.isin(ends, (-128, 127)).mean() < 0.2


def test_the_bits_are_pinned():
    """These digests hold on any machine and any NumPy: integers."""
    model = tinymvit.MobileViTForImageClassification(MobileViTConfig(**TINY))
    digest = hashlib.sha256()
    for vector in int8_vectors(model):
        if isinstance(vector.op, ops.Quantised):
            for tensor in vector.tensors.values():
                digest.update(tensor.astype(tensor.dtype.newbyteorder("<")).tobytes())
    assert digest.hexdigest() == "d84aecd3d9f9bb121d7b57f6b1f46157c3b75f1985906c9e92f33d753ba5dee2"


def changed(vector, op=None, **weights):
    """How many numbers a mistake changes."""
    tensors = [weights.get(name, array) for name, array in vector.weights.items()]
    result = (op or vector.op).compute(vector.inputs["input"].astype(float), *tensors)
    return float((result != vector.outputs["output"].value).mean())


def test_known_mistakes_fail(made):
    for vector in kinds(made, ops.Quantised):
        op, w = vector.op, vector.weights
        assert changed(vector) == 0
        assert changed(vector, replace(op, x=replace(op.x, zero_point=0))) > 0.1
        assert changed(vector, replace(op, y=replace(op.y, zero_point=0))) > 0.1
        assert changed(vector, scale=np.full_like(w["scale"], w["scale"].mean())) > 0.1
        if w["bias"].any():
            assert changed(vector, bias=0 * w["bias"]) > 0.1
        if isinstance(op.op, ops.Conv2d) and op.op.padding:
            x = vector.inputs["input"].astype(float)
            p = op.op.padding
            bare = replace(op, op=replace(op.op, padding=0))
            y = bare.compute(np.pad(x, ((0, 0), (0, 0), (p, p), (p, p))), *w.values())  # with 0, no zero point
            assert (y != vector.outputs["output"].value).mean() > 0.1


def test_another_rounding_is_off_by_one_in_a_few(made):
    """A half downwards instead of upwards, which is what the even neighbour is in half of the cases."""
    for vector in kinds(made, ops.Quantised):
        op = vector.op
        exact = replace(op, y=replace(op.y, zero_point=0))
        shifted = op.op.compute(
            vector.inputs["input"].astype(float) - op.x.zero_point,
            vector.weights["weight"].astype(float),
            *([vector.weights["bias"].astype(float)] if op.op.bias else []),
        )
        axis = (slice(None), None, None) if isinstance(op.op, ops.Conv2d) else slice(None)
        real = shifted * (op.x.scale * vector.weights["scale"].astype(float) / op.y.scale)[axis]
        even = np.clip(np.rint(real) + op.y.zero_point, -128, 127)
        assert np.abs(even - vector.outputs["output"].value).max() <= 1
        assert (even != vector.outputs["output"].value).mean() < 0.02
        assert exact.multipliers(vector.weights["scale"])[0].dtype == np.int32


# ---- files ----


def test_every_format_holds_the_same_tensors(model, made, tmp_path):
    from safetensors.numpy import load_file

    read = {
        "npy": lambda path, name, dtype: np.load(path),
        "raw": lambda path, name, dtype: np.fromfile(path, np.dtype(dtype).newbyteorder("<")),
        "safetensors": lambda path, name, dtype: load_file(path)[name],
    }
    for form, reader in read.items():
        manifest = write_vectors(model, tmp_path / form, form, source="tiny", precision="int8")
        assert manifest == json.loads((tmp_path / form / "manifest.json").read_text("utf-8"))
        assert manifest["precision"] == "int8"
        assert [entry["name"] for entry in manifest["vectors"]] == list(made)
        listed = {tensor["name"]: tensor for tensor in manifest["tensors"]}
        for vector in made.values():
            for name, array in vector.tensors.items():
                entry = listed[f"{vector.name}.{name}"]
                found = reader(tmp_path / form / entry["file"], name, entry["dtype"])
                assert entry["dtype"] == found.dtype == array.dtype
                assert (found.reshape(entry["shape"]) == array).all()
                assert entry["sha256"] == hashlib.sha256(found.tobytes()).hexdigest()


def test_two_runs_write_the_same_bytes(model, tmp_path):
    for turn in "ab":
        write_vectors(model, tmp_path / turn, "c", precision="int8")
    first, second = (sorted((tmp_path / turn).iterdir()) for turn in "ab")
    assert [path.name for path in first] == [path.name for path in second]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(first, second, strict=True))


def test_the_readme_says_what_a_port_needs(model, made, tmp_path):
    manifest = write_vectors(model, tmp_path / "v", source="tiny", precision="int8")
    text = (tmp_path / "v" / "README.md").read_text("utf-8")
    assert text.startswith("# Test vectors of tiny in int8\n")
    assert all(f"| `{name}` |" in text for name in made)
    entry = next(entry for entry in manifest["vectors"] if entry["op"] == "Quantised")
    assert entry["derived"] == ["multiplier", "shift"]
    assert entry["attributes"]["x"].keys() == {"scale", "zero_point"}


CHECK_IN_C = """
#include <stdio.h>
#include "NAME.h"
#define V(x) TINYMVIT_UPPER_##x
#define T(x) tinymvit_NAME_##x
static const int in[] = V(INPUT_SHAPE), out[] = V(OUTPUT_SHAPE), w[] = V(WEIGHT_SHAPE);
static int requantise(int32_t a, int o) {
    int64_t y = (((int64_t)a * T(multiplier)[o] + ((int64_t)1 << (T(shift)[o] - 1))) >> T(shift)[o]) + V(Y_ZERO_POINT);
    return y < -128 ? -128 : y > 127 ? 127 : (int)y;
}
int main(void) {
    int bad = 0;
    BODY
    printf("%d\\n", bad);
    return bad > 0;
}
"""
LINEAR_IN_C = """
    for (int r = 0; r < V(INPUT_SIZE) / w[1]; r++)
        for (int o = 0; o < w[0]; o++) {
            int32_t a = T(bias)[o];
            for (int k = 0; k < w[1]; k++)
                a += (T(input)[r * w[1] + k] - V(X_ZERO_POINT)) * T(weight)[o * w[1] + k];
            bad += requantise(a, o) != T(output)[r * w[0] + o];
        }
    (void)in, (void)out;
"""
CONV_IN_C = """
    for (int o = 0; o < out[1]; o++)
        for (int i = 0; i < out[2]; i++)
            for (int j = 0; j < out[3]; j++) {
                int32_t a = T(bias)[o];
                for (int c = 0; c < w[1]; c++)
                    for (int u = 0; u < w[2]; u++)
                        for (int v = 0; v < w[3]; v++) {
                            int y = i * V(STRIDE) + u * V(DILATION) - V(PADDING);
                            int x = j * V(STRIDE) + v * V(DILATION) - V(PADDING);
                            int channel = o / (out[1] / V(GROUPS)) * w[1] + c;
                            int inside = y >= 0 && y < in[2] && x >= 0 && x < in[3];
                            int q = inside ? T(input)[(channel * in[2] + y) * in[3] + x] : V(X_ZERO_POINT);
                            a += (q - V(X_ZERO_POINT)) * T(weight)[((o * w[1] + c) * w[2] + u) * w[3] + v];
                        }
                bad += requantise(a, o) != T(output)[(o * out[2] + i) * out[3] + j];
            }
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_a_port_in_c_gives_every_number(model, made, tmp_path):
    write_vectors(model, tmp_path / "c", "c", precision="int8")
    (tmp_path / "all.c").write_text(
        "".join(f'#include "{name}.h"\n' for name in made) + "int main(void) { return 0; }\n"
    )
    strict = ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-I", str(tmp_path / "c")]
    names = {type(v.op.op).__name__ + str(getattr(v.op.op, "groups", "")): v.name for v in kinds(made, ops.Quantised)}
    programs = {"all": None} | {name: name for name in names.values()}
    for file, name in programs.items():
        if name:
            body = LINEAR_IN_C if "linear" in name else CONV_IN_C
            text = CHECK_IN_C.replace("BODY", body).replace("NAME", name).replace("UPPER", name.upper())
            (tmp_path / f"{file}.c").write_text(text)
        built = subprocess.run(
            [*strict, str(tmp_path / f"{file}.c"), "-o", str(tmp_path / file)], capture_output=True, text=True
        )
        assert built.returncode == 0, built.stderr[:2000]
        result = subprocess.run([tmp_path / file], capture_output=True, text=True)
        assert (result.returncode, result.stdout) == (0, "0\n" if name else ""), name
    assert any("depthwise" in name for name in names.values())


def test_another_precision_is_refused(model, tmp_path):
    with pytest.raises(OutputError, match="precision 'int4'; expected float32 or int8"):
        write_vectors(model, tmp_path / "v", precision="int4")
    assert list(tmp_path.iterdir()) == []


def test_the_command(capsys, tmp_path):
    code, out, err = run(capsys, "vectors", "--model", "digits", "--precision", "int8", "--output", tmp_path / "v")
    assert (code, err) == (0, "")
    assert "v: 52 operations, " in out
    assert (tmp_path / "v" / "int8_linear_320_to_10.multiplier.npy").is_file()
