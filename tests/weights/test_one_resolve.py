"""One name, one search: whatever is asked for, a checkpoint is found once and then passed on."""

import numpy as np
import pytest

import tinymvit
from command_line import DIGIT, SCENE, run
from tinymvit import modeling, weights
from tinymvit.weights import locate


@pytest.fixture
def resolved(monkeypatch):
    """The names that were looked for."""
    names = []
    resolve = locate.resolve

    def counting(name):
        names.append(name)
        return resolve(name)

    monkeypatch.setattr(locate, "resolve", counting)
    monkeypatch.setattr(weights, "resolve", counting)
    return names


COMMANDS = [
    ["classify", DIGIT, "--model", "digits"],
    ["segment", SCENE, "--output", "scene.png"],
    ["trace", DIGIT, "--output", "trace.safetensors", "--names", "logits"],
    ["attention", DIGIT, "--block", "1", "--query", "60,70", "--output", "attention.png"],
    ["features", DIGIT, "--node", "mobilevit.conv_stem", "--output", "features.png"],
    ["vectors", "--output", "vectors"],
    ["error", "digits", DIGIT],
    ["summary", "digits"],
    ["bench", "digits", "--against", "none", "--rounds", "1", "--runs", "1"],
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
def test_a_command_finds_its_checkpoint_once(capsys, monkeypatch, tmp_path, resolved, arguments):
    monkeypatch.chdir(tmp_path)
    assert run(capsys, *arguments)[0] == 0
    assert resolved == ["digits-seg" if arguments[0] == "segment" else "digits"]


def test_compare_finds_its_model_once(capsys, tmp_path, resolved):
    assert run(capsys, "trace", DIGIT, "--output", tmp_path / "port.safetensors")[0] == 0
    resolved.clear()
    assert run(capsys, "compare", "digits", tmp_path / "port.safetensors")[0] == 0
    assert resolved == ["digits"]


def test_compare_takes_an_opened_checkpoint(tmp_path, resolved):
    pixels = np.random.default_rng(0).random((1, 3, 32, 32), np.float32)
    checkpoint = weights.open_checkpoint("digits")
    port = modeling.load_model(checkpoint).trace(pixels, ["pixel_values", "logits"])
    assert tinymvit.compare(checkpoint, port).agrees
    assert resolved == ["digits"]


@pytest.mark.parametrize(
    "ask",
    [
        lambda: tinymvit.classify(DIGIT),
        lambda: tinymvit.ImageClassificationPipeline("digits"),
        lambda: modeling.load_model("digits"),
        lambda: tinymvit.MobileViTModel.from_pretrained("digits"),
        lambda: tinymvit.MobileViTImageProcessor.from_pretrained("digits"),
        lambda: tinymvit.MobileViTConfig.from_pretrained("digits"),
        lambda: weights.load_tensors("digits"),
        lambda: weights.weights_file("digits"),
    ],
    ids=["classify", "pipeline", "load_model", "model", "processor", "config", "load_tensors", "weights_file"],
)
def test_python_finds_its_checkpoint_once(resolved, ask):
    ask()
    assert resolved == ["digits"]


def test_segment_finds_its_checkpoint_once(resolved):
    tinymvit.segment(SCENE)
    assert resolved == ["digits-seg"]


def test_an_opened_checkpoint_serves_all_that_a_name_serves(resolved):
    checkpoint = weights.open_checkpoint("digits")
    model = tinymvit.MobileViTForImageClassification.from_pretrained(checkpoint)
    processor = tinymvit.MobileViTImageProcessor.from_pretrained(checkpoint)
    assert model.config == tinymvit.MobileViTConfig.from_pretrained(checkpoint)
    assert weights.open_checkpoint(checkpoint) is checkpoint
    assert weights.load_tensors(checkpoint).keys() == model.weights.keys()
    answer = tinymvit.classify(DIGIT, model=checkpoint, top_k=1)
    assert answer[0]["label"] == model.config.id2label[int(model(**processor(DIGIT)).logits.argmax())] == "7"
    assert resolved == ["digits"]
    with pytest.raises(tinymvit.CheckpointError, match=r"^digits: a classification checkpoint; use classify$"):
        tinymvit.segment(SCENE, model=checkpoint)
