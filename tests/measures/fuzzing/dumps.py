"""Dumps: folders of .npy files, manifests with raw files, safetensors files; pipes and links among the files."""

import io
import json
import os

import numpy as np

from tinymvit import comparison
from tinymvit.inspection.dump import open_dump

from . import models
from .cases import Case
from .random_values import array as random_array
from .random_values import file_name, integer, mutated_bytes, mutated_json, number, pairs, scalar, text, written
from .tensor_files import file_content

KINDS = ("f4", "f8", "f2", "i4", "u1", "?", ">f4", "i8")


def dump(rng, sandbox):
    """A folder or a file, opened and read."""
    path = written_dump(rng, sandbox)

    def read():
        opened = open_dump(path)
        return {name: (opened.shape(name), opened.dtype(name), np.array(opened[name])) for name in opened}

    return Case(read, f"open_dump of {path.name!r}: {_listing(sandbox.case)}", agrees=_as_declared)


def _as_declared(answer, error):
    if answer is None:
        return None
    wrong = any(value.shape != shape or value.dtype != kind for shape, kind, value in answer.values())
    return "another shape or dtype than was declared" if wrong else None


def written_dump(rng, sandbox):
    """The path of a folder or a file, which is made."""
    kind = rng.randrange(4)
    folder = sandbox.case / rng.choice(("dump", "dump", "dump.safetensors", file_name(rng)))
    while os.path.lexists(folder):
        folder = folder.with_name(f"{folder.name}2")
    if kind == 0:
        folder.write_bytes(file_content(rng))
        return folder
    folder.mkdir()
    for position in range(rng.choice((1, 2, 3))):
        (folder / f"t{position}.npy").write_bytes(npy(rng))
    if kind == 1:
        strange_files(rng, folder, sandbox.outside)
    elif kind > 1:
        (folder / "manifest.json").write_bytes(manifest(rng, folder, sandbox))
        if rng.random() < 0.2:
            strange_files(rng, folder, sandbox.outside)
    return folder


def npy(rng, values=None):
    """The bytes of an .npy file: right, or with a mistake in the header or the data."""
    if values is None:
        shape = tuple(rng.choice((0, 1, 2, 3)) for _ in range(rng.choice((0, 1, 2, 3))))
        values = np.random.default_rng(rng.getrandbits(32)).integers(0, 2, shape).astype(rng.choice(KINDS))
    file = io.BytesIO()
    np.lib.format.write_array(file, values, version=rng.choice(((1, 0), (1, 0), (2, 0), (3, 0))))
    content = file.getvalue()
    fault = rng.randrange(12)  # from 3 on: none
    if fault == 0:
        return mutated_bytes(rng, content)
    if fault == 1:
        return mutated_bytes(rng, content[:128], 1) + content[128:]
    if fault == 2:
        return _npy_header(rng) + values.tobytes()
    return content


def _npy_header(rng):
    """A header as text, whose values may be anything."""
    kind = rng.choice(
        ("'<f4'", "'|O'", "'<c8'", "'<U3'", "'|V4'", "[('a','<f4')]", "'>f2'", "'<f16'", "'<M8[s]'", "'?'", "3", "''")
    )
    order = rng.choice(("True", "False", "None", "1"))
    shape = rng.choice(
        (
            "()",
            "(2,)",
            "(2, 3)",
            "(-1,)",
            f"({integer(rng) % 10**50},)",
            "(2**9,)",
            "(1e3,)",
            "2",
            "(True,)",
            "(0,) * 99",
        )
    )
    shape = rng.choice(
        (shape, "(" + "1," * 70 + ")", "(4294967296, 4294967296)", "(9999999999999, 0)", "__import__('os')")
    )
    body = f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {shape}, }}"
    body = rng.choice((body, body, body, "[" * 500, body + " " * 20000, "{}"))
    data = body.encode() + b"\n"
    return (
        b"\x93NUMPY"
        + rng.choice((b"\x01\x00", b"\x01\x00", b"\x04\x00"))
        + (len(data) & 0xFFFF).to_bytes(2, "little")
        + data
    )


def manifest(rng, folder, sandbox):
    """The bytes of a manifest of raw files, which are written, and of the .npy files that are there."""
    tensors = []
    for position in range(rng.choice((1, 2, 3))):
        shape = [rng.choice((0, 1, 2, 3)) for _ in range(rng.choice((0, 1, 2)))]
        dtype = rng.choice(("float32", "float16", "bfloat16", "int64", "bool", "uint8"))
        size = (
            int(np.prod(shape, dtype=int))
            * {"float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "bool": 1, "uint8": 1}[dtype]
        )
        file = f"r{position}.bin"
        (folder / file).write_bytes(bytes(size) if rng.random() < 0.9 else bytes(size + 1))
        tensors.append({"name": f"n{position}", "shape": shape, "dtype": dtype, "file": file})
    values = {"producer": "a port", "byte_order": "little", "tensors": tensors}
    fault = rng.randrange(9)  # from 5 on: none
    if fault == 0:
        places = (
            "../outside/secret.npy",
            str(sandbox.outside / "secret.npy"),
            "/dev/zero",
            "link.npy",
            "..",
            "",
            "t0.npy",
            text(rng),
        )
        rng.choice(tensors)["file"] = rng.choice(places)
        bait(folder, sandbox.outside)
    content = pairs(values)
    if fault in (1, 2, 3):
        content = mutated_json(rng, content)
    data = written(content).encode("utf-8", "surrogatepass")
    return mutated_bytes(rng, data) if fault == 4 else data


def bait(folder, outside):
    """A file outside of the folder that a link in it leads to."""
    np.save(outside / "secret.npy", np.ones(3, np.float32))
    if not os.path.lexists(folder / "link.npy"):
        (folder / "link.npy").symlink_to(outside / "secret.npy")


def strange_files(rng, folder, outside):
    """What stands where a file is expected: a pipe, a folder, a link that leads to itself, outside or nowhere."""
    name = rng.choice(
        ("t9.npy", "t0.npy", "r0.bin", "sub/t.npy", "manifest.json", ".hidden.npy", file_name(rng, ".npy"))
    )
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    if path.is_file():
        path.unlink()
    if os.path.lexists(path):
        return
    way = rng.randrange(24)
    if way == 0:
        os.mkfifo(path)
    elif way == 1:
        path.mkdir()
    elif way == 2:
        path.symlink_to(path.name)
    elif way == 3:
        bait(folder, outside)
        path.symlink_to("link.npy" if path.parent == folder else "../link.npy")
    elif way == 4:
        path.symlink_to("/dev/zero")
    elif way == 5:
        path.symlink_to(folder)
    else:
        path.write_bytes(npy(rng))


def _listing(case):
    found = []
    for path in sorted(case.rglob("*"))[:12]:
        about = "pipe" if path.is_fifo() else f"-> {path.readlink()}" if path.is_symlink() else ""
        if path.is_file() and not path.is_symlink():
            about = repr(path.read_bytes()[:200])
        found.append(f"{path.relative_to(case).as_posix()!r} {about}")
    return "; ".join(found)


# ---- compared ----


def compared(rng, sandbox):
    """A port's tensors, some of them wrong, against the model or a dump of ours, with a map of names and settings."""
    ours = dict(models.traced())
    theirs = _port(rng, ours)
    names = rng.choice((None, None, _map(rng, ours, theirs)))
    options = {"names": names, "isolate": rng.random() < 0.2}
    if rng.random() < 0.3:
        options["layout"] = rng.choice(("auto", "nchw", "nhwc", "tokens", text(rng), None, 3))
    if rng.random() < 0.3:
        options["tolerance"] = rng.choice(("auto", 1e-3, number(rng), text(rng), None, True))
    subject = (
        models.model() if rng.random() < 0.3 else {name: ours[name] for name in list(ours)[:: rng.choice((1, 3, 20))]}
    )
    if rng.random() < 0.05:
        subject = rng.choice((scalar(rng), {}, [], theirs))

    def call():
        from tinymvit.comparison.report import to_html, to_json, to_text

        found = comparison.compare(subject, theirs, **options)
        json.dumps(to_json(found), allow_nan=True)
        return to_text(found), to_html(found)

    told = {
        name: f"{type(value).__name__} {getattr(value, 'dtype', '')} {np.shape(value)}" for name, value in _few(theirs)
    }
    return Case(call, f"compare({type(subject).__name__}, {told!r}, {options!r})", agrees=_one_line_each)


def _few(theirs):
    if not isinstance(theirs, dict):
        return [("all", theirs)]
    return [(name, value) for name, value in list(theirs.items())[:6] if not isinstance(value, list)]


def _one_line_each(answer, error):
    if answer is None:
        return None
    bad = [line for line in answer[0].split("\n") if not line.isprintable()]
    return "a report with a line that is not printable" if bad else None


def _port(rng, ours):
    if rng.random() < 0.04:
        return rng.choice((scalar(rng), [], {}, [("a", 1)], b"abc", models.pixels()))
    kept = rng.sample(sorted(ours), rng.choice((1, 2, 5, 20)))
    theirs = {"pixel_values": models.pixels()} if rng.random() < 0.9 else {}
    theirs |= {name: ours[name] for name in kept}
    for _ in range(rng.choice((0, 1, 2))):
        name = rng.choice(list(theirs) or ["logits"])
        value = theirs.get(name, models.pixels())
        way = rng.randrange(6)
        if way == 0:
            theirs[name] = random_array(rng, value.shape) if hasattr(value, "shape") else value
        elif way == 1:
            theirs[text(rng)] = theirs.pop(name, value)
        elif way == 2 and isinstance(value, np.ndarray) and value.dtype.kind == "f" and 0 not in value.strides:
            value = np.array(value)
            if value.size:
                value.reshape(-1)[rng.randrange(value.size)] = rng.choice((np.nan, np.inf, 1e38, -1e30, 1e-40))
            theirs[name] = value
        elif way == 3 and hasattr(value, "T"):
            theirs[name] = value.T
        elif way == 4 and hasattr(value, "shape"):
            theirs[name] = value.reshape(-1)
        elif rng.random() < 0.1 and name != "pixel_values":  # much in little memory
            theirs[name] = np.broadcast_to(np.float32(1), (1, rng.choice((3, 8)), 30000, rng.choice((8, 30000))))
        else:
            theirs[name] = rng.choice((scalar(rng), [1, [2]], value))
    return theirs


def _map(rng, ours, theirs):
    known = [name for name in theirs if isinstance(name, str)] if isinstance(theirs, dict) else []
    some = {
        rng.choice([*known, text(rng)]): rng.choice([*list(ours)[:50], text(rng)]) for _ in range(rng.choice((1, 2)))
    }
    return some if rng.random() < 0.8 else rng.choice((scalar(rng), list(some), {scalar(rng): scalar(rng)}))
