"""The command line as a user types it: answers, pictures, exit codes, and one clear line for each mistake."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from command_line import DIGIT, IMAGES, ROOT, SCENE, run
from oracle import opened
from tinymvit import kernels
from tinymvit.cli import main
from tinymvit.commands import progress


def test_the_command_of_the_readme_in_a_process_of_its_own():
    command = shutil.which("tinymvit", path=str(Path(sys.executable).parent))
    assert command, "the package is not installed with its command"
    result = subprocess.run([command, "classify", "docs/images/digit-7.png"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    label, probability, bar = result.stdout.splitlines()[0].split()
    assert label == "7"
    assert float(probability.rstrip("%")) > 90
    assert bar.startswith(("█", "#"))
    assert len(result.stdout.splitlines()) == 5


def test_classify_as_json_for_files_and_folders(capsys, tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    shutil.copy(DIGIT, tmp_path / "deep" / "b.png")
    shutil.copy(DIGIT, tmp_path / "deep" / "er" / "A.PNG")
    (tmp_path / "deep" / "notes.txt").write_text("no picture")
    code, out, err = run(capsys, "classify", DIGIT, tmp_path, "--json", "--top-k", 2, "--threads", 1)
    lines = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert [Path(line["file"]).name for line in lines] == ["digit-7.png", "b.png", "A.PNG"]
    for line in lines:
        assert line["predictions"][0]["label"] == "7"
        assert len(line["predictions"]) == 2
        assert line["predictions"] == lines[0]["predictions"]


def test_several_files_are_headed_by_their_names(capsys):
    code, out, _ = run(capsys, "classify", DIGIT, IMAGES / "digit-3.png", "--top-k", "1")
    lines = out.splitlines()
    assert code == 0
    assert [lines[0], lines[2]] == [f"{DIGIT}:", f"{IMAGES / 'digit-3.png'}:"]
    assert lines[3].startswith("3 ")


def test_one_bad_file_is_reported_and_the_rest_done(capsys, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(Path(DIGIT).read_bytes()[:200])
    code, out, err = run(capsys, "classify", bad, DIGIT, tmp_path / "missing.png", "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 2
    assert ["error" in line for line in lines] == [True, False, True]
    assert len(err.splitlines()) == 2
    assert all(line.startswith("tinymvit: ") for line in err.splitlines())
    assert "bad.png" in err.splitlines()[0]
    assert "missing.png" in err.splitlines()[1]


def test_segment_writes_the_overlay_and_says_what_it_found(capsys, tmp_path):
    target = tmp_path / "out.png"
    code, out, err = run(capsys, "segment", SCENE, "--output", target)
    assert (code, err) == (0, "")
    assert out.startswith(f"{SCENE} -> {target}: background ")
    source, picture = opened(SCENE), opened(target)
    assert picture.width == source.width
    assert picture.height > source.height
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]


def test_segment_writes_raw_class_ids(capsys, tmp_path):
    target = tmp_path / "new" / "ids.png"
    code, out, _ = run(capsys, "segment", SCENE, "--output", target, "--mask", "--json")
    assert code == 0
    mask = np.asarray(opened(target))
    assert mask.shape == opened(SCENE).size[::-1]
    found = json.loads(out)
    assert {c["id"] for c in found["classes"]} == set(np.unique(mask).tolist())
    assert found["classes"][0]["label"] == "background"
    assert found["classes"][0]["share"] == pytest.approx(np.mean(mask == 0))


def test_segment_keeps_the_tree_of_a_folder(capsys, tmp_path):
    for place in ("in/a/x.png", "in/b/x.png"):
        (tmp_path / place).parent.mkdir(parents=True)
        shutil.copy(SCENE, tmp_path / place)
    code, _, err = run(capsys, "segment", tmp_path / "in", "--output", tmp_path / "out")
    assert (code, err) == (0, "")
    assert sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.png")) == [
        "a/x.png",
        "b/x.png",
    ]


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


def test_models_lists_bundled_and_published(capsys):
    code, out, _ = run(capsys, "models")
    assert code == 0
    names = [line.split()[0] for line in out.splitlines()[1:]]
    assert names[:2] == ["digits", "digits-seg"]
    assert "apple/deeplabv3-mobilevit-xx-small" in names
    entries = json.loads(run(capsys, "models", "--json")[1])
    assert [entry["name"] for entry in entries] == names


@pytest.mark.parametrize("command", ["classify", "segment", "summary", "models"])
def test_help_shows_an_example(capsys, command):
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    assert f"example: tinymvit {command}" in out


def test_version(capsys):
    import tinymvit

    assert run(capsys, "--version") == (0, f"tinymvit {tinymvit.__version__}\n", "")


BAD_USE = [
    (["classify", "nowhere.png"], "nowhere.png"),
    (["classify", DIGIT, "--model", "digist"], 'did you mean "digits"'),
    (["classify", DIGIT, "--model", "digits-seg"], "digits-seg: a segmentation checkpoint; use segment"),
    (["classify", DIGIT, "--top-k", "0"], "expected a whole number of at least 1"),
    (["classify", DIGIT, "--threads", "many"], "expected a whole number of at least 1"),
    (["classify", str(ROOT / "kernels")], "no pictures in this folder"),
    (["segment", SCENE], "--output"),
    (["segment", SCENE, "--output", "out.xyz"], "the suffix '.xyz' names no picture format"),
    (["segment", SCENE, "--output", "out.jpg", "--mask"], "class ids are written as PNG"),
    (["segment", SCENE, "--output", SCENE], "is one of the images"),
    (["segment", SCENE, str(IMAGES / "scene-2.png"), "--output", str(ROOT / "README.md")], "is a file"),
    (["summary", "--shape", "xsmall"], 'did you mean "x-small"'),
    (["summary", "--size", "12by12"], "expected"),
    (["summary", "digits", "--shape", "small"], "not allowed with"),
    (["paint"], "invalid choice: 'paint'"),
    ([], "required: COMMAND"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_USE, ids=lambda value: value if isinstance(value, str) else None)
def test_mistakes_get_one_clear_line_and_exit_code_2(capsys, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert message in err.splitlines()[-1]
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_two_results_of_one_name_are_refused_before_any_work(capsys, tmp_path):
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        shutil.copy(SCENE, tmp_path / place / "x.png")
    code, _, err = run(capsys, "segment", tmp_path / "a/x.png", tmp_path / "b/x.png", "--output", tmp_path / "out")
    assert code == 2
    assert "would hold the results of both" in err
    assert not (tmp_path / "out").exists()


WRITERS = [
    ["bench", "--against", "none", "--json"],
    ["compare", "digits", "port.safetensors", "--json"],
    ["compare", "digits", "port.safetensors", "--html"],
    ["error", "digits", "--json"],
    ["error", "digits", "--plot"],
    ["attention", DIGIT, "--block", "0", "--query", "1,2", "--output"],
    ["features", DIGIT, "--node", "mobilevit.conv_stem", "--output"],
    ["segment", SCENE, "--output"],
]


@pytest.mark.parametrize("arguments", WRITERS, ids=" ".join)
def test_a_file_that_cannot_be_written_is_named_before_the_work(capsys, monkeypatch, tmp_path, arguments):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(progress, "warm_up", lambda: pytest.fail("the work has begun"))
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "kept")
    Path("file").write_text("in the way")
    Path("kept").mkdir()
    os.mkfifo("pipe")
    folder = (".", "'.': is a folder; expected a file")
    for target, message in (
        *([] if "segment" in arguments else [folder]),
        ("file/new/out.png", f"'file/new/out.png': {tmp_path / 'file'} is a file; expected a folder"),
        ("kept/new/out.png", f"'kept/new/out.png': the folder {tmp_path / 'kept'} cannot be written"),
        ("pipe", "'pipe': is no regular file; expected one, or nothing there"),
        (300 * "x", f"'{300 * 'x'}': cannot be written: File name too long"),
    ):
        code, out, err = run(capsys, *arguments, target)
        assert (code, out) == (2, "")
        assert err.endswith(f"error: argument {arguments[-1]}: {message}\n")
    assert sorted(path.name for path in Path().iterdir()) == ["file", "kept", "pipe"]


def test_output_that_is_not_a_terminal_is_plain_where_blocks_cannot_be_printed():
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "tinymvit.cli", "classify", DIGIT]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT / "tests")
    assert result.returncode == 0, result.stderr
    assert "#####" in result.stdout


def test_a_name_that_cannot_be_printed_does_not_cost_the_answer(tmp_path):
    shutil.copy(DIGIT, tmp_path / "é.png")
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "tinymvit.cli", "classify", str(tmp_path / "é.png"), DIGIT]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT / "tests")
    assert (result.returncode, result.stderr) == (0, "")
    assert "\\xe9.png" in result.stdout


def test_a_reader_that_stops_early_is_no_error():
    program = f"{sys.executable} -m tinymvit.cli summary --shape small | head -n 1"
    result = subprocess.run(["bash", "-c", program], capture_output=True, text=True, cwd=ROOT / "tests")
    assert result.stdout.startswith("name")
    assert result.stderr == ""


def test_ctrl_c_ends_with_one_line(tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(2000):
        (folder / f"{i:04}.png").symlink_to(DIGIT)
    command = [sys.executable, "-m", "tinymvit.cli", "classify", str(folder), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT / "tests")
    assert process.stdout.readline()  # at work
    for _ in range(10):  # Python drops an interrupt that comes while an object is being deleted; a user presses again
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        try:
            _, err = process.communicate(timeout=5)
            break
        except subprocess.TimeoutExpired:
            continue
    assert process.returncode == 130
    assert err.strip().splitlines() == ["tinymvit: interrupted"]


@pytest.mark.parametrize(
    ("arguments", "unit"),
    [
        (["attention", DIGIT, "--block", "1", "--query", "60,70", "--output", "a.png"], "node"),
        (["features", DIGIT, "--node", "mobilevit.conv_stem", "--output", "f.png"], "node"),
        (["trace", DIGIT, "--output", "t.safetensors"], "node"),
        (["error", "digits", DIGIT], "node"),
        (["vectors", "--output", "vectors"], "vector"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_command_that_computes_node_by_node_shows_a_bar_on_a_terminal_and_leaves_none(
    monkeypatch, tmp_path, arguments, unit
):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert main(arguments) == 0
    shown = sys.stderr.getvalue()
    assert f"?{unit}/s]" in shown
    assert "\n" not in shown
    assert shown.split("\r")[-2].strip() == ""


def test_kernels_that_may_not_be_compiled_are_one_line_and_the_reference_goes_on(tmp_path):
    def tinymvit(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "tinymvit.cli", *arguments], cwd=tmp_path, capture_output=True, text=True,
            env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        )  # fmt: skip

    for command in (["classify", DIGIT], ["warmup"]):
        result = tinymvit(*command)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr == (
            "tinymvit: NUMBA_DISABLE_JIT is set; the kernels need Numba's compiler: expected it unset, or 0\n"
        )
    result = tinymvit("features", DIGIT, "--node", "mobilevit.conv_stem", "--output", "maps.png")
    assert (result.returncode, result.stderr) == (0, "")


def test_warmup_compiles_for_one_thread_and_for_many(capsys, monkeypatch):
    compiled = []
    monkeypatch.setattr(kernels, "is_cached", lambda: False)
    monkeypatch.setattr(progress, "compile_kernels", lambda: compiled.append(kernels.get_num_threads()))
    before = kernels.get_num_threads()
    try:
        code, out, err = run(capsys, "warmup")
    finally:
        kernels.set_num_threads(before)
    assert (code, err) == (0, "")
    assert compiled == sorted({1, kernels.max_num_threads()})
    assert out.startswith("compiled the kernels in ")
    assert out.rstrip().endswith(str(kernels.cache_folder()))


def test_warmup_says_when_nothing_is_left_and_when_nothing_can_be_kept(capsys, monkeypatch):
    before = kernels.get_num_threads()
    try:
        list(kernels.warm_up())
        monkeypatch.setattr(kernels, "is_cached", lambda: True)
        assert run(capsys, "warmup") == (0, f"all kernels are compiled: {kernels.cache_folder()}\n", "")
        monkeypatch.setattr(kernels, "cache_folder", lambda: None)
        code, out, err = run(capsys, "warmup")
    finally:
        kernels.set_num_threads(before)
    assert (code, out) == (2, "")
    assert err == (
        "tinymvit: no folder to keep the compiled kernels in can be written; name one in NUMBA_CACHE_DIR, "
        "or every process compiles them again\n"
    )


def test_too_large_for_the_memory_is_one_line(capsys, monkeypatch):
    from tinymvit.commands import summary

    def exhausted(graph):
        raise MemoryError

    monkeypatch.setattr(summary, "memory_of", exhausted)
    assert main(["summary"]) == 2
    assert capsys.readouterr().err == "tinymvit: out of memory; expected a smaller --size, batch or image\n"
