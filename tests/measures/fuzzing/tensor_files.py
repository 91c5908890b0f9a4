"""Safetensors files whose header, length or bytes are nearly right. The safetensors library must agree."""

from pathlib import Path

import numpy as np
import safetensors

from tinymvit.inspection.dump import open_dump

from .cases import Case
from .random_values import INTEGERS, RAW, Pairs, Raw, json_value, mutated_bytes, mutated_json, text, written

DTYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U8": 1, "BOOL": 1}
OTHER_DTYPES = ("F8_E4M3", "F8_E5M2", "C64", "f32", "float32", "", "F128", "F4", "U128")


def safetensors_file(rng, sandbox):
    path = sandbox.case / rng.choice(("x.safetensors", "x.safetensors", "x.bin", "x"))
    content = file_content(rng)
    path.write_bytes(content)

    def read():
        dump = open_dump(path)
        return {name: (dump.stored(name), dump.shape(name), np.array(dump[name])) for name in dump}

    return Case(
        read, f"open_dump of {content[:700]!r}", agrees=lambda answer, error: as_the_library(path, answer, error)
    )


def file_content(rng):
    """The bytes of a small file: right, or with a mistake or a few."""
    entries, data = some_tensors(rng)
    if rng.random() < 0.4:
        entries.insert(rng.randrange(len(entries) + 1), ("__metadata__", metadata(rng)))
    fault = rng.randrange(10)  # 8 and 9: none
    if fault in (0, 1, 2):
        entries = mutated_json(rng, entries)
    elif fault == 3:
        another_layout(rng, entries)
    header = written(entries).encode("utf-8", "surrogatepass")
    header += b" " * rng.choice((0, -len(header) % 8, 1, 9))
    if fault == 4:
        header = mutated_bytes(rng, header)
    elif fault == 5:
        data = mutated_bytes(rng, data) if data else b"\x00"
    length = len(header)
    if fault == 6:
        length = rng.choice((0, 1, length - 1, length + 1, length + 8, 2**31, 2**63, 2**64 - 1, 100_000_001, len(data)))
    content = length.to_bytes(8, "little") + header + data
    return mutated_bytes(rng, content) if fault == 7 else content


def some_tensors(rng):
    """The entries of a right header, and the bytes behind it."""
    entries, data = Pairs(), b""
    for position in range(rng.choice((1, 2, 3, 3, 6))):
        dtype = rng.choice(list(DTYPES))
        shape = [rng.choice((0, 1, 2, 3, 3, 5)) for _ in range(rng.choice((0, 1, 2, 2, 4)))]
        content = rng.randbytes(int(np.prod(shape, dtype=int)) * DTYPES[dtype])
        content = bytes(b & 1 for b in content) if dtype == "BOOL" else content
        name = f"t{position}" if rng.random() < 0.9 else text(rng)
        offsets = [len(data), len(data) + len(content)]
        entries.append((name, Pairs([("dtype", dtype), ("shape", shape), ("data_offsets", offsets)])))
        data += content
    return entries, data


def metadata(rng):
    right = Pairs([("format", "pt"), (text(rng), text(rng))])
    return right if rng.random() < 0.5 else mutated_json(rng, right)


def another_layout(rng, entries):
    """Change a dtype, a shape or offsets so that the rest of the entry still has its form."""
    tensors = [fields for name, fields in entries if name != "__metadata__"]
    if not tensors:
        return
    fields = rng.choice(tensors)
    name, value = fields[at := rng.randrange(3)]
    if name == "dtype":
        value = rng.choice((*DTYPES, *OTHER_DTYPES, *OTHER_DTYPES))
    elif value and rng.random() < 0.6:
        value = list(value)
        value[rng.randrange(len(value))] = rng.choice((*INTEGERS, -0.0, 1.0, True, Raw("1e0"), rng.choice(RAW)))
    else:
        value = rng.choice(([], [0] * 65, [1] * 70, [2**32, 2**32], [2**40, 0], value[::-1], json_value(rng)))
    fields[at] = (name, value)
    rng.shuffle(fields)


def as_the_library(path, answer, error):
    """What the safetensors library reads otherwise."""
    content = Path(path).read_bytes()
    try:
        theirs = dict(safetensors.deserialize(content))
    except Exception as refusal:  # the library has one class of its own, and others for text that is no UTF-8
        return None if answer is None else f"accepted what the safetensors library refuses: {_kind(refusal)}"
    if answer is None:
        return None  # the library knows dtypes that NumPy lacks, and we have limits of our own
    if answer.keys() != theirs.keys():
        return "other names than the safetensors library"
    for name, (stored, shape, array) in answer.items():
        if list(shape) != list(theirs[name]["shape"]):
            return "another shape than the safetensors library's"
        if stored != "bfloat16" and array.tobytes() != bytes(theirs[name]["data"]):
            return "other bytes than the safetensors library's"
    return None


def _kind(refusal):
    """The library's reason without what differs from file to file."""
    reason = str(refusal).partition(":")[2].strip()
    for part in ("invalid type", "expected", "(", " `", " at line"):
        reason = reason.partition(part)[0]
    return ascii(reason)[1:60]
