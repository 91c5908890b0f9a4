"""Files read if they are files, and written whole or not at all, whatever fails meanwhile."""

import contextlib
import errno
import os
import socket
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

from checkpoints import complaint
from tinymvit import files, weights
from tinymvit.config import MobileViTConfig
from tinymvit.errors import CheckpointError, ConfigError, OutputError
from tinymvit.files import complete_or_nothing, files_below, open_file, read_json, what_is, write_files


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---- reading ----


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes among the files of this system")
def test_what_is_no_regular_file_is_not_opened(tmp_path):
    """A pipe that nobody writes to would be waited for, a device read without end."""
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as end, contextlib.chdir(tmp_path):
        end.bind("socket")
        (tmp_path / "link").symlink_to("pipe")
        for path, kind in (("pipe", "a pipe"), ("link", "a pipe"), ("socket", "a socket"), ("/dev/zero", "a device")):
            assert what_is(path, ConfigError) == kind
            for read in (open_file, lambda path, error: read_json(Path(path), error)):
                with complaint(ConfigError, f"{path}: is {kind}, expected a file"):
                    read(path, ConfigError)
        with complaint(CheckpointError, ".: is a folder, expected a picture"):
            open_file(".", CheckpointError, "a picture")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes among the files of this system")
def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(tmp_path, monkeypatch):
    path = tmp_path / "file"
    os.mkfifo(path)
    monkeypatch.setattr(files, "what_is", lambda *_: files.FILE)  # as it was when it was looked at
    failures = []

    def read():
        with pytest.raises(ConfigError, match="is a pipe, expected a file") as caught:
            open_file(path, ConfigError)
        failures.append(caught)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(5)
    assert failures


UNREADABLE = [
    (500 * "x", "xxx: cannot be read: File name too long"),
    ("loop", "loop: cannot be read: Too many levels of symbolic links"),
    ("zero\0byte", r"zero\x00byte: cannot be read: embedded null byte"),
    ("file/below", "file/below: cannot be read: Not a directory"),
    ("missing", "missing: cannot be read: No such file or directory"),
]


@pytest.mark.parametrize(("name", "message"), UNREADABLE, ids=[name[:7].strip("\0") for name, _ in UNREADABLE])
def test_names_that_nothing_can_be_read_by(tmp_path, name, message):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    with complaint(ConfigError, message):
        open_file(tmp_path / name, ConfigError)
    if name in ("missing", "file/below"):
        assert what_is(tmp_path / name, ConfigError) is None
    else:
        with complaint(OutputError, message.replace("read", "written")):
            what_is(tmp_path / name, OutputError, "written")


def test_json_of_any_size_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    path.write_text('{"num_labels": 3}')
    monkeypatch.setattr(files, "LARGEST_JSON", 17)
    assert read_json(path, ConfigError) == {"num_labels": 3}
    monkeypatch.setattr(files, "LARGEST_JSON", 16)
    with complaint(ConfigError, f"{path}: is larger than 16 bytes, expected a JSON object; if you trust it"):
        read_json(path, ConfigError)


def test_files_below_a_folder(tmp_path, monkeypatch):
    for name in ("b/c", "b/a/d", "a"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("b")
    (tmp_path / "empty").mkdir()
    lines = []
    assert [str(p.relative_to(tmp_path)) for p in files_below(tmp_path, lines.append)] == ["a", "b/a/d", "b/c", "link"]
    scandir = os.scandir

    def refuse(path, failure):
        def scan(folder):
            if folder == path:
                raise failure
            return scandir(folder)

        monkeypatch.setattr(os, "scandir", scan)

    refuse(tmp_path / "b", FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))  # between two looks
    assert [p.name for p in files_below(tmp_path, lines.append)] == ["a", "link"]
    assert lines == []
    refuse(tmp_path / "b", PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    assert [p.name for p in files_below(tmp_path, lines.append)] == ["a", "link"]
    assert lines == [f"{tmp_path / 'b'}: cannot be read: Permission denied"]
    assert files_below(tmp_path / "none", lines.append) == []
    assert lines[1:] == [f"{tmp_path / 'none'}: cannot be read: No such file or directory"]


def test_folders_in_folders_without_end(tmp_path):
    """Python's own walk through them ends in RecursionError."""
    depth = 1200
    with contextlib.chdir(tmp_path):
        for _ in range(depth):
            Path("d").mkdir()
            os.chdir("d")
        Path("file").touch()
        found = files_below(tmp_path, pytest.fail)
        Path("file").unlink()
        for _ in range(depth):  # nor could what removes the folders of tests
            os.chdir("..")
            Path("d").rmdir()
    assert [len(path.relative_to(tmp_path).parts) for path in found] == [depth + 1]


# ---- writing ----


def test_a_name_as_long_as_a_name_may_be_can_be_written(tmp_path):
    name = 255 * "n"
    write_files(tmp_path, {name: lambda file: file.write(b"1")})
    with complete_or_nothing(tmp_path / name, allowed) as new:
        new.write_bytes(b"2")
    assert contents(tmp_path) == {name: b"2"}


def test_an_output_that_can_be_no_path(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    for path, why in (
        (tmp_path / "loop", "cannot be written: Too many levels of symbolic links"),
        ("~nobody-of-that-name/x", "Could not determine home directory"),
    ):
        with complaint(OutputError, f"{path}: {why}"), complete_or_nothing(path, allowed):
            pytest.fail("the work has begun")


def test_a_full_disk_loses_nothing(tmp_path):
    resource = pytest.importorskip("resource", reason="no limits of the size of files on this system")
    weights.save_checkpoint(tmp_path, {"w": np.ones(3, np.float32)}, {"num_channels": 3})
    before = contents(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # the disk has room for 10,000 bytes of a file
    try:
        with complaint(OutputError, f"{tmp_path / 'model.safetensors'}: cannot be written: File too large"):
            weights.save_checkpoint(tmp_path, {"w": np.ones(100_000, np.float32)}, {"num_channels": 4})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("failure", "raised"),
    [(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), OutputError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
def test_a_failure_in_the_second_file_leaves_both_as_they_were(tmp_path, failure, raised):
    write_files(tmp_path, {"a": lambda file: file.write(b"1"), "b": lambda file: file.write(b"2")})

    def fail(file):
        file.write(b"4")
        raise failure

    with pytest.raises(raised) as error:
        write_files(tmp_path, {"a": lambda file: file.write(b"3"), "b": fail})
    if raised is OutputError:
        assert str(error.value) == f"{tmp_path / 'b'}: cannot be written: No space left on device"
    assert contents(tmp_path) == {"a": b"1", "b": b"2"}


def test_a_link_is_replaced_and_not_what_it_points_to(tmp_path):
    (tmp_path / "shared").write_bytes(b"1")
    (tmp_path / "link").symlink_to(tmp_path / "shared")
    write_files(tmp_path, {"link": lambda file: file.write(b"2")})
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "link").read_bytes() == b"2"
    assert (tmp_path / "shared").read_bytes() == b"1"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes among the files of this system")
def test_what_is_no_regular_file_is_not_replaced(tmp_path):
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link):
        with complaint(OutputError, f"{path}: is no regular file, expected one or nothing"):
            write_files(tmp_path, {"a": lambda file: file.write(b"1"), path.name: lambda file: file.write(b"2")})
    assert pipe.is_fifo()
    assert sorted(tmp_path.iterdir()) == [link, pipe]


@pytest.fixture
def locked():
    """A folder that the process may neither read nor write, even if it is root's."""
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(0o755)
        folder = Path(parent, "locked")
        folder.mkdir(mode=0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)  # nobody
        yield folder
        os.seteuid(user)
        folder.chmod(0o700)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no permissions of this kind on this system")
def test_folders_without_permission(locked):
    for folder, target in ((locked, "locked/model.safetensors"), (locked / "new", "locked/new")):
        with complaint(OutputError, f"{target}: cannot be written: Permission denied"):
            weights.save_checkpoint(folder, {}, {})
    with complaint(CheckpointError, "locked: cannot be read: Permission denied"):
        weights.weights_file(locked)
    with complaint(CheckpointError, "locked/model.safetensors: cannot be read: Permission denied"):
        weights.resolve(locked / "model.safetensors")
    with complaint(ConfigError, "locked/config.json: cannot be read: Permission denied"):
        MobileViTConfig.from_pretrained(locked)


# ---- a new file or folder ----


def make(path, content):
    """A file, or for a dictionary a folder, with this content."""
    if isinstance(content, dict):
        path.mkdir()
        for name, text in content.items():
            (path / name).write_text(text)
    else:
        path.write_text(content)


def allowed(target):
    """Whatever stands there may be replaced."""


def found(path):
    return {file.name: file.read_text() for file in path.iterdir()} if path.is_dir() else path.read_text()


OLD = pytest.mark.parametrize("old", [None, "old", {"old": "1"}, {}], ids=["nothing", "file", "folder", "empty folder"])
NEW = pytest.mark.parametrize("new", ["new", {"new": "2", "more": "3"}], ids=["file", "folder"])


@OLD
@NEW
def test_a_new_one_takes_the_place_of_an_old_one(tmp_path, old, new):
    target = tmp_path / "deep" / "target"
    if old is not None:
        target.parent.mkdir()
        make(target, old)
    with contextlib.ExitStack() as stack:
        in_the_way = isinstance(old, str) and isinstance(new, dict)
        if in_the_way:
            stack.enter_context(complaint(OutputError, f"{target}: cannot be written: Not a directory"))
        with complete_or_nothing(target, allowed) as path:
            make(path, new)
    assert found(target) == (old if in_the_way else new)
    assert [path.name for path in target.parent.iterdir()] == ["target"]


@OLD
@NEW
def test_a_failure_leaves_the_old_one(tmp_path, old, new):
    target = tmp_path / "target"
    if old is not None:
        make(target, old)
    with contextlib.suppress(ZeroDivisionError), complete_or_nothing(target, allowed) as path:
        make(path, new)
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ([] if old is None else ["target"])
    assert old is None or found(target) == old


def test_of_a_link_what_it_points_to_is_replaced(tmp_path):
    (tmp_path / "real").write_text("1")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with complete_or_nothing(tmp_path / "link", allowed) as path:
        path.write_text("2")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "2"


def test_a_system_error_in_the_block_names_the_target(tmp_path):
    with (
        complaint(OutputError, f"{tmp_path / 'x'}: cannot be written: No space left"),
        complete_or_nothing(tmp_path / "x", allowed),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []


def test_what_may_not_be_replaced_is_left_alone_and_no_folder_is_made(tmp_path):
    def refuse(target):
        raise OutputError(f"{target.name}: is mine")

    with complaint(OutputError, "x: is mine"), complete_or_nothing(tmp_path / "new" / "x", refuse):
        pytest.fail("the work has begun")
    assert list(tmp_path.iterdir()) == []
