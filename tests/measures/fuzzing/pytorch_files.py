"""PyTorch files whose archive, pickle or storages are nearly right. What torch.load reads, we read alike or refuse."""

import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np

from tinymvit.inspection.dump import open_dump

from .cases import Case
from .random_values import INTEGERS, mutated_bytes, text

KINDS = {
    "FloatStorage": 4, "DoubleStorage": 8, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8, "IntStorage": 4,
    "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1,
}  # fmt: skip
DTYPES = {"float32": 4, "int64": 8, "bfloat16": 2, "uint16": 2, "uint32": 4, "bool": 1, "complex64": 8, "qint8": 1}
GLOBALS = (
    "collections OrderedDict", "torch Size", "torch FloatStorage", "torch.storage UntypedStorage", "torch float32",
    "argparse Namespace", "_codecs encode", "os system", "posix system", "builtins eval", "builtins list",
    "torch.nn.modules.linear Linear", "torch._utils _rebuild_parameter", "torch._utils _rebuild_tensor", "torch device",
    "numpy.core.multiarray scalar", "collections Counter", "subprocess Popen", "torch.serialization load",
)  # fmt: skip
OPCODES = bytes(range(0x28, 0x2F)) + b"012BCGIJKLMNPQRSTUVX]abcdefghijlopqrstu}" + bytes(range(0x80, 0x99))
SIDES = (0, 1, 1, 2, 3, 3, 4)


def pytorch_file(rng, sandbox):
    path = sandbox.case / rng.choice(("x.pt", "x.pth", "pytorch_model.bin", "x.safetensors", "x"))
    content = file_content(rng)
    path.write_bytes(content)

    def read():
        dump = open_dump(path)
        return {name: (dump.stored(name), np.array(dump[name])) for name in dump}

    return Case(read, f"open_dump of {content[:900]!r}", agrees=lambda answer, error: as_torch(path, answer))


def file_content(rng):
    """The bytes of a small file: right, or with a mistake or a few."""
    storages = []
    is_old = rng.random() < 0.3
    pickled = program(rng, storages, is_old)
    fault = rng.randrange(8)  # 5 to 7: none
    if fault == 0:
        pickled = mutated_bytes(rng, pickled)
    elif fault == 1:
        pickled = mutated_program(rng, pickled)
    content = old_file(rng, pickled, storages) if is_old else archive(rng, pickled, storages)
    if fault == 2:
        content = mutated_bytes(rng, content)
    elif fault == 3:  # a number of a header
        at = (
            rng.randrange(max(1, len(content) - 60), len(content))
            if rng.random() < 0.4
            else rng.randrange(len(content))
        )
        number = struct.pack("<q", rng.choice([n for n in INTEGERS if abs(n) < 2**62]))[: rng.choice((1, 2, 4, 8))]
        content = content[:at] + number + content[at + len(number) :]
    return content


# ---- pickles, by their opcodes ----


def string(value):
    raw = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def whole(number):
    return pickle.dumps(number, 2)[2:-1]


def numbers(values):
    return b"(" + b"".join(map(whole, values)) + b"t"


def program(rng, storages, is_old):
    """A pickle of a dictionary of tensors, flat or not, with other things in it. Fills `storages`."""
    names = [f"t{number}" if rng.random() < 0.9 else text(rng) for number in range(rng.choice((1, 2, 3)))]
    items = b"".join(string(name) + tensor(rng, storages, is_old) for name in dict.fromkeys(names))
    if rng.random() < 0.2:
        items += rng.choice((string("epoch"), whole(3))) + any_value(rng)
    made = rng.choice((b"}", b"ccollections\nOrderedDict\n)R")) + b"(" + items + b"u"
    if rng.random() < 0.1:
        made += b"}" + string("_metadata") + b"}sb"
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        key = rng.choice(("state_dict", "model", "state_dict_ema", "other"))
        made = b"}(" + string(key) + made + (string("args") + any_value(rng) if rng.random() < 0.5 else b"") + b"u"
    return b"\x80" + bytes([rng.choice((2, 2, 2, 3, 4))]) + made + b"."


def tensor(rng, storages, is_old):
    """The opcodes of a tensor, in a storage that is new or another's too."""
    shape = [rng.choice(SIDES) for _ in range(rng.choice((0, 1, 2, 2, 3)))]
    order = list(range(len(shape)))
    if rng.random() < 0.3:
        rng.shuffle(order)
    strides, step = [0] * len(shape), 1
    for axis in reversed(order):
        strides[axis], step = step, step * max(1, shape[axis])
    offset = rng.choice((0, 0, 0, 1, 2))
    elements = offset + step + rng.choice((0, 0, 0, 1, 5))
    if storages and rng.random() < 0.2:
        key = rng.randrange(len(storages))
        kind, elements, dtype = storages[key][:3]
    else:
        key = len(storages)
        kind, dtype = rng.choice(list(KINDS)), None
        size = KINDS[kind]
        if not is_old and rng.random() < 0.15:
            kind, dtype = "UntypedStorage", rng.choice(list(DTYPES))
            size = DTYPES[dtype]
            elements *= size
        raw = rng.randbytes(elements * (1 if dtype else size))
        storages.append(
            (kind, elements, dtype, bytes(b & 1 for b in raw) if "bool" in f"{kind}{dtype}".lower() else raw)
        )
    if rng.random() < 0.15:  # nearly right
        which = rng.randrange(3)
        if which == 0:
            offset = rng.choice(INTEGERS)
        elif which == 1:
            elements = rng.choice(INTEGERS)
        elif shape:
            rng.choice((shape, strides))[rng.randrange(len(shape))] = rng.choice((*INTEGERS, 0, True))
    module = "torch.storage" if dtype else "torch"
    storage = (
        b"(" + string("storage") + f"c{module}\n{kind}\n".encode() + string(str(key)) + string("cpu") + whole(elements)
    )
    view = (
        (b"N" if rng.random() < 0.9 else b"(" + string("v") + whole(offset) + whole(elements) + b"t") if is_old else b""
    )
    where = storage + view + b"tQ" + whole(offset) + numbers(shape) + numbers(strides)
    if dtype:
        made = b"ctorch._utils\n_rebuild_tensor_v3\n(" + where + b"\x89}" + f"ctorch\n{dtype}\n".encode() + b"tR"
    elif rng.random() < 0.1:
        made = b"ctorch._utils\n_rebuild_tensor\n(" + where + b"tR"
    else:
        hooks = b"ccollections\nOrderedDict\n)R"
        made = (
            b"ctorch._utils\n_rebuild_tensor_v2\n("
            + where
            + b"\x89"
            + hooks
            + rng.choice((b"", b"", b"N", b"}"))
            + b"tR"
        )
    return b"ctorch._utils\n_rebuild_parameter\n(" + made + b"\x88}tR" if rng.random() < 0.1 else made


def any_value(rng, depth=2):
    """The opcodes of any value, of a harmless object, or of a call."""
    kind = rng.randrange(9 if depth else 5)
    if kind == 0:
        return whole(rng.choice(INTEGERS[:-4]))
    if kind == 1:
        return string(text(rng))
    if kind == 2:
        return rng.choice((b"N", b"\x88", b"\x89", b")", b"]", b"}", b"\x8f", b"G" + struct.pack(">d", 0.1)))
    if kind in (3, 4):
        return b"c" + rng.choice(GLOBALS).replace(" ", "\n").encode() + b"\n"
    if kind == 5:
        return b"c" + rng.choice(GLOBALS).replace(" ", "\n").encode() + b"\n(" + any_value(rng, depth - 1) + b"tR"
    inner = b"".join(any_value(rng, depth - 1) for _ in range(rng.choice((0, 2, 4))))
    return rng.choice((b"(" + inner + b"t", b"](" + inner + b"e", b"}(" + inner + b"u"))


def mutated_program(rng, pickled):
    """Opcodes put in: of the list of all, or those that nest, double or keep what is there."""
    at = rng.randrange(2, len(pickled))
    piece = rng.choice(
        (
            bytes([rng.choice(OPCODES)]),
            bytes([rng.choice(OPCODES)]) + rng.randbytes(rng.choice((0, 1, 4))),
            any_value(rng),
            b"q\x00h\x00",
            b"r\xff\xff\xff\xff",
            b"\x85" * rng.choice((1, 3000, 200_000)),
            b"]" * 3000,
            b"(" * 3000,
            b"(h\x00h\x00tq\x00" * 40,
            b"\x8b\xff\xff\xff\x7f",
            b"X\xff\xff\xff\xff",
        )
    )
    return pickled[:at] + piece + pickled[at:]


# ---- files ----


def archive(rng, pickled, storages):
    root = rng.choice(("archive", "archive", "x", text(rng).replace("/", "").replace("\x00", "") or "y"))
    method = zipfile.ZIP_DEFLATED if rng.random() < 0.2 else zipfile.ZIP_STORED
    order = "big" if rng.random() < 0.1 else "little"
    members = [("data.pkl", pickled)]
    if order == "big" or rng.random() < 0.7:
        members.append(("byteorder", order.encode()))
    members += [(f"data/{key}", raw) for key, (*_, raw) in enumerate(storages)]
    members.append(("version", b"3\n"))
    if rng.random() < 0.1:
        members.append((rng.choice(("constants.pkl", "code/x.py", "data/99", "../x", text(rng))), b"x"))
    if rng.random() < 0.1:
        members.pop(rng.randrange(len(members)))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        for name, content in members:
            member = zipfile.ZipInfo(f"{root}/{name}".encode("utf-8", "replace").decode(), (1980, 1, 1, 0, 0, 0))
            member.compress_type = method
            if rng.random() < 0.5:
                padding = -(made.start_dir + 34 + len(member.filename.encode())) % 64
                member.extra = b"FB" + struct.pack("<H", padding) + bytes(padding)
            made.writestr(member, content)
    return file.getvalue()


def old_file(rng, pickled, storages):
    magic, version = 0x1950A86A20F9469CFC6C, 1001 if rng.random() < 0.95 else rng.choice(INTEGERS[:20])
    keys = [str(key) for key in range(len(storages))]
    if rng.random() < 0.1:
        rng.choice((keys.clear, keys.reverse, lambda: keys.append("9"), lambda: keys.append(keys[0])))()
    content = pickle.dumps(magic, 2) + pickle.dumps(version, 2) + pickle.dumps({"little_endian": True}, 2) + pickled
    content += pickle.dumps(keys, 2)
    for _, elements, _, raw in storages:
        content += struct.pack("<q", elements) + raw
    return content


# ---- the other reader ----


def as_torch(path, answer):
    """What torch.load, told to load weights only, reads otherwise. It is asked where we have read something: what we
    refuse it may read, and it may run out of memory with what we have refused."""
    if answer is None:
        return None
    try:
        import torch
    except ImportError:
        return None
    try:
        theirs = torch.load(io.BytesIO(Path(path).read_bytes()), weights_only=True)
    except Exception:  # it reads fewer protocols, and no harmless objects
        return None
    for holder in _dictionaries(theirs):
        tensors = {name: value for name, value in holder.items() if isinstance(value, torch.Tensor)}
        if tensors.keys() == answer.keys():
            return _difference(tensors, answer, torch)
    return "other names than torch.load's"


def _dictionaries(value, depth=4):
    if isinstance(value, dict) and depth:
        yield value
        for item in value.values():
            yield from _dictionaries(item, depth - 1)


def _difference(tensors, answer, torch):
    for name, (stored, array) in answer.items():
        expected = tensors[name].detach()
        if str(expected.dtype) != f"torch.{stored}":
            return "another dtype than torch.load's"
        theirs = (expected.float() if expected.dtype == torch.bfloat16 else expected).numpy()
        if theirs.shape != array.shape or theirs.tobytes() != array.tobytes():
            return "other numbers than torch.load's"
    return None
