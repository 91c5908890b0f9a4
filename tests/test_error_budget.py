"""The error budget: roundings against PyTorch's, errors worked out by hand, and the command with its table and plot."""

import json
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinymvit
from command_line import DIGIT, run
from frameworks import torch
from oracle import assert_same, opened
from tinymvit import reference
from tinymvit.engine.engine import Engine
from tinymvit.error_budget import rounding_errors
from tinymvit.error_budget.measure import bfloat16, float16, relative_error
from tinymvit.error_budget.report import save_plot, stages, to_text
from tinymvit.vectors import noise
from torch_models import TINY

CLASSIFIER, SEGMENTER = "MobileViTForImageClassification", "MobileViTForSemanticSegmentation"
SHAPE = (1, 3, 40, 64)  # the deepest map is 2 x 2, the one before 3 x 4, which the patch does not divide


@pytest.fixture(scope="module", params=[CLASSIFIER, SEGMENTER])
def model(request):
    return getattr(tinymvit, request.param)(tinymvit.MobileViTConfig(**TINY, initializer_range=0.3))


@pytest.fixture(scope="module")
def budget(model):
    return rounding_errors(model, noise(SHAPE))


# ---- the formats ----


@pytest.mark.torch
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=200))
def test_bfloat16_rounds_as_pytorch_does(patterns):
    x = np.array(patterns, np.uint32).view(np.float32)
    np.testing.assert_array_equal(bfloat16(x), torch.from_numpy(x).bfloat16().double().numpy())


def test_bfloat16_ties_go_to_even_and_nan_and_infinity_stay():
    x = np.array([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, 3.4e38, np.inf, -np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(bfloat16(x), [1, 1 + 2**-6, 1 + 2**-7, np.inf, np.inf, -np.inf, np.nan])
    hard = np.array([0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32)  # NaNs that a carry would change
    assert np.isnan(bfloat16(hard)).all()


def test_float16_keeps_eleven_bits():
    assert_same(float16(np.array([1 + 2**-10, 1 + 2**-11, 1 + 2**-12])), np.array([1 + 2**-10, 1, 1]))


def test_relative_error_by_hand():
    assert relative_error(np.array([3.0, 5.0]), np.array([3.0, 4.0])) == pytest.approx(1 / 5)
    assert relative_error(np.zeros(3), np.zeros(3)) == 0
    assert relative_error(np.ones(3), np.zeros(3)) == math.inf
    assert relative_error(np.array([np.nan]), np.ones(1)) == math.inf


# ---- the measurement ----


def test_accumulated_errors_are_those_of_the_whole_chains(model, budget):
    graph = model.graph(SHAPE).select(["logits"])
    exact = {node.name: value for node, value in reference.steps(graph, model.weights, noise(SHAPE))}
    single = {node.name: value for node, value in reference.steps(graph, model.weights, noise(SHAPE), np.float32)}
    halves = {name: float16(weight) for name, weight in model.weights.items()}
    half = {node.name: value for node, value in reference.steps(graph, halves, noise(SHAPE))}
    engine = {node.name: value for node, value in Engine(graph, model.weights).trace(noise(SHAPE))}
    assert [node.name for node in budget.nodes] == list(graph.nodes)
    for node in budget.nodes:
        assert node.accumulated["float32"] == relative_error(single[node.name], exact[node.name])
        assert node.accumulated["float16 weights"] == relative_error(half[node.name], exact[node.name])
        assert ("engine" in node.accumulated) == (node.name in engine)
        if node.name in engine:
            assert node.accumulated["engine"] == relative_error(engine[node.name], exact[node.name])
    logits = graph.outputs["logits"]
    assert budget.results["engine"].largest == np.abs(engine[logits] - exact[logits]).max()


def test_the_engine_traces_what_it_returns(model):
    graph = model.graph(SHAPE)
    engine = Engine(graph, model.weights)
    traced = {node.name: value for node, value in engine.trace(noise(SHAPE))}
    assert list(traced) == list(engine.graph.nodes)
    for public, value in engine.run(noise(SHAPE)).items():
        assert_same(traced[graph.outputs[public]], value)


def test_what_enters_is_the_error_of_the_node_alone(model, budget):
    graph = model.graph(SHAPE).select(["logits"])
    exact = {node.name: value for node, value in reference.steps(graph, model.weights, noise(SHAPE))}
    for node, errors in zip(graph, budget.nodes, strict=True):
        kind = type(node.op).__name__
        if kind in ("Unfold", "Fold", "Concat"):  # numbers only move
            assert set(errors.enters.values()) == {0.0}, node.name
        elif kind == "Add":
            inputs = [exact[name] for name in node.inputs]
            truth = sum(float16(x) for x in inputs)
            assert errors.enters["float16 activations"] == relative_error(float16(truth), truth)
            assert errors.enters["bfloat16 weights"] == 0
        elif node.weights:
            weights = [bfloat16(model.weights[name]) for name in node.weights]
            value = reference.compute(node.op, [exact[name] for name in node.inputs], weights)
            assert errors.enters["bfloat16 weights"] == pytest.approx(relative_error(value, exact[node.name]))
        assert errors.enters["float32"] < 1e-6
        assert errors.enters["float16 activations"] < 2**-11


def test_the_formats_cost_what_their_bits_say(budget):
    """8, 11 and 24 significant bits: the errors at the result lie in this order, well apart."""
    cost = {name: result.relative for name, result in budget.results.items()}
    assert cost["bfloat16 weights"] > 3 * cost["float16 weights"] > 100 * cost["engine"] > 0
    assert cost["float16 activations"] > 100 * cost["float32"] > 0
    for result in budget.results.values():
        assert 0 <= result.same_answers <= 1
    assert budget.results["float32"].same_answers == 1


def test_a_value_too_large_for_float16_is_an_overflow_not_a_crash(model, budget):
    name = "mobilevit.conv_stem.convolution.weight"
    large = type(model).from_tensors(model.config, model.weights | {name: model.weights[name] * 1e6})
    found = rounding_errors(large, noise(SHAPE))
    assert found.results["float16 activations"].relative == math.inf
    assert math.isfinite(found.results["float32"].relative)
    assert "overflow" in to_text(found)
    written = json.dumps(found.to_dict(), allow_nan=False)
    assert json.loads(written)["results"]["float16 activations"]["relative"] is None


def test_a_bare_model_has_no_answers_to_compare():
    model = tinymvit.MobileViTModel(tinymvit.MobileViTConfig(**TINY))
    found = rounding_errors(model, noise((2, 3, 32, 32)))
    assert found.output == "last_hidden_state"
    assert found.results["float32"].same_answers is None
    assert to_text(found).splitlines()[-1].endswith("-")


def test_values_are_let_go(model):
    """Deeper networks need no more memory: far less than all the values of all the ways at once."""
    shape = (1, 3, 96, 96)
    graph = model.graph(shape).select(["logits"])
    everything = sum(math.prod(node.shape) for node in graph) * 8 * 5
    rounding_errors(model, noise(SHAPE))
    tracemalloc.start()
    rounding_errors(model, noise(shape))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < everything / 3


def test_bad_pixels_are_refused(model):
    with pytest.raises(ValueError, match="four axes"):
        rounding_errors(model, np.zeros((3, 32, 32), np.float32))


def test_weights_that_give_no_numbers_are_refused(model):
    nothing = {name: np.full_like(weight, np.nan) for name, weight in model.weights.items()}
    broken = type(model).from_tensors(model.config, nothing)
    with pytest.raises(tinymvit.CheckpointError, match="logits: not finite in float64; expected finite weights"):
        rounding_errors(broken, noise(SHAPE))


def test_stages_start_where_they_do(budget):
    starts = stages(budget)
    assert list(starts)[:3] == ["pixel_values", "conv_stem", "layer.0"]
    assert budget.nodes[starts["layer.2"]].name == "mobilevit.encoder.layer.2.downsampling_layer.expand_1x1.convolution"


# ---- the command ----


def test_help_shows_an_example(capsys):
    code, out, _ = run(capsys, "error", "--help")
    assert code == 0
    assert "example: tinymvit error" in out


def test_the_command_prints_a_table_and_writes_numbers_and_a_plot(capsys, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    threads = []
    monkeypatch.setattr("tinymvit.kernels.set_num_threads", threads.append)
    plot, numbers = tmp_path / "error.png", tmp_path / "error.json"
    code, out, _ = run(capsys, "error", "digits", DIGIT, "--plot", plot, "--json", numbers, "--threads", 1)
    assert (code, threads) == (0, [1])
    lines = out.splitlines()
    assert lines[0].split()[:4] == ["node", "enters", "float32", "engine"]
    assert lines[2].split()[0] == "pixel_values"
    assert any(line.split()[:1] == ["classifier"] for line in lines)
    assert "float16 weights: no error, since the checkpoint's own are in that format" in lines
    found = json.loads(numbers.read_text())
    assert (found["model"], found["image"], found["output"]) == ("digits", DIGIT, "logits")
    assert found["results"]["engine"]["same_answers"] == 1
    assert len(found["nodes"]) == 236
    picture = np.asarray(opened(plot).convert("RGB")).astype(int)
    assert picture.shape == (960, 1320, 3)
    blue = (np.abs(picture - [0x1F, 0x77, 0xB4]).max(-1) < 8).sum(1)  # float32, in the upper half
    green = (np.abs(picture - [0x2C, 0xA0, 0x2C]).max(-1) < 8).sum(1)  # float16 activations, in the lower
    assert blue[:480].sum() > 500
    assert green[:480].sum() == 0
    assert green[480:].sum() > 500
    assert sorted(path.name for path in tmp_path.iterdir()) == ["error.json", "error.png"]


@pytest.mark.parametrize("suffix", [".svg", ".pdf"])
def test_other_formats_of_the_plot(budget, tmp_path, suffix):
    pytest.importorskip("matplotlib")
    path = tmp_path / f"plot{suffix}"
    save_plot(budget, path)
    assert path.read_bytes()[:5] in (b"<?xml", b"%PDF-")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits", "--plot", "error.txt"], "the suffix '.txt' names no plot; expected .png, .svg, .pdf"),
        (["digits", "nowhere.png"], "nowhere.png"),
        (["digist"], 'did you mean "digits"'),
        ([], "MODEL"),
    ],
)
def test_mistakes_get_one_line(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "error", *arguments)
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_missing_matplotlib_is_one_line_before_the_work(capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    code, out, err = run(capsys, "error", "digits", "--plot", "error.png")
    assert (code, out) == (2, "")
    assert err == "tinymvit: error.png: a plot needs matplotlib: pip install 'tinymvit[plot]'\n"
