"""What commands print of names that are not ours: nothing that breaks a line, or that a terminal obeys."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from checkpoints import save_tiny, saved
from command_line import DIGIT, ROOT, SCENE, run
from tinymvit.commands import terminal

COMMANDS = ROOT / "tinymvit" / "commands"
ESCAPE = "\x1b[31m"


@pytest.mark.parametrize("path", [*sorted(COMMANDS.glob("*.py")), ROOT / "tinymvit" / "cli.py"], ids=lambda p: p.name)
def test_commands_print_in_one_place(path):
    calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
    names = {ast.unparse(call.func) for call in calls}
    assert path.name == "terminal.py" or not names & {"print", "sys.stdout.write", "sys.stderr.write"}


def test_each_line_stays_one(capsys):
    terminal.say("a\nb", "", f"{ESCAPE}c", "word " * 1000)
    terminal.report(ValueError(f"{ESCAPE}a\nb"))
    terminal.say_json({"file": f"{ESCAPE}a\nb\udcff"})
    out, err = capsys.readouterr()
    *lines, answer = out.splitlines()
    assert lines == [r"a\nb", "", r"\x1b[31mc", "word " * 1000]
    assert err == "tinymvit: \\x1b[31ma\\nb\n"
    assert json.loads(answer) == {"file": f"{ESCAPE}a\nb\udcff"}
    assert answer.isascii()
    assert answer.isprintable()


@pytest.fixture
def labelled(tmp_path):
    """A function that gives a checkpoint of a kind labels that are not ours."""

    def label(kind):
        folder = save_tiny(kind, tmp_path / kind)
        config = json.loads((folder / "config.json").read_text())
        labels = {"0": "two\nlines", "1": f"{ESCAPE}red", "2": "x" * 10_000}
        (folder / "config.json").write_text(json.dumps(config | {"id2label": labels, "label2id": {}}))
        return folder

    return label


def assert_plain(*texts):
    for text in texts:
        assert text.replace("\n", "").isprintable()
        assert max(map(len, text.split("\n"))) < 1000


def test_labels_of_a_checkpoint(capsys, tmp_path, labelled):
    code, out, err = run(capsys, "classify", DIGIT, "--model", labelled("classifier"))
    assert (code, err) == (0, "")
    assert_plain(out)
    assert len(out.splitlines()) == 3
    assert r"two\nlines" in out
    assert r"\x1b[31mred" in out
    code, out, err = run(capsys, "segment", SCENE, "--model", labelled("segmenter"), "--output", tmp_path / "out.png")
    assert (code, err) == (0, "")
    assert_plain(out)
    assert len(out.splitlines()) == 1
    code, out, _ = run(capsys, "classify", DIGIT, "--model", tmp_path / "classifier", "--json")
    assert {p["label"] for p in json.loads(out)["predictions"]} == {"two\nlines", f"{ESCAPE}red", "x" * 10_000}


@pytest.mark.parametrize("options", [[], ["--json"]], ids=" ".join)
def test_names_of_files(capsys, tmp_path, options):
    folder = tmp_path / "pictures"
    folder.mkdir()
    names = [f"{ESCAPE}.png", "a\nb.png", "\u202e.png", os.fsdecode(b"\xff.png"), "n" * 251 + ".png"]
    for name in names:
        shutil.copy(DIGIT, folder / name)
    (folder / f"{ESCAPE}\nbad.png").write_bytes(b"no picture")
    for command in (["classify", "--top-k", "1"], ["segment", "--output", tmp_path / "out"]):
        code, out, err = run(capsys, command[0], folder, *command[1:], *options)
        assert code == 2  # of the bad one
        assert_plain(out, err)
        assert len(err.splitlines()) == 1
        if options:
            files = [json.loads(line)["file"] for line in out.splitlines()]
            assert sorted(files) == sorted(str(folder / name) for name in [*names, f"{ESCAPE}\nbad.png"])


BAD_ARGUMENTS = [
    ["classify", DIGIT, f"--{ESCAPE}\n{10_000 * 'x'}"],
    ["classify", DIGIT, "--threads", f"\n{ESCAPE}{10_000 * 'x'}"],
    [f"{ESCAPE}\n{10_000 * 'x'}"],
    ["trace", DIGIT, "--output", "o", "--format", f"{ESCAPE}\n{10_000 * 'x'}"],
    ["classify", f"{ESCAPE}\n.png"],
    ["classify", 10_000 * "x"],
    ["classify", DIGIT, "--model", f"{ESCAPE}\n"],
    ["features", DIGIT, "--node", f"{ESCAPE}\n{10_000 * 'x'}", "--output", "o.png"],
    ["summary", "--shape", f"{ESCAPE}\n{10_000 * 'x'}"],
    ["compare", "digits", f"{ESCAPE}\n"],
]


@pytest.mark.parametrize("arguments", BAD_ARGUMENTS, ids=[str(i) for i in range(len(BAD_ARGUMENTS))])
def test_arguments(capsys, monkeypatch, tmp_path, arguments):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert_plain(err)
    assert err.splitlines()[-1].startswith("tinymvit")


def test_names_of_tensors_in_what_compare_says(capsys, tmp_path):
    name = f"{ESCAPE}\n<b>{10_000 * 'x'}"
    for file in ("a.safetensors", "b.safetensors"):
        tensors = {name: ("F32", [2], np.float32([1, file == "a.safetensors"]).tobytes())}
        saved(tmp_path / file, tensors | {f"{name}{i}": ("F32", [0], b"") for i in range(20)})
    page, facts = tmp_path / "page.html", tmp_path / "facts.json"
    code, out, err = run(
        capsys, "compare", tmp_path / "a.safetensors", tmp_path / "b.safetensors", "--html", page, "--json", facts
    )
    assert (code, err) == (1, "")
    assert_plain(out)
    assert json.loads(facts.read_text())["first"] == name
    text = page.read_text("utf-8")
    assert ESCAPE not in text
    assert "<b>" not in text
    assert r"\x1b[31m\n&lt;b&gt;" in text
    code, out, err = run(capsys, "compare", "digits", tmp_path / "a.safetensors")
    assert (code, out) == (2, "")
    assert_plain(err)


@pytest.mark.slow
def test_an_answer_that_cannot_be_written_is_one_line():
    if not os.path.exists("/dev/full"):  # noqa: PTH110
        pytest.skip("no full device on this system")
    with open("/dev/full", "w") as full:  # noqa: PTH123
        result = subprocess.run(
            [sys.executable, "-m", "tinymvit.cli", "models"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert result.returncode == 2
    assert result.stderr == "tinymvit: the answer cannot be written: No space left on device\n"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
@pytest.mark.parametrize("argument", ["--help", "--version", "models"])
def test_what_cannot_be_printed_is_one_line(argument):
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-P", "-m", "tinymvit.cli", argument]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (result.returncode, result.stderr) == (
        2,
        "tinymvit: the answer cannot be written: No space left on device\n",
    )


@pytest.mark.slow
def test_a_closed_standard_output_is_no_error():
    command = f"{sys.executable} -P -m tinymvit.cli classify {DIGIT} >&-"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


def test_bad_use_is_one_line_too(capsys):
    message = "tinymvit classify: error: the following arguments are required: IMAGE\n"
    assert run(capsys, "classify") == (2, "", message)
