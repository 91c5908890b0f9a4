"""`tinymvit compare`: its answer, its files, its errors of one line."""

import errno
import json

import numpy as np
import pytest
from safetensors.numpy import save_file

import tiny_port
from command_line import run
from tiny_port import ATTENTION, LAYER, STEM, dump, model, pixels, right
from tinymvit import files, reference
from tinymvit.ops import LayerNorm


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    model().save_pretrained(folder)
    return folder


@pytest.fixture
def good(tmp_path):
    """The file of a right port."""
    save_file(right(), tmp_path / "good.safetensors")
    return tmp_path / "good.safetensors"


def assert_one_line(result, message):
    """Exit code 2, nothing on stdout and one line on stderr."""
    code, out, err = result
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_right_port(capsys, good, model_folder):
    code, out, err = run(capsys, "compare", model_folder, good)
    assert (code, out.splitlines()[0], err) == (0, "agree", "")


def test_a_wrong_port_with_all_that_can_be_written(capsys, tmp_path, model_folder):
    node = f"{LAYER}.layernorm_after"

    def other_epsilon(op, inputs, weights):
        return reference.compute(LayerNorm(op.width, 1e-3), inputs, weights)

    folder = tmp_path / "bad"
    for name, x in dump(model(), pixels(), wrong={node: other_epsilon}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{name}.npy", x)
    page, data = tmp_path / "page.html", tmp_path / "out.json"
    code, out, err = run(capsys, "compare", model_folder, folder, "--isolate", "--html", page, "--json", data)
    assert (code, out.splitlines()[0], err) == (1, node, "")
    assert f"hint: {node}: epsilon is 0.001" in out
    assert any(line.startswith(node) and line.endswith("differs") for line in out.splitlines()[1:])
    found = json.loads(data.read_text())
    assert found["first"] == node
    assert found["rows"][0]["node"] == "pixel_values"
    text = page.read_text()
    assert text.count("<tr") == 1 + len(found["rows"])
    assert "http" not in text  # one file, nothing from elsewhere
    assert f"<code>{node}</code>" in text


def test_names_of_others_cannot_spoil_the_answer(capsys, tmp_path, model_folder):
    bad = "a\nb\x1b[31m<td>&\u2028é"
    file = tmp_path / "a.safetensors"
    save_file({"pixel_values": pixels(), STEM: right()[STEM] * 2, bad: np.zeros((7, 11), np.float32)}, file)
    code, out, err = run(capsys, "compare", model_folder, file)
    assert (code, err) == (1, "")
    assert out.split("\n")[-2:] == ["1 of their 3 tensors not recognised: a\\nb\\x1b[31m<td>&\\u2028é", ""]


def test_a_map_that_is_none_or_names_nothing(capsys, tmp_path, good, model_folder):
    names = tmp_path / "names.json"
    names.write_text("<html>")
    assert_one_line(run(capsys, "compare", good, good, "--map", names), "not valid JSON")
    names.write_text(json.dumps({"c\nd": STEM}))
    assert_one_line(run(capsys, "compare", model_folder, good, "--map", names), "which their dump lacks")


def test_an_output_that_cannot_be_written_does_not_cost_the_answer(capsys, monkeypatch, tmp_path, good, model_folder):
    def full(file):
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr(files.os, "fsync", full)
    target = tmp_path / "found.json"
    code, out, err = run(capsys, "compare", model_folder, good, "--json", target)
    assert (code, out.splitlines()[0]) == (2, "agree")
    assert err == f"tinymvit: {target}: cannot be written: disk full\n"


def test_the_pairs_are_written_as_a_map_that_can_be_given_back(capsys, tmp_path, model_folder):
    values = tiny_port.run(model(), pixels())
    save_file({f"t{i:03}": x for i, x in enumerate(values.values())}, tmp_path / "a.safetensors")
    names = tmp_path / "names.json"
    code, out, err = run(capsys, "compare", model_folder, tmp_path / "a.safetensors", "--write-map", names)
    total = len(values)
    assert (code, err) == (0, "")
    assert out.startswith(f"agree; {total} of {total} tensors of the graph recognised, by value\n")
    assert list(json.loads(names.read_text()).values()) == list(values)
    code, out, err = run(capsys, "compare", model_folder, tmp_path / "a.safetensors", "--map", names)
    assert (code, out.splitlines()[0], err) == (0, "agree", "")
    named = [line for line in out.splitlines() if line.startswith("guess")]
    assert not named


def test_a_map_file(capsys, tmp_path, model_folder):
    save_file({"x": pixels(), "y": right()[STEM]}, tmp_path / "a.safetensors")
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"x": "pixel_values", "y": STEM}))
    arguments = ("compare", model_folder, tmp_path / "a.safetensors", "--map", names)
    assert run(capsys, *arguments)[0] == 0
    for content, message in (
        ({"z": STEM}, "the map names the tensor 'z', which their dump lacks"),
        ({STEM: "y"}, "the map goes from their names to ours"),
        ({"y": f"{STEM}s"}, f"did you mean '{STEM}'"),
        ({"y": 3}, "expected the name of a node of ours"),
        ([], "expected an object"),
        ({"x": STEM, "y": STEM}, f"two tensors mean {STEM}: 'x' and 'y'"),
    ):
        names.write_text(json.dumps(content))
        assert_one_line(run(capsys, *arguments), message)
    names.write_text(f'{{"y": "{ATTENTION}.query", "x": "pixel_values", "y": "{STEM}"}}')
    assert_one_line(run(capsys, *arguments), "names.json: not valid JSON: the name 'y' stands twice in an object\n")


def test_a_truncated_file_is_one_line(capsys, tmp_path, good, model_folder):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(good.read_bytes()[:-100])
    assert_one_line(run(capsys, "compare", model_folder, cut), "truncated")


def test_a_layout_that_is_none(capsys, good, model_folder):
    code, out, err = run(capsys, "compare", model_folder, good, "--layout", "nwhc")
    assert (code, out) == (2, "")
    assert "invalid choice: 'nwhc'" in err
