"""Dumps written one tensor at a time, and complete or not at all.

The formats are those that `dump` reads: one safetensors file, or a folder of `.npy` or raw files with a manifest. Our
manifests give statistics and a digest of each tensor, and the facts that the caller adds. The test vectors are written
by the same functions. `files` sees to it that all of a dump appears at once; the callers choose what is written.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from tinymvit.errors import CheckpointError, DumpError, OutputError
from tinymvit.files import FILE, FOLDER, at_home, complete_or_nothing, files_below, read_json, what_is
from tinymvit.inspection.dump import MANIFEST
from tinymvit.numerics import Array, TensorStatistics
from tinymvit.version import __version__
from tinymvit.weights.formats.safetensors import PYTORCH, file_header, raw_bytes, read_metadata

FORMATS = ("safetensors", "npy", "raw")
SUFFIXES = {"npy": ".npy", "raw": ".bin"}  # of a tensor's own file
PRODUCER = f"tinymvit {__version__}"


@dataclass(frozen=True)
class Spec:
    """A tensor to be written. `facts` go into the manifest of a folder beside what is computed from the values."""

    name: str
    shape: tuple[int, ...]
    dtype: str  # a NumPy dtype's name: "float32"
    facts: Mapping[str, Any] = field(default_factory=dict)


Write = Callable[[str, Array], None]
Put = Callable[[Spec, Array], object]


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
    there already is replaced if it is a dump that tinymvit wrote, and nothing else. Raises OutputError, and ValueError
    for a tensor that is not what `specs` announced.
    """
    target = at_home(path, OutputError)
    kind = choose_format(target, format)
    names = [spec.name for spec in specs]
    if len(set(names)) < len(names):
        raise ValueError(f"two tensors are named {next(name for name in names if names.count(name) > 1)}")
    with complete_or_nothing(target, _check_replaceable) as temporary:
        pending = iter(specs)
        with safetensors_file(temporary, specs) if kind == "safetensors" else _folder(temporary, kind) as put:

            def write(name: str, array: Array) -> None:
                spec = next(pending, None)
                found = Spec(name, array.shape, array.dtype.name)
                if spec is None or (spec.name, spec.shape, spec.dtype) != (found.name, found.shape, found.dtype):
                    raise ValueError(f"{target}: {found} is written where {spec} was announced")
                put(spec, array)

            yield write
            if (missing := next(pending, None)) is not None:
                raise ValueError(f"{target}: {missing} was announced and not written")


@contextmanager
def _folder(folder: Path, kind: str) -> Iterator[Put]:
    """A folder with a file for each tensor, and last the manifest."""
    folder.mkdir()
    listed: list[dict[str, Any]] = []

    def put(spec: Spec, array: Array) -> None:
        file = f"{spec.name}{SUFFIXES[kind]}"
        parts = PurePosixPath(file).parts
        if file != "/".join(parts) or parts[0] == "/" or ".." in parts or "\0" in file:
            raise OutputError(f"tensor {spec.name!r}: no name for a file; write a .safetensors file instead")
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        write_tensor(folder / file, array)
        listed.append(manifest_entry(spec.name, array, file, dict(spec.facts) | statistics(array)))

    yield put
    write_manifest(folder, {}, listed)


def _check_replaceable(target: Path) -> None:
    """Raise OutputError unless a dump can take this place: nothing there, an empty folder, or a dump of ours alone."""

    def complain(line: str) -> None:
        raise OutputError(line)

    kind = what_is(target, OutputError, "written")
    if kind is None:
        return
    if kind == FILE:
        with suppress(CheckpointError):
            if str(read_metadata(target).get("producer")).startswith("tinymvit"):
                return
    elif kind == FOLDER:
        files = {path.relative_to(target).as_posix() for path in files_below(target, complain)}
        if not files or files == _files_of_ours(target):
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


# ---- the parts of a dump ----


@contextmanager
def safetensors_file(path: Path, specs: Sequence[Spec]) -> Iterator[Put]:
    """A new safetensors file, filled in the order of `specs`: its header is known before the first tensor."""
    header = file_header({spec.name: (spec.dtype, spec.shape) for spec in specs}, PYTORCH | {"producer": PRODUCER})
    with path.open("xb") as file:
        file.write(header)
        yield lambda spec, array: file.write(raw_bytes(array))


def write_tensor(path: Path, array: Array) -> None:
    """A new file of one tensor: `.npy`, or else its bytes alone, little endian and in C order."""
    with path.open("xb") as file:
        if path.suffix == SUFFIXES["npy"]:
            little_endian = np.require(array, array.dtype.newbyteorder("<"), "C").reshape(array.shape)
            np.lib.format.write_array(file, little_endian, allow_pickle=False)
        else:
            file.write(raw_bytes(array))


def manifest_entry(name: str, array: Array, file: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a manifest says of a tensor in `file`. sha256 is that of its bytes, little endian and in C order."""
    known = {"name": name, "shape": list(array.shape), "dtype": array.dtype.name, "file": file}
    return known | dict(facts) | {"sha256": hashlib.sha256(raw_bytes(array)).hexdigest()}


def write_manifest(folder: Path, facts: Mapping[str, Any], tensors: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Write manifest.json, which lists `tensors` (entries as of `manifest_entry`) behind `facts`; returns it."""
    manifest = {"producer": PRODUCER, "byte_order": "little", **facts, "tensors": tensors}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8", newline="\n")
    return manifest


def statistics(array: Array) -> dict[str, float | None]:
    """Smallest, largest, mean and root mean square value, in float64; None where that is no finite number."""
    values = vars(TensorStatistics.of(array))
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
