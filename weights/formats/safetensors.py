"""The safetensors file format, read through a memory map and written, in plain NumPy.

A file is eight bytes that hold the header's length N (little endian), N bytes of JSON, and the tensors' bytes, one
after the other without gaps. The header maps each tensor's name to its dtype, its shape and the range of its bytes,
counted from the end of the header; "__metadata__" maps text to text. (https://github.com/huggingface/safetensors)

Why not the safetensors library: its NumPy reader copies every tensor, cannot read bfloat16, and its errors name neither
the file nor, mostly, the tensor; its writer needs all tensors at once. Which tensors a model needs, and in what dtype,
is left to `checkpoint`.
"""

import json
import math
import os
import reprlib
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from tinymvit.errors import CheckpointError, OutputError
from tinymvit.files import open_file as open_to_read
from tinymvit.files import reason
from tinymvit.weights.stored import StoredTensor

NAME = "safetensors"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"  # of a checkpoint in several files
FILES: tuple[str, ...] = (WEIGHTS_FILE, INDEX_FILE)
SUFFIXES: tuple[str, ...] = (".safetensors", ".safetensors.index.json")

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # NumPy has no bfloat16: read as bits, then widened to float32
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
# NumPy's name of a dtype -> the format's, and back.
SHORT_NAMES = {dtype.name: name for name, dtype in DTYPES.items() if name != "BF16"} | {"bfloat16": "BF16"}
DTYPE_NAMES = {short: name for name, short in SHORT_NAMES.items()}
LARGEST_HEADER = 2**24  # bytes; parsed, they may take thirty times as many. The library takes 100 MB
PYTORCH = {"format": "pt"}  # the metadata without which transformers refuses a file


class Entry(NamedTuple):
    """One tensor of the header: dtype by its name in the format, shape, and byte range after the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


# ---- reading ----


def recognise(head: bytes) -> bool:
    """Whether a file that begins so is a safetensors file: a length that some file could have, and an object."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**40


def open_file(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file by name, in the order of the header.

    What is loaded is a read-only view of the memory-mapped file. A copy is made only where a view cannot serve:
    bfloat16 becomes float32 (exactly), and a tensor whose bytes lie unaligned in the file is realigned. Raises
    CheckpointError naming the file and the tensor.
    """
    entries, data = _open_tensors(path)
    return {
        name: StoredTensor(entry.shape, DTYPE_NAMES[entry.dtype], partial(map_tensor, entry, data))
        for name, entry in entries.items()
    }


def read_metadata(path: Path) -> dict[str, str]:
    """The text that a safetensors file holds beside its tensors, by its key."""
    return _open(path)[0].get("__metadata__", {})


def _open_tensors(path: Path) -> tuple[dict[str, Entry], np.ndarray]:
    """The checked header and the mapped bytes that follow it, for `map_tensor`."""
    header, data = _open(path)
    entries = {name: _parse_entry(path, name, fields) for name, fields in header.items() if name != "__metadata__"}
    _check_layout(path, entries, data.size)
    return entries, data


def map_tensor(entry: Entry, data: np.ndarray) -> np.ndarray:
    """One tensor out of the mapped bytes that follow the header, where its entry says."""
    array = data[entry.begin : entry.end].view(DTYPES[entry.dtype]).reshape(entry.shape)
    if entry.dtype == "BF16":  # bfloat16 is the upper half of a float32
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return np.require(array, array.dtype.newbyteorder("="), ["C", "ALIGNED"])


def is_shape(value: Any) -> bool:
    """Whether `value`, out of a JSON file, is a list that can be an array's shape."""
    # NumPy's limits for an array, which hold for one without elements too.
    sizes = isinstance(value, list) and all(type(size) is int and size >= 0 for size in value)
    return sizes and len(value) <= 64 and math.prod(size or 1 for size in value) < 2**60


def _open(path: Path) -> tuple[dict[str, Any], np.ndarray]:
    """The header, a JSON object, and the mapped bytes that follow it."""
    with open_to_read(path, CheckpointError) as file:
        size = os.fstat(file.fileno()).st_size
        if size < 8:
            raise CheckpointError(f"{path}: {size} bytes, too short for a safetensors file")
        try:
            data = np.memmap(file, dtype=np.uint8, mode="r").view(np.ndarray)
        except (OSError, ValueError) as failure:
            raise CheckpointError(f"{path}: cannot be read: {reason(failure)}") from None
    size = data.size
    length = int.from_bytes(data[:8].tobytes(), "little")
    if length > size - 8:
        raise CheckpointError(
            f"{path}: the header claims {length} bytes, the file has {size}; truncated or not a safetensors file"
        )
    if length > LARGEST_HEADER:
        raise CheckpointError(
            f"{path}: the header has {length} bytes, expected at most {LARGEST_HEADER} "
            "(if you trust it, raise tinymvit.weights.formats.safetensors.LARGEST_HEADER)"
        )
    return _parse_header(path, data[8 : 8 + length].tobytes()), data[8 + length :]


def _parse_header(path: Path, text: bytes) -> dict[str, Any]:
    """The header's names, each once, with what stands behind them, which is still to be checked but for "__metadata__".

    As strict as the safetensors library, and stricter: it takes the last of two tensors of one name, and a tensor with
    more fields than three.
    """

    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):  # json keeps the last, silently
            [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
            raise CheckpointError(f'{path}: the header lists "{twice}" twice')
        return found

    def natural(digits: str) -> int:
        return -1 if digits.startswith("-") else int(digits)  # -0 too is refused as negative

    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=without_duplicates, parse_int=natural)
        if b"\\u" in text:  # escapes can spell half a character, which no UTF-8 has
            json.dumps(header, ensure_ascii=False).encode()
    except CheckpointError:
        raise
    except (ValueError, RecursionError):
        raise CheckpointError(f"{path}: the header is not JSON; damaged, or not a safetensors file") from None
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: the header is a JSON {type(header).__name__}, expected an object")
    if not text.startswith(b"{"):
        raise CheckpointError(f"{path}: the header begins with white space, expected {{")
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(f"{path}: __metadata__ is {reprlib.repr(metadata)}, expected text by name")
    return header


def _parse_entry(path: Path, name: str, fields: Any) -> Entry:
    match fields:
        case {"dtype": str(dtype), "shape": shape, "data_offsets": [begin, end], **rest} if not rest:
            if dtype not in DTYPES:
                raise CheckpointError(f"{path}: tensor {name} has dtype {dtype}, expected one of {', '.join(DTYPES)}")
            if is_shape(shape) and all(type(number) is int and number >= 0 for number in (begin, end)):
                return Entry(dtype, tuple(shape), begin, end)
    raise CheckpointError(
        f"{path}: tensor {name}: the header gives {reprlib.repr(fields)}, expected dtype, shape and two data_offsets"
    )


def _check_layout(path: Path, entries: dict[str, Entry], size: int) -> None:
    """Each tensor as long as its shape says, each beginning where the one before ends, the last ending the file."""
    expected = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1][2:]):  # by begin, then end
        length = math.prod(entry.shape) * DTYPES[entry.dtype].itemsize
        if entry.end - entry.begin != length:
            raise CheckpointError(
                f"{path}: tensor {name}: {entry.dtype} {list(entry.shape)} needs {length} bytes, "
                f"the header gives it {entry.begin} to {entry.end}"
            )
        if entry.begin != expected:
            raise CheckpointError(f"{path}: tensor {name} starts at byte {entry.begin}, expected {expected}")
        if entry.end > size:
            raise CheckpointError(
                f"{path}: tensor {name} ends at byte {entry.end} of {size}; the file is truncated, fetch it again"
            )
        expected = entry.end
    if expected != size:
        raise CheckpointError(f"{path}: {size - expected} bytes follow the last tensor, expected none")


# ---- writing ----


def tensor_writer(
    tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] = PYTORCH
) -> Callable[[BinaryIO], object]:
    """A writer for `files.write_files`: `tensors` as a safetensors file. The widest dtypes come first, so that all lie
    aligned. Raises OutputError for a dtype that the format lacks."""
    arrays = {name: np.asarray(tensor) for name, tensor in tensors.items()}
    ordered = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    content = file_header({name: (arrays[name].dtype.name, arrays[name].shape) for name in ordered}, metadata)

    def write(file: BinaryIO) -> None:
        file.write(content)
        for name in ordered:
            file.write(raw_bytes(arrays[name]))

    return write


def file_header(tensors: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str] = PYTORCH) -> bytes:
    """How a file begins that holds tensors of these dtypes (NumPy's names) and shapes in this order; behind it come
    their `raw_bytes`, one after the other. Raises OutputError for a dtype that the format lacks."""
    entries: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    begin = 0
    for name, (dtype, shape) in tensors.items():
        if dtype not in SHORT_NAMES:
            raise OutputError(f"tensor {name} has dtype {dtype}, expected one of {', '.join(SHORT_NAMES)}")
        end = begin + math.prod(shape) * DTYPES[SHORT_NAMES[dtype]].itemsize
        entries[name] = {"dtype": SHORT_NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the first tensor lies aligned
    return len(text).to_bytes(8, "little") + text


def raw_bytes(tensor: np.ndarray) -> memoryview:
    """The bytes of a tensor as the format holds them: little endian, C order."""
    array = np.require(tensor, tensor.dtype.newbyteorder("<"), "C")
    return array.reshape(-1).view(np.uint8).data
