"""A checkpoint changes its family and keeps its answer: one picture, one answer, whatever dress the weights wear."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinymvit
from checkpoints import TINY, complaint, save_tiny
from command_line import DIGIT, SCENE, run
from frameworks import torch, transformers
from oracle import assert_same, opened
from timm_models import WHY_NOT, timm
from tinymvit import weights
from tinymvit.errors import ConfigError, OutputError
from tinymvit.modeling import MODELS, load_model
from tinymvit.weights.families import FAMILIES

WORDS = [family.WORD for family in FAMILIES]


@pytest.mark.parametrize("word", WORDS)
def test_one_picture_gives_one_answer(tmp_path, word):
    pytest.importorskip("h5py")
    expected = tinymvit.classify(DIGIT, top_k=10)
    tinymvit.convert("digits", tmp_path / word, to=word)
    assert word == weights.open_checkpoint(tmp_path / word).family.WORD
    answer = tinymvit.classify(DIGIT, model=tmp_path / word, top_k=10)
    assert [each["label"] for each in answer] == [each["label"] for each in expected]
    scores = np.array([each["score"] for each in expected])
    assert_same(np.array([each["score"] for each in answer]), scores, 1e-6)


@pytest.mark.parametrize("word", [word for word in WORDS if word != "timm"])
def test_one_picture_gives_one_mask(tmp_path, word):
    pytest.importorskip("h5py")
    tinymvit.convert("digits-seg", tmp_path / word, to=word)
    assert_same(tinymvit.segment(SCENE, model=tmp_path / word).mask, tinymvit.segment(SCENE).mask)


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_all_the_way_round_no_bit_of_the_weights_changes(tmp_path_factory, data):
    pytest.importorskip("h5py")
    folder = tmp_path_factory.mktemp("round")
    task = data.draw(st.sampled_from(["classify", "features", "segment"]))
    sizes = st.integers(1, 4).map(lambda number: 4 * number)
    config = TINY | {
        "hidden_sizes": data.draw(st.lists(sizes, min_size=3, max_size=3)),
        "neck_hidden_sizes": data.draw(st.lists(sizes, min_size=7, max_size=7)),
        "num_attention_heads": 4,
        "expand_ratio": data.draw(st.sampled_from([1.0, 1.5, 2.0, 4.0])),
        "num_labels": data.draw(st.integers(2, 5)),
    }
    model = MODELS[task](tinymvit.MobileViTConfig(**config), seed=data.draw(st.integers(0, 9)))
    model.save_pretrained(folder / "0")
    words = data.draw(st.permutations([word for word in WORDS if (task, word) != ("segment", "timm")]))
    for step, word in enumerate(words):
        tinymvit.convert(folder / str(step), folder / str(step + 1), to=word)
    tinymvit.convert(folder / str(len(words)), folder / "cvnets", to="cvnets")  # which reads BGR, as the first did
    loaded = load_model(folder / "cvnets")
    assert loaded.weights.keys() == model.weights.keys()
    for name, tensor in model.weights.items():
        assert_same(loaded.weights[name], tensor, name=name)
    # Two ratios may give the same widths, and no tensor tells which it was; nor what only another kind of head has.
    untold = {"expand_ratio": 2.0, "image_size": 32, "aspp_out_channels": 8, "num_labels": 2}
    assert loaded.config.replace(**untold) == model.config.replace(**untold)


def test_the_stem_is_reversed_where_the_channels_are_read_in_another_order(tmp_path):
    stem = "mobilevit.conv_stem.convolution.weight"
    model = tinymvit.MobileViTForImageClassification.from_pretrained("digits")
    model.save_pretrained(tmp_path / "timm", family="timm")
    theirs = load_model(tmp_path / "timm")
    assert_same(theirs.weights[stem], model.weights[stem][:, ::-1])
    assert theirs.config.extra["channel_order"] == "RGB"
    # transformers can say the order, so the weights stay as they are, and so does what the model makes of pixels.
    theirs.save_pretrained(tmp_path / "transformers")
    again = load_model(tmp_path / "transformers")
    assert_same(again.weights[stem], theirs.weights[stem])
    assert not tinymvit.MobileViTImageProcessor.from_pretrained(tmp_path / "transformers").do_flip_channel_order
    theirs.save_pretrained(tmp_path / "cvnets", family="cvnets")
    again = load_model(tmp_path / "cvnets")
    assert_same(again.weights[stem], model.weights[stem])
    assert "channel_order" not in again.config.extra


@pytest.mark.parametrize(("first", "second"), [("timm", "cvnets"), ("timm", "tensorflow"), ("cvnets", "transformers")])
def test_no_other_weights_are_left_beside(tmp_path, first, second):
    """They would be read in place of the new ones, or with settings that are not theirs."""
    tinymvit.convert("digits", tmp_path, to=first)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other = {"timm": "model.safetensors", "cvnets": "mobilevit.pt"}[first]
    with complaint(
        OutputError, f"{tmp_path}: holds other weights, {other}; expected a folder without any, or a new one"
    ):
        tinymvit.convert("digits", tmp_path, to=second)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    tinymvit.convert("digits", tmp_path, to=first)  # its own are replaced


def test_a_model_knows_the_order_that_only_its_processor_says(tmp_path):
    """Weights of transformers that read RGB stay as they are in timm's names, which read RGB too."""
    tinymvit.convert("digits", tmp_path / "timm", to="timm")
    tinymvit.convert(tmp_path / "timm", tmp_path / "transformers")
    config = json.loads((tmp_path / "transformers/config.json").read_text())
    del config["channel_order"]  # as transformers writes it
    (tmp_path / "transformers/config.json").write_text(json.dumps(config))
    model = load_model(tmp_path / "transformers")
    assert model.config.extra["channel_order"] == "RGB"
    model.save_pretrained(tmp_path / "again", family="timm")
    stem = "mobilevit.conv_stem.convolution.weight"
    assert_same(load_model(tmp_path / "again").weights[stem], model.weights[stem])


def test_the_second_deeplabv3_goes_out_as_it_came(tmp_path):
    config = TINY | {"num_attention_heads": 4, "output_stride": 8, "atrous_rates": (12, 24, 36)}
    model = tinymvit.MobileViTForSemanticSegmentation(tinymvit.MobileViTConfig(**config))
    model.save_pretrained(tmp_path / "bgr", family="cvnets")
    tensors = weights.open_checkpoint(tmp_path / "bgr").stored
    assert "seg_head.classifier.block.conv.weight" in tensors
    (tmp_path / "bgr/config.json").unlink()  # the names alone tell the stride, the rates and RGB
    loaded = load_model(tmp_path / "bgr")
    assert (loaded.config.output_stride, loaded.config.extra["channel_order"]) == (8, "RGB")
    tinymvit.convert(tmp_path / "bgr", tmp_path / "again", to="cvnets")
    for name, tensor in weights.open_checkpoint(tmp_path / "again").tensors.items():
        assert_same(tensor, loaded.weights[name], name=name)


def test_what_ml_cvnets_must_be_told_is_said(tmp_path, caplog):
    model = tinymvit.MobileViTForImageClassification(tinymvit.MobileViTConfig(**TINY, hidden_act="gelu"))
    model.save_pretrained(tmp_path, family="cvnets")
    assert "mobilevit.pt: does not say num_attention_heads 2, hidden_act gelu; tinymvit reads" in caplog.text


@pytest.mark.parametrize(
    "changes", [{"mlp_ratio": 4.0}, {"qkv_bias": False}, {"conv_kernel_size": 5}, {"num_channels": 1}]
)
def test_timm_has_no_model_of_another_shape(tmp_path, caplog, changes):
    config = tinymvit.MobileViTConfig.preset("xx-small", num_labels=2, **changes)
    tinymvit.MobileViTForImageClassification(config).save_pretrained(tmp_path, family="timm")
    written = json.loads((tmp_path / "config.json").read_text())
    assert "architecture" not in written
    assert "label_names" not in written
    assert "timm has no model of this shape" in caplog.text


@pytest.mark.parametrize("settings_", [{"lr": 0.1}, {"model_type": "mobilevit"}])
def test_weights_of_timm_beside_settings_that_are_not_timms(tmp_path, settings_):
    """What no file says is as the family has it, which reads RGB."""
    model = tinymvit.MobileViTForImageClassification(tinymvit.MobileViTConfig.preset("small", num_labels=2))
    model.save_pretrained(tmp_path, family="timm")
    (tmp_path / "config.json").write_text(json.dumps(settings_))
    checkpoint = tinymvit.open_checkpoint(tmp_path)
    assert load_model(checkpoint).config.num_labels == 2
    assert checkpoint.channel_order == "RGB"
    processor = tinymvit.MobileViTImageProcessor.from_pretrained(checkpoint)
    assert not processor.do_flip_channel_order
    assert processor.size == {"shortest_edge": 284 if "lr" in settings_ else 288}


# ---- the software that it is for ----


@pytest.mark.torch
@pytest.mark.parametrize("to", ["timm", "transformers"])
def test_the_library_itself_gives_the_same_answer(tmp_path, to):
    """With its own model, loaded strictly, and its own preparation of pictures where that needs no torchvision."""
    tinymvit.convert("digits", tmp_path / "timm", to="timm")
    tinymvit.convert(tmp_path / "timm", tmp_path / "transformers")  # whose processor must not flip the channels
    if to == "timm":
        if timm is None:
            pytest.skip(WHY_NOT)
        model = timm.create_model(f"local-dir:{tmp_path / to}", pretrained=True).eval()
        assert model.pretrained_cfg["label_names"][7] == "7"
        pixels = tinymvit.MobileViTImageProcessor.from_pretrained(tmp_path / to)(DIGIT).pixel_values
    else:
        theirs = transformers.MobileViTForImageClassification
        model, report = theirs.from_pretrained(tmp_path / to, output_loading_info=True)
        assert not any(report.values())
        processor = transformers.MobileViTImageProcessorPil.from_pretrained(tmp_path / to)
        pixels = np.stack(processor(opened(DIGIT).convert("RGB"))["pixel_values"])
    with torch.no_grad():
        output = model(torch.from_numpy(pixels))
    logits = output if to == "timm" else output.logits
    assert logits.argmax() == 7
    assert abs(float(logits.softmax(-1).max()) - tinymvit.classify(DIGIT, top_k=1)[0]["score"]) < 1e-5


# ---- what the caller says of a checkpoint ----


def test_labels_channel_order_and_size_can_be_given(tmp_path):
    tinymvit.convert("digits", tmp_path, to="timm")
    (tmp_path / "config.json").unlink()
    (tmp_path / "labels.txt").write_text("\n".join(f"digit {i}" for i in range(10)) + "\n\n")
    checkpoint = tinymvit.open_checkpoint(tmp_path, labels=tmp_path / "labels.txt", channel_order="BGR", size=128)
    processor = tinymvit.MobileViTImageProcessor.from_pretrained(checkpoint)
    assert processor.do_flip_channel_order
    assert (processor.size, processor.crop_size) == ({"shortest_edge": 142}, {"height": 128, "width": 128})
    config = tinymvit.MobileViTConfig.from_pretrained(checkpoint)
    assert (config.id2label[7], config.image_size) == ("digit 7", 128)
    assert tinymvit.open_checkpoint(checkpoint) is checkpoint
    assert tinymvit.open_checkpoint(checkpoint, channel_order="RGB").channel_order == "RGB"
    assert (
        tinymvit.classify(DIGIT, model=tinymvit.open_checkpoint("digits", labels=list("abcdefghij")))[0]["label"] == "h"
    )


def test_a_size_scales_what_is_resized(tmp_path):
    sizes = [
        ({"size": 288, "crop_size": 256}, {"shortest_edge": 144}),
        ({"size": {"height": 512, "width": 256}, "do_center_crop": False}, {"height": 128, "width": 64}),
    ]
    sizes.append(({"size": {"shortest_edge": 288}}, {"shortest_edge": 144}))  # cut to 256 where nothing else is said
    sizes.append(({"crop_size": 256}, {"shortest_edge": 112}))
    for values, expected in sizes:
        tinymvit.convert("digits", tmp_path)
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
        processor = tinymvit.MobileViTImageProcessor.from_pretrained(tinymvit.open_checkpoint(tmp_path, size=128))
        assert processor.size == expected
    (tmp_path / "preprocessor_config.json").unlink()
    processor = tinymvit.MobileViTImageProcessor.from_pretrained(tinymvit.open_checkpoint(tmp_path, size=200))
    assert (processor.size, processor.crop_size["width"]) == ({"shortest_edge": 232}, 200)


BAD = [
    ({"labels": ["a"]}, "labels: 1 names, expected 10, as digits has"),
    ({"labels": 3}, "labels: 3, expected the names of labels or a file of them"),
    ({"labels": []}, "labels: [], expected the names of labels or a file of them"),
    ({"labels": "no such file"}, "no such file: cannot be read: No such file or directory"),
    ({"channel_order": "GBR"}, "channel_order: 'GBR', expected RGB or BGR"),
    ({"labels": ["a", "b"], "name": "bare"}, "labels: 2 names, expected none, as bare has"),
    ({"size": 0}, "size: 0, expected a whole number of pixels, 1 to 1000000"),
    ({"size": 2.5}, "size: 2.5, expected a whole number of pixels"),
]


@pytest.mark.parametrize(("given", "message"), BAD, ids=range(len(BAD)))
def test_what_cannot_be_said_of_a_checkpoint(tmp_path, monkeypatch, given, message):
    monkeypatch.chdir(tmp_path)
    save_tiny("bare", tmp_path / "bare")
    name = given.get("name", "digits")
    given = {key: value for key, value in given.items() if key != "name"}
    with complaint(ConfigError, message):
        tinymvit.MobileViTConfig.from_pretrained(tinymvit.open_checkpoint(name, **given))


LABEL_FILES = [
    ("l.txt", b"a\n\nb\n", "line 2 is empty, expected the name of a label in each line"),
    ("l.txt", b"\n", "is empty, expected the name of a label in each line"),
    ("l.txt", b"\xff\xfe", "is not UTF-8 text, expected the name of a label in each line"),
    ("l.json", b'{"0": "a", "2": "b"}', "expected the names of labels: a list, or an object of names by id"),
    ("l.json", b"{}", "expected the names of labels: a list"),
    ("l.json", b"[1]", "expected the names of labels: a list"),
    ("l.json", b'"a"', "expected the names of labels: a list"),
    ("l.json", b"[", "line 1: not valid JSON"),
]


@pytest.mark.parametrize(("name", "content", "message"), LABEL_FILES, ids=range(len(LABEL_FILES)))
def test_files_that_are_no_labels(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with complaint(ConfigError, f"{tmp_path / name}: {message}"):
        tinymvit.open_checkpoint("digits", labels=tmp_path / name)


LABELS_AS_JSON = (
    ["a", "b"],
    {"0": "a", "1": "b"},
    {"a": 0, "b": 1},
    {"id2label": {"1": "b", "0": "a"}},
    {"label2id": {"b": 1, "a": 0}, "model_type": "mobilevit"},
)


@pytest.mark.parametrize("value", LABELS_AS_JSON)
def test_labels_as_json(tmp_path, value):
    (tmp_path / "labels.json").write_text(json.dumps(value))
    assert weights.labels.read_labels(tmp_path / "labels.json") == ["a", "b"]


def test_imagenet_has_a_thousand_names():
    names = weights.labels.imagenet()
    assert len(names) == 1000
    assert (names[0], names[281]) == ("tench, Tinca tinca", "tabby, tabby cat")
    assert names[999] == "toilet tissue, toilet paper, bathroom tissue"


# ---- the command ----


def test_the_command(tmp_path, capsys):
    timm = tmp_path / "timm"
    assert run(capsys, "convert", "digits", timm, "--to", "timm") == (
        0,
        f"digits (transformers) -> {timm} (timm)\n",
        "",
    )
    code, out, _ = run(capsys, "classify", DIGIT, "--model", timm, "--top-k", "1")
    assert (code, out[:2]) == (0, "7 ")
    (tmp_path / "names").write_text("zero\none\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\n")
    said = ["--labels", tmp_path / "names", "--channel-order", "bgr", "--size", "128", "--top-k", "1"]
    code, out, _ = run(capsys, "classify", DIGIT, "--model", timm / "model.safetensors", *said)
    assert (code, out[:6]) == (0, "seven ")


BAD_USE = [
    (("convert", "digits", "{}/file", "--to", "timm"), "is a file; expected a folder"),
    (("convert", "digits", "{}/out", "--to", "keras"), "argument --to: invalid choice: 'keras'"),
    (("convert", "digits-seg", "{}/out", "--to", "timm"), "timm has no MobileViT for segmentation"),
    (("classify", DIGIT, "--channel-order", "gbr"), "argument --channel-order: invalid choice: 'GBR'"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_USE, ids=range(len(BAD_USE)))
def test_bad_use_of_the_command(tmp_path, capsys, arguments, message):
    (tmp_path / "file").touch()
    code, out, err = run(capsys, *(argument.format(tmp_path) for argument in arguments))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not (tmp_path / "out").exists()


def test_a_family_that_there_is_not(tmp_path):
    with complaint(OutputError, "family: 'keras', expected one of transformers, timm, cvnets, tensorflow"):
        tinymvit.convert("digits", tmp_path / "out", to="keras")
