"""Dumps: three formats written and read, other people's files, and one clear line for each that cannot be used."""

import hashlib
import json
import os
import struct
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from checkpoints import complaint
from frameworks import torch
from oracle import assert_same
from tinymvit.errors import DumpError, OutputError
from tinymvit.inspection.dump import Dump, open_dump
from tinymvit.inspection.dump_writer import FORMATS, Spec, statistics, write_dump
from tinymvit.weights import formats
from tinymvit.weights.stored import StoredTensor

TENSORS = {
    "layer.0.conv": np.arange(6, dtype=np.float32).reshape(1, 2, 3),
    "layer.0": np.array(-2.5),
    "empty": np.zeros((0, 3), np.float32),
    "ids": np.array([3, -1, 2]),
}


def name_of(form):
    return "dump.safetensors" if form == "safetensors" else "dump"


def specs_of(tensors):
    return [Spec(name, value.shape, value.dtype.name, {"op": "Conv2d"}) for name, value in tensors.items()]


def written(path, tensors, form=None):
    with write_dump(path, specs_of(tensors), form) as write:
        for name, value in tensors.items():
            write(name, value)
    return path


def assert_holds(dump, tensors):
    assert list(dump) == list(tensors)
    for name, value in tensors.items():
        assert (dump.shape(name), dump.dtype(name)) == (value.shape, value.dtype), name
        assert_same(dump[name], value, name=name)
        assert not dump[name].flags.writeable


# ------------------------------------------------------------------------------------------------------ our own files


@pytest.mark.parametrize("form", FORMATS)
def test_a_dump_comes_back_in_its_order(tmp_path, form):
    path = written(tmp_path / "deep" / name_of(form), TENSORS, form)
    dump = open_dump(str(path))
    assert_holds(dump, TENSORS)
    assert repr(dump) == f"Dump('{path}', 4 tensors)"
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # no temporary name is left


dtypes = st.sampled_from(["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"])
arrays = dtypes.flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)
file_names = st.text("abcXYZ012._/", min_size=1, max_size=8).filter(
    lambda name: all(part.strip(".") for part in name.split("/"))
)


@given(st.dictionaries(file_names, arrays, min_size=1, max_size=4), st.sampled_from(FORMATS))
def test_any_numbers_come_back(tmp_path_factory, tensors, form):
    path = tmp_path_factory.mktemp("dumps") / name_of(form)
    try:
        written(path, {name: value.T for name, value in tensors.items()}, form)  # not contiguous
    except OutputError as error:
        refused = f"{form}: {error}"
        assert refused.startswith(("npy", "raw"))  # where one name is a folder of another: "a.npy/b" and "a"
    else:
        assert_holds(open_dump(path), {name: value.T for name, value in tensors.items()})


def test_the_safetensors_library_reads_ours(tmp_path):
    found = safetensors.numpy.load_file(written(tmp_path / "x.safetensors", TENSORS))
    for name, value in TENSORS.items():
        assert_same(found[name], value, name=name)


def test_the_manifest_is_enough_without_python(tmp_path):
    folder = written(tmp_path / "raw", TENSORS, "raw")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["byte_order"] == "little"
    entry = manifest["tensors"][0]
    content = (folder / entry["file"]).read_bytes()
    assert struct.unpack("<6f", content) == (0, 1, 2, 3, 4, 5)
    assert entry == {
        "name": "layer.0.conv",
        "shape": [1, 2, 3],
        "dtype": "float32",
        "file": "layer.0.conv.bin",
        "op": "Conv2d",
        "min": 0,
        "max": 5,
        "mean": 2.5,
        "rms": pytest.approx((55 / 6) ** 0.5),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def test_statistics_of_what_is_no_number():
    assert statistics(np.array([1.0, np.nan]))["mean"] is None
    assert statistics(np.array([1.0, np.inf], np.float32)) == {"min": 1, "max": None, "mean": None, "rms": None}
    assert set(statistics(np.zeros((0, 2))).values()) == {None}
    assert statistics(np.full(4, 1e30, np.float32))["rms"] == pytest.approx(1e30)  # float32 would overflow


# ------------------------------------------------------------------------------------------------ other people's files


@pytest.mark.torch
def test_what_other_libraries_write(tmp_path):
    from safetensors.torch import save_file

    torch_tensors = {
        "half": torch.tensor([0.5, 65504.0], dtype=torch.float16),
        "brain": torch.tensor([1.0, -3.140625], dtype=torch.bfloat16),
        "double": torch.tensor([[1e300]], dtype=torch.float64),
        "count": torch.tensor(7),
    }
    save_file(torch_tensors, tmp_path / "torch.safetensors")
    dump = open_dump(tmp_path / "torch.safetensors")
    assert dump.dtype("brain") == np.float32
    assert_same(dump["brain"], np.array([1.0, -3.140625], np.float32))
    for name in ("half", "double", "count"):
        assert_same(dump[name], torch_tensors[name].numpy(), name=name)


def test_a_folder_of_npy_files(tmp_path):
    (tmp_path / "encoder").mkdir()
    (tmp_path / ".cache").mkdir()
    np.save(tmp_path / "logits.npy", np.arange(3, dtype=">f4"))  # big endian
    np.save(tmp_path / "encoder" / "layer.0.npy", np.asfortranarray(np.arange(6.0).reshape(2, 3)))
    np.save(tmp_path / ".cache" / "old.npy", np.zeros(2))
    (tmp_path / "notes.txt").write_text("not a tensor")
    expected = {"encoder/layer.0": np.arange(6.0).reshape(2, 3), "logits": np.arange(3, dtype=np.float32)}
    assert_holds(open_dump(tmp_path), expected)


def test_every_format_of_checkpoints_is_one_of_dumps(tmp_path, monkeypatch):
    np.savez(tmp_path / "port.npz", **TENSORS)

    def open_file(path):
        return {name: StoredTensor(x.shape, x.dtype.name, x.copy) for name, x in np.load(path).items()}

    def recognise(head):
        return b"npy" in head

    npz = SimpleNamespace(
        NAME="NumPy", FILES=("model.npz",), SUFFIXES=(".npz",), recognise=recognise, open_file=open_file
    )
    monkeypatch.setattr(formats, "FORMATS", (npz, *formats.FORMATS))  # before PyTorch, whose files are zip files too
    assert_holds(open_dump(tmp_path / "port.npz"), TENSORS)
    with pytest.raises(DumpError, match=r"expected a \.npz, \.safetensors, .*file, or a folder of \.npy files"):
        open_dump(tmp_path / "nowhere")


def test_a_dump_in_several_files_is_read_by_its_index(tmp_path):
    safetensors.numpy.save_file({"x": np.zeros(2)}, tmp_path / "shard.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"x": "shard.safetensors"}}')
    assert_holds(open_dump(index), {"x": np.zeros(2)})


def test_a_dump_knows_how_its_tensors_are_stored(tmp_path):
    (tmp_path / "y.bin").write_bytes(struct.pack("<2H", 0x3F80, 0xC000))
    dump = open_dump(manifest(tmp_path, {"name": "y", "shape": [2], "dtype": "bfloat16", "file": "y.bin"}))
    assert (dump.stored("y"), dump.dtype("y")) == ("bfloat16", np.float32)
    text = Dump.of({"y": np.array(["a"])})
    assert text.dtype("y") == "<U1"


def manifest(folder, *tensors, **others):
    (folder / "manifest.json").write_text(json.dumps({"tensors": tensors} | others))
    return folder


def test_the_least_a_manifest_must_say(tmp_path):
    (tmp_path / "a.raw").write_bytes(struct.pack("<2f", 1.5, -2))
    (tmp_path / "b").write_bytes(struct.pack("<2H", 0x3F80, 0xC000))
    (tmp_path / "none").write_bytes(b"")
    manifest(
        tmp_path,
        {"name": "x", "shape": [2, 1], "dtype": "float32", "file": "a.raw", "comment": "mine"},
        {"name": "y", "shape": [2], "dtype": "bfloat16", "file": "b"},
        {"name": "z", "shape": [0], "dtype": "int8", "file": "none"},
    )
    expected = {
        "x": np.array([[1.5], [-2]], np.float32),
        "y": np.array([1, -2], np.float32),
        "z": np.zeros(0, np.int8),
    }
    assert_holds(open_dump(tmp_path), expected)


X = {"name": "x", "shape": [2], "dtype": "float32", "file": "x.bin"}
BAD_MANIFESTS = [
    ({"shape": [3]}, r"x\.bin: 8 bytes; tensor x, float32 \[3\], needs 12"),
    ({"dtype": "float128"}, r"tensor x has dtype float128, expected one of float64, float32"),
    ({"shape": [-2]}, r"tensor 0 is \{.*\}, expected name, shape, dtype and file"),
    ({"shape": "2"}, "expected name, shape, dtype and file"),
    ({"shape": [0, 2**62]}, "expected name, shape, dtype and file"),
    ({"name": 7}, "expected name, shape, dtype and file"),
    ({"file": "../secret.bin"}, r"tensor x is in '\.\./secret\.bin', expected a file in the same folder"),
    ({"file": "/etc/hostname"}, "expected a file in the same folder"),
    ({"file": "missing.bin"}, "expected a file in the same folder"),
    ({"file": "nul\0"}, "expected a file in the same folder"),
    ({"file": "all.safetensors"}, r"tensor x is in 'all\.safetensors', expected a file of its own, raw or \.npy"),
    ({"file": "x.h"}, r"tensor x is in 'x\.h', expected a file of its own, raw or \.npy"),
    ({"file": "x.npy"}, r"x\.npy: holds float64 \[2\]; the manifest gives x as float32 \[2\]"),
]


@pytest.mark.parametrize(("change", "message"), BAD_MANIFESTS)
def test_a_manifest_that_cannot_be_right(tmp_path, change, message):
    folder = tmp_path / "dump"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(b"8 bytes.")
    (folder / "x.bin").write_bytes(b"8 bytes.")
    np.save(folder / "x.npy", np.zeros(2))
    manifest(folder, X | change)
    with pytest.raises(DumpError, match=message):
        open_dump(folder)


def test_two_tensors_of_one_name(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"8 bytes.")
    with pytest.raises(DumpError, match=r"manifest\.json: two tensors are named x"):
        open_dump(manifest(tmp_path, X, X))
    entry = '"x": {"dtype": "U8", "shape": [1], "data_offsets": [%d, %d]}'
    header = ("{" + entry % (0, 1) + "," + entry % (1, 2) + "}").encode()
    (tmp_path / "twice.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"ab")
    with pytest.raises(DumpError, match='the header lists "x" twice'):
        open_dump(tmp_path / "twice.safetensors")


def test_what_is_no_dump(tmp_path):
    def refused(path, message):
        with pytest.raises(DumpError, match=message) as caught:
            open_dump(path)
        assert "\n" not in str(caught.value)

    refused(
        tmp_path / "nowhere",
        r"nowhere: no such file or folder; expected a \.safetensors, \.bin, .* or \.hdf5 file, or a folder",
    )
    refused(tmp_path, r"holds no tensors; expected \.npy files, or manifest\.json with raw files")
    (tmp_path / "text.txt").write_text("hello, this is no dump")
    refused(
        tmp_path / "text.txt", "is text, beginning with 'hello, this is no dump'; expected a safetensors or PyTorch"
    )
    expected = (
        r"; expected a \.safetensors, \.bin, .* or \.hdf5 file, or a folder of \.npy files or with manifest\.json"
    )
    np.savez(tmp_path / "tensors.npz", x=np.zeros(9))
    refused(tmp_path / "tensors.npz", expected)
    np.save(tmp_path / "tensor.npy", np.zeros(9))
    refused(tmp_path / "tensor.npy", expected)
    safetensors.numpy.save_file({}, tmp_path / "none.safetensors")
    refused(tmp_path / "none.safetensors", "holds no tensors")
    content = safetensors.numpy.save({"x": np.zeros(4)})
    (tmp_path / "short.safetensors").write_bytes(content[:-1])
    refused(tmp_path / "short.safetensors", "the file is truncated")
    manifest(tmp_path)
    refused(tmp_path, "holds no tensors")
    manifest(tmp_path, X, byte_order="big")
    refused(tmp_path, r"manifest\.json: byte_order is 'big', expected 'little'")
    (tmp_path / "manifest.json").write_text('{"tensors": 3}')
    refused(tmp_path, r'expected "tensors", a list of objects with name, shape, dtype and file')
    (tmp_path / "manifest.json").write_text('{"tensors": [')
    refused(tmp_path, r"manifest\.json: line 1: not valid JSON")


def dump_beside_a_secret(tmp_path):
    """The folder of a dump; beside it lies what must not be read from inside."""
    np.save(tmp_path / "secret.npy", np.zeros(2))
    (tmp_path / "secret.bin").write_bytes(b"8 bytes.")
    folder = tmp_path / "dump"
    (folder / "sub").mkdir(parents=True)
    np.save(folder / "sub" / "x.npy", np.ones(2))
    (folder / "sub" / "x.bin").write_bytes(b"8 bytes.")
    return folder


def test_a_link_that_leads_out_of_a_dump_is_not_followed(tmp_path):
    folder = dump_beside_a_secret(tmp_path)
    (folder / "in.npy").symlink_to("sub/x.npy")
    (folder / "folder").symlink_to("..")  # is not looked into
    assert_holds(open_dump(folder), {"in": np.ones(2), "sub/x": np.ones(2)})
    (tmp_path / "name").symlink_to(folder)
    assert_holds(open_dump(tmp_path / "name"), {"in": np.ones(2), "sub/x": np.ones(2)})
    (folder / "out.npy").symlink_to("../secret.npy")
    with complaint(DumpError, f"{folder / 'out.npy'}: leads out of the folder; expected a file in it"):
        open_dump(folder)


@pytest.mark.parametrize(
    "file",
    ["folder/secret.bin", "sub/../sub/x.bin", "../dump/sub/x.bin", "ABSOLUTE", "out.bin", "loop.bin", "x" * 5000, ""],
)
def test_a_manifest_leads_to_nothing_outside(tmp_path, file):
    folder = dump_beside_a_secret(tmp_path)
    (folder / "folder").symlink_to("..")
    (folder / "out.bin").symlink_to("../secret.bin")
    (folder / "in.bin").symlink_to("sub/x.bin")
    (folder / "loop.bin").symlink_to("loop.bin")
    for good in ("in.bin", "sub/x.bin", "./sub/x.bin"):
        assert list(open_dump(manifest(folder, X | {"file": good}))) == ["x"]
    if file == "ABSOLUTE":
        file = str(folder / "sub" / "x.bin")
    expected = "expected a file" if file else "is a folder, expected a file"
    with complaint(DumpError, str(folder), expected):
        open_dump(manifest(folder, X | {"file": file}))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes among the files of this system")
def test_a_dump_waits_for_no_pipe(tmp_path):
    folder = dump_beside_a_secret(tmp_path)
    os.mkfifo(folder / "pipe.npy")
    os.mkfifo(folder / "pipe.bin")
    with complaint(DumpError, f"{folder / 'pipe.npy'}: is a pipe, expected a file"):
        open_dump(folder)
    with complaint(DumpError, f"{folder / 'pipe.npy'}: is a pipe; expected a .safetensors, .bin, "):
        open_dump(folder / "pipe.npy")
    for file in ("pipe.bin", "pipe.npy"):
        with complaint(DumpError, f"{folder / file}: is a pipe, expected a file"):
            open_dump(manifest(folder, X | {"file": file}))
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")
    with complaint(DumpError, f"{folder / 'manifest.json'}: is a pipe, expected a file"):
        open_dump(folder)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("order", "CF")
def test_npy_files_of_every_version(tmp_path, version, order):
    values = np.asarray(np.arange(6.0).reshape(2, 3), order=order)
    with (tmp_path / "x.npy").open("wb") as file:
        np.lib.format.write_array(file, values, version)
    assert_holds(open_dump(tmp_path), {"x": values})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.array([{}], object), "no .npy file of numbers, or truncated"),
        (np.array(["a"]), "dtype <U1, expected one of float64"),
        (np.zeros(2, complex), "dtype complex128, expected one of float64"),
        (np.zeros(2, "M8[s]"), "dtype datetime64"),
        (b"", "no .npy file of numbers, or truncated"),
        (b"PK\3\4 a zip", "no .npy file of numbers, or truncated"),
        (b"\x93NUMPY\1\0\x10\0{'descr': (((((", "no .npy file of numbers, or truncated"),
    ],
)
def test_npy_files_that_are_refused(tmp_path, content, message):
    if isinstance(content, bytes):
        (tmp_path / "x.npy").write_bytes(content)
    else:
        np.save(tmp_path / "x.npy", content)
    with pytest.raises(DumpError, match=f"x.npy: {message}"):
        open_dump(tmp_path)


def test_a_file_that_changes_after_it_was_opened(tmp_path):
    raw, npy = written(tmp_path / "raw", TENSORS, "raw"), written(tmp_path / "npy", TENSORS)
    dumps = open_dump(raw), open_dump(npy)
    (raw / "ids.bin").write_bytes(b"short")
    (npy / "ids.npy").unlink()
    with pytest.raises(DumpError, match=r"ids\.bin: tensor ids cannot be read any more"):
        dumps[0]["ids"]
    with pytest.raises(DumpError, match=r"ids\.npy: cannot be read: No such file"):
        dumps[1]["ids"]
    with pytest.raises(KeyError):
        dumps[1]["nothing of this name"]


@given(st.sampled_from(FORMATS), st.integers(0, 10**6), st.binary(max_size=12), st.booleans())
def test_damaged_files_are_refused_or_read_and_never_crash(tmp_path_factory, form, place, noise, cut):
    path = written(tmp_path_factory.mktemp("damaged") / name_of(form), TENSORS, form)
    files = sorted(p for p in path.rglob("*") if p.is_file()) or [path]
    victim = files[place % len(files)]
    content = victim.read_bytes()
    at = place % (len(content) + 1)
    victim.write_bytes(content[:at] + noise + (b"" if cut else content[at + len(noise) :]))
    try:
        for value in open_dump(path).values():
            assert isinstance(value, np.ndarray)
    except DumpError as error:
        message = str(error)
        assert "\n" not in message


# ------------------------------------------------------------------------------------------------------------ writing


@pytest.mark.parametrize("form", FORMATS)
def test_a_dump_of_ours_is_replaced_only_by_a_whole_one(tmp_path, form):
    path = written(tmp_path / name_of(form), TENSORS, form)

    def interrupted():
        with write_dump(path, specs_of(TENSORS), form) as write:
            write("layer.0.conv", TENSORS["layer.0.conv"] + 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert_holds(open_dump(path), TENSORS)
    new = {"other": np.ones(3)}
    written(path, new, form)
    assert_holds(open_dump(path), new)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("form", FORMATS)
def test_a_dump_has_its_name_only_when_every_file_has_reached_the_disk(tmp_path, monkeypatch, form):
    path, flushed = tmp_path / name_of(form), set()

    def fsync(file):
        assert not path.exists()
        flushed.add(os.fstat(file).st_ino)

    monkeypatch.setattr(os, "fsync", fsync)
    written(path, TENSORS, form)
    assert flushed == {file.stat().st_ino for file in ([path] if path.is_file() else path.iterdir())}


def test_what_is_not_ours_is_never_replaced(tmp_path):
    def refused(path, form=None):
        with pytest.raises(OutputError, match="is there already and no dump that tinymvit wrote"):
            written(path, TENSORS, form)

    safetensors.numpy.save_file({"x": np.zeros(3)}, tmp_path / "theirs.safetensors")
    before = (tmp_path / "theirs.safetensors").read_bytes()
    refused(tmp_path / "theirs.safetensors")
    assert (tmp_path / "theirs.safetensors").read_bytes() == before
    (tmp_path / "theirs").mkdir()
    np.save(tmp_path / "theirs" / "x.npy", np.zeros(3))
    refused(tmp_path / "theirs")
    mixed = written(tmp_path / "mixed", TENSORS, "raw")
    (mixed / "thesis.txt").write_text("years of work")
    refused(mixed)
    assert (mixed / "thesis.txt").read_text() == "years of work"
    (tmp_path / "file").write_text("mine")
    refused(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert_holds(open_dump(written(tmp_path / "empty", TENSORS)), TENSORS)
    (tmp_path / "link").symlink_to(written(tmp_path / "target", TENSORS))
    written(tmp_path / "link", {"x": np.zeros(2)})
    assert (tmp_path / "link").is_symlink()
    assert list(open_dump(tmp_path / "target")) == ["x"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("name", "form", "message"),
    [
        ("x.npz", None, "the suffix '.npz' names no format; expected .safetensors, or a folder's name"),
        ("x", "safetensors", "the format safetensors needs a name that ends in .safetensors"),
        ("x.safetensors", "raw", "the format raw needs the name of a folder"),
        ("x", "hdf5", "format 'hdf5': expected one of safetensors, npy, raw"),
        ("file/x", None, "cannot be written: Not a directory"),
    ],
)
def test_places_that_do_not_fit(tmp_path, name, form, message):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=message):
        written(tmp_path / name, TENSORS, form)


def test_names_that_are_no_files(tmp_path):
    for name in ("../x", "/x", "a//b", "a/../b", "./x", "nul\0"):
        with pytest.raises(OutputError, match="no name for a file; write a"):
            written(tmp_path / "dump", {name: np.zeros(2)})
        assert list(tmp_path.iterdir()) == []
    assert list(open_dump(written(tmp_path / "x.safetensors", {"../x": np.zeros(2)}))) == ["../x"]


def test_a_writer_that_does_not_do_what_it_announced(tmp_path):
    specs = [Spec("a", (2,), "float32"), Spec("b", (2,), "float32")]
    value = np.zeros(2, np.float32)
    for wrong in (("b", value), ("a", value[:1]), ("a", value.astype(np.float64))):
        with pytest.raises(ValueError, match="is written where"), write_dump(tmp_path / "x", specs) as write:
            write(*wrong)
    with pytest.raises(ValueError, match="was announced and not written"), write_dump(tmp_path / "x", specs) as write:
        write("a", value)
    with pytest.raises(ValueError, match="two tensors are named a"), write_dump(tmp_path / "x", [specs[0]] * 2):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_that_leads_out_of_its_folder_is_not_read(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "dump").mkdir()
    (tmp_path / "dump" / "manifest.json").symlink_to(tmp_path / "manifest.json")
    with pytest.raises(DumpError, match=r"manifest\.json: leads out of the folder; expected a file in it$"):
        open_dump(tmp_path / "dump")


def test_an_npy_file_of_a_shape_that_no_array_has(tmp_path, recwarn):
    header = np.lib.format.magic(1, 0) + b"\x76\x00"
    fields = b"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }"
    (tmp_path / "x.npy").write_bytes(header + fields.ljust(117) + b"\n" + bytes(4))
    with pytest.raises(DumpError, match=r"truncated: no array has shape \(4294967296, 4294967296\)$"):
        open_dump(tmp_path)
    assert not recwarn


def test_a_dump_in_the_hub_s_cache_is_a_folder_of_links(tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0123"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    np.save(blobs / "x.npy", np.arange(3, dtype=np.float32))
    (snapshot / "logits.npy").symlink_to("../../blobs/x.npy")
    assert open_dump(snapshot)["logits"].tolist() == [0, 1, 2]
    (snapshot / "other.npy").symlink_to("../../x.npy")
    with pytest.raises(DumpError, match=r"other\.npy: leads out of the folder; expected a file in it$"):
        open_dump(snapshot)
