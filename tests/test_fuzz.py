"""The fuzzing campaign: a short part of it finds nothing, and what is planted for it is found."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

MEASURES = Path(__file__).parent / "measures"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("compiled_kernels"),
    pytest.mark.skipif(sys.platform != "linux", reason="a case is watched through /proc"),
]

# Cases that each break one rule, run as those of the campaign are, but in a process of their own: its ear stays open.
PLANTED = """
import json, os, subprocess, sys, time
import numpy as np
from pathlib import Path
from fuzzing import cases, rules
from fuzzing.cases import Case, Printed, command
from fuzzing.sandbox import Sandbox, resident
from fuzzing.targets import TARGETS
from tinymvit import checks, errors

root = sys.argv[1]
printed = os.open(f"{root}/printed", os.O_RDWR | os.O_CREAT)
answers = os.dup(1)
os.dup2(printed, 1)
os.dup2(printed, 2)
sandbox = Sandbox(root, printed)
cases.prepare()
rules.MEMORY = 200 * 2**20

def failing(error):
    raise error

def as_it_is(name):
    errors.one_line = lambda text: text
    checks.known(name, ["b"])

def changed_input():
    Path("input").write_text("changed")

def unfinished():
    Path("out.tmp").write_text("half")

planted = {
    "nothing": lambda: 1,
    "refusal": lambda: checks.known("a", ["b"]),
    "another class": lambda: failing(KeyError("a")),
    "from the depths": lambda: int("x"),
    "not printable": lambda: as_it_is("a\\x1b[31m"),
    "too long": lambda: as_it_is("a" * 5000),
    "warning": lambda: np.float32(1) / np.float32(0),
    "printed": lambda: os.write(2, b"a C library speaks"),
    "hang": lambda: time.sleep(3),
    "memory": lambda: np.ones(2**26).sum(),
    "written outside": lambda: Path("../outside/new").write_text("x"),
    "read outside": lambda: Path("../outside/secret").read_text(),
    "process": lambda: subprocess.run(["true"]),
    "input changed": changed_input,
    "unfinished": unfinished,
    "not asked for": lambda: Path("answer.png").write_bytes(b"x"),
    "exit code": lambda: Printed(3, "", ""),
    "two lines": lambda: Printed(2, "", "tinymvit: a\\nb\\n"),
    "escape on stdout": lambda: Printed(0, "\\x1b[31m", ""),
    "silent": lambda: Printed(2, "", ""),
    "command": command(["models", "--json"]),
    "wrong option": command(["summary", "--size", "x"]),
}

def make(name):
    def case(rng, sandbox):
        (sandbox.case / "input").write_text("input")
        (sandbox.outside / "secret").write_text("secret")
        return Case(planted[name], name, seconds=0.5 if name == "hang" else 60.0)
    return case

found = {}
for name in (*(name for name in planted if name != "memory"), "memory"):  # what it raises stays raised
    outcome = cases.run(make(name), "planted", "1", 0, sandbox, resident())
    found[name] = [outcome.ending, outcome.signature]
odd = Case(lambda: 1, "odd", agrees=lambda answer, error: "other numbers")
outcome = cases.run(lambda *_: odd, "planted", "1", 0, sandbox, 2**40)
found["reader"] = [outcome.ending, outcome.signature]
twice = [cases.run(TARGETS["python"].make, "python", "1", 7, sandbox, 2**40) for _ in range(2)]
found["the same again"] = ["accepted" if twice[0] == twice[1] else "found", ""]
os.write(answers, json.dumps(found).encode())
"""
EXPECTED = {
    "nothing": ("accepted", ""),
    "refusal": ("refused", ""),
    "command": ("accepted", ""),
    "wrong option": ("refused", ""),
    "another class": ("found", "planted: KeyError in outside of the library"),
    "from the depths": ("found", "planted: ValueError from the depths in outside of the library"),
    "not printable": ("found", "planted: text: not printable in tinymvit/checks.py:known"),
    "too long": ("found", "planted: text: too long in tinymvit/checks.py:known"),
    "warning": ("found", "planted: warning: RuntimeWarning"),
    "printed": ("found", "planted: printed"),
    "hang": ("found", "planted: hang"),
    "memory": ("found", "planted: memory"),
    "written outside": ("found", "planted: forbidden: open for writing outside of the folder"),
    "read outside": ("found", "planted: forbidden: a file outside of the folder was read"),
    "process": ("found", "planted: forbidden: subprocess.Popen happened"),
    "input changed": ("found", "planted: files: of the input were changed"),
    "unfinished": ("found", "planted: files: were left behind unfinished"),
    "not asked for": ("found", "planted: files: were written that nobody asked for"),
    "exit code": ("found", "planted: exit code: 3"),
    "two lines": ("found", "planted: text: a line on stderr that does not begin"),
    "escape on stdout": ("found", "planted: text: not printable: a line on stdout"),
    "silent": ("found", "planted: text: none on stderr"),
    "the same again": ("accepted", ""),
    "reader": ("found", "planted: another answer: other numbers"),
}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    program = f"import sys; sys.path.insert(0, {str(MEASURES)!r})\n{PLANTED}"
    process = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, timeout=100)
    assert process.returncode == 0, (folder / "printed").read_text("utf-8")
    return json.loads(process.stdout)


@pytest.mark.parametrize("name", EXPECTED)
def test_what_is_planted_is_found(planted, name):
    ending, signature = planted[name]
    assert ending == EXPECTED[name][0], signature
    assert signature.startswith(EXPECTED[name][1])


def test_nothing_else_was_planted(planted):
    assert planted.keys() == EXPECTED.keys()


def campaign(*arguments):
    command = [sys.executable, str(MEASURES / "fuzz.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_a_short_campaign_finds_nothing():
    process = campaign("--cases", "400", "--seed", "tests")
    assert process.returncode == 0, process.stdout
    assert "0 kinds of findings" in process.stdout


def test_a_target_that_is_not_known_is_refused():
    process = campaign("--target", "pictires")
    assert process.returncode == 2
    assert "no target is named pictires; expected some of safetensors" in process.stderr
