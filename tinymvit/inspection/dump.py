"""Dumps: named tensors on disk, read lazily whoever wrote them, written one at a time. Three formats:

- one safetensors file;
- a folder of `.npy` files: a tensor's name is its path below the folder without the suffix, `/` between folders;
- a folder with `manifest.json`, which lists the tensors, and a file for each: raw bytes, little endian and in C order,
  for people without Python, or `.npy`. Of each tensor it must give name, shape, dtype and file:

    {"tensors": [{"name": "logits", "shape": [1, 10], "dtype": "float32", "file": "logits.bin"}]}

Our own folders always have a manifest, with statistics and a digest of each tensor and the facts that the writer adds.
What the tensors mean is left to `trace` and `compare`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import reprlib
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from tinymvit.errors import CheckpointError, DumpError, OutputError
from tinymvit.files import read_json
from tinymvit.numerics import TensorStatistics
from tinymvit.version import __version__
from tinymvit.weights.formats.safetensors import DTYPES, Entry, is_shape, map_tensor, open_tensors, read_metadata

Array = np.ndarray

MANIFEST = "manifest.json"
FORMATS = ("safetensors", "npy", "raw")
EXPECTED = f"a .safetensors file, or a folder of .npy files or with {MANIFEST}"
DTYPE_NAMES = {  # of a manifest, and what the safetensors format calls them
    **{dtype.name: name for name, dtype in DTYPES.items() if name != "BF16"},
    "bfloat16": "BF16",
}
STORED_NAMES = {short: name for name, short in DTYPE_NAMES.items()}
PRODUCER = f"tinymvit {__version__}"


# ---- reading ----


class Stored(NamedTuple):
    """A tensor on disk: its shape, the name of its dtype there, the dtype in which it is loaded, and how."""

    shape: tuple[int, ...]
    name: str
    dtype: np.dtype[Any]
    load: Callable[[], Array]


class Dump(Mapping[str, Array]):
    """The tensors of a dump by name, in the file's own order (.npy files by path). Each access maps the tensor's file
    anew: a read-only array in native byte order, bfloat16 widened to float32. Raises DumpError if the file has changed
    meanwhile."""

    def __init__(self, path: Path, tensors: dict[str, Stored]) -> None:
        self.path = path
        self._tensors = tensors

    @classmethod
    def of(cls, arrays: Mapping[str, Array]) -> Dump:
        """A dump of arrays in memory."""
        loaded = {str(name): np.asarray(array) for name, array in arrays.items()}
        return cls(Path(), {name: Stored(x.shape, x.dtype.name, x.dtype, x.view) for name, x in loaded.items()})

    def __getitem__(self, name: str) -> Array:
        array = self._tensors[name].load().view(np.ndarray)
        array.flags.writeable = False
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        return f"Dump({str(self.path)!r}, {len(self)} tensors)"

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, without loading it."""
        return self._tensors[name].shape

    def dtype(self, name: str) -> np.dtype[Any]:
        """The dtype in which a tensor is loaded, without loading it."""
        return self._tensors[name].dtype

    def stored(self, name: str) -> str:
        """The name of the dtype in which a tensor is stored: "bfloat16" is loaded as float32."""
        return self._tensors[name].name


def open_dump(path: str | Path) -> Dump:
    """The dump at `path`: a safetensors file, a folder with manifest.json, or a folder of .npy files.

    Names, shapes, dtypes and the sizes of the files are checked now, values are read when asked for.
    Raises DumpError, a ValueError, that names the file and the tensor and what was expected.
    """
    path = Path(path).expanduser()
    try:
        if path.is_file():
            tensors = _safetensors(path)
        elif (path / MANIFEST).is_file():
            tensors = _manifest(path)
        elif path.is_dir():
            tensors = _npy_files(path)
        else:
            raise DumpError(f"{path}: no such file or folder; expected {EXPECTED}")
    except OSError as failure:
        raise DumpError(f"{failure.filename or path}: cannot be read: {failure.strerror}") from None
    except CheckpointError as error:  # of the safetensors reader, which speaks of any such file
        hint = "" if path.suffix == ".safetensors" else f"; expected {EXPECTED}"
        raise DumpError(f"{error}{hint}") from None
    if not tensors:
        raise DumpError(f"{path}: holds no tensors")
    return Dump(path, tensors)


def _safetensors(path: Path) -> dict[str, Stored]:
    entries, data = open_tensors(path)
    return {name: _mapped(entry, data) for name, entry in entries.items()}


def _mapped(entry: Entry, data: Array) -> Stored:
    dtype = np.dtype(np.float32) if entry.dtype == "BF16" else DTYPES[entry.dtype].newbyteorder("=")
    return Stored(entry.shape, STORED_NAMES[entry.dtype], dtype, lambda: map_tensor(entry, data))


def _npy_files(folder: Path) -> dict[str, Stored]:
    paths = sorted(folder.rglob("*.npy"))
    visible = [path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not visible:
        raise DumpError(f"{folder}: holds no tensors; expected .npy files, or {MANIFEST} with raw files")
    return {path.relative_to(folder).with_suffix("").as_posix(): _npy_file(path) for path in visible}


def _npy_file(path: Path) -> Stored:
    array = _map_npy(path)
    dtype = array.dtype.newbyteorder("=")
    return Stored(array.shape, dtype.name, dtype, lambda: _native(_map_npy(path)))


def _map_npy(path: Path) -> Array:
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except OSError as failure:
        raise DumpError(f"{path}: cannot be read: {failure.strerror}") from None
    except Exception as failure:  # NumPy's parser raises nearly anything for a damaged header
        reason = str(failure).partition("\n")[0]
        raise DumpError(f"{path}: no .npy file of numbers, or truncated: {reason}") from None
    if array.dtype.newbyteorder("=") not in DTYPES.values():
        raise DumpError(f"{path}: dtype {array.dtype}, expected one of {', '.join(DTYPE_NAMES)}")
    return array


def _native(array: Array) -> Array:
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _manifest(folder: Path) -> dict[str, Stored]:
    path = folder / MANIFEST
    manifest = read_json(path, DumpError)
    if (order := manifest.get("byte_order", "little")) != "little":
        raise DumpError(f"{path}: byte_order is {reprlib.repr(order)}, expected 'little'")
    listed = manifest.get("tensors")
    if not isinstance(listed, list):
        raise DumpError(f'{path}: expected "tensors", a list of objects with name, shape, dtype and file')
    tensors: dict[str, Stored] = {}
    for position, fields in enumerate(listed):
        match fields:
            case {"name": str(name), "shape": shape, "dtype": str(dtype), "file": str(file)} if is_shape(shape):
                pass
            case _:
                found = reprlib.repr(fields)
                raise DumpError(f"{path}: tensor {position} is {found}, expected name, shape, dtype and file")
        if name in tensors:
            raise DumpError(f"{path}: two tensors are named {name}")
        if dtype not in DTYPE_NAMES:
            raise DumpError(f"{path}: tensor {name} has dtype {dtype}, expected one of {', '.join(DTYPE_NAMES)}")
        if file.endswith((".h", ".safetensors")):  # as `tinymvit vectors` writes them
            raise DumpError(f"{path}: tensor {name} is in {file!r}, expected a file of its own, raw or .npy")
        read = _listed_npy if file.endswith(".npy") else _raw_file
        tensors[name] = read(_inside(folder, file, name), name, tuple(shape), dtype)
    return tensors


def _inside(folder: Path, file: str, name: str) -> Path:
    """The path of a tensor's file, which a manifest must not place outside its folder."""
    try:
        path = (folder / file).resolve()
        if path.is_relative_to(folder.resolve()) and path.is_file():
            return path
    except (OSError, ValueError, RuntimeError):  # too long, a null character, a loop of links
        pass
    raise DumpError(f"{folder / MANIFEST}: tensor {name} is in {file!r}, expected a file in the same folder")


def _raw_file(path: Path, name: str, shape: tuple[int, ...], dtype: str) -> Stored:
    entry = Entry(DTYPE_NAMES[dtype], shape, 0, math.prod(shape) * DTYPES[DTYPE_NAMES[dtype]].itemsize)
    size = path.stat().st_size
    if size != entry.end:
        raise DumpError(f"{path}: {size} bytes; tensor {name}, {dtype} {list(shape)}, needs {entry.end}")

    def load() -> Array:
        try:
            return map_tensor(entry, np.memmap(path, np.uint8, "r") if size else np.empty(0, np.uint8))
        except (OSError, ValueError) as failure:
            raise DumpError(f"{path}: tensor {name} cannot be read any more: {failure}") from None

    return _mapped(entry, np.empty(0, np.uint8))._replace(load=load)


def _listed_npy(path: Path, name: str, shape: tuple[int, ...], dtype: str) -> Stored:
    stored = _npy_file(path)
    if (stored.shape, stored.dtype.name) != (shape, dtype):
        raise DumpError(
            f"{path}: holds {stored.dtype} {list(stored.shape)}; the manifest gives {name} as {dtype} {list(shape)}"
        )
    return stored


# ---- writing ----


@dataclass(frozen=True)
class Spec:
    """A tensor to be written. `facts` go into the manifest of a folder beside what is computed from the values."""

    name: str
    shape: tuple[int, ...]
    dtype: str  # a NumPy dtype's name: "float32"
    facts: Mapping[str, Any] = field(default_factory=dict)


Write = Callable[[str, Array], None]


def choose_format(path: Path, given: str | None = None) -> str:
    """The format in which to write a dump at `path`. Raises OutputError if the name does not fit the format."""
    suffix = path.suffix.lower()
    if given not in (None, *FORMATS):
        raise OutputError(f"format {given!r}: expected one of {', '.join(FORMATS)}")
    if (given == "safetensors") != (suffix == ".safetensors") and given is not None:
        kind = "a name that ends in .safetensors" if given == "safetensors" else "the name of a folder"
        raise OutputError(f"{path}: the format {given} needs {kind}")
    if given is None and suffix not in ("", ".safetensors"):
        raise OutputError(
            f"{path}: the suffix {path.suffix!r} names no format; expected .safetensors, or a folder's name"
        )
    return given or ("safetensors" if suffix else "npy")


@contextmanager
def write_dump(path: str | Path, specs: Sequence[Spec], format: str | None = None) -> Iterator[Write]:
    """Write a dump, one tensor at a time: `with write_dump(path, specs) as write: write(name, array) ...`, in the
    order of `specs`, all of them.

    format: "safetensors", "npy" or "raw"; by default safetensors if `path` ends in .safetensors, else a folder of npy.
    Everything goes to a temporary name in the same folder, which takes its place only when it is complete; what stands
    there already is replaced if it is a dump that tinymvit wrote, and nothing else. Raises OutputError.
    """
    target = Path(path).expanduser()
    kind = choose_format(target, format)
    names = [spec.name for spec in specs]
    if len(set(names)) < len(names):
        raise ValueError(f"two tensors are named {next(name for name in names if names.count(name) > 1)}")
    temporary = None
    try:
        target = target.resolve()  # of a link, what it points to is replaced
        _check_replaceable(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
        pending = iter(specs)
        with _to_file(temporary, specs) if kind == "safetensors" else _to_folder(temporary, kind) as put:

            def write(name: str, array: Array) -> None:
                spec = next(pending, None)
                found = Spec(name, array.shape, array.dtype.name)
                if spec is None or (spec.name, spec.shape, spec.dtype) != (found.name, found.shape, found.dtype):
                    raise ValueError(f"{target}: {found} is written where {spec} was announced")
                little_endian = array.dtype.newbyteorder("<")
                put(spec, np.require(array, little_endian, "C").reshape(array.shape))

            yield write
            if (missing := next(pending, None)) is not None:
                raise ValueError(f"{target}: {missing} was announced and not written")
        _put_in_place(temporary, target)
    except OSError as failure:
        raise OutputError(f"{path}: cannot be written: {failure.strerror or failure}") from None
    finally:
        if temporary is not None:
            _remove(temporary)


@contextmanager
def _to_file(path: Path, specs: Sequence[Spec]) -> Iterator[Callable[[Spec, Array], None]]:
    """A safetensors file: its header is known before the first tensor."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt", "producer": PRODUCER}}
    begin = 0
    for spec in specs:
        end = begin + math.prod(spec.shape) * np.dtype(spec.dtype).itemsize
        header[spec.name] = {"dtype": DTYPE_NAMES[spec.dtype], "shape": list(spec.shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # so that the tensors lie aligned
    with path.open("xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        yield lambda spec, array: _write_bytes(file, array)
        _flush(file)


@contextmanager
def _to_folder(folder: Path, kind: str) -> Iterator[Callable[[Spec, Array], None]]:
    """A folder with a file for each tensor, and last the manifest."""
    folder.mkdir()
    listed: list[dict[str, Any]] = []

    def put(spec: Spec, array: Array) -> None:
        file = f"{spec.name}.npy" if kind == "npy" else f"{spec.name}.bin"
        parts = PurePosixPath(file).parts
        if file != "/".join(parts) or parts[0] == "/" or ".." in parts or "\0" in file:
            raise OutputError(f"tensor {spec.name!r}: no name for a file; write a .safetensors file instead")
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as stream:
            if kind == "npy":
                np.lib.format.write_array(stream, array, allow_pickle=False)
            else:
                _write_bytes(stream, array)
        listed.append(
            {"name": spec.name, "shape": list(spec.shape), "dtype": spec.dtype, "file": file}
            | dict(spec.facts)
            | statistics(array)
            | {"sha256": hashlib.sha256(_bytes(array).data).hexdigest()}
        )

    yield put
    manifest = {"producer": PRODUCER, "byte_order": "little", "tensors": listed}
    with (folder / MANIFEST).open("xb") as stream:
        stream.write(json.dumps(manifest, indent=1).encode() + b"\n")
        _flush(stream)  # the last alone: for each tensor it would take longer than all the rest


def statistics(array: Array) -> dict[str, float | None]:
    """Smallest, largest, mean and root mean square value, in float64; None where that is no finite number."""
    values = vars(TensorStatistics.of(array))
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _bytes(array: Array) -> Array:
    return array.reshape(-1).view(np.uint8)


def _write_bytes(file: BinaryIO, array: Array) -> None:
    file.write(_bytes(array).data)


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())  # some file systems report a full disk only here


def _check_replaceable(target: Path) -> None:
    """Raise OutputError unless a dump can take this place: nothing there, an empty folder, or a dump of ours alone."""
    if target.is_file():
        with suppress(CheckpointError):
            if str(read_metadata(target).get("producer")).startswith("tinymvit"):
                return
    elif target.is_dir():
        files = {path.relative_to(target).as_posix() for path in target.rglob("*") if not path.is_dir()}
        if not files or files == _files_of_ours(target):
            return
    elif not target.exists():
        return
    raise OutputError(f"{target}: is there already and no dump that tinymvit wrote; choose another name, or remove it")


def _files_of_ours(folder: Path) -> set[str]:
    """The files of a dump that tinymvit wrote into this folder; none if it did not."""
    try:
        manifest = read_json(folder / MANIFEST, DumpError)
        if manifest["producer"].startswith("tinymvit"):
            return {MANIFEST, *(tensor["file"] for tensor in manifest["tensors"])}
    except (DumpError, KeyError, TypeError, AttributeError):
        pass
    return set()


def _put_in_place(temporary: Path, target: Path) -> None:
    if not target.is_dir():
        temporary.replace(target)
        return
    old = temporary.with_suffix(".old")
    target.rename(old)
    try:
        temporary.rename(target)
    except OSError:
        old.rename(target)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
