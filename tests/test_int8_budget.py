"""What int8 costs at each node: worked out by hand, held against runs of the network, and the command."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

import tinymvit
from checkpoints import complaint
from command_line import DIGIT, run
from tinymvit import ops, reference
from tinymvit.error_budget import int8_errors
from tinymvit.error_budget.int8 import JUDGED, decibels
from tinymvit.error_budget.report import to_text
from tinymvit.graph import Graph, Node
from tinymvit.networks.random_weights import as_trained
from tinymvit.numerics import relative_error
from tinymvit.quantisation.calibration import observe
from tinymvit.quantisation.ranges import folded
from tinymvit.vectors import noise
from torch_models import TINY

CLASSIFIER, SEGMENTER = "MobileViTForImageClassification", "MobileViTForSemanticSegmentation"
SHAPE = (1, 3, 40, 64)


@pytest.fixture(scope="module", params=[CLASSIFIER, SEGMENTER, "MobileViTModel"])
def model(request):
    kind = getattr(tinymvit, request.param)
    config = tinymvit.MobileViTConfig(**TINY)
    return kind.from_tensors(config, as_trained(kind(config).graph()))


@pytest.fixture(scope="module")
def budget(model):
    return int8_errors(model, noise(SHAPE))


def the_network(model, budget):
    graph = model.graph(SHAPE).select([budget.output])
    ranges = observe(graph, model.weights, [noise(SHAPE)])
    return graph, ranges, folded(graph, model.weights)


def test_what_accumulates_is_what_a_run_gives(model, budget):
    graph, ranges, plain = the_network(model, budget)
    quantised = {node.name: x for node, x in reference.steps(*ranges.quantised(graph, model.weights), noise(SHAPE))}
    exact = {node.name: x for node, x in reference.steps(*plain, noise(SHAPE))}
    assert [node.name for node in budget.nodes] == list(exact)
    for node in budget.nodes:
        if node.name in quantised:
            expected = decibels(relative_error(quantised[node.name], exact[node.name]))
            assert node.accumulated == pytest.approx(expected, abs=1e-6), node.name
    assert budget.nodes[-1].accumulated == pytest.approx(decibels(budget.results["int8"].relative), abs=1e-6)


def test_an_error_of_its_own_is_of_one_node_on_exact_inputs(model, budget):
    graph, ranges, plain = the_network(model, budget)
    network, weights = ranges.quantised(graph, model.weights)
    exact = {node.name: x for node, x in reference.steps(*plain, noise(SHAPE))}
    for node in budget.nodes:
        partner = network.nodes.get(f"{node.name}.int8")
        if partner is None or isinstance(partner.op, ops.Quantise):
            assert node.own is node.weights is None
            continue
        [source] = plain[0][node.name].inputs
        q = partner.op.compute(partner.op.x.quantise(exact[source]), *(weights[name] for name in partner.weights))
        error = relative_error(partner.op.y.dequantise(q), exact[node.name])
        assert node.own == pytest.approx(decibels(error), abs=1e-6)
        assert (node.weights is None) == isinstance(partner.op, ops.QuantisedActivation)
        assert node.weights is None or node.weights > node.own - 3


def test_they_are_ranked_from_the_worst(budget):
    ranked = budget.ranked()
    assert [node.own for node in ranked] == sorted(node.own for node in budget.nodes if node.own is not None)
    assert list(budget.alone.values()) == sorted(budget.alone.values())
    layers = [node.name for node in ranked if node.weights is not None]
    assert set(budget.alone) == set(layers[:16])


def test_trials_leave_the_worst_in_float(model, budget):
    graph, ranges, plain = the_network(model, budget)
    graph.outputs[JUDGED] = budget.judged
    plain[0].outputs[JUDGED] = budget.judged
    exact = reference.run(*plain, noise(SHAPE))
    assert [len(trial.keep_float) for trial in budget.trials] == list(range(7))
    for trial in (budget.trials[0], budget.trials[2]):
        assert trial.keep_float == tuple(budget.alone)[: len(trial.keep_float)]
        found = reference.run(*ranges.quantised(graph, model.weights, trial.keep_float), noise(SHAPE))
        assert trial.snr == pytest.approx(decibels(relative_error(found[JUDGED], exact[JUDGED])), abs=1e-6)
        largest = np.abs(found[budget.output] - exact[budget.output]).max()
        assert trial.result.largest == pytest.approx(float(largest), rel=1e-6)
    assert budget.best().snr == max(trial.snr for trial in budget.trials)


def test_the_last_map_is_what_is_averaged_or_the_result(model, budget):
    graph = model.graph(SHAPE)
    pooled = [node.inputs[0] for node in graph if isinstance(node.op, ops.MeanPool)]
    result = graph.outputs[budget.output]
    assert budget.judged == (pooled[-1] if type(model).__name__ == CLASSIFIER else result)


def test_int8_costs_something_and_so_do_its_weights_alone(budget):
    """Which of the two costs more is chance in a network of so few numbers."""
    assert all(0 < result.relative < 0.1 for result in budget.results.values())


def test_nodes_in_float_have_no_error_of_their_own(model):
    found = int8_errors(model, noise(SHAPE), keep_float=["*"])
    assert all(node.own is None for node in found.nodes)
    assert found.results["int8"].relative < 1e-6
    assert found.alone == {}
    assert "no layer is in int8" in to_text(found)


def test_ranges_that_are_given_are_taken(model, budget):
    _, ranges, _ = the_network(model, budget)
    same = int8_errors(model, noise(SHAPE), ranges)
    assert same.results == budget.results
    narrow = replace(ranges, ranges={name: (low / 4, high / 4) for name, (low, high) in ranges.ranges.items()})
    assert int8_errors(model, noise(SHAPE), narrow).results["int8"].relative > 2 * budget.results["int8"].relative


def test_all_numbers_are_json(budget):
    found = json.loads(json.dumps(budget.to_dict(), allow_nan=False))
    assert found["keep_float"] == list(budget.best().keep_float)
    assert len(found["nodes"]) == len(budget.nodes)


def test_decibels_by_hand():
    assert decibels(0.1) == pytest.approx(20)
    assert decibels(1) == 0
    assert decibels(0) == math.inf
    assert decibels(math.inf) == -math.inf


def test_what_is_no_model_and_no_pixels():
    with complaint(TypeError, "model: str, expected one of the MobileViT models"):
        int8_errors("digits", noise(SHAPE))


def test_a_graph_without_maps_of_its_own():
    """The last map of a graph without a pool is its result."""
    from tinymvit.error_budget.int8 import _last_map

    g = Graph()
    x = g.append(Node("pixel_values", ops.Input(), (), (), (1, 2)))
    g.outputs["last_hidden_state"] = g.add("y", ops.Activation("relu"), x).name
    assert _last_map(g, "last_hidden_state") == "y"


# ---- the command ----


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    config = tinymvit.MobileViTConfig(**TINY)
    plain = tinymvit.MobileViTForImageClassification(config)
    type(plain).from_tensors(config, as_trained(plain.graph())).save_pretrained(folder)
    return folder


def test_what_is_advised_holds_what_was_given(model):
    found = int8_errors(model, noise(SHAPE), keep_float=["*conv_stem"])
    assert found.keep_float() == ["*conv_stem", *found.best().keep_float]
    assert found.to_dict()["keep_float"] == found.keep_float()
    assert to_text(found).splitlines()[-1] == f"the best of these: --keep-float {' '.join(found.keep_float())}"


def test_the_command_says_what_it_was_calibrated_on_and_what_to_keep(capsys, checkpoint, tmp_path):
    numbers = tmp_path / "error.json"
    code, out, err = run(capsys, "error", checkpoint, DIGIT, "--precision", "int8", "--json", numbers)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("calibrated on the image itself; ")
    assert lines[1].split() == ["node", "own", "weights", "accumulated"]
    found = json.loads(numbers.read_text("utf-8"))
    assert found["image"] == DIGIT
    best = found["keep_float"]
    assert lines[-1] == f"the best of these: {'--keep-float ' + ' '.join(best) if best else 'none in float'}"
    if best:  # as it says
        again = tmp_path / "again.json"
        arguments = ["--precision", "int8", "--json", again, "--keep-float", *best]
        assert run(capsys, "error", checkpoint, DIGIT, *arguments)[0] == 0
        trial = found["trials"][len(best)]
        assert json.loads(again.read_text("utf-8"))["results"]["int8"] == pytest.approx(trial["result"])


def test_the_command_takes_pictures_and_ranges(capsys, checkpoint, tmp_path):
    from_picture, from_ranges = tmp_path / "picture.json", tmp_path / "ranges.json"
    arguments = ["error", checkpoint, DIGIT, "--precision", "int8"]
    code, out, _ = run(capsys, *arguments, "--calibrate", DIGIT, "--json", from_picture)
    assert code == 0
    assert "calibrated on" not in out
    tinymvit.calibrate(checkpoint, DIGIT).save(tmp_path / "found.json")
    assert run(capsys, *arguments, "--calibrate", tmp_path / "found.json", "--json", from_ranges)[0] == 0
    assert from_picture.read_bytes() == from_ranges.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--calibrate", "x"], "--calibrate and --keep-float: expected --precision int8 with them"),
        (["--keep-float", "x"], "--calibrate and --keep-float: expected --precision int8 with them"),
        (
            ["--precision", "int8", "--plot", "x.png"],
            "--plot: with --precision int8, expected --json, which",
        ),
        (["--precision", "int8", "--calibrate", "nowhere.json"], "nowhere.json: "),
        (["--precision", "int8", "--calibrate", "nowhere"], "nowhere"),
        (["--precision", "int8", "--keep-float", "nothing"], "keep_float: nothing names no node in int8"),
        (["--precision", "int4"], "invalid choice: 'int4'"),
    ],
)
def test_mistakes_get_one_line(capsys, tmp_path, monkeypatch, checkpoint, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "error", checkpoint, DIGIT, *arguments)
    assert code == 2
    assert out in (
        "",
        "calibrated on the image itself; pictures like those that the model will see tell more: --calibrate\n",
    )
    assert message in err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
