"""TensorFlow Lite: each file runs in LiteRT, as one part of XNNPACK's, and gives what the model gives."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from command_line import run
from oracle import MODEL_FLOAT32, assert_same
from ports import script
from tflite_files import File, check_for_gpu, partitions, weight_bytes
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
from tinymvit.config import preset_task
from tinymvit.errors import OutputError, TinyMViTError
from tinymvit.exporters import tflite
from tinymvit.exporters.check import noise_for, pixels_of, truth_of
from tinymvit.exporters.network import Preprocessing
from tinymvit.modeling import MODELS, load_model
from tinymvit.networks.random_weights import as_trained
from tinymvit.ops import BatchNorm, Quantise, Quantised, QuantisedActivation
from tinymvit.presets import PRESETS
from tinymvit.training.digit_scenes import draw_card, draw_digit, draw_scene, split_digits
from tinymvit.vectors import noise
from torch_models import TINY

for module in ("ai_edge_litert", "flatbuffers"):
    pytest.importorskip(module, reason=f"{module} is not installed: pip install -e '.[tflite]'")
from ai_edge_litert.interpreter import Interpreter, OpResolverType  # noqa: E402

CLASSIFIER, SEGMENTER, BARE = MobileViTForImageClassification, MobileViTForSemanticSegmentation, MobileViTModel
CLASSES = (CLASSIFIER, SEGMENTER, BARE)


def model(kind=CLASSIFIER, change=lambda weights: None, **settings):
    """A model of our class with weights like trained ones, changed."""
    config = settings.get("config") or MobileViTConfig(**TINY | settings)
    graph = kind.recorder(config, (1, config.num_channels, 64, 64))
    weights = as_trained(graph)
    change(weights)
    return kind.from_tensors(config, weights)


def exported(model, folder, **settings):
    path = folder / "model.tflite"
    return export(model, path, to="tflite", **{"size": 64} | settings), path


def check(model, folder, tolerance=MODEL_FLOAT32, **settings):
    """Assert that the file gives what the float64 reference gives, all of it in one part of XNNPACK's."""
    network, path = exported(model, folder, **settings)
    taken = noise_for(network)
    found, truth = tflite.load(path, 2)(taken), truth_of(network, pixels_of(network, taken))
    assert list(found) == list(truth)
    for name, expected in truth.items():
        assert_same(found[name], expected, tolerance, name)
    assert partitions(path) == (1, True)
    return File(path.read_bytes())


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("settings", [{}, {"batch": 2}, {"size": (33, 47)}, {"size": 1}, {"size": (8, 130)}], ids=str)
def test_a_file_gives_what_the_model_gives(tmp_path, kind, settings):
    file = check(model(kind), tmp_path, **settings)
    check_for_gpu(file)
    height, width = np.broadcast_to(settings.get("size", 64), 2)
    assert [(t.name, t.shape) for t in file.inputs] == [("pixel_values", (settings.get("batch", 1), height, width, 3))]


ACTIVATIONS = ("relu", "relu6", "leaky_relu", "hardswish", "sigmoid", "tanh", "gelu", "gelu_new", "linear")


@pytest.mark.parametrize("function", ACTIVATIONS)
def test_an_activation_of_the_configuration(tmp_path, function):
    check_for_gpu(check(model(hidden_act=function), tmp_path))


ODD_SETTINGS = [
    {"output_stride": 8},
    {"output_stride": 16},
    {"patch_size": 1},
    {"patch_size": (1, 2)},
    {"patch_size": (4, 2)},
    {"conv_kernel_size": 5},
    {"qkv_bias": False},
    {"num_labels": 0},
    {"num_channels": 1},
    {"expand_ratio": 1.0},
    {"layer_norm_eps": 0.5},
]


@pytest.mark.parametrize("settings", ODD_SETTINGS, ids=str)
def test_other_shapes_of_the_network(tmp_path, settings):
    check_for_gpu(check(model(**settings), tmp_path, size=(48, 80)))


@st.composite
def cases(draw):
    """A class, a configuration, and what `export` is asked for."""
    heads = draw(st.integers(1, 3))
    side = st.integers(1, 70)
    config = MobileViTConfig(
        num_channels=draw(st.integers(1, 4)),
        hidden_sizes=[heads * draw(st.integers(1, 6)) for _ in range(3)],
        neck_hidden_sizes=[draw(st.integers(1, 12)) for _ in range(7)],
        num_attention_heads=heads,
        mlp_ratio=draw(st.sampled_from([1.0, 1.5, 2.0])),
        expand_ratio=draw(st.sampled_from([1.0, 2.0, 3.0])),
        hidden_act=draw(st.sampled_from(["silu", "relu", "gelu", "hardswish", "tanh", "linear"])),
        conv_kernel_size=draw(st.sampled_from([1, 3, 5])),
        patch_size=(draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        output_stride=draw(st.sampled_from([8, 16, 32])),
        qkv_bias=draw(st.booleans()),
        aspp_out_channels=draw(st.integers(1, 6)),
        atrous_rates=[draw(st.integers(1, 9)) for _ in range(3)],
        num_labels=draw(st.integers(1, 5)),
    )
    return draw(st.sampled_from(CLASSES)), config, {"size": (draw(side), draw(side)), "batch": draw(st.integers(1, 2))}


@pytest.mark.slow
@given(cases())
@settings(max_examples=30)
def test_any_configuration(tmp_path_factory, case):
    kind, config, settings = case
    check_for_gpu(check(model(kind, config=config), tmp_path_factory.getbasetemp(), **settings))


@pytest.mark.torch
@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_against_transformers(tmp_path, kind):
    from frameworks import torch
    from ports import pair

    theirs, ours = pair(kind.__name__, TINY)
    _, path = exported(ours, tmp_path, size=(64, 96))
    pixels = noise((1, 3, 64, 96))
    found = tflite.load(path, 1)(pixels)
    with torch.no_grad():
        expected = theirs.double()(torch.from_numpy(pixels.astype(np.float64)))
    for name, result in found.items():
        assert_same(result, getattr(expected, name).numpy(), MODEL_FLOAT32, name)


def test_normalisations_that_must_not_be_folded(tmp_path):
    norm = "mobilevit.conv_stem.normalization"

    def cancelling(weights):
        weights[f"{norm}.running_mean"][:] = 1e6

    def extreme(weights):
        weights[f"{norm}.running_var"][:] = 1e-14
        weights[f"{norm}.weight"][:] = 1e8

    for change in (cancelling, extreme):
        network, path = exported(model(change=change), tmp_path)
        assert any(isinstance(node.op, BatchNorm) for node in network.folded()[0])
        pixels = noise_for(network)
        expected = truth_of(network, pixels)["logits"]
        assert_same(tflite.load(path, 1)(pixels)["logits"], expected, 1e-3, "logits")


# ---- batches that are left open ----


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_the_number_of_images_can_be_left_open(tmp_path, kind):
    ours = model(kind, patch_size=(2, 4))
    network, path = exported(ours, tmp_path, size=(40, 64), dynamic_batch=True)
    assert partitions(path) == (1, True)
    runs = tflite.load(path, 1)
    for batch in (1, 3, 2):
        pixels = noise((batch, 3, 40, 64))
        for name, result in runs(pixels).items():
            assert_same(result, truth_of(network, pixels)[name], MODEL_FLOAT32, name)
    assert all(signature[0] == -1 for signature in File(path.read_bytes()).signatures if signature is not None)


def test_another_shape_than_the_file_takes(tmp_path):
    runs = tflite.load(exported(model(), tmp_path)[1], 1)
    with pytest.raises(TinyMViTError, match=r"^an input of shape \(2, 64, 64, 3\), expected \(1, 64, 64, 3\)$"):
        runs(noise((2, 3, 64, 64)))


# ---- stored weights ----


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(("precision", "tolerance"), [("float16", 5e-3), ("int8", 0.1)])
def test_shorter_weights(tmp_path, kind, precision, tolerance):
    file = check(model(kind), tmp_path, tolerance, precision=precision)
    check_for_gpu(file)
    assert list(weight_bytes(file)) == [precision.upper()]
    if precision == "int8":
        integers = [tensor for tensor in file.tensors if tensor.dtype == "INT8"]
        channels = [tensor.shape[-1 if tensor.shape[0] == 1 and len(tensor.shape) == 4 else 0] for tensor in integers]
        assert [len(tensor.scales) for tensor in integers] == channels


def test_the_smallest_published_network_fits_where_it_should(tmp_path):
    """The whole of it, its thousand labels included; the file that transformers' documentation made had 1,712,024."""
    network, path = exported(published("xx-small"), tmp_path, size=256, precision="int8")
    assert path.stat().st_size <= 1_450_000
    assert len(network.labels) == 1000
    assert weight_bytes(File(path.read_bytes()))["INT8"] > 1_240_000


def test_a_weight_that_float16_cannot_hold(tmp_path):
    def huge(weights):
        weights["classifier.weight"][0, 0] = 1e5

    with pytest.raises(TinyMViTError, match=r"^classifier.weight: 100000, expected at most 65504 for float16; "):
        exported(model(change=huge), tmp_path, precision="float16")
    assert not list(tmp_path.iterdir())


def test_more_weights_than_a_file_can_hold(tmp_path, monkeypatch):
    monkeypatch.setattr(tflite, "LARGEST", 1000)
    with pytest.raises(TinyMViTError, match=r"^[\d,]+ bytes of weights, expected at most 1,000 for TensorFlow Lite$"):
        exported(model(), tmp_path)


def test_pixels_times_nothing(tmp_path):
    ours = model()
    network = exported(ours, tmp_path)[0]
    with pytest.raises(
        TinyMViTError, match=r"^rescale_factor: 0, expected a positive number of float32, for TensorFlow Lite$"
    ):
        tflite.files(replace(network, preprocessing=Preprocessing(0.0, False)), "model.tflite")


def test_a_function_of_ones_own(tmp_path):
    with pytest.raises(
        TinyMViTError, match=r"^mobilevit\.conv_stem\.activation: .*, expected an activation by its name"
    ):
        exported(model(hidden_act=np.sin), tmp_path)


# ---- pictures, answers ----


@pytest.mark.parametrize("order", ["BGR", "RGB"])
@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_a_picture_is_prepared_in_the_file(tmp_path, kind, order):
    file = check(model(kind, extra={"channel_order": order}), tmp_path, with_preprocessing=True)
    assert [(t.name, t.dtype, t.shape) for t in file.inputs] == [("image", "UINT8", (1, 64, 64, 3))]
    assert ("pixel_values" in {tensor.name for tensor in file.tensors}) == (order == "RGB")
    check_for_gpu(file)


@pytest.mark.parametrize("kind", [CLASSIFIER, SEGMENTER], ids=lambda kind: kind.__name__)
def test_probabilities(tmp_path, kind):
    file = check(model(kind), tmp_path, answer="softmax")
    assert [tensor.name for tensor in file.outputs] == ["probabilities"]
    check_for_gpu(file)


@pytest.mark.parametrize(("kind", "shape"), [(CLASSIFIER, (2,)), (SEGMENTER, (2, 2, 2))])
def test_classes(tmp_path, kind, shape):
    """Only the last operator is not XNNPACK's."""
    network, path = exported(model(kind), tmp_path, answer="argmax", batch=2)
    pixels = noise_for(network)
    classes = tflite.load(path, 1)(pixels)["classes"]
    assert_same(classes, truth_of(network, pixels)["classes"].astype(np.int32), name="classes")
    assert (classes.shape, classes.dtype) == (shape, np.int32)
    assert partitions(path) == (1, False)
    assert File(path.read_bytes()).codes[-1] == "ARG_MAX"


# ---- the file itself ----


def test_the_same_bytes_in_every_process(tmp_path):
    again = str(tmp_path / "again.tflite")
    program = f"import tinymvit; tinymvit.export('digits', {again!r}, to='tflite', precision='int8', size=64)"
    _, path = exported("digits", tmp_path, precision="int8")
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONHASHSEED": "7"})
    assert (tmp_path / "again.tflite").read_bytes() == path.read_bytes()


def test_what_the_file_says_of_itself(tmp_path):
    network, path = exported("digits", tmp_path, with_preprocessing=True)
    file = File(path.read_bytes())
    assert file.facts == {key: value for key, value in network.facts.items() if key != "labels"}
    assert file.metadata["min_runtime_version"] == b"2.3.0".ljust(16, b"\0")
    assert file.labels == [str(digit) for digit in range(10)]
    assert file.metadata["TFLITE_METADATA"][4:8] == b"M001"
    (signature,) = file.model.signatureDefs
    assert signature.signatureKey == b"serving_default"
    assert [entry.name for entry in signature.inputs] == [b"image"]
    assert [entry.name for entry in signature.outputs] == [b"logits"]


def test_features_have_no_labels(tmp_path):
    file = File(exported(model(BARE), tmp_path)[1].read_bytes())
    assert set(file.metadata) == {"min_runtime_version", "tinymvit"}


def test_labels_of_several_lines_are_one_line_each(tmp_path):
    labels = {i: f"a\nb{i}" for i in range(5)}
    file = File(exported(model(num_labels=None, id2label=labels), tmp_path)[1].read_bytes())
    assert file.labels == [f"a b{i}" for i in range(5)]


def test_constants_begin_where_processors_like_it(tmp_path):
    content = exported(model(), tmp_path)[1].read_bytes()
    from ai_edge_litert import schema_py_generated as schema

    file = schema.Model.GetRootAs(content)
    table = np.frombuffer(content, np.uint8)
    for i in range(file.BuffersLength()):
        if file.Buffers(i).DataLength():
            data = file.Buffers(i).DataAsNumpy()
            assert (data.ctypes.data - table.ctypes.data) % 16 == 0


def test_a_file_that_litert_refuses(tmp_path, capfd):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"no model at all")
    with pytest.raises(OutputError, match=rf"^{path}: LiteRT refuses it: "):
        tflite.load(path, 1)
    assert capfd.readouterr() == ("", "")


# ---- every tensor by its name ----


def assert_dump_agrees(model, folder, **settings):
    network, path = exported(model, folder, **settings)
    taken = noise_for(network)
    dump = script("dump_litert").dump(path, taken if network.preprocessing else taken.transpose(0, 2, 3, 1).copy())
    known = {*network.graph.nodes, *network.graph.outputs}
    assert dump.keys() <= known
    for isolate in (False, True):
        comparison = compare(model, dump, isolate=isolate)
        assert comparison.agrees
        assert len(comparison.rows) == len(dump) > 130


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("settings", [{}, {"batch": 2}, {"size": (65, 97)}], ids=str)
def test_a_dump_agrees(tmp_path, kind, settings):
    assert_dump_agrees(model(kind), tmp_path, **settings)


@pytest.mark.parametrize("order", ["BGR", "RGB"])
@pytest.mark.parametrize("answer", ["softmax", "argmax"])
def test_the_dump_of_a_file_that_takes_pictures_agrees(tmp_path, order, answer):
    ours = model(extra={"channel_order": order})
    assert_dump_agrees(ours, tmp_path, with_preprocessing=True, answer=answer)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits", "digits-seg"])
def test_the_dump_of_a_bundled_model_agrees(tmp_path, name):
    assert_dump_agrees(load_model(name), tmp_path, size=None)


def published(shape):
    config = MobileViTConfig.preset(shape)
    return model(MODELS[preset_task(shape)], config=config)


@pytest.mark.slow
@pytest.mark.parametrize("shape", PRESETS)
def test_the_dump_of_a_published_shape_agrees(tmp_path, shape):
    assert_dump_agrees(published(shape), tmp_path, size=128)


@pytest.mark.slow
def test_compare_says_that_a_port_by_us_agrees(tmp_path, capsys):
    network, path = exported("digits", tmp_path, size=None)
    np.save(tmp_path / "pixels.npy", noise_for(network).transpose(0, 2, 3, 1))
    script("dump_litert").main(str(path), str(tmp_path / "pixels.npy"), str(tmp_path / "port.safetensors"))
    code, out, _ = run(capsys, "compare", "digits", tmp_path / "port.safetensors", "--isolate")
    assert (code, out.splitlines()[0]) == (0, "agree")


# ---- the network in int8 ----


@pytest.fixture(scope="module")
def pictures():
    """A few pictures to calibrate with."""
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)) for _ in range(4)]


def int8(model, folder, pictures, **settings):
    ranges = calibrate(model, pictures, size=64)
    return exported(model, folder, precision="int8", calibrate=ranges, **settings)


def tensors_of(path, given):
    """The value of each operator in LiteRT's own kernels, by its name, int8 numbers as they are."""
    interpreter = Interpreter(
        model_path=str(path),
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], given)
    interpreter.invoke()
    names = {details["index"]: details["name"] for details in interpreter.get_tensor_details()}
    made = [op["outputs"][0] for op in interpreter._get_ops_details()]
    return {names[i]: interpreter.get_tensor(i) for i in made}


def as_node(value, shape):
    """A value of the file as ours: channels first, or sequences of tokens."""
    if len(shape) == 3:
        return value.transpose(0, 2, 1, 3).reshape(shape)
    return np.moveaxis(value, -1, 1) if len(shape) == 4 else value


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("function", ["silu", "relu", "hardswish"])
def test_each_node_in_int8_is_within_a_step(tmp_path, pictures, kind, function):
    """LiteRT multiplies a sum by a quotient of scales that it rounds otherwise, and SiLU's sigmoid is in steps."""
    ours = model(kind, hidden_act=function)
    network, path = int8(ours, tmp_path, pictures)
    assert partitions(path) == (1, True)
    pixels = noise_for(network)
    found = tensors_of(path, pixels.transpose(0, 2, 3, 1).copy()) | {"pixel_values": pixels.transpose(0, 2, 3, 1)}
    graph, weights = network.quantised()
    steps = {}
    for node in graph:
        if not node.name.endswith(".int8"):
            continue
        [source] = graph.inputs_of(node)
        if source.name not in found:  # an output, which has another name
            continue
        x = as_node(found[source.name], source.shape).astype(np.float64)
        expected = node.op.compute(x, *(weights[name] for name in node.weights))
        difference = np.abs(as_node(found[node.name], node.shape) - expected)
        assert difference.max() <= 1, node.name
        steps.setdefault(type(node.op), []).append(difference.ravel())
    shares = {op: np.concatenate(parts).mean() for op, parts in steps.items()}
    assert sum(map(len, steps.values())) > 60
    assert shares[Quantise] == 0
    assert shares[Quantised] < 0.01
    assert shares[QuantisedActivation] < (0.2 if function == "silu" else 1e-4)


@pytest.mark.parametrize("order", ["BGR", "RGB"])
def test_a_picture_is_prepared_for_int8(tmp_path, pictures, order):
    ours = model(extra={"channel_order": order})
    network, path = int8(ours, tmp_path, pictures, with_preprocessing=True)
    taken = noise_for(network)
    found = tflite.load(path, 1)(taken)["logits"]
    _, path = int8(ours, tmp_path, pictures)
    assert_same(found, tflite.load(path, 1)(pixels_of(network, taken))["logits"], name="logits")


def test_the_dump_of_a_file_in_int8_holds_what_its_numbers_stand_for(tmp_path, pictures):
    network, path = int8(model(), tmp_path, pictures)
    pixels = noise_for(network)
    dump = script("dump_litert").dump(path, pixels.transpose(0, 2, 3, 1).copy())
    assert_same(dump["pixel_values"], pixels.transpose(0, 2, 3, 1), name="pixel_values")
    assert dump.keys() <= {*network.graph.nodes, *network.graph.outputs}
    assert len(dump) > 150
    expected = {node.name: value for node, value in reference.steps(network.graph, network.weights, pixels)}
    name = "mobilevit.encoder.layer.0.layer.0.expand_1x1.activation"
    assert_same(as_node(dump[name], (1, 1, 1, 1)), expected[name], 0.1, name)


def test_what_is_kept_in_float_is_not_stored_shorter(tmp_path, pictures):
    _, path = int8(model(), tmp_path, pictures, keep_float=["classifier"])
    (classifier,) = [tensor for tensor in File(path.read_bytes()).tensors if tensor.name == "classifier.weight"]
    assert classifier.dtype == "FLOAT32"


# ---- what shorter numbers cost ----

VARIANTS = ({"precision": "float16"}, {"precision": "int8"}, {"precision": "int8", "calibrate": True})


def runs_of(name, folder, draw):
    """What runs the bundled model, and it in each of VARIANTS, calibrated on drawings of digits it was trained on."""
    training, _ = split_digits()
    drawn = [Image.fromarray(draw(np.random.default_rng([9, i]), training, i)) for i in range(40)]
    loaded = load_model(name)

    def written(i, calibrate=False, **others):
        path = folder / f"{i}.tflite"
        export(name, path, to="tflite", calibrate=drawn if calibrate else None, **others)
        return tflite.load(path, 2)

    files = [written(i, **others) for i, others in enumerate(VARIANTS)]
    return [lambda pixels: loaded(pixels), *files]


def pixels_from(picture):
    return np.ascontiguousarray(picture[None, :, :, ::-1].transpose(0, 3, 1, 2), np.float32) / 255


@pytest.mark.slow
def test_digits_are_named_as_well(tmp_path):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'tinymvit[train]'")
    _, held_out = split_digits()
    runs = runs_of("digits", tmp_path, lambda rng, digits, i: draw_digit(rng, digits.glyphs[i], 128))
    right = np.zeros(len(runs))
    for i, (glyph, label) in enumerate(zip(held_out.glyphs, held_out.labels, strict=True)):
        for picture in (draw_card(glyph, 128), draw_digit(np.random.default_rng([0, i]), glyph, 128)):
            right += [each(pixels_from(picture))["logits"].argmax() == label for each in runs]
    accuracy = right / (2 * len(held_out.labels))
    assert accuracy[0] > 0.95
    assert (accuracy[0] - accuracy <= 0.005).all(), accuracy


@pytest.mark.slow
def test_digits_are_found_as_well(tmp_path):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'tinymvit[train]'")
    _, held_out = split_digits()
    runs = runs_of("digits-seg", tmp_path, lambda rng, digits, _: draw_scene(rng, digits, (160, 160))[0])
    counts = np.zeros((len(runs), 11, 11), np.int64)
    for seed in range(60):
        picture, mask = draw_scene(np.random.default_rng([seed]), held_out, (160, 160))
        for count, each in zip(counts, runs, strict=True):
            np.add.at(count, (mask[4::8, 4::8], each(pixels_from(picture))["logits"][0].argmax(0)), 1)
    overlap = np.array([mean_overlap(count) for count in counts])
    assert overlap[0] > 0.5
    assert (overlap[0] - overlap <= 0.01).all(), overlap


def mean_overlap(counts):
    """The mean over the classes of intersection over union, from pixels by true and by found class."""
    intersection = np.diag(counts)
    return (intersection / (counts.sum(0) + counts.sum(1) - intersection)).mean()
