"""`tinymvit summary`: the table, its totals, the memory."""

import json
import re

import pytest

from command_line import run
from tinymvit.cli import main


def test_summary_totals(capsys):
    code, out, _ = run(capsys, "summary", "--shape", "small", "--json")
    table = json.loads(out)
    assert code == 0
    assert table["parameters"] == 5_578_632  # of apple/mobilevit-small, as PyTorch counts them
    assert round(table["multiply_adds"] / 1e6) == 2001
    assert sum(layer["parameters"] for layer in table["layers"]) == table["parameters"]
    code, text, _ = run(capsys, "summary", "--shape", "small")
    *lines, total, memory = text.splitlines()
    assert "5,578,632" in total
    assert len(lines) == len(table["layers"]) + 3
    megabytes = [f"{table['memory'][part] / 1e6:.1f} MB" for part in ("values", "scratch", "weights")]
    assert re.findall(r"[\d.]+ MB", memory) == megabytes
    winograd = 7 * sum(3 * width**2 for width in (96, 128, 160))  # 16 numbers for each 9 of the 3x3 convolutions
    assert table["memory"]["weights"] == pytest.approx(4 * (5_578_632 + winograd), rel=0.02)  # norms folded, padding
    assert any("mobilevit.encoder.layer.2.unfolding " in line and "Unfold" in line for line in text.splitlines())


def test_summary_of_a_checkpoint_and_of_another_size(capsys):
    _, out, _ = run(capsys, "summary", "digits-seg", "--size", "64x96", "--json")
    layers = {layer["name"]: layer for layer in json.loads(out)["layers"]}
    assert layers["pixel_values"]["output"] == [1, 3, 64, 96]
    assert layers["segmentation_head.classifier.convolution"]["output"] == [1, 11, 8, 12]


def test_a_shape_by_the_name_of_its_checkpoint_has_its_head(capsys):
    answers = [
        json.loads(run(capsys, "summary", "--shape", shape, "--size", "64", "--json")[1])
        for shape in ("deeplabv3-xx-small", "apple/deeplabv3-mobilevit-xx-small")
    ]
    assert answers[0] == answers[1]
    assert any(layer["name"].startswith("segmentation_head") for layer in answers[1]["layers"])


def test_too_large_for_the_memory_is_one_line(capsys, monkeypatch):
    from tinymvit.commands import summary

    def exhausted(graph):
        raise MemoryError

    monkeypatch.setattr(summary, "memory_of", exhausted)
    assert main(["summary"]) == 2
    assert capsys.readouterr().err == "tinymvit: out of memory; expected a smaller --size, batch or image\n"
