"""Files as they are opened, read and written: regular files and JSON objects in, new files and folders out.

Every reader opens its file with `open_file`, and asks what stands at a path with `what_is`. Both say in one line what
they cannot use, where Python's own way would raise OSError, wait for a pipe or read a device without end. Every writer
ends with `write_files`, which puts files into a folder, or with `complete_or_nothing`, which puts a new file or folder
in the place of an old one; a failure leaves what was there. What the files mean is left to the callers.
"""

import atexit
import errno
import json
import math
import os
import shutil
import stat
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from tinymvit.errors import ConfigError, OutputError, TinyMViTError

LARGEST_JSON = 16 * 2**20  # bytes; parsed, they may take thirty times as many. The settings we know are below 1 MB

FILE, FOLDER = "a file", "a folder"
_KINDS = {stat.S_IFREG: FILE, stat.S_IFDIR: FOLDER, stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


def what_is(path: str | Path, error: type[TinyMViTError], use: str = "read") -> str | None:
    """What stands at `path`, links followed: FILE, FOLDER, another kind in words, or None for nothing. Raises `error`,
    which says that it cannot be put to `use`, if nothing ever could: a name that is too long, a loop of links, a
    folder that may not be entered."""
    try:
        return _kind(Path(path).stat())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as failure:
        raise error(f"{path}: cannot be {use}: {reason(failure)}") from None


def open_file(path: str | Path, error: type[TinyMViTError], expected: str = FILE) -> BinaryIO:
    """The regular file `path`, links followed, open to be read. Raises `error` for anything else, without waiting for
    a pipe's writer or reading from a device, and says that `expected` was."""

    def without_waiting(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))

    kind = what_is(path, error)
    if kind not in (FILE, None):  # looked at first, since to open a device may do something
        raise error(f"{path}: is {kind}, expected {expected}")
    try:
        file = open(path, "rb", opener=without_waiting)  # noqa: SIM115 - a Path takes no opener
    except (OSError, ValueError) as failure:
        raise error(f"{path}: cannot be read: {reason(failure)}") from None
    if (kind := _kind(os.fstat(file.fileno()))) != FILE:  # it has been exchanged meanwhile
        file.close()
        raise error(f"{path}: is {kind}, expected {expected}")
    return file


def at_home(path: str | Path, error: type[TinyMViTError]) -> Path:
    """The path with the user's folder for ~ at its beginning. Raises `error` if there is no such user, TypeError for
    what is no path."""
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise TypeError(f"the path: a {type(path).__name__}, expected text or a Path")
    try:
        return Path(path).expanduser()
    except RuntimeError as failure:
        raise error(f"{path}: {failure}") from None


def files_below(folder: Path, complain: Callable[[str], object]) -> list[Path]:
    """All that lies anywhere below `folder` but folders, in order. A link to a folder counts as a file. `complain` is
    given a line about each folder that cannot be read; one that has vanished meanwhile is none."""
    found: list[Path] = []
    pending = [folder]
    while pending:
        here = pending.pop()
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    (pending if entry.is_dir(follow_symlinks=False) else found).append(here / entry.name)
        except OSError as failure:
            if here == folder or not isinstance(failure, FileNotFoundError):
                complain(f"{here}: cannot be read: {reason(failure)}")
    return sorted(found)


def reason(failure: Exception) -> str:
    """Why the system refuses a file, in its own words, without the name."""
    if isinstance(failure, ValueError):  # of the one name that the system is not even asked for, worded by the Python
        return "embedded null byte"
    return getattr(failure, "strerror", None) or str(failure)


def _kind(status: os.stat_result) -> str:
    return _KINDS.get(stat.S_IFMT(status.st_mode), "a device")


def read_text(path: Path, error: type[TinyMViTError], expected: str) -> str:
    """The text of the UTF-8 file `path`; raises `error`, which names the file and what was `expected`, when it is none,
    and when it is larger than `LARGEST_JSON`."""
    try:
        with open_file(path, error) as file:
            content = file.read(LARGEST_JSON + 1)
    except OSError as failure:
        raise error(f"{path}: cannot be read: {reason(failure)}") from None
    if len(content) > LARGEST_JSON:
        raise error(
            f"{path}: is larger than {LARGEST_JSON} bytes, expected {expected}; "
            "if you trust it, raise tinymvit.files.LARGEST_JSON"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise error(f"{path}: is not UTF-8 text, expected {expected}") from None


def read_json(path: Path, error: type[TinyMViTError]) -> dict[str, Any]:
    """The JSON object in the UTF-8 file `path`; raises `error`, naming the file and line, when there is none, when a
    name in it stands twice, and when it is larger than `LARGEST_JSON`."""
    value = read_json_value(path, error, "a JSON object")
    if not isinstance(value, dict):
        raise error(f"{path}: holds a JSON {type(value).__name__}, expected an object")
    return value


def read_json_value(path: Path, error: type[TinyMViTError], expected: str) -> Any:
    """The JSON value in a file, as `read_json` reads it; `expected` says what it should be."""
    text = read_text(path, error, expected)
    try:
        return json.loads(text, object_pairs_hook=_named_once)
    except json.JSONDecodeError as failure:
        raise error(f"{path}: line {failure.lineno}: not valid JSON: {failure.msg}") from None
    except (ValueError, RecursionError) as failure:  # digits or brackets by the thousand, a name twice
        raise error(f"{path}: not valid JSON: {failure}") from None


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Raises ValueError if a name stands twice in it."""
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise ValueError(f"the name {name!r} stands twice in an object")
        values[name] = value
    return values


def named_json(name: Any) -> Path | None:
    """The path, if `name` is that of a JSON file with settings, not of a checkpoint."""
    is_settings = str(name).endswith(".json") and not str(name).endswith(".index.json")  # an index stands for shards
    return at_home(name, ConfigError) if is_settings else None


def write_files(folder: str | Path, writers: Mapping[str, Callable[[BinaryIO], object]]) -> None:
    """Write files into `folder`, made if need be: all of them, or none.

    `writers` gives for each file name the function that writes its content to an open binary file. Everything is first
    written under temporary names in the same folder and renamed only when all of it has reached the disk, so a failure
    leaves the files of an earlier run as they were. A link is replaced, not what it points to, which others may share,
    as the hub's cache does. Raises OutputError.
    """
    folder = at_home(folder, OutputError)
    temporary = {name: _temporary(folder / name) for name in writers}
    with one_line_for(folder), _removed(temporary.values()) as made:
        try:
            _make_folder(folder, made)
        except FileExistsError:
            raise OutputError(f"{folder}: is a file, expected a folder to write {', '.join(writers)} into") from None
        for name, write in writers.items():
            target = folder / name
            with one_line_for(target):
                if target.is_dir():  # found out now, not when half of the files are renamed
                    raise OutputError(f"{target}: is a folder, expected a file or nothing")
                if target.exists() and not target.is_file():  # a pipe, a device
                    raise OutputError(f"{target}: is no regular file, expected one or nothing")
                with temporary[name].open("xb") as file:
                    write(file)
                    _sync(file)
        _rename_all({temporary[name]: folder / name for name in writers})


def _rename_all(names: Mapping[Path, Path]) -> None:
    """Rename files, all of them or none: each old one keeps a second name meanwhile, from which it is put back. Where a
    file system knows no second names, or the process is killed here, some may be new and some old, each of them whole.
    """
    old = {target: new.with_suffix(".old.tmp") for new, target in names.items()} if len(names) > 1 else {}
    was_there: dict[Path, bool] = {}
    with _removed(old.values()):
        try:
            for new, target in names.items():
                with one_line_for(target):
                    if target in old and target.is_file():
                        with suppress(OSError, NotImplementedError):
                            os.link(target, old[target], follow_symlinks=False)
                    was_there[target] = target.is_file()
                    new.replace(target)
        except BaseException:
            for target in old.keys() & was_there.keys():
                with suppress(OSError):
                    if was_there[target]:
                        old[target].replace(target)
                    else:
                        target.unlink()
            raise


@contextmanager
def complete_or_nothing(path: str | Path, check: Callable[[Path], None]) -> Iterator[Path]:
    """`with complete_or_nothing(path, check) as new:` gives a free name beside `path`, for a file or a folder that the
    block makes, which takes the place of what stands at `path` when all of it has reached the disk.

    If anything fails, nothing is left behind and what stood at `path` is still there. Of a link, what it points to is
    replaced. Folders above it are made if need be. check: raises OutputError unless what stands at the path that it is
    given may be replaced; called before the block, and after it for what others have put there meanwhile. Raises
    OutputError, which names `path`, for any OSError, one of the block included.
    """
    with one_line_for(path):
        target = _real_path(path)
        check(target)
        new = _temporary(target)
        with _removed([new]) as made:
            if not target.parent.exists():  # where a file is in the way, the block's own attempt says so best
                _make_folder(target.parent, made)
            yield new
            _sync_all(new)
            check(target)
            _put_in_place(new, target)


def _real_path(path: str | Path) -> Path:
    target = at_home(path, OutputError)
    what_is(target, OutputError, "written")  # refuses a loop of links, where `resolve` is a RuntimeError
    return target.resolve()


@contextmanager
def one_line_for(path: str | Path) -> Iterator[None]:
    """An OSError in the block becomes an OutputError that names `path`."""
    try:
        yield
    except OSError as failure:
        raise OutputError(f"{path}: cannot be written: {reason(failure)}") from None


# What is to be removed in the end, and how: also if a signal ends a removal in its middle.
_unfinished: dict[Path, Callable[[Path], None]] = {}


@contextmanager
def _removed(paths: Iterable[Path]) -> Iterator[list[Path]]:
    """When the block ends, what is at `paths` is removed, and so are the folders in the list that it is given, as far
    as they are empty."""
    made: list[Path] = []
    _unfinished.update(dict.fromkeys(paths, _remove))
    try:
        yield made
    finally:
        remove_unfinished([*paths, *made])


def remove_unfinished(paths: Iterable[Path] | None = None) -> None:
    """Remove these of the paths that are to be removed, or all of them."""
    for path in list(_unfinished) if paths is None else paths:
        remove = _unfinished.get(path)
        if remove is not None:
            remove(path)
            _unfinished.pop(path, None)


def _make_folder(folder: Path, made: list[Path]) -> None:
    """Make the folder and those above it, and append those that were not there to `made`, the deepest first."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    _unfinished.update(dict.fromkeys(missing, _remove_if_empty))
    made += missing
    folder.mkdir(parents=True, exist_ok=True)


atexit.register(remove_unfinished)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unfinished.clear)  # they are the parent's, which may be at work on them


def _temporary(path: Path) -> Path:
    """A free name beside `path`, no longer than a name may be."""
    return path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex[:8]}.tmp")


def _sync_all(path: Path) -> None:
    """Wait until a file, or every file in a folder, has reached the disk.

    Many at a time, since the file system writes what it is asked for together at once: one by one, the files of a dump
    would take longer than all the rest.
    """

    def sync(file: Path) -> None:
        with file.open("r+b") as opened:
            _sync(opened)

    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    with ThreadPoolExecutor(min(16, max(1, len(files)))) as threads:
        list(threads.map(sync, files))


def _sync(file: BinaryIO) -> None:
    """Wait until what was written has reached the disk; some file systems report only then that they are full."""
    file.flush()
    os.fsync(file.fileno())


def _put_in_place(new: Path, target: Path) -> None:
    """Rename `new`, or let it change places with a folder, which cannot be replaced in one step if it holds something.

    Meanwhile another process may put a folder there, or take it away: so this is tried a few times.
    """
    for _ in range(10):
        try:
            if not target.is_dir():
                new.replace(target)
            elif not _exchange(new, target):
                _replace_folder(new, target)
            return
        except OSError as failure:
            if failure.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.EISDIR) or not new.exists():
                raise
            last = failure
    raise last


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one step; False where this system, or this file system, cannot."""
    if sys.platform != "linux":
        return False
    import ctypes

    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS):
        return False
    raise OSError(code, os.strerror(code), str(other))


def _replace_folder(new: Path, target: Path) -> None:
    """In two steps. A process that is killed between them leaves the old folder under another name."""
    old = new.with_suffix(".old.tmp")
    try:
        target.rename(old)
        new.rename(target)
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    with _removed([old]):
        pass


def _remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it, if it is there and can be removed."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def json_writer(value: Mapping[str, Any]) -> Callable[[BinaryIO], object]:
    """A writer for `write_files`: `value` as indented JSON, keys sorted. Raises OutputError if JSON cannot hold it."""
    try:
        text = json.dumps(value, indent=2, sort_keys=True)
    except (TypeError, ValueError) as failure:
        raise OutputError(f"cannot be written as JSON: {failure}") from None
    return text_writer(f"{text}\n")


def text_writer(text: str) -> Callable[[BinaryIO], object]:
    """A writer for `write_files`: `text` in UTF-8."""
    return lambda file: file.write(text.encode())


def finite(value: Any) -> Any:
    """`value` with None for each number that JSON lacks: infinity and NaN."""
    match value:
        case dict():
            return {key: finite(item) for key, item in value.items()}
        case list() | tuple():
            return [finite(item) for item in value]
        case float() if not math.isfinite(value):
            return None
    return value
