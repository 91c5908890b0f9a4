"""The command line as a user types it: what all commands share, exit codes, and one clear line for each mistake."""

import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from command_line import DIGIT, IMAGES, ROOT, SCENE, run
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
        ("pipe", "'pipe': is a pipe; expected a file, or nothing there"),
        (300 * "x", f"{148 * 'x'}[...]{146 * 'x'}: cannot be written: File name too long"),
    ):
        code, out, err = run(capsys, *arguments, target)
        assert (code, out) == (2, "")
        assert err.endswith(f"error: argument {arguments[-1]}: {message}\n")
    assert sorted(path.name for path in Path().iterdir()) == ["file", "kept", "pipe"]


def test_a_reader_that_stops_early_is_no_error():
    program = f"{sys.executable} -m tinymvit.cli summary --shape small | head -n 1"
    result = subprocess.run(["bash", "-c", program], capture_output=True, text=True, cwd=ROOT / "tests")
    assert result.stdout.startswith("name")
    assert result.stderr == ""


def test_what_the_system_refuses_where_nobody_foresaw_it_is_one_line(capsys, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/a\nb")

    monkeypatch.setattr("tinymvit.weights.catalog", fail)
    code, out, err = run(capsys, "models")
    assert (code, out, err) == (2, "", "tinymvit: /tmp/a\\nb: No space left on device\n")


@pytest.mark.slow
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


@pytest.mark.slow
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
