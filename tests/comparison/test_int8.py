"""Ports in int8: right ones agree, each judged by how int8 rounds; what is wrong beyond that is named."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinymvit
from checkpoints import complaint
from command_line import run
from tinymvit import compare, ops, reference
from tinymvit.comparison.int8 import is_on_grids, step_of
from tinymvit.comparison.report import to_json, to_text
from tinymvit.comparison.tolerance import Tolerance
from tinymvit.errors import DumpError
from tinymvit.inspection.dump_writer import Spec, write_dump
from tinymvit.networks.random_weights import as_trained
from tinymvit.quantisation.calibration import observe
from tinymvit.quantisation.ranges import folded
from torch_models import TINY

LAYER = "mobilevit.encoder.layer."
CONV, BLOCK = LAYER + "1.layer.1.", LAYER + "2.transformer.layer.0."


@cache
def model():
    config = tinymvit.MobileViTConfig(**TINY)
    plain = tinymvit.MobileViTForImageClassification(config)
    return type(plain).from_tensors(config, as_trained(plain.graph()))


@cache
def pixels():
    return np.random.default_rng(0).random((1, 3, 64, 96), np.float32)


@cache
def network():
    graph = model().graph(pixels().shape).select(["logits"])
    other = np.random.default_rng(1).random((4, 3, 64, 96), np.float32)
    ranges = observe(graph, model().weights, other[:, None])
    return ranges.quantised(graph, model().weights)


def port(wrong=None):
    """The dump of a port in int8, of real numbers. wrong: by a node's name, what it computes of op, inputs, weights."""
    graph, tensors = network()
    values, found = {}, {"pixel_values": pixels()}
    for node in graph:
        if isinstance(node.op, ops.Input):
            values[node.name] = pixels()
            continue
        inputs = [values[name] for name in node.inputs]
        weights = [reference.as_operand(tensors[name], np.float32) for name in node.weights]
        compute = (wrong or {}).get(node.name, lambda op, x, w: op.compute(*x, *w))
        values[node.name] = compute(node.op, inputs, weights)
        if isinstance(node.op, ops.Quantised | ops.QuantisedActivation):
            found[node.name.removesuffix(".int8")] = node.op.y.dequantise(values[node.name])
        elif not node.name.endswith(".int8"):
            found[node.name] = values[node.name]
    return found


def weights_alone():
    """The dump of a port in float32 whose weights were rounded to int8."""
    graph, weights = folded(model().graph(pixels().shape).select(["logits"]), model().weights)
    _, tensors = network()
    rounded = {name: weights[name] for name in graph.weight_shapes()}
    for name in graph.weight_shapes():
        if f"{name}.scale" in tensors:
            scale = tensors[f"{name}.scale"]
            rounded[name] = tensors[f"{name}.int8"] * scale.reshape(-1, *[1] * (rounded[name].ndim - 1))
    return {node.name: x for node, x in reference.steps(graph, rounded, pixels(), np.float32)}


def dynamic():
    """The dump of a port that rounds each input of a layer to its own range, and weights to one scale each."""
    from tinymvit.numerics import to_int8, to_uint8

    graph, weights = folded(model().graph(pixels().shape).select(["logits"]), model().weights)
    values = {}
    for node in graph:
        inputs = [values[name] for name in node.inputs]
        tensors = [np.float32(weights[name]) for name in node.weights]
        if isinstance(node.op, ops.Conv2d | ops.Linear):
            inputs, tensors = [to_uint8(x) for x in inputs], [to_int8(tensors[0]), *tensors[1:]]
        values[node.name] = pixels() if isinstance(node.op, ops.Input) else node.op.compute(*inputs, *tensors)
    return values


# ---- right ones ----


@pytest.mark.parametrize("isolate", [False, True])
def test_a_right_port_agrees_and_is_known_by_its_numbers(isolate):
    found = compare(model(), port(), isolate=isolate)
    assert found.agrees
    assert "judged with the rounding of int8 in mind" in found.basis
    assert found.notes[0].startswith("signal to noise, the lowest first: ")
    assert len(found.rows) > 100


@pytest.mark.parametrize("isolate", [False, True])
@pytest.mark.parametrize("make", [weights_alone, dynamic])
def test_a_port_whose_numbers_do_not_tell_is_said_to_be_in_int8(make, isolate):
    assert not compare(model(), make()).agrees
    found = compare(model(), make(), isolate=isolate, precision="int8")
    assert found.agrees
    assert "one scale a weight" in found.basis


def test_right_ports_use_less_than_the_tolerance():
    for dump, settings in ((port(), {}), (dynamic(), {"precision": "int8"}), (weights_alone(), {"precision": "int8"})):
        rows = compare(model(), dump, isolate=True, **settings).rows
        used = [row.errors.rms / row.limit.rms for row in rows if row.limit and row.limit.rms and not row.limit.ends]
        assert max(used) < 0.75


def test_the_lowest_are_named_first():
    found = compare(model(), port(), isolate=True)
    ranked = sorted((row.errors.snr, row.node) for row in found.rows)
    said = found.notes[0].removeprefix("signal to noise, the lowest first: ").split(", ")
    assert said == [f"{node} {snr:.1f} dB" for snr, node in ranked[:5]]
    assert to_json(found)["notes"][0] == found.notes[0]
    assert to_text(found).startswith("agree; judged with the rounding of int8 in mind\n")


def test_a_port_in_float_is_no_port_in_int8():
    right = {
        node.name: x
        for node, x in reference.steps(model().graph(pixels().shape), model().weights, pixels(), np.float32)
    }
    found = compare(model(), right, isolate=True)
    assert found.agrees
    assert found.basis == ""
    assert not any("signal to noise" in note for note in found.notes)
    broken = right | {"classifier": right["classifier"] * np.float32(1.003)}
    assert not compare(model(), broken).agrees
    assert compare(model(), broken, precision="int8", isolate=True).agrees, "int8 allows as much"


def test_in_float32_by_name_all_of_it_differs():
    assert not compare(model(), port(), precision="float32", isolate=True).agrees


def test_a_tolerance_of_ones_own_is_taken():
    assert not compare(model(), port(), tolerance=1e-4).agrees


# ---- wrong ones ----


def padded_with_0(op, x, w):
    p = op.op.padding
    bare = replace(op, op=replace(op.op, padding=0))
    return bare.compute(np.pad(x[0], ((0, 0), (0, 0), (p, p), (p, p))), *w)


def without_zero_point(op, x, w):
    return replace(op, x=replace(op.x, zero_point=0)).compute(*x, *w)


def heads_exchanged(op, x, w):
    y = op.compute(*x, *w)
    half = y.shape[-1] // 2
    return np.concatenate([y[..., half:], y[..., :half]], -1)


WRONG = {
    "a residual": (CONV[:-1], lambda op, x, w: x[0], "the residual is missing"),
    "a residual of tokens": (BLOCK + "attention_residual", lambda op, x, w: x[1], "the residual is missing"),
    "zeros outside the map": (CONV + "conv_3x3.normalization.int8", padded_with_0, ""),
    "zeros outside the picture": ("mobilevit.conv_stem.normalization.int8", padded_with_0, ""),
    "a zero point": (CONV + "expand_1x1.normalization.int8", without_zero_point, ""),
    "a zero point of tokens": (BLOCK + "output.dense.int8", without_zero_point, ""),
    "heads": (BLOCK + "attention.attention", heads_exchanged, ""),
    "an activation": (
        CONV + "conv_3x3.activation.int8",
        lambda op, x, w: replace(op, function="relu").compute(*x),
        "",
    ),
    "one scale for all channels": (
        LAYER + "3.conv_kxk.normalization.int8",
        lambda op, x, w: op.compute(x[0], w[0], np.full_like(w[1], w[1].max()), w[2]),
        "",
    ),
    "the scale of attention": (
        BLOCK + "attention.attention.scores",
        lambda op, x, w: op.compute(*x) / np.float32(2**0.5),
        "the scale is 1/sqrt(D), not 1/sqrt(D/h)",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_named_first(what):
    name, compute, hint = WRONG[what]
    found = compare(model(), port({name: compute}), isolate=True)
    assert found.first == name.removesuffix(".int8")
    assert hint in " ".join(str(each) for each in found.divergence.hints)
    assert found.caveats[0].startswith("int8 cuts off what its ranges do not hold: ops behind a wrong one may seem")


def test_in_whole_a_missing_residual_is_named():
    name, compute, _ = WRONG["a residual"]
    assert compare(model(), port({name: compute})).first == name


# ---- grids and tolerances ----


def test_the_step_of_a_grid():
    grid = (np.arange(-128, 128) - 7) * np.float32(0.0371)
    assert step_of(np.random.default_rng(0).choice(grid, 5000)) == pytest.approx(0.0371, rel=1e-5)
    assert step_of(grid[::2]) == pytest.approx(2 * 0.0371, rel=1e-5)
    assert step_of(np.random.default_rng(0).random(5000)) is None
    assert step_of(np.float32([0, 1, 2])) is None, "too few"
    assert step_of(np.zeros(5000)) is None
    assert step_of(np.append(grid, np.nan)) is None
    assert step_of(np.sqrt(np.arange(200))) is None, "not even"
    assert step_of(np.append(np.arange(20.0), 1e6)) is None, "too far for 256"
    assert step_of(np.zeros((0, 3))) is None


@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6), st.integers(-128, 127))
def test_every_quantisation_is_a_grid(seed, scale, zero_point):
    by = ops.Quantisation(float(np.float32(scale)), zero_point)
    q = np.random.default_rng(seed).integers(-128, 128, 3000).astype(np.float32)
    assert step_of(by.dequantise(q)) == pytest.approx(by.scale, rel=1e-4)


def test_most_must_lie_on_grids():
    grid, rest = np.tile(np.arange(100.0), 10), np.random.default_rng(0).random(1000)
    assert is_on_grids([grid, grid, rest])
    assert not is_on_grids([grid, rest])
    assert not is_on_grids([np.arange(5.0)])
    assert not is_on_grids([])


def test_what_lies_beyond_the_ends_of_a_grid_is_cut_off():
    truth = np.concatenate([np.linspace(-1, 1, 2000), [1.5]])
    theirs = np.rint(np.clip(truth, -1, 1) * 100) / 100
    assert Tolerance.in_int8(truth, truth, 0, theirs).allows(theirs, truth)
    everywhere = np.rint(np.clip(truth, -0.5, 0.5) * 100) / 100  # half of the numbers
    assert not Tolerance.in_int8(truth, truth, 0, everywhere).allows(everywhere, truth)
    assert not Tolerance.in_int8(truth, truth, 0, theirs).allows(theirs + 0.1, truth)


# ---- the command ----


def test_the_command_takes_the_precision(capsys, tmp_path):
    model().save_pretrained(tmp_path / "model")
    found = dynamic()
    with write_dump(
        tmp_path / "port.safetensors", [Spec(name, x.shape, "float32") for name, x in found.items()]
    ) as put:
        for name, x in found.items():
            put(name, x)
    arguments = ["compare", tmp_path / "model", tmp_path / "port.safetensors", "--isolate"]
    assert run(capsys, *arguments)[0] == 1
    code, out, _ = run(capsys, *arguments, "--precision", "int8")
    assert code == 0
    assert out.startswith("agree; judged with the rounding of int8 in mind, one scale a weight\n")


def test_another_precision_is_refused():
    with complaint(DumpError, "precision 'int4', expected one of auto, float32, int8"):
        compare(model(), port(), precision="int4")
