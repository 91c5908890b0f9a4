"""What an exporter of an int8 file is given, and what is refused in one line before anything is written."""

import json

import numpy as np
import pytest

from checkpoints import complaint
from command_line import DIGIT
from tinymvit import MobileViTConfig, MobileViTForImageClassification, calibrate, export, ops
from tinymvit.errors import ConfigError, ImageError, TinyMViTError
from tinymvit.exporters.network import Network
from torch_models import TINY

pytestmark = pytest.mark.usefixtures("tiny_onnx_files")


@pytest.fixture(scope="module")
def model():
    return MobileViTForImageClassification(MobileViTConfig(**TINY))


def exported(model, folder, **settings):
    return export(model, folder / "model.onnx", to="onnx", precision="int8", **settings)


def test_ranges_come_from_pictures_from_calibration_and_from_a_file(model, tmp_path):
    ranges = calibrate(model, DIGIT)
    ranges.save(tmp_path / "ranges.json")
    for given in (DIGIT, [DIGIT], ranges, tmp_path / "ranges.json", str(tmp_path / "ranges.json")):
        network = exported(model, tmp_path, calibrate=given)
        assert network.ranges == ranges
        assert network.facts["calibration"] == {"method": "min-max", "percentile": None, "images": 1}
        assert json.loads(json.dumps(network.facts)) == network.facts
    graph, weights = network.quantised()
    assert any(isinstance(node.op, ops.Quantised) for node in graph)
    assert list(weights) == list(graph.weight_shapes())


def test_they_are_of_the_size_and_the_batch_that_is_exported(model, tmp_path):
    network = exported(model, tmp_path, calibrate=DIGIT, size=(48, 64), batch=2)
    assert network.ranges.size == (48, 64)
    assert network.quantised()[0]["pixel_values.int8"].shape == (2, 3, 48, 64)


def test_without_them_only_the_weights_are_int8(model, tmp_path):
    network = exported(model, tmp_path)
    assert network.ranges is None
    assert "calibration" not in network.facts
    with complaint(ValueError, "the network has no ranges, expected those of calibration"):
        network.quantised()


def test_what_is_kept_is_in_float(model, tmp_path):
    network = exported(model, tmp_path, calibrate=DIGIT, keep_float="classifier")
    assert network.keep_float == ("classifier",)
    assert isinstance(network.quantised()[0]["classifier"].op, ops.Linear)
    assert network.facts["keep_float"] == ["classifier"]


REFUSED = [
    (TinyMViTError, {"precision": "float32", "calibrate": DIGIT}, "calibrate: for ONNX in float32, expected precision"),
    (TinyMViTError, {"to": "c", "calibrate": DIGIT}, "calibrate: for C in int8, expected one of onnx, tflite, which"),
    (TinyMViTError, {"keep_float": ["classifier"]}, "keep_float: without calibrate all arithmetic is in float"),
    (TinyMViTError, {"calibrate": DIGIT, "keep_float": ["nothing"]}, "keep_float: nothing names no node in int8"),
    (ImageError, {"calibrate": "missing.png"}, "missing.png: "),
    (ConfigError, {"calibrate": "missing.json"}, "missing.json: "),
]


@pytest.mark.parametrize(("error", "changes", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_cannot_be_is_refused_before_anything_is_written(model, tmp_path, error, changes, message):
    path = tmp_path / ("folder" if changes.get("to") == "c" else "model.onnx")
    with complaint(error, message):
        export(model, path, **{"to": "onnx", "precision": "int8"} | changes)
    assert not list(tmp_path.iterdir())


def test_a_folder_without_pictures(model, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    with complaint(ImageError, f"{folder}: no pictures in this folder"):
        exported(model, tmp_path, calibrate=folder)


def test_ranges_of_other_weights(model, tmp_path):
    other = MobileViTForImageClassification(model.config, seed=1)
    with complaint(ConfigError, "the ranges: of a model with other weights"):
        exported(other, tmp_path, calibrate=calibrate(model, DIGIT))
    assert np.isfinite(list(calibrate(model, DIGIT).ranges.values())).all()


def test_a_network_by_itself_has_none():
    assert Network.__dataclass_fields__["ranges"].default is None
