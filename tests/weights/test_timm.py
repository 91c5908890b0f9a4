"""timm's checkpoints: its models give the same answers here, its settings are read, and it loads what we write."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinymvit
from checkpoints import TINY, complaint, save_tiny
from frameworks import torch
from oracle import MODEL_FLOAT32, assert_same
from timm_models import WHY_NOT, build, build_of_widths, timm
from tinymvit import weights
from tinymvit.errors import CheckpointError, ConfigError, OutputError
from tinymvit.modeling import load_model
from tinymvit.weights.families import timm as family
from tinymvit.weights.formats.safetensors import tensor_writer

needs_timm = [pytest.mark.torch, pytest.mark.skipif(timm is None, reason=WHY_NOT)]
PUBLISHED = {"architecture": "mobilevit_xxs", "num_classes": 3, "pretrained_cfg": {"input_size": [3, 256, 256]}}


def write(path, tensors):
    with path.open("wb") as file:
        tensor_writer(tensors)(file)
    return path


def write_state(path, model):
    return write(path, {name: tensor.numpy() for name, tensor in model.state_dict().items()})


def theirs(folder, config=None, **changes):
    """A tiny checkpoint of timm's in `folder`, which has our weights, and perhaps timm's config.json."""
    ours = tinymvit.MobileViTForImageClassification(tinymvit.MobileViTConfig(**TINY | {"num_attention_heads": 4}))
    tensors = family.V1.to_theirs(ours.weights) | changes
    write(folder / "model.safetensors", {name: tensor for name, tensor in tensors.items() if tensor is not None})
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return ours


# ---- against timm itself ----


def hidden_states_of(model, pixels):
    """The outputs of its five stages, and the logits."""
    found = []
    for stage in model.stages:
        stage.register_forward_hook(lambda module, inputs, output: found.append(output))
    with torch.no_grad():
        logits = model(torch.from_numpy(pixels))
    return [*map(torch.Tensor.numpy, found), logits.numpy()]


def assert_equal_outputs(ours, model, pixels):
    outputs = ours(pixels, output_hidden_states=True)
    expected = hidden_states_of(model, pixels)
    for i, (ours_, theirs_) in enumerate(zip((*outputs.hidden_states, outputs.logits), expected, strict=True)):
        assert_same(ours_, theirs_, MODEL_FLOAT32, name=f"output {i}")


@pytest.mark.torch
@pytest.mark.skipif(timm is None, reason=WHY_NOT)
@pytest.mark.parametrize(("name", "shape"), [("mobilevit_xxs", "XXS"), ("mobilevit_xs", "XS"), ("mobilevit_s", "S")])
def test_published_shapes(tmp_path, caplog, name, shape):
    model = build(name, num_classes=7)
    file = write_state(tmp_path / f"{name}.safetensors", model)
    ours = load_model(file)
    assert type(ours) is tinymvit.MobileViTForImageClassification
    assert_equal_outputs(ours, model, np.random.default_rng(0).random((2, 3, 96, 70), np.float32))
    assert f"in the names of timm, MobileViT-{shape}, 7 labels without names; taken for granted: 4 heads" in caplog.text
    ours.save_pretrained(tmp_path / "again", family="timm")
    written = str(tmp_path / "again/model.safetensors")
    again = timm.create_model(name, pretrained=False, num_classes=7, checkpoint_path=written)
    for key, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor), key
    config = json.loads((tmp_path / "again/config.json").read_text())
    assert (config["architecture"], config["num_classes"], config["num_features"]) == (name, 7, model.num_features)


@pytest.mark.torch
@pytest.mark.skipif(timm is None, reason=WHY_NOT)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_random_shapes(tmp_path_factory, data):
    number = st.integers(1, 5)
    hidden = [4 * data.draw(number) for _ in range(3)]
    neck = [4 * data.draw(number) for _ in range(7)]
    labels = data.draw(st.integers(0, 5))
    model = build_of_widths(hidden, neck, data.draw(st.sampled_from([2.0, 4.0, 1.5, 3.0])), labels)
    file = write_state(tmp_path_factory.mktemp("random") / "random.safetensors", model)
    ours = load_model(file)
    pixels = np.random.default_rng(0).random((1, 3, data.draw(st.integers(33, 70)), 64), np.float32)
    if labels:
        assert_equal_outputs(ours, model, pixels)
    else:
        assert type(ours) is tinymvit.MobileViTModel
        with torch.no_grad():
            expected = model.forward_features(torch.from_numpy(pixels)).numpy()
        assert_same(ours(pixels).last_hidden_state, expected, MODEL_FLOAT32)


@pytest.mark.torch
@pytest.mark.skipif(timm is None, reason=WHY_NOT)
def test_what_names_mean_in_a_dump_of_timms_own_modules(tmp_path):
    model = build("mobilevit_xxs", num_classes=4)
    outputs = {}
    for name, module in model.named_modules():
        if name:
            module.register_forward_hook(
                lambda module, inputs, output, name=name: outputs.update({name: output.clone()})
            )
    pixels = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    with torch.no_grad():
        model(torch.from_numpy(pixels))
    config = tinymvit.MobileViTConfig.preset("xx-small", num_labels=4)
    file = write_state(tmp_path / "model.safetensors", model)
    ours = tinymvit.MobileViTForImageClassification.from_pretrained(file, config=config)
    values = ours.trace(pixels)
    graph = ours.graph(pixels.shape)
    nodes = {name.removeprefix("mobilevit."): name for name in graph.nodes}
    nodes = {name.removeprefix("mobilevit."): node for name, node in graph.modules.items()} | nodes
    for name, output in outputs.items():
        parts = [values[nodes[part]] for part in family.V1.output(name)]
        assert parts, name
        expected = np.concatenate(parts, -1) if len(parts) > 1 else parts[0]
        found, expected = output.numpy().ravel(), expected.ravel()
        if not np.allclose(found, expected, 0, 1e-4):  # heads stand before or behind tokens
            found, expected = np.sort(found), np.sort(expected)
        assert_same(found, expected, MODEL_FLOAT32 * 5, name=name)


# ---- settings ----


def test_without_a_config_the_shape_is_read_off(tmp_path, caplog):
    ours = theirs(tmp_path)
    checkpoint = weights.open_checkpoint(tmp_path / "model.safetensors")
    config = tinymvit.MobileViTConfig.from_pretrained(checkpoint)
    assert config.replace(image_size=32, aspp_out_channels=8) == ours.config
    assert checkpoint.channel_order == "RGB"
    processor = tinymvit.MobileViTImageProcessor.from_pretrained(checkpoint)
    assert (processor.size, processor.crop_size["width"], int(processor.resample)) == ({"shortest_edge": 284}, 256, 3)
    assert not processor.do_flip_channel_order
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}/model.safetensors: no settings beside it: in the names of timm, a MobileViT of widths 8, 8, 8, "
        "3 labels without names; taken for granted: 4 heads, patches of 2 x 2, SiLU, output stride 32, "
        "pixels RGB, resized to 284, cut to 256"
    ]


def test_timms_config_says_labels_and_pictures(tmp_path, caplog):
    cut = {"input_size": [3, 320, 320], "crop_pct": 1.0, "interpolation": "bilinear", "crop_mode": "squash"}
    theirs(tmp_path, PUBLISHED | {"label_names": ["a", "b", "c"], "pretrained_cfg": cut})
    config = tinymvit.MobileViTConfig.from_pretrained(tmp_path)
    assert (config.id2label, config.image_size) == ({0: "a", 1: "b", 2: "c"}, 320)
    processor = tinymvit.MobileViTImageProcessor.from_pretrained(tmp_path)
    assert (processor.size, int(processor.resample)) == ({"height": 320, "width": 320}, 2)
    assert not caplog.records
    older = {"architecture": "mobilevit_s", "input_size": [3, 64, 64], "crop_pct": 0.5, "label_names": ["x", "y", "z"]}
    (tmp_path / "config.json").write_text(json.dumps(older))
    assert tinymvit.MobileViTImageProcessor.from_pretrained(tmp_path).size == {"shortest_edge": 128}
    assert tinymvit.MobileViTConfig.from_pretrained(tmp_path).id2label[2] == "z"


BAD_CONFIGS = [
    ({"architecture": "resnet18"}, "architecture: 'resnet18', expected a mobilevit, as the tensors are"),
    ({"num_classes": 5}, "num_classes: 5, expected 3, as the tensors have"),
    ({"model_args": {"act_layer": "relu"}}, "model_args: 'act_layer', expected at most num_classes, in_chans"),
    ({"model_args": 3}, "model_args: 3, expected an object"),
    ({"label_names": ["a"]}, "label_names: 1 names, expected 3"),
    ({"label_names": {"a": 1}}, "label_names: {'a': 1}, expected a list of names"),
    ({"pretrained_cfg": {"input_size": [3, 256]}}, "input_size: [3, 256], expected 3 and twice the side of a square"),
    ({"pretrained_cfg": [1]}, "pretrained_cfg: [1], expected an object"),
]
BAD_PICTURES = [
    ({"mean": [0.5, 0.5, 0.5]}, "mean: [0.5, 0.5, 0.5], expected [0.0, 0.0, 0.0], as MobileViT has"),
    ({"std": 2}, "std: 2, expected [1.0, 1.0, 1.0]"),
    ({"crop_pct": 0}, "crop_pct: 0, expected a number of 0.1 to 1"),
    ({"crop_pct": math.nan}, "crop_pct: nan, expected a number of 0.1 to 1"),
    ({"interpolation": "random"}, "interpolation: 'random', expected one of nearest, lanczos, bilinear, bicubic"),
    ({"crop_mode": "border"}, "crop_mode: 'border', expected center or squash"),
]


@pytest.mark.parametrize(("change", "message"), BAD_CONFIGS, ids=range(len(BAD_CONFIGS)))
def test_bad_configs(tmp_path, change, message):
    theirs(tmp_path, PUBLISHED | change)
    with complaint(ConfigError, f"{tmp_path / 'config.json'}: {message}"):
        tinymvit.MobileViTConfig.from_pretrained(tmp_path)


@pytest.mark.parametrize(("change", "message"), BAD_PICTURES, ids=range(len(BAD_PICTURES)))
def test_bad_pictures(tmp_path, change, message):
    theirs(tmp_path, PUBLISHED | {"pretrained_cfg": change})
    with complaint(ConfigError, f"{tmp_path / 'config.json'}: {message}"):
        tinymvit.MobileViTImageProcessor.from_pretrained(tmp_path)


def test_a_config_beside_other_tensors_or_none(tmp_path):
    theirs(tmp_path, PUBLISHED)
    for write_other in (lambda path: path.write_bytes(b"damaged"), lambda path: write(path, {"cls_token": np.ones(1)})):
        write_other(tmp_path / "model.safetensors")
        with complaint(ConfigError, "config.json: is timm's, for 'mobilevit_xxs', and no MobileViT of timm"):
            tinymvit.MobileViTConfig.from_pretrained(tmp_path)


# ---- what does not fit, in timm's names ----


def test_misfits_are_named_as_timm_names_them(tmp_path):
    qkv = "stages.2.1.transformer.0.attn.qkv"
    wrong = {
        f"{qkv}.bias": np.zeros(25, np.float32),
        "head.strange": np.zeros(2, np.float32),
        "stages.2.1.norm.bias": None,
    }
    theirs(tmp_path, None, **wrong)
    with complaint(
        CheckpointError,
        "model.safetensors: does not fit the model: 1 missing: stages.2.1.norm.bias [8]",
        "1 unexpected: head.strange [2]",
        f"1 of another shape: {qkv}.bias [25] (expected [24])",
    ):
        tinymvit.MobileViTForImageClassification.from_pretrained(tmp_path / "model.safetensors")


# ---- writing ----


def test_settings_that_timm_has_no_words_for(tmp_path):
    for name, message in (("classifier", "num_attention_heads: 2, expected 4: timm's MobileViT has no other"),
                          ("segmenter", "timm has no MobileViT for segmentation, expected a classifier")):  # fmt: skip
        save_tiny(name, tmp_path / name)
        with complaint(OutputError, message):
            tinymvit.convert(tmp_path / name, tmp_path / "out", to="timm")
        assert not (tmp_path / "out").exists()
    theirs(tmp_path)
    (tmp_path / "model").mkdir()
    for settings_, message in (
        (
            {"size": {"height": 20, "width": 30}, "do_center_crop": False},
            "size {'height': 20, 'width': 30} and crop_size",
        ),
        ({"size": 30, "crop_size": 40}, "timm's config.json has no words for them"),
        ({"do_rescale": False}, "timm's config.json has no words for them"),
    ):
        model = tinymvit.MobileViTForImageClassification(tinymvit.MobileViTConfig(**TINY | {"num_attention_heads": 4}))
        model.save_pretrained(tmp_path / "model")
        tinymvit.MobileViTImageProcessor(**settings_).save_pretrained(tmp_path / "model")
        with complaint(OutputError, message):
            tinymvit.convert(tmp_path / "model", tmp_path / "out", to="timm")


@settings(max_examples=50, deadline=None)
@given(side=st.integers(1, 600), border=st.integers(0, 200))
def test_any_crop_is_written_so_that_timm_resizes_as_before(side, border):
    processor = tinymvit.MobileViTImageProcessor(size=side + border, crop_size=side).to_dict()
    written = family._pictures({"num_channels": 3}, processor)
    assert math.floor(written["input_size"][1] / written["crop_pct"]) == side + border
