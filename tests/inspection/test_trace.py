"""Traces: every intermediate against PyTorch's modules, by the same names; the engine's own values; the command."""

import json
import weakref

import numpy as np
import pytest

from command_line import DIGIT, run
from frameworks import torch
from oracle import MODEL_FLOAT32, REFERENCE_FLOAT64, assert_same
from tinymvit import MobileViTImageProcessor, modeling
from tinymvit.commands.progress import warm_up
from tinymvit.config import MobileViTConfig
from tinymvit.inspection.dump import open_dump
from tinymvit.inspection.trace import Trace, facts, select_nodes
from torch_models import CLASSES, TINY, build, tensors


@pytest.fixture(scope="module")
def models():
    """A model of each class, with random weights under which no value dies out."""
    return {name: getattr(modeling, name)(MobileViTConfig(**TINY, initializer_range=0.3)) for name in CLASSES}


@pytest.fixture(scope="module")
def pairs():
    """For each class: transformers' model in float64, and ours with its weights."""
    pairs = {}
    for name in CLASSES:
        theirs = build(name, TINY)
        ours = getattr(modeling, name).from_tensors(MobileViTConfig(**TINY), tensors(theirs))
        for key, value in theirs.state_dict().items():
            if key in ours.weights:
                value.copy_(torch.from_numpy(ours.weights[key].astype(np.float64)))
        pairs[name] = theirs, ours
    return pairs


def pixels(height=44, width=72, seed=0):
    """Neither side a multiple of 64: the maps are interpolated before they are unfolded."""
    return np.random.default_rng(seed).random((1, 3, height, width), np.float32)


@pytest.mark.torch
@pytest.mark.parametrize("name", CLASSES)
def test_every_module_of_pytorch_has_its_value_by_its_name(pairs, name):
    theirs, ours = pairs[name]
    seen = {}
    for path, module in theirs.named_modules():
        hook = lambda _, __, output, path=path: seen.setdefault(path, output)  # noqa: E731
        module.register_forward_hook(hook)
    with torch.no_grad():
        theirs(torch.from_numpy(pixels()).double())
    seen = {path: output for path, output in seen.items() if path and isinstance(output, torch.Tensor)}
    trace = ours.trace(pixels(), list(seen), "float64")
    assert trace.keys() == seen.keys()
    assert len(trace) > 100
    for path, value in trace.items():
        assert_same(value, seen[path].numpy(), REFERENCE_FLOAT64, name=path, dtype=np.float64)


@pytest.mark.parametrize("name", CLASSES)
def test_every_node_is_traced_in_order_with_its_shape(models, name):
    ours = models[name]
    graph = ours.graph((1, 3, 44, 72))
    trace = ours.trace(pixels())
    assert list(trace) == list(graph.nodes)
    assert next(iter(trace)) == "pixel_values"
    assert any(name.endswith(".unfolding.interpolate") for name in trace)
    for node in graph:
        assert trace[node.name].shape == node.shape
        assert trace[node.name].dtype == np.float32


def test_float64_does_not_round_the_pixels(models):
    ours = models["MobileViTModel"]
    fine = pixels().astype(np.float64) + 1e-12
    assert_same(ours.trace(fine, "pixel_values", "float64")["pixel_values"], fine)


@pytest.mark.parametrize("name", CLASSES)
def test_the_engines_own_values(models, name):
    ours = models[name]
    truth = ours.trace(pixels(), dtype="float64")
    trace = ours.trace(pixels(), source="engine")
    assert set(trace) < set(truth)
    assert [key for key in truth if key in trace] == list(trace)
    assert not any(
        key.endswith(".normalization") and key.replace("normalization", "activation") in truth for key in trace
    )
    for key, value in trace.items():
        assert_same(value, truth[key], MODEL_FLOAT32, name=key, dtype=np.float32)
    outputs = ours(pixels())
    result = outputs.pooler_output if name == "MobileViTModel" else outputs.logits
    assert_same(list(trace.values())[-1], result)  # the same bits as a call's


def test_names_of_nodes_modules_and_results(models):
    ours = models["MobileViTForImageClassification"]
    layer = "mobilevit.encoder.layer.2"
    trace = ours.trace(pixels(), ["logits", f"{layer}.transformer.layer.0.attention.attention.[kq]*", layer])
    block = f"{layer}.transformer.layer.0.attention.attention"
    assert list(trace) == [f"{block}.query", f"{block}.key", layer, "logits"]
    assert_same(trace["logits"], ours.trace(pixels(), "classifier")["classifier"])
    engine = ours.trace(pixels(), ["logits", "hidden_states.0"], source="engine")
    assert list(engine) == ["hidden_states.0", "logits"]


def test_names_that_are_not_there_say_what_comes_near(models):
    ours = models["MobileViTForImageClassification"]

    def refused(message, **options):
        with pytest.raises(ValueError, match=message) as caught:
            ours.trace(pixels(), **options)
        assert "\n" not in str(caught.value)

    near = r"encoder\.layer\.2\.unfolding: no node, .* near it: mobilevit\.encoder\.layer\.2\.unfolding"
    refused(near, names=["encoder.layer.2.unfolding"])
    refused(r"near it: mobilevit\.conv_stem\.convolution", names=["mobilevit.conv_stem.convolutoin"])
    refused(r"near it: .*\.scores$", names=["*.skores"])
    refused("`tinymvit summary` lists the nodes", names=["#"])
    refused("the engine merges this node into another, the reference has it", names=["*.scores"], source="engine")
    refused(r"near it: .*\.scores$", names=["*.skores"], source="engine")
    refused("dtype 'float16': expected float32 or float64", dtype="float16")
    refused("source 'torch': expected one of reference, ordered, engine", source="torch")
    refused("the engine computes in float32", dtype="float64", source="engine")
    refused("ordered values are in float32", dtype="float64", source="ordered")
    folded = "mobilevit.conv_stem.convolution: .*; it is folded into the node behind it, the reference has it"
    refused(folded, names=["mobilevit.conv_stem.convolution"], source="ordered")


def test_bad_pixels_are_refused_as_in_a_call(models):
    ours = models["MobileViTModel"]
    with pytest.raises(ValueError, match=r"have shape \(1, 3, 44, 72\); the graph is for \(1, 3, 32, 32\)"):
        Trace(ours.graph(), ours.weights, pixels())
    with pytest.raises(ValueError, match="expected four axes"):
        ours.trace(np.zeros((3, 32, 32), np.float32))
    with pytest.raises(TypeError, match="expected floats"):
        ours.trace(np.zeros((1, 3, 32, 32), np.uint8))


@pytest.mark.parametrize("source", ["reference", "ordered", "engine"])
def test_a_trace_keeps_no_more_than_a_run_needs(models, source):
    ours = models["MobileViTForImageClassification"]
    trace = Trace(ours.graph((1, 3, 64, 64)), ours.weights, pixels(64, 64), source=source)
    alive, peak, total = [], 0, 0
    for name, value in trace:
        total += value.nbytes
        alive = [(ref, size) for ref, size in alive if ref() is not None] + [(weakref.ref(value), value.nbytes)]
        peak = max(peak, sum(size for _, size in alive))
        del name, value
    assert peak < total / 4  # the pixels alone are more than a fifth of what the engine's fused graph computes


def test_nothing_is_computed_after_the_last_name(models, monkeypatch):
    ours = models["MobileViTModel"]
    computed = []
    right = modeling.models.Trace._steps
    monkeypatch.setattr(
        "tinymvit.modeling.models.Trace._steps",
        lambda self: (computed.append(node.name) or (node, v) for node, v in right(self)),
    )
    ours.trace(pixels(), "conv_stem")
    assert computed[-1] == "conv_stem.activation"


def test_facts_for_a_manifest(models):
    ours = models["MobileViTForImageClassification"]
    graph = ours.graph()
    known = json.loads(json.dumps(facts("mobilevit.conv_stem.convolution", graph["mobilevit.conv_stem.convolution"])))
    assert known["op"] == "Conv2d"
    assert known["attributes"]["stride"] == 2
    assert known["inputs"] == ["pixel_values"]
    assert known["weights"] == ["mobilevit.conv_stem.convolution.weight"]
    [(name, node)] = select_nodes(graph, "mobilevit.conv_stem").items()
    assert facts(name, node)["node"] == "mobilevit.conv_stem.activation"
    fused = Trace(graph, ours.weights, pixels(32, 32), "mobilevit.conv_stem", source="engine").nodes[name]
    assert json.loads(json.dumps(facts(name, fused)))["attributes"]["op"]["op"] == "Conv2d"
    config = MobileViTConfig(**TINY, hidden_act=np.tanh)
    own = modeling.MobileViTModel(config).graph()["conv_stem.activation"]
    assert facts(own.name, own)["attributes"] == {"function": "tanh"}


# -------------------------------------------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def digit():
    inputs = MobileViTImageProcessor.from_pretrained("digits")(DIGIT)
    return modeling.MobileViTForImageClassification.from_pretrained("digits"), inputs.pixel_values


@pytest.mark.parametrize(
    "options", [("--format", "raw"), ("--dtype", "float64"), ("--source", "ordered"), ("--source", "engine")]
)
def test_the_command_writes_what_the_method_gives(capsys, monkeypatch, tmp_path, digit, options):
    model, pixel_values = digit
    warm_up()  # else the command says so where it is the first run
    capsys.readouterr()
    threads = []
    monkeypatch.setattr("tinymvit.kernels.set_num_threads", threads.append)
    names = ["*.conv_stem", "*.unfolding", "logits"]
    target = tmp_path / ("dump" if "--format" in options else "dump.safetensors")
    code, out, err = run(capsys, "trace", DIGIT, "--output", target, *options, "--threads", 1, "--names", *names)
    assert (code, err, threads) == (0, "", [1])
    expected = model.trace(pixel_values, names, **{k[2:]: v for k, v in [options] if k != "--format"})
    dump = open_dump(target)
    assert list(dump) == list(expected)
    for name, value in expected.items():
        assert_same(dump[name], value, name=name)
    size = sum(value.nbytes for value in expected.values()) / 1e6
    assert out.startswith(f"{DIGIT} -> {target}: 5 tensors, {size:.1f} MB, float")


def test_the_whole_trace_as_a_folder_and_json(capsys, tmp_path):
    code, out, _ = run(capsys, "trace", DIGIT, "--output", tmp_path / "all", "--json")
    assert code == 0
    told = json.loads(out)
    assert (told["format"], told["tensors"], told["dtype"], told["source"]) == ("npy", 236, "float32", "reference")
    dump = open_dump(tmp_path / "all")
    assert len(dump) == 236
    assert sum(value.nbytes for value in dump.values()) == told["bytes"]
    manifest = json.loads((tmp_path / "all" / "manifest.json").read_text())
    softmax = next(entry for entry in manifest["tensors"] if entry["op"] == "Softmax")
    assert softmax["inputs"] == [softmax["name"].replace("probabilities", "scores")]
    assert 0 <= softmax["min"] < softmax["mean"] < softmax["rms"] < softmax["max"] <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trace", "nowhere.png", "--output", "x"], "nowhere.png"),
        (["trace", DIGIT], "--output"),
        (["trace", DIGIT, "--output", "x.npz"], "the suffix '.npz' names no format"),
        (["trace", DIGIT, "--output", "x", "--names", "*.skores"], "*.skores: no node, module or result has this name"),
        (["trace", DIGIT, "--output", "x", "--dtype", "float16"], "invalid choice"),
        (
            ["trace", DIGIT, "--output", "x", "--dtype", "float64", "--source", "engine"],
            "the engine computes in float32",
        ),
        (["trace", DIGIT, "--output", "x", "--model", "digist"], 'did you mean "digits"'),
    ],
)
def test_mistakes_get_one_line_and_leave_nothing(capsys, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["trace", "attention", "features"])
def test_help_shows_an_example(capsys, command):
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    assert f"example: tinymvit {command}" in out


def test_a_name_that_could_turn_a_terminal_is_escaped():
    model = modeling.MobileViTForImageClassification.from_pretrained("digits")
    x = np.zeros((1, 3, 32, 32), np.float32)
    with pytest.raises(ValueError, match=r"^\\x1b: no node"):
        model.trace(x, "\x1b")
    assert model.trace(x, []) == {}
