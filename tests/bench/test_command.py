"""`tinymvit bench`: what it prints and writes, also when it is ended or used wrongly."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from command_line import run
from tinymvit.bench import layer_times
from tinymvit.config import MobileViTConfig
from tinymvit.networks import mobilevit
from tinymvit.ops import Conv2d


def bench_at_work(tmp_path):
    """A bench in a process group of its own, with temporary files in `tmp_path`, when a contestant is at work."""
    arguments = ["bench", "digits", "--against", "none", "--rounds", "100000"]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "tinymvit.cli", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        start_new_session=True,
    )
    while not list(tmp_path.glob("*/answer-*.npy")):
        assert process.poll() is None
        time.sleep(0.05)
    return process


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_bench_that_is_ended_leaves_no_process_and_no_file(tmp_path, number, code):
    process = bench_at_work(tmp_path)
    process.send_signal(number)
    assert process.wait() == code
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal on this system")
def test_the_contestants_of_a_bench_that_is_killed_end_by_themselves(tmp_path):
    process = bench_at_work(tmp_path)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    pytest.fail("a contestant is at work for nobody")


@pytest.mark.slow
def test_the_command_prints_a_table_and_writes_everything_as_json(capsys, tmp_path, fakes):
    target = tmp_path / "new" / "bench.json"
    code, out, err = run(
        capsys, "bench", "--shape", "xx-small", "--size", 64, "--threads", 1, "--batch", 2,
        "--against", "honest,broken", "--rounds", 2, "--runs", 3, "--json", target,
    )  # fmt: skip
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert "MobileViTForImageClassification (xx-small, random weights), input 2 x 3 x 64 x 64" in lines[0]
    assert "threads: 1" in lines[0]
    assert [line.split()[0] for line in lines if line.startswith(("tinymvit", "honest"))] == ["tinymvit", "honest"]
    assert any(line.startswith("best peer / ours: ") for line in lines)
    assert lines[-1] == "broken: its process ended: RuntimeError: the model is too beautiful"

    facts = json.loads(target.read_text())
    graph = mobilevit.image_classification(MobileViTConfig.preset("xx-small"), (2, 3, 64, 64))
    assert facts["multiply_adds"] == sum(graph.multiply_adds(node) for node in graph)
    assert (facts["input"], facts["threads"], facts["class"]) == ([2, 3, 64, 64], 1, "MobileViTForImageClassification")
    assert facts["cpu"]
    assert facts["cpu_features"]
    assert facts["absent"].keys() == {"broken"}
    for each in facts["contestants"]:
        times = np.array(each["rounds"])
        assert times.shape == (2, 3)
        assert each["statistics"]["median"] == np.median(times)
        assert each["statistics"]["minimum"] == times.min()
        assert each["peak_bytes"] > 1e6
        assert each["version"]
    assert [path.name for path in target.parent.iterdir()] == ["bench.json"]


@pytest.mark.slow
def test_a_model_brings_its_task_and_size(capsys):
    code, out, err = run(capsys, "bench", "digits-seg", "--against", "none", "--rounds", 1, "--runs", 1)
    assert (code, err) == (0, "")
    assert out.startswith("MobileViTForSemanticSegmentation (digits-seg), input 1 x 3 x 160 x 160")
    assert "best peer" not in out


def multiply_adds_done(graph, node):
    """Of a dense 3x3 convolution that keeps the map's size, 16 for each 2 x 2 outputs: Winograd's method."""
    op = node.op
    if not isinstance(op, Conv2d) or op != Conv2d(op.in_channels, op.out_channels, 3, padding=1, bias=op.bias):
        return graph.multiply_adds(node)
    batch, channels, height, width = node.shape
    return batch * channels * op.in_channels * 16 * -(-height // 2) * -(-width // 2)


def test_per_layer_counts_every_multiply_add_of_the_graph(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(layer_times, "PASSES", 2)
    arguments = ["bench", "--shape", "xx-small", "--task", "segment", "--size", 64, "--threads", 1, "--against", "none"]
    target = tmp_path / "bench.json"
    code, out, err = run(capsys, *arguments, "--rounds", 1, "--runs", 1, "--per-layer", "--json", target)
    assert (code, err) == (0, "")
    graph = mobilevit.semantic_segmentation(MobileViTConfig.preset("deeplabv3-xx-small"), (1, 3, 64, 64))
    profile = json.loads(target.read_text())["profile"]
    layers = profile["layers"]
    assert sum(layer["multiply_adds"] for layer in layers) == sum(multiply_adds_done(graph, node) for node in graph)
    assert [layer["seconds"] for layer in layers] == sorted((layer["seconds"] for layer in layers), reverse=True)
    assert profile["limits"]["multiply_adds"] > 1e8
    assert profile["limits"]["bytes"] > 1e8
    assert profile["whole"] > 0
    lines = out.splitlines()
    assert lines[-2].endswith(f"sum of {len(layers)} nodes")
    assert lines[-1].endswith("the whole call")
    for layer in layers:
        assert any(line.endswith(f" {layer['name']}") for line in lines)


def test_a_peer_that_is_not_installed_is_one_line_that_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    code, out, err = run(capsys, "bench", "digits", "--against", "openvino,litert", "--rounds", 1, "--runs", 1)
    assert (code, err) == (0, "")
    assert out.splitlines()[-2:] == [
        "openvino: openvino is not installed: pip install 'tinymvit[bench]'",
        "litert: ai_edge_litert is not installed: pip install 'tinymvit[bench-litert]'",
    ]


BAD_USE = [
    (["--against", "torch,tensorflow"], "no peer is named 'tensorflow'; expected some of torch,onnxruntime,openvino,"),
    (["--against", ""], "no peer is named ''"),
    (["digits", "--task", "classify"], "--task goes with --shape"),
    (["digits", "--shape", "small"], "not allowed with"),
    (["--shape", "deeplabv3-small", "--task", "classify"], "--shape deeplabv3-small is for segmentation"),
    (["--shape", "apple/deeplabv3-mobilevit-small", "--task", "classify"], "mobilevit-small is for segmentation"),
    (["--shape", "smal"], 'did you mean "small"'),
    (["--threads", "100000"], "threads must be from 1 to"),
    (["--batch", "0"], "expected a whole number of at least 1"),
    (["--runs", "few"], "expected a whole number of at least 1"),
    (["--json", "."], "argument --json: '.': is a folder; expected a file"),
    (["nowhere"], "nowhere"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_USE, ids=lambda value: " ".join(value) if value else None)
def test_mistakes_get_one_clear_line_and_exit_code_2(capsys, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "bench", *arguments)
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]
    assert list(Path().iterdir()) == []


def test_help_shows_an_example(capsys):
    code, out, _ = run(capsys, "bench", "--help")
    assert code == 0
    assert "example: tinymvit bench" in out
