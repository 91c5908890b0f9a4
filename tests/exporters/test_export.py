"""What is exported, and what is refused in one line before anything is written; the command."""

import json
import re

import numpy as np
import pytest

from command_line import run
from tinymvit import (
    MobileViTConfig,
    MobileViTForImageClassification,
    MobileViTForSemanticSegmentation,
    MobileViTModel,
    export,
)
from tinymvit.exporters import onnx
from tinymvit.exporters.export import EXPORTERS, describe_network
from tinymvit.exporters.network import Preprocessing
from torch_models import TINY

pytestmark = pytest.mark.usefixtures("tiny_onnx_files")


@pytest.fixture(scope="module")
def model():
    return MobileViTForImageClassification(MobileViTConfig(**TINY))


def test_a_network_is_described_as_it_was_asked_for(model):
    network = describe_network(model, size=(33, 47), batch=2, answer="softmax", with_preprocessing=True)
    assert network.graph["pixel_values"].shape == (2, 3, 33, 47)
    assert list(network.graph.outputs) == ["logits"]
    assert network.preprocessing == Preprocessing(1 / 255, flips=True)
    assert network.labels == tuple(model.config.id2label.values())
    assert network.facts["task"] == "classify"
    assert json.loads(json.dumps(network.facts)) == network.facts


def test_what_the_checkpoint_says_of_its_pixels_is_kept():
    network = describe_network("digits", with_preprocessing=True)
    assert network.preprocessing.factor == pytest.approx(1 / 255)
    assert network.facts["labels"] == [str(digit) for digit in range(10)]
    rgb = MobileViTForImageClassification(MobileViTConfig(**TINY, extra={"channel_order": "RGB"}))
    assert not describe_network(rgb, with_preprocessing=True).preprocessing.flips


@pytest.mark.parametrize("make", [MobileViTForImageClassification, MobileViTModel])
def test_the_backbone_gives_features(make):
    network = describe_network(make(MobileViTConfig(**TINY)), backbone=True)
    assert list(network.graph.outputs) == ["last_hidden_state", "pooler_output"]
    assert network.facts["task"] == "features"
    assert network.labels == ()


def test_the_backbone_of_a_segmenter_has_no_expansion():
    network = describe_network(MobileViTForSemanticSegmentation(MobileViTConfig(**TINY)), backbone=True)
    assert list(network.graph.outputs) == ["last_hidden_state"]


def test_the_backbone_computes_what_the_model_computes(model):
    pixels = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    network = describe_network(model, backbone=True, size=64)
    assert network.graph.nodes.keys() <= {name.removeprefix("mobilevit.") for name in model.graph().nodes}
    assert all((network.weights[name] == model.weights[f"mobilevit.{name}"]).all() for name in network.weights)
    assert pixels.shape == network.graph["pixel_values"].shape


REFUSED = [
    ({"to": "coreml"}, "to: 'coreml', expected one of onnx, tflite, c"),
    ({"to": 3}, "to: 3, expected one of onnx, tflite, c"),
    ({"precision": "int4"}, "precision: 'int4', expected one of float32, float16, int8 for ONNX"),
    ({"precision": "float16", "to": "c"}, "precision: 'float16', expected one of float32, int8 for C"),
    ({"size": 0}, "size: 0, expected a side or (height, width), whole numbers of at least 1"),
    ({"size": (3, 2, 1)}, "size: (3, 2, 1), expected a side or (height, width), whole numbers of at least 1"),
    ({"batch": 0}, "batch: 0, expected a whole number of at least 1"),
    ({"answer": "best"}, "answer: 'best', expected one of softmax, argmax, or none"),
    ({"answer": "softmax", "backbone": True}, "answer: softmax, expected a model with a head: this one gives features"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_cannot_be_exported_is_refused_in_a_line(model, tmp_path, changes, message):
    path = tmp_path / ("folder" if changes.get("to") == "c" else "model.onnx")
    with pytest.raises(ValueError, match=r".") as error:
        export(model, path, **{"to": "onnx"} | changes)
    assert str(error.value) == message
    assert not list(tmp_path.iterdir())


def test_a_model_of_other_channels_has_no_pictures(tmp_path):
    model = MobileViTForImageClassification(MobileViTConfig(**TINY | {"num_channels": 1}))
    with pytest.raises(ValueError, match=r"^with_preprocessing: 1 channels, expected 3, of an RGB picture$"):
        export(model, tmp_path / "x.onnx", to="onnx", with_preprocessing=True)


def test_weights_that_are_no_numbers_are_named(tmp_path):
    model = MobileViTForImageClassification(MobileViTConfig(**TINY))
    model.weights["classifier.bias"][0] = np.nan
    with pytest.raises(ValueError, match=r"^classifier\.bias: not finite, expected finite weights$"):
        export(model, tmp_path / "x.onnx", to="onnx")
    assert not list(tmp_path.iterdir())


def test_where_it_cannot_be_written(model, tmp_path):
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "file").write_text("mine", "utf-8")
    with pytest.raises(ValueError, match=r"folder\.onnx: is a folder, expected a file for ONNX$"):
        export(model, tmp_path / "folder.onnx", to="onnx")
    with pytest.raises(ValueError, match=r"file: is a file, expected a folder for C$"):
        export(model, tmp_path / "file", to="c")
    with pytest.raises(ValueError, match=r"model\.bin: the suffix '\.bin', expected \.onnx for ONNX$"):
        export(model, tmp_path / "model.bin", to="onnx")
    assert (tmp_path / "file").read_text("utf-8") == "mine"


@pytest.mark.parametrize("name", ["README.md", "main.c", "weights.c"])
def test_a_folder_with_files_of_others_is_refused(model, tmp_path, name):
    (tmp_path / name).write_text("mine", "utf-8")
    with pytest.raises(ValueError, match=rf": holds {name}, which tinymvit did not write; expected a new folder$"):
        export(model, tmp_path, to="c")
    assert (tmp_path / name).read_text("utf-8") == "mine"
    assert list(tmp_path.iterdir()) == [tmp_path / name]


def test_a_folder_of_ours_is_written_anew(model, tmp_path):
    (tmp_path / "notes.txt").write_text("mine", "utf-8")
    export(model, tmp_path, to="c")
    before = (tmp_path / "mobilevit.h").read_bytes()
    export(model, tmp_path, to="c", precision="int8")
    assert (tmp_path / "mobilevit.h").read_bytes() != before
    assert (tmp_path / "notes.txt").read_text("utf-8") == "mine"


@pytest.mark.parametrize("to", EXPORTERS)
def test_a_size_that_no_target_can_hold_is_refused(model, tmp_path, to):
    expected = r"expected at most 2,147,483,647 in a value; a smaller input$"
    with pytest.raises(ValueError, match=rf"^size: \S+ has [\d x]+ numbers then, {expected}"):
        export(model, tmp_path / f"x{EXPORTERS[to].SUFFIX}", to=to, size=100_000)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("label", ["\ud800", "a\0b"])
def test_a_label_that_no_file_can_hold_is_named(tmp_path, label):
    config = MobileViTConfig(**TINY | {"num_labels": 2, "id2label": {0: "a", 1: label}})
    with pytest.raises(ValueError, match=r"^label 1: .*, expected text of UTF-8 without a null character$"):
        export(MobileViTForImageClassification(config), tmp_path / "x.onnx", to="onnx")


def test_a_missing_extra_is_named_before_the_work(model, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "MODULES", ("no_such_module",))
    with pytest.raises(ValueError, match=r"^ONNX needs no_such_module: pip install 'tinymvit\[onnx\]'$"):
        export("no/such/model", tmp_path / "x.onnx", to="onnx")


def test_a_failure_leaves_what_was_there(model, tmp_path, monkeypatch):
    path = tmp_path / "x.onnx"
    path.write_bytes(b"what was here")

    def fail(file):
        file.write(b"half")
        raise ValueError("no more")

    monkeypatch.setattr(onnx, "files", lambda network, name: {name: fail})
    with pytest.raises(ValueError, match="no more"):
        export(model, path, to="onnx")
    assert path.read_bytes() == b"what was here"
    assert list(tmp_path.iterdir()) == [path]


def test_every_exporter_has_what_is_asked_of_it():
    for name, exporter in EXPORTERS.items():
        assert name == exporter.NAME
        assert exporter.PRECISIONS[0] == "float32"
        assert exporter.EXTRA is not None or not exporter.MODULES


def test_the_command_says_what_it_wrote(capsys, tmp_path):
    path = tmp_path / "digits.onnx"
    code, out, err = run(
        capsys, "export", "digits", "--to", "onnx", "--output", path, "--size", "64", "--json", tmp_path / "facts.json"
    )
    assert (code, err) == (0, "")
    assert out == f"{path}: onnx, float32, for an input of 1 x 3 x 64 x 64; 16 bytes\n"
    facts = json.loads((tmp_path / "facts.json").read_text("utf-8"))
    assert facts["to"] == "onnx"
    assert facts["bytes"] == 16
    assert facts["check"] is None


def test_the_command_says_what_memory_a_program_needs(capsys, tmp_path):
    code, out, _ = run(capsys, "export", "digits", "--to", "c", "--output", tmp_path / "c", "--size", "64")
    assert code == 0
    assert re.fullmatch(r"weights: [\d,]+ bytes; the arena that it works in: [\d,]+ bytes", out.splitlines()[1])


def test_one_file_cannot_be_both(capsys, tmp_path):
    path = tmp_path / "x.onnx"
    code, _, err = run(capsys, "export", "digits", "--to", "onnx", "--output", path, "--json", path)
    assert (code, err) == (2, f"tinymvit: --json {path}: is the --output too, expected another file\n")
    assert not path.exists()


def test_the_command_refuses_in_a_line(capsys, tmp_path):
    code, out, err = run(capsys, "export", "digits", "--to", "onnx", "--output", tmp_path / "digits.tflite")
    assert (code, out) == (2, "")
    assert err == f"tinymvit: {tmp_path}/digits.tflite: the suffix '.tflite', expected .onnx for ONNX\n"


def test_a_runtime_that_is_missing_is_said(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "RUNTIME_MODULES", ("no_such_runtime",))
    path = tmp_path / "x.onnx"
    code, _, err = run(capsys, "export", "digits", "--to", "onnx", "--output", path, "--check")
    assert code == 0
    assert err == "tinymvit: not checked: no_such_runtime is not installed: pip install no-such-runtime\n"
