"""Dumps: named tensors on disk, read lazily whoever wrote them. There are three formats:

- one file of a format of `weights.formats`, such as safetensors;
- a folder of `.npy` files: a tensor's name is its path below the folder without the suffix, `/` between folders;
- a folder with `manifest.json`, which lists the tensors, and a file for each: raw bytes, little endian and in C order,
  for people without Python, or `.npy`. Of each tensor it must give name, shape, dtype and file:

    {"tensors": [{"name": "logits", "shape": [1, 10], "dtype": "float32", "file": "logits.bin"}]}

Nothing outside of the folder is read: a file may be a link only to one inside.

Writing dumps is left to `dump_writer`, what the tensors mean to `trace` and `comparison`.
"""

from __future__ import annotations

import math
import os
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from tinymvit.errors import CheckpointError, DumpError
from tinymvit.files import FILE, FOLDER, at_home, files_below, open_file, read_json, reason, what_is
from tinymvit.numerics import Array, as_array
from tinymvit.weights import Checkpoint, formats
from tinymvit.weights.formats import format_of, suffixes
from tinymvit.weights.formats.safetensors import DTYPES, SHORT_NAMES, Entry, is_shape, map_tensor
from tinymvit.weights.stored import StoredTensor

MANIFEST = "manifest.json"


class Dump(Mapping[str, Array]):
    """The tensors of a dump by name, in the file's own order (.npy files by path). Each access maps the tensor's file
    anew: a read-only array in native byte order, bfloat16 widened to float32. Raises DumpError if the file has changed
    meanwhile."""

    def __init__(self, path: Path, tensors: Mapping[str, StoredTensor]) -> None:
        self.path = path
        self._tensors = tensors

    @classmethod
    def of(cls, arrays: Mapping[str, Array]) -> Dump:
        """A dump of arrays in memory."""
        if not isinstance(arrays, Mapping):
            raise TypeError(f"arrays: {type(arrays).__name__}, expected a mapping of names to arrays")
        loaded = {str(name): as_array(array, str(name)) for name, array in arrays.items()}
        return _InMemory(Path(), {name: StoredTensor(x.shape, x.dtype.name, x.view) for name, x in loaded.items()})

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

    def split(self, parts: Mapping[str, Sequence[str]]) -> Self:
        """The same dump with some tensors, by name, cut along their last axis into equal parts of these names."""
        tensors: dict[str, StoredTensor] = {}
        for name, stored in self._tensors.items():
            if name in parts:
                tensors |= {part: _part(stored, i, len(parts[name])) for i, part in enumerate(parts[name])}
            else:
                tensors[name] = stored
        return type(self)(self.path, tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, without loading it."""
        return self._tensors[name].shape

    def dtype(self, name: str) -> np.dtype[Any]:
        """The dtype in which a tensor is loaded, without loading it."""
        stored = self.stored(name)
        return np.dtype(np.float32 if stored == "bfloat16" else stored)

    def stored(self, name: str) -> str:
        """The name of the dtype in which a tensor is stored: "bfloat16" is loaded as float32."""
        return self._tensors[name].dtype


def _part(stored: StoredTensor, index: int, count: int) -> StoredTensor:
    width = stored.shape[-1] // count
    part = slice(index * width, (index + 1) * width)
    return StoredTensor((*stored.shape[:-1], width), stored.dtype, lambda: stored.load()[..., part])


class _InMemory(Dump):
    """Arrays as they are: they may be of a dtype that no file has."""

    def dtype(self, name: str) -> np.dtype[Any]:
        return self._tensors[name].load().dtype


def open_dump(path: str | Path | Checkpoint) -> Dump:
    """The dump at `path`: a safetensors file, or one of another format that is known here, a folder with manifest.json,
    or a folder of .npy files. A checkpoint that is open already gives the tensors of its file, which is not read again.

    Names, shapes, dtypes and the sizes of the files are checked now, values are read when asked for.
    Raises DumpError, a ValueError, that names the file and the tensor and what was expected.
    """
    checkpoint, path = (path, path.file) if isinstance(path, Checkpoint) else (None, at_home(path, DumpError))
    tensors: Mapping[str, StoredTensor]
    try:
        if checkpoint is not None:
            tensors = checkpoint.stored
        elif (kind := what_is(path, DumpError)) == FILE:
            tensors = formats.open_file(path)  # whatever it is called
        elif kind == FOLDER:
            tensors = (_manifest if what_is(path / MANIFEST, DumpError) else _npy_files)(path)
        else:
            raise DumpError(f"{path}: {f'is {kind}' if kind else 'no such file or folder'}; {_expected()}")
    except CheckpointError as error:  # of the format, which speaks of any such file
        hint = f"; {_expected()}" if format_of(path) is None else ""
        raise DumpError(f"{error}{hint}") from None
    if not tensors:
        raise DumpError(f"{path}: holds no tensors")
    return Dump(path, tensors)


def _expected() -> str:
    return f"expected a {suffixes()} file, or a folder of .npy files or with {MANIFEST}"


def _npy_files(folder: Path) -> dict[str, StoredTensor]:
    def complain(line: str) -> None:
        raise DumpError(line)

    files = [path.relative_to(folder) for path in files_below(folder, complain) if path.suffix == ".npy"]
    visible = [file for file in files if not any(part.startswith(".") for part in file.parts)]
    if not visible:
        raise DumpError(f"{folder}: holds no tensors; expected .npy files, or {MANIFEST} with raw files")
    return {file.with_suffix("").as_posix(): _npy_file(_inside(folder, file)) for file in visible}


def _inside(folder: Path, file: Path) -> Path:
    """Where a file of the dump in `folder` lies, without links. Raises DumpError unless it is in the folder too, or in
    the hub's cache, whose snapshots are folders of links into one of blobs beside them."""
    path, home = Path(os.path.realpath(folder / file)), Path(os.path.realpath(folder))
    homes = [home, home.parents[1] / "blobs"] if home.parent.name == "snapshots" else [home]
    if file.anchor or ".." in file.parts or not any(map(path.is_relative_to, homes)):
        raise DumpError(f"{folder / file}: leads out of the folder; expected a file in it")
    return path


def _npy_file(path: Path) -> StoredTensor:
    array = _map_npy(path)
    return StoredTensor(array.shape, array.dtype.name, lambda: _native(_map_npy(path)))


def _map_npy(path: Path) -> Array:
    with open_file(path, DumpError) as file:
        try:
            version = np.lib.format.read_magic(file)
            # Version 3 differs in the encoding of the names of fields, which no array of numbers has.
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran_order, dtype = read(file)
            if dtype.hasobject:
                raise ValueError("it holds objects")
            if not is_shape(list(shape)):
                raise ValueError(f"no array has shape {shape}")
            array = np.memmap(file, dtype, "r", file.tell(), shape, "F" if fortran_order else "C")
        except OSError as failure:
            raise DumpError(f"{path}: cannot be read: {reason(failure)}") from None
        except Exception as failure:  # NumPy's parser raises nearly anything for a damaged header
            why = str(failure).partition("\n")[0]
            raise DumpError(f"{path}: no .npy file of numbers, or truncated: {why}") from None
    if array.dtype.newbyteorder("=") not in DTYPES.values():
        raise DumpError(f"{path}: dtype {array.dtype}, expected one of {', '.join(SHORT_NAMES)}")
    return array


def _native(array: Array) -> Array:
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _manifest(folder: Path) -> dict[str, StoredTensor]:
    path = folder / MANIFEST
    manifest = read_json(_inside(folder, Path(MANIFEST)), DumpError)
    if (order := manifest.get("byte_order", "little")) != "little":
        raise DumpError(f"{path}: byte_order is {reprlib.repr(order)}, expected 'little'")
    listed = manifest.get("tensors")
    if not isinstance(listed, list):
        raise DumpError(f'{path}: expected "tensors", a list of objects with name, shape, dtype and file')
    tensors: dict[str, StoredTensor] = {}
    for position, fields in enumerate(listed):
        match fields:
            case {"name": str(name), "shape": shape, "dtype": str(dtype), "file": str(file)} if is_shape(shape):
                pass
            case _:
                found = reprlib.repr(fields)
                raise DumpError(f"{path}: tensor {position} is {found}, expected name, shape, dtype and file")
        if name in tensors:
            raise DumpError(f"{path}: two tensors are named {name}")
        if dtype not in SHORT_NAMES:
            raise DumpError(f"{path}: tensor {name} has dtype {dtype}, expected one of {', '.join(SHORT_NAMES)}")
        if file.endswith((".h", ".safetensors")):  # as `tinymvit vectors` writes them
            raise DumpError(f"{path}: tensor {name} is in {file!r}, expected a file of its own, raw or .npy")
        read = _listed_npy if file.endswith(".npy") else _raw_file
        tensors[name] = read(_listed(folder, file, name), name, tuple(shape), dtype)
    return tensors


def _listed(folder: Path, file: str, name: str) -> Path:
    """The path of a tensor's file, which a manifest must not place outside its folder."""
    try:
        found = _inside(folder, Path(file))
        if what_is(found, DumpError):
            return found
    except ValueError:  # DumpError, and what a null character in the name raises
        pass
    raise DumpError(f"{folder / MANIFEST}: tensor {name} is in {file!r}, expected a file in the same folder")


def _raw_file(path: Path, name: str, shape: tuple[int, ...], dtype: str) -> StoredTensor:
    entry = Entry(SHORT_NAMES[dtype], shape, 0, math.prod(shape) * DTYPES[SHORT_NAMES[dtype]].itemsize)
    with open_file(path, DumpError) as opened:
        size = os.fstat(opened.fileno()).st_size
    if size != entry.end:
        raise DumpError(f"{path}: {size} bytes; tensor {name}, {dtype} {list(shape)}, needs {entry.end}")

    def load() -> Array:
        with open_file(path, DumpError) as opened:
            try:
                return map_tensor(entry, np.memmap(opened, np.uint8, "r") if size else np.empty(0, np.uint8))
            except (OSError, ValueError) as failure:
                raise DumpError(f"{path}: tensor {name} cannot be read any more: {failure}") from None

    return StoredTensor(shape, dtype, load)


def _listed_npy(path: Path, name: str, shape: tuple[int, ...], dtype: str) -> StoredTensor:
    stored = _npy_file(path)
    if (stored.shape, stored.dtype) != (shape, dtype):
        raise DumpError(
            f"{path}: holds {stored.dtype} {list(stored.shape)}; the manifest gives {name} as {dtype} {list(shape)}"
        )
    return stored
