"""Ranges as JSON, and the network in int8 by them."""

import json
from dataclasses import replace

import numpy as np
import pytest

import tinymvit
from checkpoints import complaint
from command_line import DIGIT
from tinymvit import Ranges, ops, reference
from tinymvit.errors import ConfigError, OutputError, TinyMViTError
from tinymvit.modeling import load_model
from tinymvit.numerics import relative_error
from tinymvit.quantisation.ranges import folded, kept


@pytest.fixture(scope="module")
def digits():
    return load_model("digits")


@pytest.fixture(scope="module")
def ranges():
    return tinymvit.calibrate("digits", DIGIT)


def test_what_is_saved_is_loaded(ranges, tmp_path):
    path = tmp_path / "sub" / "ranges.json"
    ranges.save(path)
    assert Ranges.load(path) == ranges
    first = path.read_bytes()
    ranges.save(path)
    assert path.read_bytes() == first
    part = replace(ranges, method="percentile", percentile=99.5)
    part.save(path)
    assert Ranges.load(str(path)) == part


def test_it_cannot_be_saved(ranges, tmp_path):
    with complaint(OutputError, f"{tmp_path}"):
        ranges.save(tmp_path)


REFUSED = [
    ({"format": "else"}, "format: 'else', expected 'tinymvit ranges', as tinymvit.calibrate saves it"),
    ({"format": None}, "format: None, expected"),
    ({"version": 2}, "version: 2, expected 1"),
    ({"version": True}, "version: True, expected 1"),
    ({"version": None}, "version: None, expected 1"),
    ({"method": "kl"}, "method: 'kl', expected min-max or percentile"),
    ({"method": []}, "method: [], expected min-max or percentile"),
    ({"percentile": 99}, "percentile: 99 for the method min-max"),
    ({"method": "percentile"}, "percentile: None for the method percentile"),
    ({"method": "percentile", "percentile": 3}, "percentile: 3, expected a number above 50, at most 100"),
    ({"images": 0}, "images: 0, expected a whole number of at least 1"),
    ({"size": [1]}, "size: [1], expected [height, width]"),
    ({"size": [1, "2"]}, "size: [1, '2'], expected [height, width]"),
    ({"stem": 5}, "stem: 5, expected the SHA-256 of the first weights"),
    ({"ranges": [1]}, "ranges: [1], expected an object of [low, high] by the nodes' names"),
    ({"ranges": {"a": [1]}}, "ranges: a: [1], expected [low, high], low first, at most 1e+12"),
    ({"ranges": {"a": [1, 0]}}, "ranges: a: [1, 0], expected [low, high], low first, at most 1e+12"),
    ({"ranges": {"a": [0, 1e13]}}, "ranges: a: [0, 10000000000000.0], expected [low, high], low first, at most 1e+12"),
    ({"ranges": {"a": [0, float("nan")]}}, "ranges: a: [0, nan], expected [low, high], low first, at most 1e+12"),
    ({"ranges": {"a": [0, True]}}, "ranges: a: [0, True], expected [low, high], low first, at most 1e+12"),
    ({"ranges": {"a": [0, 10**400]}}, "ranges: a: [0, "),
    ({"ranges": {"a": "01"}}, "ranges: a: '01', expected [low, high], low first, at most 1e+12"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_a_file_that_cannot_be_used_is_refused_in_a_line(ranges, tmp_path, changes, message):
    path = tmp_path / "ranges.json"
    ranges.save(path)
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")
    with complaint(ConfigError, f"{path}: {message}"):
        Ranges.load(path)


@pytest.mark.parametrize("name", ["ranges", "method", "percentile", "images", "size", "stem"])
def test_a_file_without_a_part(ranges, tmp_path, name):
    path = tmp_path / "ranges.json"
    ranges.save(path)
    values = json.loads(path.read_text("utf-8"))
    del values[name]
    path.write_text(json.dumps(values), "utf-8")
    with complaint(ConfigError, f"{path}: {name}: missing"):
        Ranges.load(path)


@pytest.mark.parametrize(
    ("text", "message"), [("", "not valid JSON"), ("[]", "holds a JSON list"), ("{}", "format: None")]
)
def test_a_file_that_is_another(tmp_path, text, message):
    (tmp_path / "x.json").write_text(text, "utf-8")
    with complaint(ConfigError, "x.json: ", message):
        Ranges.load(tmp_path / "x.json")
    with complaint(ConfigError, "missing.json: "):
        Ranges.load(tmp_path / "missing.json")


def test_the_network_in_int8_gives_nearly_the_same(digits, ranges):
    pixels = tinymvit.MobileViTImageProcessor.from_pretrained("digits")(DIGIT).pixel_values
    graph = digits.graph().select(["logits"])
    exact = reference.run(graph, digits.weights, pixels)["logits"]
    found = reference.run(*ranges.quantised(graph, digits.weights), pixels)["logits"]
    assert relative_error(found, exact) < 0.1
    assert found.argmax() == exact.argmax() == 7


def test_ranges_of_another_network_are_refused(digits, ranges):
    graph = digits.graph().select(["logits"])
    fewer = replace(ranges, ranges={name: ends for name, ends in ranges.ranges.items() if name != "classifier"})
    with complaint(ConfigError, "the ranges: none for classifier; expected those of this model, calibrated anew"):
        fewer.quantised(graph, digits.weights)
    weights = dict(digits.weights)
    weights["mobilevit.conv_stem.convolution.weight"] = weights["mobilevit.conv_stem.convolution.weight"] + 1
    with complaint(ConfigError, "the ranges: of a model with other weights; expected those of this one"):
        ranges.quantised(graph, weights)


def test_what_keep_float_names(digits):
    graph, _ = folded(digits.graph().select(["logits"]), digits.weights)
    assert kept(graph, []) == set()
    assert kept(graph, "classifier") == kept(graph, ["classifier"]) == {"classifier"}
    blocks = kept(graph, ["mobilevit.encoder.layer.2"])
    assert blocks == {name for name in blocks if name.startswith("mobilevit.encoder.layer.2.")}
    assert len(blocks) > 10
    assert kept(graph, ["*.query"]) == {name for name in graph.nodes if name.endswith(".query")}
    assert not any(isinstance(graph[name].op, ops.Add) for name in kept(graph, ["*"]))
    with complaint(TinyMViTError, 'keep_float: clasifier names no node in int8; did you mean "classifier"?'):
        kept(graph, ["clasifier"])
    with complaint(TinyMViTError, "keep_float: mobilevit.pooler names no node in int8"):
        kept(graph, ["mobilevit.pooler"])
    with complaint(TypeError, "keep_float: a int among them, expected names of nodes or patterns"):
        kept(graph, [3])


def test_nothing_in_int8_is_the_network_itself(digits, ranges):
    pixels = np.random.default_rng(0).random((1, 3, 128, 128))
    graph = digits.graph().select(["logits"])
    kept_all = ranges.quantised(graph, digits.weights, ["*"])
    exact = reference.run(graph, digits.weights, pixels)["logits"]
    assert relative_error(reference.run(*kept_all, pixels)["logits"], exact) < 1e-6
