"""`tinymvit classify`: answers for files and folders, and one bad file among good ones."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from command_line import DIGIT, IMAGES, ROOT, run


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
