"""The safetensors format against its own library, byte by byte, and every complaint about a file or an index."""

import contextlib
import io
import json
import re
import struct

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from checkpoints import TINY, complaint, saved
from frameworks import torch, transformers
from oracle import assert_same
from tinymvit import weights
from tinymvit.errors import CheckpointError, OutputError
from tinymvit.weights.formats.safetensors import file_header, open_file, raw_bytes, tensor_writer


def read(path):
    """Every tensor of a file."""
    return {name: stored.load() for name, stored in open_file(path).items()}


def test_a_file_byte_by_byte(tmp_path):
    header = (
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F16","shape":[],"data_offsets":[8,10]}}'
    )
    path = tmp_path / "two.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<ffe", 1.0, -2.0, 0.5))
    tensors = read(path)
    assert_same(tensors["a"], np.array([1.0, -2.0], np.float32))
    assert_same(tensors["b"], np.array(0.5, np.float16))
    assert len(tensors) == 2


dtypes = st.sampled_from(["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"])
arrays = dtypes.flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)
tensor_sets = st.dictionaries(st.text(min_size=1, max_size=6).filter("__metadata__".__ne__), arrays, max_size=5)


@given(tensor_sets)
def test_reads_what_the_library_writes(tmp_path_factory, tensors):
    path = tmp_path_factory.getbasetemp() / "library.safetensors"
    safetensors.numpy.save_file(tensors, path, metadata={"format": "np"})
    found = read(path)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert_same(found[name], tensor, name=name)
        assert found[name].flags.aligned


@given(tensor_sets)
def test_the_library_reads_what_is_written(tmp_path_factory, tensors):
    path = tmp_path_factory.getbasetemp() / "ours.safetensors"
    with path.open("wb") as file:
        tensor_writer({name: tensor.T for name, tensor in tensors.items()})(file)  # not contiguous
    found = safetensors.numpy.load_file(path)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert_same(found[name], tensor.T, name=name)


def test_wide_tensors_come_first_so_that_all_lie_aligned(tmp_path):
    path = tmp_path / "mixed.safetensors"
    tensors = {"half": np.ones(3, np.float16), "count": np.zeros((), np.int64), "single": np.ones(5, np.float32)}
    with path.open("wb") as file:
        tensor_writer(tensors)(file)
    assert list(open_file(path)) == ["count", "single", "half"]
    (length,) = struct.unpack("<Q", path.read_bytes()[:8])
    assert length % 8 == 0


def test_tensors_without_elements_take_no_room(tmp_path):
    tensors = {"w": ("F32", [1], struct.pack("<f", 2.0))}
    empty = {"e": {"dtype": "F32", "shape": [0, 3], "data_offsets": [0, 0]}}
    found = read(saved(tmp_path / "empty.safetensors", tensors, empty))
    assert_same(found["w"], np.array([2.0], np.float32))
    assert_same(found["e"], np.zeros((0, 3), np.float32))


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"w": {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}}


W = {"w": ("F32", [1], bytes(4))}
BAD_HEADERS = [
    (W, entry("F8_E4M3"), ["tensor w has dtype F8_E4M3, expected one of F64, F32"]),
    (W, entry(shape=(-1,)), ["tensor w: the header gives", "expected dtype, shape and two data_offsets"]),
    (W, entry(shape=(1.0,)), ["tensor w: the header gives"]),
    (W, entry(shape=(True,)), ["tensor w: the header gives"]),
    (W, entry(shape=[1] * 65), ["tensor w: the header gives"]),
    (W, entry(shape=(0, 2**62), offsets=(0, 0)), ["tensor w: the header gives"]),
    (W, entry(offsets=(0,)), ["tensor w: the header gives"]),
    (W, {"w": [1, 2]}, ["tensor w: the header gives [1, 2]"]),
    (W, {"w": entry()["w"] | {"colour": 1}}, ["tensor w: the header gives"]),
    (W, entry(shape=(2,)), ["tensor w: F32 [2] needs 8 bytes, the header gives it 0 to 4"]),
    (W, entry(offsets=(4, 0)), ["tensor w: F32 [1] needs 4 bytes, the header gives it 4 to 0"]),
    (W, entry(offsets=(1, 5)), ["tensor w starts at byte 1, expected 0"]),
    (W, entry(shape=(2,), offsets=(0, 8)), ["tensor w ends at byte 8 of 4; the file is truncated"]),
    (W | {"v": ("F32", [1], bytes(4))}, entry() | {"v": entry()["w"]}, ["tensor v starts at byte 0, expected 4"]),
    (
        W | {"v": ("F32", [1], bytes(4))},
        {"v": {"dtype": "F32", "shape": [0], "data_offsets": [4, 4]}},
        ["4 bytes follow"],
    ),
]


@pytest.mark.parametrize(("tensors", "header", "parts"), BAD_HEADERS, ids=[str(i) for i in range(len(BAD_HEADERS))])
def test_bad_headers(tmp_path, tensors, header, parts):
    path = saved(tmp_path / "bad.safetensors", tensors, header)
    with complaint(CheckpointError, str(path), *parts):
        read(path)


def headed(header):
    return struct.pack("<Q", len(header)) + header


BAD_BYTES = [
    (b"", "0 bytes, too short for a safetensors file"),
    (b"1234567", "7 bytes, too short for a safetensors file"),
    (
        struct.pack("<Q", 2**63) + b"{}",
        "the header claims 9223372036854775808 bytes, the file has 10; truncated or not",
    ),
    (struct.pack("<Q", 3) + b"{]}", "the header is not JSON; damaged, or not a safetensors file"),
    (struct.pack("<Q", 2) + b"\xff\xff", "the header is not JSON"),
    (struct.pack("<Q", 100_000) + b"[" * 100_000, "the header is not JSON"),
    (struct.pack("<Q", 2) + b"[]", "the header is a JSON list, expected an object"),
    (struct.pack("<Q", 15) + b'{"a":1, "a": 2}', 'the header lists "a" twice'),
    (headed(b" {}"), "the header begins with white space, expected {"),
    (headed(b'{"__metadata__":{},"__metadata__":{}}'), 'the header lists "__metadata__" twice'),
    (headed(b'{"__metadata__":null}'), "__metadata__ is None, expected text by name"),
    (headed(b'{"__metadata__":{"a":1}}'), "__metadata__ is {'a': 1}, expected text by name"),
    (headed(b'{"__metadata__":{"a":"\\ud800"}}'), "the header is not JSON"),
    (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "not a safetensors file"),  # how a pickle of PyTorch begins
]


@pytest.mark.parametrize(("content", "part"), BAD_BYTES, ids=[str(i) for i in range(len(BAD_BYTES))])
def test_bad_bytes(tmp_path, content, part):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with complaint(CheckpointError, str(path), part):
        read(path)


@given(st.data())
def test_a_truncated_or_altered_file_is_a_complaint_or_a_file(tmp_path_factory, checkpoints, data):
    content = bytearray((checkpoints["classifier"] / "model.safetensors").read_bytes())
    if data.draw(st.booleans(), "truncate"):
        del content[data.draw(st.integers(0, len(content) - 1), "at") :]
    else:
        content[data.draw(st.integers(0, 2000), "at")] = data.draw(st.integers(0, 255), "byte")
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    path.write_bytes(content)
    with contextlib.suppress(CheckpointError):
        read(path)


PIECES = [
    *(b'"', b"{", b"}", b"[", b"]", b",", b":", b" ", b"0", b"-0", b"4", b"1e0", b"1.0", b"01", b"null", b"NaN"),
    *(
        b'"w"',
        b'"shape"',
        b'"U8"',
        b'"F8_E4M3"',
        b"\\ud800",
        b"\\u0041",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\xed\xa0\x80",
        b"\0",
    ),
    *(b'"__metadata__":{"a":"b"},', b'"__metadata__":null,', b'"__metadata__":{"a":1},', b'"__metadata__":["a"],'),
    *(b"18446744073709551616", b"9223372036854775808", b'"extra":1,', b'"shape":[1],', b"[0,4]", b"[]", b"[1]"),
]
HEADERS = [
    b"{}",
    b'{"__metadata__":{"format":"pt"}}',
    b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    b'{"__metadata__":{"a":"b"},"v":{"dtype":"U8","shape":[2,2],"data_offsets":[0,4]},'
    b'"e":{"dtype":"U8","shape":[0],"data_offsets":[4,4]}}  ',
]


@given(st.data())
def test_what_the_library_refuses_is_refused(tmp_path_factory, data):
    """We are stricter: white space before the header, further fields of a tensor, names that stand twice."""
    pieces = re.findall(rb'"[^"]*"|[0-9]+|.', data.draw(st.sampled_from(HEADERS)), re.DOTALL)
    for _ in range(data.draw(st.integers(0, 3))):
        at, end = (data.draw(st.integers(0, len(pieces))) for _ in range(2))
        pieces[at:end] = data.draw(st.one_of(st.just([]), st.sampled_from(PIECES).map(lambda piece: [piece])))
    header = b"".join(pieces)
    size = len(header) + data.draw(st.sampled_from([0] * 9 + [-1, 1, 2**63]))
    content = struct.pack("<Q", max(size, 0)) + header + bytes(data.draw(st.sampled_from([0, 4, 4, 4, 5])))
    path = tmp_path_factory.getbasetemp() / "altered.safetensors"
    path.write_bytes(content)
    try:
        open_file(path)
    except CheckpointError:
        return
    safetensors.deserialize(content)
    with safetensors.safe_open(path, "numpy") as file:
        list(file.keys())


def test_a_header_is_no_longer_than_the_library_allows(tmp_path, monkeypatch):
    path = saved(tmp_path / "long.safetensors", W)
    monkeypatch.setattr("tinymvit.weights.formats.safetensors.LARGEST_HEADER", 10)
    with complaint(CheckpointError, f"{path}: the header has ", " bytes, expected at most 10"):
        open_file(path)


def test_a_name_that_stands_twice_among_many_is_found_at_once(tmp_path):
    names = [f'"{number}":0' for number in range(50_000)]
    header = f"{{{','.join([*names, names[-1]])}}}".encode()
    path = tmp_path / "many.safetensors"
    path.write_bytes(headed(header))
    with complaint(CheckpointError, 'the header lists "49999" twice'):
        open_file(path)


def test_unaligned_tensors_are_copied(tmp_path):
    path = saved(tmp_path / "odd.safetensors", {"byte": ("U8", [1], b"\7"), "w": ("F32", [1], struct.pack("<f", 1.5))})
    tensor = read(path)["w"]
    assert tensor.flags.aligned
    assert_same(tensor, np.array([1.5], np.float32))


def test_tensors_written_one_by_one_are_in_the_order_of_the_header():
    tensors = {"half": np.ones((2, 3), np.float16), "swapped": np.arange(4, dtype=">f4"), "none": np.zeros((0, 2))}
    file = io.BytesIO()
    file.write(file_header({name: (x.dtype.name, x.shape) for name, x in tensors.items()}, {"producer": "me"}))
    for tensor in tensors.values():
        file.write(raw_bytes(tensor))
    found = safetensors.numpy.load(file.getvalue())
    for name, tensor in tensors.items():
        assert_same(found[name], tensor.astype(tensor.dtype.newbyteorder("=")), name=name)


def test_a_checkpoint_has_the_bytes_that_the_library_would_write():
    tensors = {"b": np.ones(3, np.float32), "a.b": np.zeros((2, 2), np.float32), "count": np.zeros((), np.int64)}
    file = io.BytesIO()
    tensor_writer(tensors)(file)
    assert file.getvalue() == safetensors.numpy.save(tensors, {"format": "pt"})


def test_a_dtype_that_the_format_lacks():
    with complaint(OutputError, "tensor w has dtype complex64, expected one of float64, float32"):
        tensor_writer({"w": np.zeros(1, np.complex64)})


# ---- shards ----

SHARDS = {"a": "one.safetensors", "b": "two.safetensors", "c": "one.safetensors"}


@pytest.fixture
def sharded(tmp_path):
    """A folder with three tensors in two files, and an index that says so."""
    for shard, names in (("one.safetensors", "ac"), ("two.safetensors", "b")):
        saved(tmp_path / shard, {name: ("F32", [1], struct.pack("<f", ord(name))) for name in names})
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": SHARDS}))
    return tmp_path


def test_shards_load_as_one(sharded):
    tensors = weights.load_tensors(sharded)
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {name: [ord(name)] for name in "abc"}
    assert weights.load_tensors(sharded / "model.safetensors.index.json").keys() == tensors.keys()


@pytest.mark.torch
def test_shards_of_transformers_load_as_one(tmp_path):
    torch.manual_seed(0)
    theirs = transformers.MobileViTModel(transformers.MobileViTConfig(**TINY))
    theirs.save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    expected = {name: value for name, value in theirs.state_dict().items() if "num_batches_tracked" not in name}
    tensors = weights.load_tensors(tmp_path)
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        assert_same(tensor, expected[name].numpy(), name=name)


BAD_SHARDS = [
    ({"a": "two.safetensors"}, ["one.safetensors: holds tensor a, which", "places in two.safetensors"]),
    ({"ghost": "one.safetensors"}, ["one.safetensors: lacks tensor ghost, which", "places in it"]),
    ({"ghost": "../escape.safetensors"}, ["index.json: the shard '../escape.safetensors', expected the name of"]),
    ({"ghost": "absent.safetensors"}, ["index.json: names the shard absent.safetensors, which is missing"]),
    ({"ghost": 3}, ["index.json: expected a weight_map of tensor names to file names"]),
]


@pytest.mark.parametrize(("changes", "parts"), BAD_SHARDS, ids=[str(i) for i in range(len(BAD_SHARDS))])
def test_bad_shards(sharded, changes, parts):
    (sharded / "model.safetensors.index.json").write_text(json.dumps({"weight_map": SHARDS | changes}))
    with complaint(CheckpointError, *parts):
        weights.load_tensors(sharded)
