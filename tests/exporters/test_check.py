"""An exported file beside the reference and our engine: what is said of a right one, and of a wrong one."""

import numpy as np
import pytest

from command_line import DIGIT, run
from tinymvit import MobileViTConfig, MobileViTForImageClassification, MobileViTImageProcessor, export
from tinymvit.exporters import check as checking
from tinymvit.exporters.check import check, noise_for, picture_for, pixels_of, truth_of
from tinymvit.networks.random_weights import as_trained
from torch_models import TINY

pytest.importorskip("onnx", reason="pip install onnx")
pytest.importorskip("onnxruntime", reason="pip install onnxruntime")


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch):
    monkeypatch.setattr(checking, "ROUNDS", 2)
    monkeypatch.setattr(checking, "PAUSE", 0)


def model(seed=0, **changes):
    config = MobileViTConfig(**TINY | {"image_size": 64} | changes)
    graph = MobileViTForImageClassification.recorder(config, (1, 3, 64, 64))
    return MobileViTForImageClassification.from_tensors(config, as_trained(graph, seed))


def test_a_right_file_agrees(tmp_path):
    path = tmp_path / "x.onnx"
    found = check(export(model(), path, to="onnx"), path, to="onnx", threads=1)
    assert found.agrees
    assert found.results["logits"].relative < 2e-5
    assert found.results["logits"].same_answers == 1
    assert found.runtime.startswith("ONNX Runtime 1.")
    assert found.seconds > 0 < found.engine_seconds


@pytest.mark.parametrize("answer", [None, "softmax", "argmax"])
@pytest.mark.parametrize("with_preprocessing", [False, True])
def test_what_the_file_takes_and_gives_is_known(tmp_path, answer, with_preprocessing):
    path = tmp_path / "x.onnx"
    network = export(model(), path, to="onnx", answer=answer, with_preprocessing=with_preprocessing, batch=2)
    given = noise_for(network)
    assert given.shape == ((2, 64, 64, 3) if with_preprocessing else (2, 3, 64, 64))
    found = check(network, path, to="onnx", threads=1, given=given)
    assert found.agrees, found


def test_a_file_of_other_weights_is_found(tmp_path):
    path = tmp_path / "x.onnx"
    network = export(model(), path, to="onnx")
    export(model(seed=1), path, to="onnx")
    assert not check(network, path, to="onnx", threads=1).agrees


def test_features_have_no_answer(tmp_path):
    path = tmp_path / "x.onnx"
    found = check(export(model(), path, to="onnx", backbone=True), path, to="onnx", threads=1)
    assert found.agrees
    assert {name: result.same_answers for name, result in found.results.items()} == {
        "last_hidden_state": None,
        "pooler_output": None,
    }


def test_a_picture_is_what_the_processor_makes_of_it(tmp_path):
    processor = MobileViTImageProcessor.from_pretrained("digits")
    network = export("digits", tmp_path / "x.onnx", to="onnx", with_preprocessing=True)
    plain = export("digits", tmp_path / "y.onnx", to="onnx", batch=2)
    picture = picture_for(network, DIGIT, processor)
    assert picture.dtype == np.uint8
    assert picture.shape == (1, 128, 128, 3)
    pixels = picture_for(plain, DIGIT, processor)
    np.testing.assert_allclose(pixels_of(network, picture)[0], pixels[0], rtol=1e-6)
    np.testing.assert_array_equal(pixels[0], pixels[1])
    np.testing.assert_array_equal(pixels[:1], processor(DIGIT).pixel_values)


def test_the_truth_of_an_answer(tmp_path):
    network = export(model(), tmp_path / "x.onnx", to="onnx")
    pixels = noise_for(network)
    logits = truth_of(network, pixels)["logits"]
    softmax = export(model(), tmp_path / "x.onnx", to="onnx", answer="softmax")
    argmax = export(model(), tmp_path / "x.onnx", to="onnx", answer="argmax")
    assert truth_of(softmax, pixels)["probabilities"].sum() == pytest.approx(1)
    assert truth_of(argmax, pixels)["classes"] == logits.argmax()


def test_the_command_checks(capsys, tmp_path):
    path = tmp_path / "digits.onnx"
    code, out, err = run(
        capsys, "export", "digits", "--to", "onnx", "--output", path, "--check", "--image", DIGIT, "--threads", 1
    )
    assert (code, err) == (0, "")
    _, error, time = out.splitlines()
    assert error.startswith("logits in ONNX Runtime ")
    assert error.endswith("same answer 100.00%")
    assert " ms on 1 thread; our engine " in time


def test_the_command_says_that_a_file_is_wrong(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(checking.LIMITS, "float32", 0)
    path = tmp_path / "digits.onnx"
    code, _, err = run(capsys, "export", "digits", "--to", "onnx", "--output", path, "--check")
    assert code == 1
    assert err == f"tinymvit: {path}: computes something else than the model, expected what rounding explains\n"


def test_a_picture_without_a_check_is_refused(capsys, tmp_path):
    code, _, err = run(capsys, "export", "digits", "--to", "onnx", "--output", tmp_path / "x.onnx", "--image", DIGIT)
    assert code == 2
    assert err == f"tinymvit: --image {DIGIT}: expected --check, which runs the file on it\n"


def test_what_takes_too_much_memory_is_not_run(tmp_path, monkeypatch):
    network = export(model(), tmp_path / "x.onnx", to="onnx", size=1024)
    monkeypatch.setattr(checking, "EXPORTERS", {})  # nothing of it is asked for
    with pytest.raises(ValueError, match=r"^the reference's float64 values for an input of 1 x 3 x 1024 x 1024: "):
        check(network, tmp_path / "x.onnx", to="onnx")
