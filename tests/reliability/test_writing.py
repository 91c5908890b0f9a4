"""Files are written whole or not at all: at whatever call of the system a disk fails or a process ends."""

import contextlib
import errno
import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from checkpoints import complaint
from command_line import DIGIT, SCENE, run
from tinymvit import files
from tinymvit.errors import OutputError
from tinymvit.files import complete_or_nothing, write_files
from tinymvit.images.folders import find_images
from tinymvit.weights import weights_file


def found(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Full(io.BufferedWriter):
    """A file on the disk of `failing`."""

    def write(self, data):
        self.call()
        return super().write(data)


@pytest.fixture
def failing(monkeypatch):
    """`failing(n)`: the n-th call from now on that writes to the disk, or changes a folder, fails. Returns a list that
    is empty until then."""
    state = {"left": None, "failed": []}

    def call():
        if state["left"] is not None:
            state["left"] -= 1
            if state["left"] < 0:
                state["left"] = None
                state["failed"].append(True)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def counted(function):
        def wrapper(*arguments, **words):
            call()
            return function(*arguments, **words)

        return wrapper

    def opened(path, mode="r", *arguments, **words):
        if mode != "xb":
            return original(path, mode, *arguments, **words)
        call()
        file = Full(io.FileIO(path, mode))
        file.call = call
        return file

    original = io.open
    for name in ("fsync", "mkdir", "rename", "replace"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    monkeypatch.setattr(files, "_exchange", counted(files._exchange))
    monkeypatch.setattr(io, "open", opened)

    def fail(number):
        state.update(left=number, failed=[])
        return state["failed"]

    return fail


def write_pair(folder):
    write_files(folder, {name: lambda file: file.write(b"new" * 9) for name in ("a", "b")})


def write_file(folder):
    with complete_or_nothing(folder / "a", lambda _: None) as path, path.open("xb") as file:
        file.write(b"new")


def write_folder(folder):
    with complete_or_nothing(folder / "a", lambda _: None) as path:
        path.mkdir()
        for name in ("x", "y"):
            with (path / name).open("xb") as file:
                file.write(b"new")


NEW = {
    write_pair: {"a": b"new" * 9, "b": b"new" * 9},
    write_file: {"a": b"new"},
    write_folder: {"a/x": b"new", "a/y": b"new"},
}
OLD = {
    write_pair: [{}, {"a": b"1", "b": b"2"}, {"b": b"2"}],
    write_file: [{}, {"a": b"1"}],
    write_folder: [{}, {"a/z": b"1"}],
}
CASES = [(write, old) for write, each in OLD.items() for old in each]


@pytest.mark.parametrize(("write", "old"), CASES)
def test_a_disk_that_is_full_at_any_call(tmp_path, failing, write, old):
    for number in range(100):
        home, target = tmp_path / str(number), tmp_path / str(number) / "new"
        home.mkdir()
        put(target, old)
        failed = failing(number)
        try:
            write(target)
        except OutputError as error:
            failing(None)
            (line,) = str(error).splitlines()
            assert line.startswith(f"{target}")
            assert line.endswith(": cannot be written: No space left on device")
            assert found(home) == {f"new/{name}": data for name, data in old.items()}
            assert target.exists() == bool(old)
        else:
            failing(None)
            assert found(target) == NEW[write]
            if not failed:
                break
    assert 3 < number < 99


def put(folder, contents):
    for name, data in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


# Runs in a process of its own: a child is forked for each call of the system, which ends it.
DYING = """
import os, signal, sys, tempfile
from pathlib import Path
import test_writing as cases
from tinymvit.cli import _stop

for case, (write, old) in enumerate(cases.CASES):
    for number in (signal.SIGKILL, signal.SIGTERM):
        count = 0
        while True:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name).resolve()
                cases.put(folder, old)
                child = os.fork()
                if child == 0:
                    signal.signal(signal.SIGTERM, _stop)
                    left = [count]
                    def hook(event, arguments):
                        if event.split(".")[0] in ("open", "os", "shutil", "ctypes"):
                            left[0] -= 1
                            if left[0] == -1:
                                os.kill(os.getpid(), number)
                    sys.addaudithook(hook)
                    code = 3
                    try:
                        write(folder)
                        code = 0 if left[0] >= 0 else 3
                    except KeyboardInterrupt:
                        cases.files.remove_unfinished()
                    finally:
                        os._exit(code)
                status = os.waitpid(child, 0)[1]
                state = cases.found(folder)
                whole = {path: data for path, data in state.items() if not path.split("/")[0].endswith(".tmp")}
                new, told = cases.NEW[write], (write.__name__, old, number.name, count)
                if write is cases.write_pair and number == signal.SIGKILL:  # each of the two for itself
                    assert all(data in (old.get(path), new[path]) for path, data in whole.items()), (told, state)
                    assert whole.keys() >= old.keys(), (told, state)
                else:
                    assert whole in (old, new), (told, state)
                if number == signal.SIGTERM:
                    assert whole == state, (told, state)
                    assert set(os.listdir(folder)) == {path.split("/")[0] for path in whole}, told
                assert all(cases.is_temporary(path) for path in state.keys() - whole.keys()), (told, state)
                if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
                    assert count > 3
                    break
                count += 1
print("done")
"""


def is_temporary(path):
    first = path.split("/")[0]
    return first.startswith(".") and first.endswith(".tmp")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere folders change places in two steps")
def test_a_process_that_ends_at_any_call():
    folders = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "helpers")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(folders)}
    result = subprocess.run([sys.executable, "-c", DYING], env=environment, capture_output=True, text=True, timeout=300)
    assert (result.stdout, result.returncode) == ("done\n", 0), result.stderr


def test_where_folders_cannot_change_places_in_one_step(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_exchange", lambda *_: False)
    put(tmp_path, {"a/z": b"1"})
    write_folder(tmp_path)
    assert found(tmp_path) == NEW[write_folder]
    rename = Path.rename

    def fail(self, target):
        if self.name.endswith(".tmp") and not self.name.endswith(".old.tmp"):
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path)
    assert found(tmp_path) == NEW[write_folder]


def test_what_a_killed_process_left_is_no_result(tmp_path):
    """Nor a picture, nor weights."""
    put(
        tmp_path,
        {".x.png.0123abcd.tmp": b"", ".model.safetensors.0123abcd.tmp": b"", ".d.0123abcd.tmp/manifest.json": b""},
    )
    (tmp_path / "x.png").write_bytes(Path(DIGIT).read_bytes())
    assert find_images([tmp_path]) == [tmp_path / "x.png"]
    with complaint(ValueError, "model.safetensors"):
        weights_file(tmp_path)


def test_writers_of_one_target_at_once(tmp_path):
    """Each succeeds, and one of them stays, whole."""
    failures = []

    def write(number):
        try:
            for _ in range(20):
                with complete_or_nothing(tmp_path / "folder", lambda _: None) as path:
                    path.mkdir()
                    for name in ("x", "y"):
                        (path / name).write_text(str(number))
                write_files(tmp_path, {"file": lambda file: file.write(str(number).encode() * 1000)})
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    contents = found(tmp_path)
    assert set(contents) == {"folder/x", "folder/y", "file"}
    assert contents["folder/x"] == contents["folder/y"]
    assert len(set(contents["file"])) == 1


def test_what_others_put_there_during_the_work_is_not_replaced(tmp_path):
    def check(target):
        if target.exists():
            raise OutputError(f"{target.name}: is there already")

    with complaint(OutputError, "a: is there already"), complete_or_nothing(tmp_path / "a", check) as path:
        path.write_text("new")
        (tmp_path / "a").write_text("theirs")
    assert found(tmp_path) == {"a": b"theirs"}


@pytest.mark.parametrize("write", NEW)
def test_a_folder_that_vanishes(tmp_path, write, monkeypatch):
    folder = tmp_path / "folder"
    folder.mkdir()
    fsync = os.fsync

    def vanish(number):
        fsync(number)
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        folder.rmdir()
        monkeypatch.setattr(os, "fsync", fsync)

    monkeypatch.setattr(os, "fsync", vanish)
    with complaint(OutputError, f"cannot be written: {os.strerror(errno.ENOENT)}"):
        write(folder)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", NEW)
def test_a_folder_that_becomes_a_file(tmp_path, write):
    folder = tmp_path / "folder"
    folder.write_text("a file")
    with complaint(OutputError, str(folder)):
        write(folder)
    assert found(tmp_path) == {"folder": b"a file"}


def test_a_home_that_nobody_has(tmp_path):
    message = "~nobodyatall/x: Could not determine home directory"
    with complaint(OutputError, message), complete_or_nothing("~nobodyatall/x", lambda _: None):
        pytest.fail("the work has begun")


# ---- commands on a full disk ----

WRITING = [
    ("segment", SCENE, "--output", "{}/a.png"),
    ("trace", DIGIT, "--names", "logits", "--output", "{}/a.safetensors"),
    ("trace", DIGIT, "--names", "logits", "--output", "{}/a"),
    ("attention", DIGIT, "--block", "0", "--query", "1,1", "--output", "{}/a.png"),
    ("features", DIGIT, "--node", "mobilevit.conv_stem", "--output", "{}/a.png"),
    ("vectors", "--model", "digits", "--output", "{}/a"),
]


@pytest.fixture
def full_disk(tmp_path):
    """A folder on a file system that has no room but for the names of files."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("mounting a file system is not allowed here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts as Linux does")
@pytest.mark.parametrize("arguments", WRITING)
def test_a_command_on_a_full_disk(capsys, full_disk, arguments):
    (full_disk / "ballast").write_bytes(bytes(60 << 10))
    with contextlib.suppress(OSError), (full_disk / "ballast").open("ab", buffering=0) as file:
        while True:
            file.write(bytes(512))
    before = found(full_disk)
    code, _, err = run(capsys, *[argument.format(full_disk) for argument in arguments])
    assert (code, len(err.splitlines())) == (2, 1)
    assert err.startswith(f"tinymvit: {full_disk}/a")
    assert err.endswith(": cannot be written: No space left on device\n")
    assert found(full_disk) == before
    assert len(list(full_disk.iterdir())) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="mounts as Linux does")
def test_a_read_only_file_system(capsys, full_disk):
    subprocess.run(["mount", "-o", "remount,ro", full_disk], check=True)
    for arguments in WRITING:
        code, _, err = run(capsys, *[argument.format(full_disk) for argument in arguments])
        assert (code, len(err.splitlines()), "Traceback" in err) == (2, 1, False) or err.startswith("usage: ")
        assert "cannot be written" in err


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_where_what_is_printed_cannot_be_written(stream):
    arguments = {"stdout": ["models"], "stderr": ["classify", "nothing.png"]}[stream]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-P", "-m", "tinymvit.cli", *arguments]
        result = subprocess.run(command, **streams | {stream: full}, text=True)
    assert result.returncode == 2
    if stream == "stdout":
        assert result.stderr == "tinymvit: the answer cannot be written: No space left on device\n"
