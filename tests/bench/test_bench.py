"""`tinymvit bench`: its statistics on known numbers, its race with peers that lie, fail and die, and what it prints.

Nothing here depends on how long anything takes.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import fake_peers
from command_line import run
from oracle import assert_same
from tinymvit import reference
from tinymvit.bench import layer_times, peers, report
from tinymvit.bench import race as bench
from tinymvit.bench.contestant import peak_bytes
from tinymvit.config import MobileViTConfig
from tinymvit.engine.engine import Engine
from tinymvit.errors import ContestantError
from tinymvit.graph import Conv2d
from tinymvit.kernels import get_num_threads, set_num_threads
from tinymvit.kernels.runtime import peak
from tinymvit.kernels.runtime.jit import KERNELS
from tinymvit.modeling import MobileViTForImageClassification
from tinymvit.networks import mobilevit as model
from torch_models import TINY


@pytest.fixture(autouse=True)
def same_threads():
    ours, torchs = get_num_threads(), torch.get_num_threads()
    yield
    set_num_threads(ours)
    torch.set_num_threads(torchs)


@pytest.fixture
def checkpoint(tmp_path):
    """A folder with a tiny checkpoint, whose weights are random but alive."""
    config = MobileViTConfig(**TINY)
    tiny = MobileViTForImageClassification(config)
    tiny._set_weights(bench.draw_weights(tiny.graph()))
    tiny.save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def fakes(monkeypatch):
    """Let `bench` know the fake peers, here and in the processes that it starts."""
    for name, peer in fake_peers.FAKES.items():
        monkeypatch.setitem(peers.PEERS, name, peer)
    monkeypatch.setitem(peers.EXPORT_MODULES, fake_peers.Unmade.file, ())
    monkeypatch.setattr(bench, "PROGRAM", (sys.executable, fake_peers.__file__))
    monkeypatch.setattr(bench, "PAUSE", 0.0)


PIXELS = np.random.default_rng(0).random((1, 3, 32, 32), np.float32)


# ---- numbers ----


def test_times_of_known_numbers():
    s = bench.Times.of([float(n) for n in range(100, 200)][::-1])  # 100 to 199
    assert s.minimum == 100
    assert s.median == 149.5
    assert s.p90 == pytest.approx(189.1)
    assert s.spread == pytest.approx((174.25 - 124.75) / 149.5)
    assert bench.Times.of([2.0]) == bench.Times(2, 2, 2, 0)


def test_agreement_of_known_numbers():
    ours = np.array([[3.0, -4.0]], np.float32)
    theirs = np.array([[3.0, -4.5]], np.float32)
    agreement = bench.Agreement.between(theirs, ours)
    assert agreement.relative_rms == pytest.approx(0.5 / 5)
    assert agreement.largest == pytest.approx(0.5 / 4)
    assert bench.Agreement.between(ours, ours) == bench.Agreement(0, 0)


def test_ratios_and_the_best_peer():
    def result(name, milliseconds, slow=(1,)):
        rounds = [[1e-3 * factor * each for each in milliseconds] for factor in slow]
        return bench.Result(name, "1.0", 1, 0.5, 0.25, 0.1, bench.Agreement(2e-7, 3e-7), rounds, 5_000_000)

    race = bench.Race(
        [result("tinymvit", [2, 2, 4]), result("even", [5, 5, 5]), result("lucky", [3, 9, 9])], {"gone": "gone: lost"}
    )
    assert race.ratios(race.results[2]) == pytest.approx((4.5, 1.5))
    assert race.ratios(race.results[0]) == (1, 1)
    lines = report.format_race(race).splitlines()
    assert lines[-3:] == [
        "best peer / ours: 2.50 by medians (even), 1.50 by minima (lucky)",
        "spread above 20 % for tinymvit, lucky: other work ran beside; repeat this",
        "gone: lost",
    ]
    slow_for_both = (1, 3, 5)
    race = bench.Race([result("tinymvit", [2, 2, 4], slow_for_both), result("even", [5, 5, 5], slow_for_both)], {})
    race.results[1].rounds[2] = [1.0]  # and one round that was slow for one
    assert race.ratios(race.results[1]) == pytest.approx((2.5, 2.5))
    table = lines[:6]
    assert len({len(line) for line in table}) == 1, "the columns are aligned"
    assert " ".join(lines[3].split()) == "tinymvit 1.0 1.00 0.50 0.25 100 2.00 2.00 3.60 50 1.00 1.00 5 -"


@pytest.mark.parametrize("record", [model.image_classification, model.semantic_segmentation])
def test_drawn_weights_keep_activations_alive(record):
    graph = record(MobileViTConfig.preset("xx-small"), (1, 3, 128, 128))
    weights = bench.draw_weights(graph)
    assert {name: value.shape for name, value in weights.items()} == graph.weight_shapes()
    assert {value.dtype for value in weights.values()} == {np.dtype(np.float32)}
    pixels = np.random.default_rng(1).random((1, 3, 128, 128), np.float32)
    for node, value in reference.steps(graph, weights, pixels):
        assert 0.01 < np.sqrt(np.mean(np.square(value, dtype=np.float64))) < 20, node.name
        assert np.ptp(value) > 0.01, node.name
    for name, value in bench.draw_weights(graph).items():
        assert_same(value, weights[name], name=name)


def test_peak_memory_is_that_of_the_process_itself():
    """Not of its parent, which Linux's getrusage would give."""
    assert peak_bytes() > 50e6
    program = "from tinymvit.bench.contestant import peak_bytes; print(peak_bytes())"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 5e6 < int(result.stdout) < min(peak_bytes(), 100e6)


def test_a_contestant_starts_light():
    program = "import sys, tinymvit.bench.contestant; print({'numba', 'torch', 'PIL', 'tqdm'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


# ---- the race ----


def test_peers_that_lie_fail_or_die_are_one_line_each_and_the_others_go_on(checkpoint, fakes):
    race = bench.race(checkpoint, PIXELS, fake_peers.FAKES, threads=1, rounds=2, runs=1)
    assert [each.name for each in race.results] == ["tinymvit", "honest"]
    for each in race.results:
        assert [len(seconds) for seconds in each.rounds] == [1, 1]
        assert each.agreement == bench.Agreement(0, 0)
        assert each.started > each.imported + each.loaded + each.first
    assert race.absent == {
        "liar": "liar: not timed: its answer differs from ours (relative rms 1.0e-03, at most 1e-04 is taken for "
        "rounding)",
        "blank": "blank: not timed: its answer differs from ours (relative rms nan, at most 1e-04 is taken for "
        "rounding)",
        "short": "short: not timed: its logits have shape (1, 4), ours (1, 5)",
        "broken": "broken: its process ended: RuntimeError: the model is too beautiful",
        "killed": "killed: its process ended: SIGKILL",
        "tired": "tired: its process ended: exit code 3",
        "unmade": "unmade: making model.fake failed: ValueError: an op that no format has",
    }


def test_if_we_fail_ourselves_that_is_an_error(checkpoint, fakes):
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(ContestantError, match=r"tinymvit: its process ended: CheckpointError: .*safetensors"):
        bench.race(checkpoint, PIXELS, [], threads=1, rounds=1, runs=1)


def test_no_process_is_left_when_a_race_is_broken_off(checkpoint, fakes, monkeypatch):
    started = []

    def interrupted(self, runs):
        started.append(self._process)
        raise KeyboardInterrupt

    monkeypatch.setattr(bench.Contestant, "round", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench.race(checkpoint, PIXELS, ["honest"], threads=1, rounds=1, runs=1)
    assert started[0].poll() is not None


@pytest.mark.parametrize("name", [name for name in peers.PEERS if name != peers.OURS])
def test_a_peer_gives_our_answer(checkpoint, name):
    module = peers.missing(peers.PEERS[name])
    if module is not None:
        pytest.skip(f"{module} is not installed")
    race = bench.race(checkpoint, np.repeat(PIXELS, 2, axis=0), [name], threads=1, rounds=1, runs=1)
    assert race.absent == {}
    assert 0 < race.results[1].agreement.relative_rms < 5e-6


# ---- the command ----


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_bench_that_is_ended_leaves_no_process_and_no_file(tmp_path, number, code):
    arguments = ["bench", "digits", "--against", "none", "--rounds", "100000"]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "tinymvit.cli", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        start_new_session=True,
    )
    while not list(tmp_path.glob("*/answer-*.npy")):  # a contestant is at work
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait() == code
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


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
    graph = model.image_classification(MobileViTConfig.preset("xx-small"), (2, 3, 64, 64))
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
    graph = model.semantic_segmentation(MobileViTConfig.preset("deeplabv3-xx-small"), (1, 3, 64, 64))
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


def test_profile_times_every_node(checkpoint):
    tiny = MobileViTForImageClassification.from_pretrained(checkpoint)
    engine = Engine(tiny.graph().select(["logits"]), tiny.weights)
    nodes = [node for node, seconds in engine.profile(PIXELS) if seconds > 0]
    assert nodes == list(engine.graph)


def test_bytes_and_bounds_of_a_node():
    graph = model.image_classification(MobileViTConfig.preset("xx-small"), (1, 3, 64, 64))
    node = graph["mobilevit.conv_stem.convolution"]  # 3 x 64 x 64 to 16 x 32 x 32 by 16 x 3 x 3 x 3
    moved = layer_times.moved_bytes(graph, node)
    assert moved == 4 * (3 * 64 * 64 + 16 * 32 * 32 + 16 * 27)
    layer = layer_times.LayerTime(node.name, "", 1.0, graph.multiply_adds(node), moved)
    assert layer.bounds(layer_times.Peak(16 * 32 * 32 * 27, 2 * moved)) == {"arithmetic": 1.0, "memory": 0.5}


def test_the_machines_limits_are_measured_without_burdening_the_first_run():
    set_num_threads(1)
    assert peak.multiply_adds_a_second() > 1e8
    assert peak.bytes_a_second() > 1e8
    assert not {kernel.name for kernel in KERNELS} & {"multiply_add_loop", "copy_loop"}


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
