"""The ONNX file: valid, what three runtimes compute from it, its tensors' names, and what it says of itself."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from checkpoints import complaint
from command_line import run
from onnx_runtimes import RUNTIMES, onnx_runtime, tract
from oracle import MODEL_FLOAT32, assert_same
from ports import script
from tinymvit import (
    MobileViTConfig,
    MobileViTForImageClassification,
    MobileViTForSemanticSegmentation,
    MobileViTModel,
    calibrate,
    compare,
    export,
    reference,
)
from tinymvit.errors import OutputError, TinyMViTError
from tinymvit.exporters import onnx as exporter
from tinymvit.exporters.check import noise_for, pixels_of, truth_of
from tinymvit.exporters.export import describe_network
from tinymvit.exporters.network import FLOAT16, FLOAT32, INT8, Network
from tinymvit.graph import Graph
from tinymvit.modeling import MODELS, load_model
from tinymvit.networks.layers import activate, pixels
from tinymvit.networks.random_weights import as_trained
from tinymvit.numerics import relative_error
from tinymvit.ops import (
    ACTIVATION_FUNCTIONS,
    Attention,
    BatchNorm,
    Context,
    Conv2d,
    Fold,
    Linear,
    MeanPool,
    Quantised,
    QuantisedActivation,
    Scores,
    Softmax,
    Unfold,
)
from tinymvit.passes.fold import Kind
from tinymvit.presets import PRESETS
from tinymvit.vectors import noise
from torch_models import TINY, build, tensors

onnx = pytest.importorskip("onnx", reason="pip install onnx")
pytest.importorskip("onnxruntime", reason="pip install onnxruntime")

CLASSIFIER, SEGMENTER, BARE = KINDS = (
    MobileViTForImageClassification,
    MobileViTForSemanticSegmentation,
    MobileViTModel,
)
ODD = {"size": (35, 51), "batch": 2}
SIZES = {"plain": {}, "odd": ODD, "open batch": ODD | {"dynamic_batch": True}}


def model_of(kind, **options):
    """A model of the given class and configuration, with weights like trained ones."""
    config = MobileViTConfig(**TINY | options)
    return kind.from_tensors(config, as_trained(kind.recorder(config, (1, config.num_channels, 64, 64))))


def exported(model, path, **options):
    """The network of a model, written to a path."""
    return written(describe_network(model, **options), path)


def written(network, path):
    (write,) = exporter.files(network, path.name).values()
    with path.open("wb") as file:
        write(file)
    return network


def truth(network):
    """The results of the float64 reference for noise."""
    return truth_of(network, pixels_of(network, noise_for(network)))


def assert_right(network, found, tolerance=MODEL_FLOAT32):
    """A file gives for noise what the float64 reference gives."""
    expected = truth(network)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_same(found[name], value, tolerance, name)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


# ---- a valid file, of the simplest kind ----


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", exporter.PRECISIONS)
@pytest.mark.parametrize("options", SIZES.values(), ids=SIZES)
def test_a_file_is_valid_and_no_tensor_has_more_than_four_axes(path, kind, precision, options):
    exported(model_of(kind), path, precision=precision, **options)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert (model.opset_import[0].version, model.ir_version) == (17, 8)
    shaped = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes = [[axis.dim_value or axis.dim_param for axis in x.type.tensor_type.shape.dim] for x in shaped.value_info]
    assert len(shapes) > 200
    assert max(map(len, shapes)) == 4
    if not options.get("dynamic_batch"):
        assert all(isinstance(size, int) for shape in shapes for size in shape)
    assert not {node.op_type for node in model.graph.node} & {"Shape", "Gather", "Constant", "Slice"}


@pytest.mark.parametrize("options", [{}, {"precision": INT8, "with_preprocessing": True, "answer": "argmax"}])
def test_the_same_network_gives_the_same_bytes_in_each_process(tmp_path, options):
    paths = [tmp_path / name for name in ("here.onnx", "there.onnx")]
    export("digits", paths[0], to="onnx", **options)
    program = f"import tinymvit; tinymvit.export('digits', {str(paths[1])!r}, to='onnx', **{options!r})"
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ | {"PYTHONHASHSEED": "7"})
    assert paths[0].read_bytes() == paths[1].read_bytes()


# ---- what runtimes compute from it ----


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", SIZES.values(), ids=SIZES)
def test_every_runtime_computes_what_the_reference_computes(path, runtime, kind, options):
    network = exported(model_of(kind), path, **options)
    assert_right(network, RUNTIMES[runtime](path)(noise_for(network)))


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", ["digits", "digits-seg"])
def test_every_runtime_computes_what_a_trained_model_computes(path, runtime, name):
    network = exported(name, path, size=96)
    assert_right(network, RUNTIMES[runtime](path)(noise_for(network)))


@st.composite
def networks(draw):
    """A class, a configuration and what is asked of the file, at random."""
    heads = draw(st.integers(1, 3))
    options = TINY | {
        "num_attention_heads": heads,
        "hidden_sizes": [heads * draw(st.integers(2, 6)) for _ in range(3)],
        "patch_size": draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        "conv_kernel_size": draw(st.sampled_from([1, 3, 5])),
        "output_stride": draw(st.sampled_from([8, 16, 32])),
        "hidden_act": draw(st.sampled_from(["silu", "gelu", "relu"])),
        "qkv_bias": draw(st.booleans()),
        "num_channels": draw(st.sampled_from([1, 3])),
        "mlp_ratio": draw(st.sampled_from([0.5, 2.0])),
    }
    kind = draw(st.sampled_from(KINDS))
    options["num_labels"] = draw(st.integers(kind is SEGMENTER, 4))
    asked = {
        "size": draw(st.tuples(st.integers(16, 70), st.integers(16, 70))),
        "batch": draw(st.integers(1, 3)),
        "dynamic_batch": draw(st.booleans()),
        "backbone": draw(st.booleans()),
    }
    return kind, options, asked


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(networks())
def test_any_configuration_computes_what_the_reference_computes(path, drawn):
    kind, options, asked = drawn
    network = exported(model_of(kind, **options), path, **asked)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    for name, found in onnx_runtime(path)(noise_for(network)).items():
        assert relative_error(found, truth(network)[name]) < MODEL_FLOAT32, name


@pytest.mark.torch
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_computes_what_pytorch_computes(path, kind):
    from frameworks import torch

    theirs = build(kind.__name__, TINY)
    network = exported(kind.from_tensors(MobileViTConfig(**TINY), tensors(theirs)), path, **ODD)
    x = noise_for(network)
    with torch.no_grad():
        expected = theirs(torch.tensor(x, dtype=torch.float64))
    for name, found in onnx_runtime(path)(x).items():
        assert_same(found, expected[name].numpy(), MODEL_FLOAT32, name)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("function", ACTIVATION_FUNCTIONS)
def test_every_activation_is_written(path, runtime, function):
    """Far from zero too, where exponentials overflow."""
    g = Graph()
    x = pixels(g, (1, 4, 9, 7))
    wide = g.add("wide", Conv2d(4, 4, 1, bias=True), x)
    names = {"identity": "linear", "gelu_tanh": "gelu_new"}
    g.outputs["y"] = activate(g, "act", wide, names.get(function, function)).name
    weights = as_trained(g)
    weights["wide.weight"] *= 60
    network = written(Network(g, weights), path)
    assert_right(network, RUNTIMES[runtime](path)(noise_for(network)), 2e-6)


def test_an_open_batch_takes_any_number_of_images(path):
    network = exported(model_of(SEGMENTER), path, size=(35, 51), dynamic_batch=True)
    x = np.concatenate([noise_for(network), 1 - noise_for(network), noise_for(network) ** 2])
    for runtime in RUNTIMES.values():
        file = runtime(path)
        one_by_one = np.concatenate([file(x[i : i + 1])["logits"] for i in range(3)])
        assert_same(file(x)["logits"], one_by_one, MODEL_FLOAT32, runtime.__name__)


# ---- weights in fewer bits ----


def as_stored(network, model, path):
    """The model with the weights that a file holds: as a runtime has them once it has loaded the file, and without the
    normalisation or the factor that is in them."""
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    weights = dict(model.weights)
    heads = next(node.op.heads for node in network.graph if isinstance(node.op, Scores))
    for node in network.graph:
        if not isinstance(node.op, Conv2d | Linear):
            continue
        name = node.weights[0]
        if f"{name}/float16" in stored:
            value = stored[f"{name}/float16"].astype(np.float64)
        else:
            value = stored[f"{name}/int8"] * stored[f"{name}/scale"].astype(np.float64)
        if isinstance(node.op, Linear):
            factor = math.sqrt(node.op.in_features / heads) if name.endswith(".query.weight") else 1
            value = value.T * factor
        norm = name.replace(".convolution.weight", ".normalization")
        if f"{norm}.weight" in weights:
            deviation = np.sqrt(weights[f"{norm}.running_var"].astype(np.float64) + 1e-5)
            value *= (deviation / weights[f"{norm}.weight"])[:, None, None, None]
        weights[name] = value.astype(np.float32)
    return type(model).from_tensors(model.config, weights)


def dumped(path, given):
    """What docs/porting/dump_onnxruntime.py collects of a file."""
    return script("dump_onnxruntime").dump(onnx.load(path), given)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("precision", [FLOAT16, INT8])
@pytest.mark.parametrize("kind", [CLASSIFIER, SEGMENTER])
def test_weights_in_fewer_bits_are_rounded_and_nothing_else(path, runtime, precision, kind):
    model = model_of(kind)
    network = exported(model, path, precision=precision, size=64)
    found = RUNTIMES[runtime](path)(noise_for(network))["logits"]
    assert 1e-5 < relative_error(found, truth(network)["logits"]) < {FLOAT16: 3e-3, INT8: 0.1}[precision]
    rounded = describe_network(as_stored(network, model, path), size=64)
    assert_same(found, truth(rounded)["logits"], MODEL_FLOAT32)


@pytest.mark.parametrize(("precision", "most"), [(FLOAT32, 5.25e6), (FLOAT16, 2.75e6), (INT8, 1.55e6)])
def test_what_the_smallest_published_shape_weighs(path, precision, most):
    model = CLASSIFIER(MobileViTConfig.preset("xx-small"))
    exported(model, path, precision=precision)
    assert path.stat().st_size < most


def test_a_runtime_computes_the_weights_once(tmp_path, path):
    """When it loads the file: what it runs then has the nodes of the float32 file."""
    import onnxruntime

    kinds = {}
    for precision in exporter.PRECISIONS:
        exported(model_of(CLASSIFIER), path, precision=precision)
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        options.log_severity_level = 3
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        kinds[precision] = sorted(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert kinds[FLOAT16] == kinds[INT8] == kinds[FLOAT32]


# ---- arithmetic in int8 ----


def in_int8(model, path, **options):
    """The network of a model, written to a path to be computed in int8, with ranges of noise."""
    network = describe_network(model, **{"precision": INT8, "size": 64} | options)
    ranges = calibrate(
        model, [(noise((64, 64, 3)) * 255).astype(np.uint8)], size=network.graph["pixel_values"].shape[2:]
    )
    return written(replace(network, ranges=ranges), path)


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_ALL"], ids=["step by step", "in integers"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_int8_layer_computes_what_its_op_computes_but_for_halves(path, kind, level):
    """From the same int8 numbers, at most one step away, and seldom: sums are scaled in float32 there."""
    import onnxruntime

    network = in_int8(model_of(kind), path)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    names = [name for node in model.graph.node for name in node.output if name.endswith(".int8/uint8")]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.add_session_config_entry(exporter.PRECISE, "1")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = dict(zip(names, session.run(names, {"pixel_values": noise_for(network)}), strict=True))
    graph, weights = network.quantised()
    layers = [node for node in graph if isinstance(node.op, Quantised | QuantisedActivation)]
    assert len(layers) > 80
    for node in layers:
        x, y = (found[f"{name}/uint8"].astype(np.float64) - 128 for name in (*node.inputs, node.name))
        x, y = to_layout(x, graph.nodes[node.inputs[0]].shape), to_layout(y, node.shape)
        away = np.abs(y - node.op.compute(x, *(weights[name] for name in node.weights)))
        assert away.max() <= 1, node.name
        assert away.mean() < 0.01, node.name


def to_layout(x, shape):
    """Tokens of a file, (N B P, D), as (B P, N, D)."""
    return x.reshape(shape[1], shape[0], shape[2]).swapaxes(0, 1) if len(shape) == 3 else x


@pytest.mark.parametrize("options", SIZES.values(), ids=SIZES)
def test_in_int8_runtimes_compute_what_the_reference_computes(path, options):
    network = in_int8(model_of(CLASSIFIER), path, **options)
    x = noise_for(network)
    graph, weights = network.quantised()
    expected = reference.run(graph, weights, x)["logits"]
    error = relative_error(expected, truth(network)["logits"])
    for runtime in (onnx_runtime, tract):
        assert relative_error(runtime(path)(x)["logits"], expected) < error, runtime.__name__


def test_what_is_kept_in_float_is_not_rounded(path):
    """The scores of a query that is kept are in it."""
    model = model_of(CLASSIFIER)
    network = in_int8(model, path)
    written(replace(network, keep_float=("*.query", "classifier")), path)
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    assert_same(stored["classifier.weight"], model.weights["classifier.weight"].T)
    name = "mobilevit.encoder.layer.2.transformer.layer.0.attention.attention.query.weight"
    assert_same(stored[name], model.weights[name].T / np.float32(2), 1e-7)
    dump_of_all = dumped(path, noise_for(network))
    assert {"classifier.weight", "mobilevit.conv_stem.convolution"}.isdisjoint(dump_of_all)
    assert dump_of_all["mobilevit.conv_stem.normalization"].dtype == np.float32


# ---- names: a dump of the file is compared with the model ----


def assert_agrees(model, found, network):
    """Every node has its tensor, but for convolutions whose normalisation is folded in and scaled queries."""
    comparison = compare(model, found, isolate=True)
    assert comparison.agrees, comparison.divergence or comparison.unsettled
    names = network.graph.nodes.keys()
    folded = {name.replace(".normalization", ".convolution") for name in names if name.endswith(".normalization")}
    queries = {name for name in names if name.endswith(".query")}
    assert names - {row.node for row in comparison.rows} == folded | queries
    assert not any(row.matched == "guess" for row in comparison.rows)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{"size": 64}, *list(SIZES.values())[1:]], ids=SIZES)
def test_a_dump_agrees_by_name(path, kind, options):
    model = model_of(kind)
    network = exported(model, path, **options)
    assert_agrees(model, dumped(path, noise_for(network)), network)


@pytest.mark.parametrize("name", ["digits", "digits-seg"])
def test_a_dump_of_a_trained_model_agrees_by_name(path, name):
    network = exported(name, path)
    assert_agrees(load_model(name), dumped(path, noise_for(network)), network)


def test_the_command_says_that_a_dump_agrees(capsys, tmp_path, path):
    network = exported("digits", path)
    np.save(tmp_path / "pixels.npy", noise_for(network))
    script("dump_onnxruntime").main(str(path), str(tmp_path / "pixels.npy"), str(tmp_path / "port.safetensors"))
    code, out, _ = run(capsys, "compare", "digits", tmp_path / "port.safetensors", "--isolate")
    assert (code, out.splitlines()[0]) == (0, "agree")


@pytest.mark.parametrize("precision", [FLOAT16, INT8])
@pytest.mark.parametrize("kind", KINDS)
def test_a_dump_of_rounded_weights_agrees_with_a_model_of_these(path, precision, kind):
    model = model_of(kind)
    network = exported(model, path, precision=precision, size=(35, 51))
    assert_agrees(as_stored(network, model, path), dumped(path, noise_for(network)), network)


def test_a_dump_with_preprocessing_and_an_answer_agrees(path):
    model = model_of(CLASSIFIER)
    network = exported(model, path, with_preprocessing=True, answer="softmax", size=64, batch=2)
    found = dumped(path, noise_for(network))
    assert_same(found["pixel_values"], pixels_of(network, noise_for(network)))
    assert compare(model, found, isolate=True).agrees


@pytest.mark.slow
@pytest.mark.parametrize("shape", PRESETS)
def test_a_dump_of_a_published_shape_agrees_by_name(path, shape):
    config = MobileViTConfig.preset(shape)
    kind = MODELS["segment" if "deeplabv3" in shape else "classify"]
    model = kind.from_tensors(config, as_trained(kind.recorder(config, (1, 3, 64, 64))))
    network = exported(model, path, size=128)
    assert_right(network, onnx_runtime(path)(noise_for(network)))
    assert_agrees(model, dumped(path, noise_for(network)), network)


# ---- pictures in, answers out ----


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(("kind", "order"), [(CLASSIFIER, "RGB"), (SEGMENTER, "BGR")])
def test_a_picture_goes_in_and_an_answer_comes_out(path, runtime, kind, order):
    model = model_of(kind, extra={"channel_order": order})
    for answer in ("softmax", "argmax"):
        network = exported(model, path, with_preprocessing=True, answer=answer, **ODD)
        assert network.preprocessing.flips == (order == "BGR")
        (name, expected), (found_name, found) = (
            *truth(network).items(),
            *RUNTIMES[runtime](path)(noise_for(network)).items(),
        )
        assert found_name == name == {"softmax": "probabilities", "argmax": "classes"}[answer]
        assert_same(found, expected, 0 if answer == "argmax" else MODEL_FLOAT32)


def test_an_open_batch_of_pictures(path):
    network = exported(model_of(CLASSIFIER), path, with_preprocessing=True, answer="argmax", dynamic_batch=True)
    x = noise_for(network)
    found = onnx_runtime(path)(np.concatenate([x, 255 - x]))["classes"]
    assert found[0] == truth(network)["classes"][0]
    assert found.shape == (2,)


# ---- what a file says of itself ----


def test_a_file_says_what_it_is(path):
    export("digits", path, to="onnx", precision="int8", size=(64, 96))
    model = onnx.load(path)
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert list(said) == sorted(said)
    assert json.loads(said["names"]) == {str(i): str(i) for i in range(10)}
    assert json.loads(said["imgsz"]) == [64, 96]
    assert said["task"] == "classify"
    assert said["precision"] == "int8"
    assert said["channel_order"] == "BGR"
    assert float(said["rescale_factor"]) == pytest.approx(1 / 255)
    assert model.producer_name == "tinymvit"
    assert model.graph.input[0].doc_string == "the pixels, from 0 to 1, BGR"
    assert "slash" in model.doc_string


def test_an_open_axis_has_a_name(path):
    exported(model_of(SEGMENTER), path, dynamic_batch=True)
    graph = onnx.load(path).graph
    for tensor in (*graph.input, *graph.output):
        first, *others = tensor.type.tensor_type.shape.dim
        assert first.dim_param == "batch"
        assert all(axis.dim_value for axis in others)


# ---- networks out of the ordinary ----


def test_a_normalisation_that_would_be_seen_is_not_folded(path):
    """Its mean is so far from zero that a folded bias would cancel."""
    model = model_of(CLASSIFIER)
    name = "mobilevit.conv_stem.normalization"
    model.weights[f"{name}.running_mean"] = np.full(4, 3e5, np.float32)
    network = exported(model, path, size=64)
    assert Kind.CANCELLING in network.kinds().values()
    found, before = dumped(path, noise_for(network)), [f"{name[:-13]}convolution", name]
    assert not set(before) - found.keys()
    assert compare(model, found, isolate=True).agrees
    assert_right(network, onnx_runtime(path)(noise_for(network)))


def test_an_unfolded_normalisation_computes_what_the_op_computes(path):
    g = Graph()
    x = pixels(g, (2, 3, 5, 4))
    g.outputs["y"] = g.add("norm", BatchNorm(3, 1e-3), x).name
    network = written(Network(g, as_trained(g)), path)
    for runtime in RUNTIMES.values():
        assert_right(network, runtime(path)(noise_for(network)), 2e-6)


def test_a_query_that_others_read_too_stays_as_it_is(path):
    """The scores are scaled by themselves then."""
    g = Graph()
    x = pixels(g, (1, 8, 6, 4))
    x = g.add("unfold", Unfold(2, 2), x)
    both = g.add("both", Linear(8, 8), x)
    scores = g.add("scores", Scores(2), both, both)
    context = g.add("context", Context(), g.add("probabilities", Softmax(), scores), both)
    g.outputs["y"] = g.add("fold", Fold(2, 2, 6, 4), context).name
    network = written(Network(g, as_trained(g)), path)
    assert_right(network, onnx_runtime(path)(noise_for(network)), 2e-6)
    assert {"both", "scores", "scores/product"} <= {node.name for node in onnx.load(path).graph.node}


def test_a_result_may_have_two_names(path):
    g = Graph()
    x = pixels(g, (1, 3, 5, 4))
    g.outputs["pooled"] = g.outputs["features"] = g.add("pool", MeanPool(), x).name
    network = written(Network(g, {}), path)
    assert_right(network, onnx_runtime(path)(noise_for(network)), 2e-6)


# ---- what is refused, in a line ----


def test_an_activation_that_is_a_function_is_refused(tmp_path, path):
    model = model_of(CLASSIFIER, hidden_act=np.tanh)
    with complaint(
        TinyMViTError, "mobilevit.conv_stem.activation: the activation ", "tanh", "expected a name: identity"
    ):
        export(model, path, to="onnx")
    assert not list(tmp_path.iterdir())


def test_a_weight_that_is_too_large_for_float16_is_named(tmp_path, path):
    model = model_of(CLASSIFIER)
    model.weights["classifier.weight"] = model.weights["classifier.weight"] * 1e6
    with complaint(TinyMViTError, "classifier.weight: ", "expected at most 65504 for float16"):
        export(model, path, to="onnx", precision="float16")
    assert not list(tmp_path.iterdir())


def test_an_op_that_has_no_writer_is_named(path):
    g = Graph()
    x = g.add("unfold", Unfold(2, 2), pixels(g, (1, 8, 6, 4)))
    g.outputs["y"] = g.add("attention", Attention(2), x, x, x).name
    with complaint(TinyMViTError, "attention: Attention, expected an op that ONNX has"):
        written(Network(g, {}), path)


def test_more_than_a_message_can_hold_is_refused(path, monkeypatch):
    monkeypatch.setattr(exporter, "LARGEST", 2**24 + 1000)
    with complaint(TinyMViTError, "ONNX: ", " bytes of weights, expected less than 2 GiB"):
        exported(model_of(CLASSIFIER), path)


def test_a_file_that_the_runtime_refuses_is_a_line(path):
    path.write_bytes(b"no model")
    with complaint(OutputError, f"{path}: ONNX Runtime refuses it: "):
        exporter.load(path, 1)
