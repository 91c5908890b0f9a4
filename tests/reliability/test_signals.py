"""What a signal does to a command: one line, an exit code, and nothing left."""

import os
import signal

import pytest

from command_line import DIGIT, run
from tinymvit import cli, files
from tinymvit.commands import models

ENDS = [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated"), ("SIGHUP", 129, "the terminal was closed")]


@pytest.mark.parametrize(("name", "code", "said"), ENDS)
def test_a_signal_is_a_line_and_a_code(capsys, monkeypatch, name, code, said):
    if not hasattr(signal, name):
        pytest.skip(f"no {name} on this system")
    number = getattr(signal, name)
    before = signal.getsignal(number)
    monkeypatch.setattr(models, "run", lambda _: os.kill(os.getpid(), number))
    assert run(capsys, "models") == (code, "", f"tinymvit: {said}\n")
    assert signal.getsignal(number) == before


def test_a_second_signal_during_the_cleaning_leaves_nothing_either(capsys, monkeypatch, tmp_path):
    def write(_):
        try:
            with files.complete_or_nothing(tmp_path / "new" / "dump", lambda _: None) as path:
                path.mkdir()
                (path / "half").write_text("half")
                os.kill(os.getpid(), signal.SIGINT)
        finally:
            monkeypatch.undo()

    remove = files._remove
    monkeypatch.setattr(models, "run", write)
    monkeypatch.setattr(files, "_remove", lambda path: os.kill(os.getpid(), signal.SIGTERM) or remove(path))
    assert run(capsys, "models") == (143, "", "tinymvit: terminated\n")
    assert list(tmp_path.iterdir()) == []
    assert not files._unfinished


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no such signal on this system")
def test_a_signal_that_is_ignored_stays_ignored(capsys, monkeypatch):
    """As by `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        monkeypatch.setattr(models, "run", lambda _: os.kill(os.getpid(), signal.SIGHUP) or 0)
        assert run(capsys, "models") == (0, "", "")
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_forked_child_does_not_remove_what_its_parent_writes(tmp_path):
    if not hasattr(os, "fork"):
        pytest.skip("no fork on this system")
    with files.complete_or_nothing(tmp_path / "file", lambda _: None) as path:
        path.write_text("new")
        child = os.fork()
        if child == 0:
            files.remove_unfinished()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    assert (tmp_path / "file").read_text() == "new"


@pytest.mark.skipif(os.name == "nt", reason="the current folder cannot be removed on this system")
def test_a_current_folder_that_is_no_more(capsys, monkeypatch, tmp_path):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    code, out, err = run(capsys, "attention", DIGIT, "--block", 0, "--query", "1,1", "--output", "a.png")
    assert (code, out) == (2, "")
    assert "argument --output: 'a.png': cannot be written: No such file or directory" in err


def test_the_signals_are_those_that_end_a_command():
    assert set(cli.STOPS) == {getattr(signal, name) for name, *_ in ENDS if hasattr(signal, name)}
