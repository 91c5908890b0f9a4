"""Files that are read and written whole: JSON objects in, new files and folders out.

Every reader of a checkpoint starts with `read_json`. Every writer ends with `write_files`, which puts files into a
folder, or with `complete_or_nothing`, which puts a new file or folder in the place of an old one; a failure leaves what
was there. What the files mean is left to the callers.
"""

import json
import math
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from tinymvit.errors import OutputError, TinyMViTError


def read_json(path: Path, error: type[TinyMViTError]) -> dict[str, Any]:
    """The JSON object in the UTF-8 file `path`; raises `error`, naming the file and line, when there is none, and when
    a name in it stands twice."""
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_named_once)
    except OSError as failure:
        raise error(f"{path}: cannot be read: {failure.strerror}") from None
    except UnicodeDecodeError:
        raise error(f"{path}: is not UTF-8 text, expected a JSON object") from None
    except json.JSONDecodeError as failure:
        raise error(f"{path}: line {failure.lineno}: not valid JSON: {failure.msg}") from None
    except (ValueError, RecursionError) as failure:  # digits or brackets by the thousand, a name twice
        raise error(f"{path}: not valid JSON: {failure}") from None
    if not isinstance(value, dict):
        raise error(f"{path}: holds a JSON {type(value).__name__}, expected an object")
    return value


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Raises ValueError if a name stands twice in it."""
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise ValueError(f"the name {name!r} stands twice in an object")
        values[name] = value
    return values


def file_mode(path: Path) -> int:
    """The `st_mode` of what stands at `path`, links followed, for the functions of `stat`; 0 if nothing does.

    Raises OSError where that cannot be known, as for a name that is too long and below a folder that may not be
    entered: `Path.exists` and its like answer no there, from Python 3.14 on.
    """
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a zero byte in the name
        return 0


def named_json(name: Any) -> Path | None:
    """The path, if `name` is that of a JSON file with settings, not of a checkpoint."""
    is_settings = str(name).endswith(".json") and not str(name).endswith(".index.json")  # an index stands for shards
    return Path(name).expanduser() if is_settings else None


def write_files(folder: str | Path, writers: Mapping[str, Callable[[BinaryIO], object]]) -> None:
    """Write files into `folder`, made if need be: all of them, or none.

    `writers` gives for each file name the function that writes its content to an open binary file. Everything is first
    written under temporary names in the same folder and renamed only when all of it has reached the disk, so a failure
    leaves the files of an earlier run as they were. A link is replaced, not what it points to, which others may share,
    as the hub's cache does. Raises OutputError.
    """
    folder = Path(folder)
    mark = uuid.uuid4().hex[:8]
    temporary = {name: folder / f".{name}.{mark}.tmp" for name in writers}
    target = folder
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise OutputError(f"{folder}: is a file, expected a folder to write {', '.join(writers)} into") from None
        for name, write in writers.items():
            target = folder / name
            if target.is_dir():  # found out now, not when half of the files are renamed
                raise OutputError(f"{target}: is a folder, expected a file or nothing")
            if target.exists() and not target.is_file():  # a pipe, a device
                raise OutputError(f"{target}: is no regular file, expected one or nothing")
            with temporary[name].open("xb") as file:
                write(file)
                _sync(file)
        for name in writers:
            target = folder / name
            temporary[name].replace(target)
    except OSError as failure:
        raise OutputError(f"{target}: cannot be written: {failure.strerror or failure}") from None
    finally:
        for path in temporary.values():
            _remove(path)


@contextmanager
def complete_or_nothing(path: str | Path, check: Callable[[Path], None]) -> Iterator[Path]:
    """`with complete_or_nothing(path, check) as new:` gives a free name beside `path`, for a file or a folder that the
    block makes, which takes the place of what stands at `path` when all of it has reached the disk.

    If anything fails, nothing is left behind and what stood at `path` is still there. Of a link, what it points to is
    replaced. Folders above it are made if need be. check: raises OutputError unless what stands at the path that it is
    given may be replaced. Raises OutputError, which names `path`, for any OSError, one of the block included.
    """
    new = None
    try:
        target = Path(path).expanduser().resolve()
        check(target)
        if not target.parent.exists():  # where a file is in the way, the block's own attempt says so best
            target.parent.mkdir(parents=True, exist_ok=True)
        new = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
        yield new
        _sync_all(new)
        _put_in_place(new, target)
    except OSError as failure:
        raise OutputError(f"{path}: cannot be written: {failure.strerror or failure}") from None
    finally:
        if new is not None:
            _remove(new)


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
    if not target.is_dir():
        new.replace(target)
        return
    old = new.with_suffix(".old")  # a folder that holds something cannot be replaced in one step
    target.rename(old)
    try:
        new.rename(target)
    except OSError:
        old.rename(target)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it, if it is there and can be removed."""
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


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
