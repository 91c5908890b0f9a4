"""PyTorch's files against PyTorch, and hostile ones, written here byte by byte: each is refused in one line."""

import argparse
import collections
import contextlib
import datetime
import io
import os
import pathlib
import pickle
import struct
import sys
import time
import tracemalloc
import types
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from checkpoints import complaint
from frameworks import torch
from oracle import assert_same
from tinymvit import errors, limits, weights
from tinymvit.errors import CheckpointError, OutputError
from tinymvit.weights import formats
from tinymvit.weights.formats.pytorch import KEYS, open_file, tensor_writer

PLAIN = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array(2.5)}


def read(path):
    """Every tensor of a file."""
    return {name: stored.load() for name, stored in open_file(path).items()}


@pytest.fixture
def told(monkeypatch):
    """What was said in lines to the user."""
    lines = []
    errors.tell.cache_clear()
    monkeypatch.setattr(errors.LOG, "warning", lambda form, line: lines.append(line))
    return lines


# ---- files written here ----


def archive(path, pickled, storages=(), *, root="archive", method=zipfile.ZIP_STORED, **others):
    """A zip archive as torch.save writes it: a pickle, the bytes of storages by their numbers, other members."""
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr(f"{root}/data.pkl", pickled)
        for name, content in others.items():
            file.writestr(f"{root}/{name}", content)
        for key, content in enumerate(storages):
            file.writestr(f"{root}/data/{key}", content)
    return path


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def whole(number):
    return pickle.dumps(number, 2)[2:-1]


def numbers(values):
    return b"(" + b"".join(map(whole, values)) + b"t"


def tensor(shape=(2,), strides=(1,), offset=0, elements=2, key="0", kind="torch\nFloatStorage", rest=b"\x89}"):
    """The opcodes that make a tensor."""
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + f"c{kind}\n".encode() + text(key) + text("cpu")
        + whole(elements) + b"tQ" + whole(offset) + numbers(shape) + numbers(strides) + rest + b"tR"
    )  # fmt: skip


def state(**tensors):
    """The pickle of a dictionary of values that are given by their opcodes."""
    return b"\x80\x02}(" + b"".join(text(name) + made for name, made in tensors.items()) + b"u."


TWO = struct.pack("<2f", 1.0, -2.0)


def test_a_file_byte_by_byte(tmp_path):
    pickled = state(x=tensor(), y=tensor((), (), 1), z=tensor((1, 0), (7, 7), 0, 0, "1"))
    for root in ("archive", "any name"):
        found = read(archive(tmp_path / "x.pt", pickled, [TWO, b""], root=root))
        assert_same(found["x"], np.array([1.0, -2.0], np.float32))
        assert_same(found["y"], np.array(-2.0, np.float32))
        assert_same(found["z"], np.zeros((1, 0), np.float32))


def old_format(pickled, keys=("0",), storages=(TWO,), magic=0x1950A86A20F9469CFC6C, version=1001):
    """A file as PyTorch wrote it before the zip archives."""
    head = pickle.dumps(magic, 2) + pickle.dumps(version, 2) + pickle.dumps({"little_endian": True}, 2)
    content = [struct.pack("<Q", len(storage) // 4) + storage for storage in storages]
    return head + pickled + pickle.dumps(list(keys), 2) + b"".join(content)


def old_tensor(view=b"N", elements=2, **options):
    new = tensor(elements=elements, **options)
    return new.replace(whole(elements) + b"tQ", whole(elements) + view + b"tQ", 1)


def test_a_file_of_the_older_format_byte_by_byte(tmp_path):
    path = tmp_path / "x.pt"
    path.write_bytes(old_format(state(x=old_tensor())))
    assert_same(read(path)["x"], np.array([1.0, -2.0], np.float32))
    view = b"(" + text("part") + whole(1) + whole(1) + b"t"
    path.write_bytes(old_format(state(x=old_tensor(view, shape=(1,)))))
    assert_same(read(path)["x"], np.array([-2.0], np.float32))


def test_big_endian_files(tmp_path):
    path = archive(tmp_path / "x.pt", state(x=tensor()), [struct.pack(">2f", 1.0, -2.0)], byteorder=b"big")
    found = read(path)["x"]
    assert_same(found, np.array([1.0, -2.0], np.float32))
    assert found.dtype.isnative
    path = archive(path, state(x=tensor(kind="torch\nBFloat16Storage")), [b"\x3f\x80\xc0\x00"], byteorder=b"big")
    assert_same(read(path)["x"], np.array([1.0, -2.0], np.float32))
    untyped = tensor(kind="torch.storage\nUntypedStorage", elements=8, rest=b"\x89}ctorch\nfloat32\n").replace(
        b"_v2", b"_v3"
    )
    with complaint(
        CheckpointError, f"{path}: makes a tensor of float32 of big-endian bytes, which PyTorch does not turn"
    ):
        read(archive(path, state(x=untyped), [TWO], byteorder=b"big"))
    assert_same(read(archive(path, state(x=untyped), [TWO]))["x"], np.array([1.0, -2.0], np.float32))
    with complaint(CheckpointError, f"{path}: says its byte order is b'middle', expected little or big"):
        read(archive(path, state(x=tensor()), [TWO], byteorder=b"middle"))


def test_deflated_members_are_unpacked(tmp_path):
    content = np.arange(1000, dtype=np.float32)
    pickled = state(x=tensor((1000,), elements=1000), y=tensor((10,), (100,), 3, 1000))
    path = archive(tmp_path / "x.pt", pickled, [content.tobytes()], method=zipfile.ZIP_DEFLATED)
    found = read(path)
    assert_same(found["x"], content)
    assert_same(found["y"], content[3::100])


def test_stored_members_are_mapped_and_cannot_be_written_to(tmp_path):
    path = tmp_path / "x.pt"
    with path.open("wb") as file:
        tensor_writer(PLAIN)(file)
    for name, found in read(path).items():
        assert_same(found, PLAIN[name])
        assert not found.flags.writeable
        assert not found.flags.owndata
        assert found.flags.aligned


# ---- against PyTorch ----

DTYPES = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "?")
arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)
tensor_sets = st.dictionaries(st.text(min_size=1, max_size=6), arrays, min_size=1, max_size=5)


@st.composite
def views(draw):
    """A tensor of PyTorch that is any view of a storage."""
    base = torch.from_numpy(draw(arrays).copy())
    if draw(st.booleans()) and base.ndim > 1:
        base = base.permute(*draw(st.permutations(range(base.ndim))))
    for axis in range(base.ndim):
        begin, step = draw(st.integers(0, 2)), draw(st.integers(1, 2))
        base = base[(slice(None),) * axis + (slice(begin, None, step),)]
    if base.dtype == torch.float32 and draw(st.booleans()):
        base = base.bfloat16()
    if base.is_floating_point() and draw(st.booleans()):
        return torch.nn.Parameter(base)
    return base


def assert_equal(found, expected):
    expected = expected.detach()
    theirs = expected.float() if expected.dtype == torch.bfloat16 else expected
    assert_same(found, theirs.numpy())
    assert found.flags.c_contiguous


@pytest.mark.torch
@given(st.data())
def test_reads_what_torch_saves(tmp_path_factory, data):
    tensors = data.draw(st.dictionaries(st.text(min_size=1, max_size=5), views(), min_size=1, max_size=4))
    if data.draw(st.booleans(), "shared"):
        first = next(iter(tensors.values()))
        tensors["shared"] = first.detach().t() if first.ndim == 2 else first
    path = tmp_path_factory.getbasetemp() / "torch.bin"
    torch.save(
        data.draw(st.sampled_from([dict, collections.OrderedDict]))(tensors),
        path,
        _use_new_zipfile_serialization=data.draw(st.booleans(), "zip"),
        pickle_protocol=data.draw(st.integers(2, 5), "protocol"),
    )
    found = read(path)
    assert list(found) == list(tensors)
    for name, expected in tensors.items():
        assert_equal(found[name], expected)


@pytest.mark.torch
@given(tensor_sets)
def test_torch_reads_what_is_written(tmp_path_factory, tensors):
    path = tmp_path_factory.getbasetemp() / "ours.bin"
    with path.open("wb") as file:
        tensor_writer({name: array.T for name, array in tensors.items()})(file)
    theirs = torch.load(path, weights_only=True)
    assert type(theirs) is collections.OrderedDict
    found = read(path)
    assert list(theirs) == list(found) == list(tensors)
    for name, array in tensors.items():
        assert_same(theirs[name].numpy(), array.T)
        assert_same(found[name], array.T)


@pytest.mark.torch
def test_a_module_has_its_state_dict_read(tmp_path):
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).to(
        memory_format=torch.channels_last
    )
    torch.save(module.state_dict(), tmp_path / "x.pth")
    found = read(tmp_path / "x.pth")
    for name, expected in module.state_dict().items():
        assert_equal(found[name], expected)
    small = torch.arange(4, dtype=torch.int32).to(
        torch.uint16
    )  # of the dtypes that came later, without a storage class
    torch.save({"x": small}, tmp_path / "x.pth")
    assert_same(read(tmp_path / "x.pth")["x"], np.arange(4, dtype=np.uint16))


@pytest.mark.torch
def test_a_checkpoint_of_training(tmp_path, told):
    path = tmp_path / "last.ckpt"
    weights_in_it = {f"module.model.{name}": torch.from_numpy(array) for name, array in PLAIN.items()}
    beside = {
        "epoch": 3,
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "args": argparse.Namespace(lr=0.1, out=pathlib.Path("runs")),
        "best": np.float64(3),
        "history": np.ones(3),
        "when": datetime.datetime.now(),
        "seen": {1, 2},
        "counts": collections.Counter("abc"),
        "groups": collections.defaultdict(list, {1: [2]}),
        "big": 2**70,
        "size": torch.Size([1, 2]),
        "dtype": torch.float32,
        "device": torch.device("cpu"),
        "name": types.SimpleNamespace(a=1),
    }
    torch.save({"state_dict": weights_in_it, "state_dict_ema": None, **beside}, path)
    found = formats.open_weights(path)
    assert list(found) == list(PLAIN)
    assert told == [
        f"{path}: the weights are those under 'state_dict' (also there: state_dict_ema, epoch, optimizer, args, best, "
        "history, when, seen and 7 more)",
        f"{path}: the names of the tensors are taken without the prefix 'module.model.', which all of them have",
    ]


@pytest.mark.torch
def test_a_checkpoint_that_would_run_code_runs_none(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    path = tmp_path / "x.pth"
    for zipped in (True, False):
        torch.save({"x": torch.ones(2), "y": Hostile()}, path, _use_new_zipfile_serialization=zipped)
        with complaint(CheckpointError, f"{path}: holds {os.mkdir.__module__}.mkdir, which would run code when loaded"):
            read(path)
    path.write_bytes(pickle.dumps(Hostile()))
    with complaint(CheckpointError, f"{path}: is a pickle, but not one of torch.save; expected"):
        read(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.torch
@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saves_that_is_no_state_dict(tmp_path, zipped):
    path = tmp_path / "x.pt"
    one = torch.ones(1)
    cases = [
        (torch.nn.Linear(2, 3), "holds a whole model, torch.nn.modules.linear.Linear, which would run code"),
        ([one], "holds a list, expected a dictionary of tensors by name"),
        (one, "holds one tensor without a name, expected"),
        ({1, 2}, "holds an object of Python, expected a dictionary"),
        ({}, "holds no tensors by name; expected a state_dict"),
        ({"a": 3, 4: 5}, "holds no tensors by name, only 'a', 4; expected a state_dict"),
        ({1: one}, "holds a tensor under the key 1, expected names that are text"),
        ({"g": {"a": one}, "h": {"a": one}}, "holds tensors under 'g', 'h', expected them under one of state_dict_ema"),
        ({"a": torch.ones(2, dtype=torch.complex64)}, "holds torch.ComplexFloatStorage, expected tensors of float64"),
        ({"a": torch.ones(2, dtype=torch.float8_e4m3fn)}, "holds torch.float8_e4m3fn, expected tensors of float64"),
        ({"a": torch.ones(2, 2).to_sparse()}, "holds torch._utils._rebuild_sparse_tensor, expected tensors of"),
        ({"a": one.expand(2**20)}, "a tensor of shape (1048576,), strides (0,) and offset 0 does not fit", "1 element"),
        ({"a": torch.ones(2, dtype=torch.complex64).conj().imag}, "makes a tensor of", "of another kind than plain"),
        ({(1, 2): one}, "has a tuple as a key, expected text or a number"),
    ]
    for value, *parts in cases:
        torch.save(value, path, _use_new_zipfile_serialization=zipped)
        with complaint(CheckpointError, f"{path}: ", *parts):
            read(path)


@pytest.mark.torch
def test_a_program_of_torchscript_is_no_file_of_tensors(tmp_path):
    path = tmp_path / "x.pt"
    archive(path, state(), **{"constants.pkl": b"", "code/x.py": b""})
    with complaint(CheckpointError, f"{path}: is a TorchScript archive, which is a program; expected tensors"):
        read(path)


# ---- which dictionary ----

ONE = tensor((1,), elements=2)


def nested(**tensors):
    return b"}(" + b"".join(text(name) + made for name, made in tensors.items()) + b"u"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (nested(x=ONE), None),
        (nested(x=ONE, epoch=b"K\x03"), "left out, since they are no tensors: epoch"),
        (nested(state_dict=nested(y=ONE), state_dict_ema=nested(x=ONE)), "'state_dict_ema' (also there: state_dict)"),
        (nested(model=nested(y=ONE), ema_state_dict=nested(x=ONE)), "'ema_state_dict' (also there: model)"),
        (nested(model=nested(y=ONE), ema=nested(x=ONE)), "'ema' (also there: model)"),
        (nested(model=nested(y=ONE), ema=nested(module=nested(x=ONE))), "'ema'.'module' (also there: model)"),
        (nested(ema=nested(decay=b"K\x01"), model=nested(x=ONE)), "are those under 'model' (also there: ema)"),
        (nested(model_state_dict=nested(x=ONE)), "are those under 'model_state_dict'"),
        (nested(model=nested(state_dict=nested(x=ONE), args=b"N")), "under 'model'.'state_dict' (also there: args)"),
        (nested(state_dict=nested(x=ONE), step=tensor((), ())), "'state_dict' (also there: step)"),
        (nested(generator=nested(x=ONE), losses=b"]"), "are those under 'generator' (also there: losses)"),
    ],
    ids=str,
)
def test_which_dictionary_holds_the_weights(tmp_path, told, value, said):
    path = archive(tmp_path / "x.pt", b"\x80\x02" + value + b".", [TWO])
    assert list(open_file(path)) == ["x"]
    assert len(told) == (said is not None)
    assert not told or said in told[0]


def test_a_prefix_is_dropped_where_all_names_have_it(tmp_path, told):
    path = archive(tmp_path / "x.pt", state(**{"module._orig_mod.x": ONE, "module._orig_mod.y": ONE}), [TWO])
    assert list(formats.open_weights(path)) == ["x", "y"]
    assert "without the prefix 'module._orig_mod.'" in told[0]
    assert list(open_file(path)) == ["module._orig_mod.x", "module._orig_mod.y"]
    for wrapped in ("base_model.model.", "mobilevit.", "model.mobilevit."):
        archive(path, state(**{f"{wrapped}x": ONE, f"{wrapped}y": ONE}), [TWO])
        assert list(formats.open_weights(path)) == ["x", "y"]
    archive(path, state(**{"model.mobilevit.encoder.x": ONE, "model.mobilevit.y": ONE}), [TWO])
    assert list(formats.open_weights(path)) == ["mobilevit.encoder.x", "mobilevit.y"]
    for names in (["model.x", "y"], ["mobilevit.conv_stem.x", "mobilevit.y"], ["model."], ["mobilevit.x", "y"]):
        archive(path, state(**dict.fromkeys(names, ONE)), [TWO])
        assert list(formats.open_weights(path)) == names


# ---- hostile tensors ----

BAD_TENSORS = [
    (tensor((3,)), "a tensor of shape (3,), strides (1,) and offset 0 does not fit into its storage 0, which has 2"),
    (tensor((2,), (2,)), "does not fit"),
    (tensor((2,), (1,), 1), "does not fit"),
    (tensor((2,), (1,), -1), "offset -1 does not fit"),
    (tensor((-1,)), "shape (-1,)"),
    (tensor((2,), (-1,), 1), "strides (-1,)"),
    (tensor((2, 1), (1,)), "does not fit"),
    (tensor((2**40,), (0,)), "does not fit"),
    (tensor((2**62, 0), (1, 1)), "does not fit"),
    (tensor((2**70,), (2**70,)), "does not fit"),
    (tensor((1,) * 65, (1,) * 65), "does not fit"),
    (tensor(elements=3), "the storage 0 has 8 bytes, expected 12; damaged"),
    (tensor(elements=2**61), "names a storage by ('storage', torch.FloatStorage, '0', 'cpu', 2305843009213693952)"),
    (tensor(kind="torch\nDoubleStorage"), "the storage 0 has 8 bytes, expected 16"),
    (tensor(key="7"), "lacks the storage 7, which a tensor is in; damaged"),
    (tensor(key="../data.pkl"), "lacks the storage ../data.pkl"),
    (tensor(kind="torch\nFloat"), "holds torch.Float, which would run code"),
    (tensor(kind="torch\nSize"), "names a storage by ('storage', torch.Size"),
    (tensor(rest=b"\x89}" + nested(neg=b"\x88")), "of another kind than plain numbers"),
    (tensor(rest=b""), None),
    (tensor(rest=b"\x89"), "makes a tensor of"),
    (b"ctorch._utils\n_rebuild_tensor_v2\n(NK\x00))\x89}tR", "makes a tensor of"),
    (b"ctorch._utils\n_rebuild_parameter\n(N\x89}tR", "makes a parameter of (None, False, {})"),
    (b"ctorch._utils\n_rebuild_tensor_v3\n(NK\x00))\x89}NtR", "makes a tensor of"),
    (tensor((True,)), "shape (True,)"),
]


@pytest.mark.parametrize(("made", "part"), BAD_TENSORS, ids=[str(i) for i in range(len(BAD_TENSORS))])
def test_bad_tensors(tmp_path, made, part):
    path = archive(tmp_path / "x.pt", state(x=made), [TWO])
    if part is None:
        assert read(path)["x"].tolist() == [1.0, -2.0]
        return
    with complaint(CheckpointError, f"{path}: ", part):
        read(path)


def test_a_storage_in_many_tensors_is_counted(tmp_path, monkeypatch):
    whole_storage = np.zeros(10_000, np.float32).tobytes()
    names = {f"x{number}": tensor((10_000,), elements=10_000) for number in range(50)}
    path = archive(tmp_path / "x.pt", state(**names), [whole_storage])
    assert len(open_file(path)) == 50
    monkeypatch.setattr(limits, "get_max_memory", lambda: 1_500_000)
    with complaint(CheckpointError, f"{path}: its tensors: 1.86 MiB of memory, expected at most 1.43 MiB"):
        open_file(path)


def test_what_is_packed_is_counted_before_it_is_unpacked(tmp_path):
    size = 2**31
    pickled = state(x=tensor((size // 4,), elements=size // 4))
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/data.pkl", pickled)
        file.writestr("a/data/0", TWO)
    content = bytearray(path.read_bytes())
    for at in range(len(content) - 4):  # the sizes that the two headers of the storage give
        if content[at : at + 4] == b"PK\1\2" and content[at + 46 : at + 54] == b"a/data/0":
            content[at + 24 : at + 28] = struct.pack("<L", size)
        if content[at : at + 4] == b"PK\3\4" and content[at + 30 : at + 38] == b"a/data/0":
            content[at + 22 : at + 26] = struct.pack("<L", size)
    path.write_bytes(content)
    with complaint(CheckpointError, f"{path}: its tensors: 2.00 GiB of memory, expected at most 1.00 GiB"):
        open_file(path)
    archive(path, bytes(20 * 2**20), method=zipfile.ZIP_DEFLATED)
    with complaint(CheckpointError, f"{path}: its pickle of 20971520 bytes may take: 2.50 GiB of memory"):
        open_file(path)


# ---- hostile pickles ----


def deep(count):
    return b"\x80\x02}" + text("x") + b")" + b"\x85" * count + b"s."


BAD_PICKLES = [
    (deep(200_000), "holds no tensors by name, only 'x'"),
    (b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s.", "has a tuple as a key"),
    (b"\x80\x02]q\x00h\x00a.", "holds a list"),  # a list in itself
    (b"\x80\x02}q\x00" + text("state_dict") + b"h\x00s.", "holds no tensors by name, only 'state_dict'"),
    (b"\x80\x02" + b"]q\x00" + b"](h\x00h\x00eq\x00" * 500 + b".", "holds a list"),  # 2**500 leaves
    (b"\x80\x02" + b")q\x00" + b"(h\x00h\x00tq\x00" * 60 + b"}h\x00K\x01s.", "has a tuple as a key"),
    (b"\x80\x02}r\xff\xff\xff\xff.", "holds no tensors by name"),
    (b"\x80\x02\x8b\xff\xff\xff\xff\x01.", "has an integer of 4294967295 bytes, expected at most 255"),
    (b"\x80\x02X\xff\xff\xff\xffa.", "promises 4294967295 bytes where 2 are left; damaged or truncated (byte 7)"),
    (b"\x80\x04\x96\xff\xff\xff\xff\xff\xff\xff\x7f.", "promises 9223372036854775807 bytes"),
    (b"\x80\x04\x95\x01", "promises 8 bytes where 1 are left"),
    (b"\x80\x06.", "is of protocol 6, expected at most 5"),
    (b"\x80\x02}", "has no end within 3 bytes; damaged or truncated"),
    (b"\x80\x02h\x07.", "is damaged or truncated (byte 4)"),
    (b"\x80\x02h", "is damaged or truncated (byte 3)"),
    (b"\x80\x02X\x02\0\0\0\xff\xff.", "is damaged or truncated"),
    (b"\x80\x02.", "is damaged or truncated"),
    (b"\x80\x02t.", "is damaged or truncated"),
    (b"\x80\x02cos", "has a name without an end; damaged or truncated"),
    (b"\x80\x02}.}", "1 bytes follow the pickle, expected none; damaged"),
    (b"\x80\x02cos\nsystem\n" + text("id") + b"\x85R.", "holds os.system, which would run code when loaded"),
    (b"\x80\x04" + text("os") + text("system") + b"\x93.", "holds os.system, which would run code"),
    (b"\x80\x04NN\x93.", "names a nonetype and a nonetype, expected a module and what is in it"),
    (b"\x80\x02ctinymvit.errors\ntell\n.", "holds tinymvit.errors.tell, which would run code"),
    (b"\x80\x02cbuiltins\neval\n.", "holds builtins.eval, which would run code"),
    (b"\x80\x02ctorch\nFloatStorage\n}b.", "sets attributes of torch.FloatStorage"),
    (b"\x80\x02ctorch\nFloatStorage\n)R.", "calls torch.FloatStorage"),
    (b"\x80\x02})R.", "calls a dict"),
    (b"\x80\x04ctorch\nSize\n)}" + text("a") + b"Ns\x92.", "calls torch.Size by keywords"),
    (b"\x80\x02ctorch\nSize\n)R.", "calls torch.Size with (), expected a tuple"),
    (b"\x80\x02]q\x00(NNe0ctorch\nSize\nh\x00\x85R.", "calls torch.Size with ([None, None],), expected a tuple"),
    (
        b"\x80\x02]q\x00ccollections\nOrderedDict\nq\x01h\x00\x85Rh\x01h\x00\x85R\x86.",
        "calls collections.OrderedDict twice with the same list; damaged",
    ),
    (b"\x80\x02}\x8a\x09" + b"\xff" * 8 + b"\0Ns.", "has an integer of more than 64 bits as a key"),
    (
        b"\x80\x02ccollections\nOrderedDict\n]\x8a\x09" + bytes(8) + b"\1N\x86a\x85R.",
        "has an integer of more than 64 bits as a key",
    ),
    (b"\x80\x02ccollections\nOrderedDict\nN\x85R.", "calls collections.OrderedDict with (None,)"),
    (b"\x80\x02ccollections\nOrderedDict\n]Na\x85R.", "calls collections.OrderedDict with None, expected a name and"),
    (b"\x80\x02}NNs}a.", "appends to a dict"),
    (b"\x80\x02]NNs.", "sets items of a list"),
    (b"\x80\x02}(Nu.", "sets items of a dict"),
    (b"\x80\x02}(K\x01NK\x01Nu.", "sets a key of a dictionary twice"),
    (b"\x80\x04}(N\x90.", "adds to a dict"),
    (b"\x80\x02NQ.", "names a storage by None"),
    (b"\x80\x02(i__main__\nX\n.", "has the opcode 0x69, which no state dict needs"),
    (b"\x80\x02\x82\x01.", "has the opcode 0x82"),
]


@pytest.mark.parametrize(("pickled", "part"), BAD_PICKLES, ids=[str(i) for i in range(len(BAD_PICKLES))])
def test_bad_pickles(tmp_path, pickled, part):
    path = archive(tmp_path / "x.pt", pickled)
    with complaint(CheckpointError, f"{path}: ", part):
        read(path)


def test_a_pickle_takes_no_more_memory_than_is_counted(tmp_path):
    path = archive(tmp_path / "x.pt", b"\x80\x04" + b"]\x94" * 10_000 + b"}.")
    counted = 20_000 * 128
    tracemalloc.start()
    with pytest.raises(CheckpointError):
        open_file(path)
    assert tracemalloc.get_traced_memory()[1] < counted
    tracemalloc.stop()


def test_a_dictionary_that_lies_in_many_others_is_looked_through_once(tmp_path):
    """Else it took 100 times as long for each of those that hold it under two levels of known keys."""
    shared = b"}q\x00(" + b"".join(whole(number) + b"N" for number in range(50_000)) + b"u0"

    def under_all_keys(held, made):
        return b"}q" + made + b"(" + b"".join(text(key) + b"h" + held for key in KEYS) + b"u0"

    holders = b"".join(whole(number) + b"h\x02" for number in range(100))
    pickled = (
        b"\x80\x02" + shared + under_all_keys(b"\0", b"\1") + under_all_keys(b"\1", b"\2") + b"}(" + holders + b"u."
    )
    path = archive(tmp_path / "x.pt", pickled)
    begin = time.process_time()
    with complaint(CheckpointError, f"{path}: holds no tensors by name, only 0, 1, 2"):
        open_file(path)
    assert time.process_time() - begin < 5


def test_numbers_of_parameters_are_keys_as_optimizers_have_them(tmp_path):
    state_of_each = b"".join(whole(number) + nested(exp_avg=ONE) for number in (0, 300, 2**62, -5))
    path = archive(tmp_path / "x.pt", state(model=nested(x=ONE), optimizer=b"}(" + state_of_each + b"u"), [TWO])
    assert list(open_file(path)) == ["x"]


def test_harmless_objects_hold_nothing_and_plain_values_are_read(tmp_path, told):
    beside = {
        "namespace": b"cargparse\nNamespace\n)\x81}" + text("x") + b"K\x01sb",
        "set": b"\x8f(K\x01K\x02\x90",
        "frozen": b"(K\x01\x91",
        "old set": b"c__builtin__\nset\n](K\x01K\x02e\x85R",
        "counter": b"ccollections\nCounter\n}\x85R" + text("a") + b"K\x01s",
        "deque": b"ccollections\ndefaultdict\nc__builtin__\nlist\n\x85RNa",
        "text": b"U\x01a",
        "long text": b"T\x01\0\0\0a",
        "bytes": b"C\x01a",
        "long bytes": b"B\x01\0\0\0a",
        "longer": b"\x8d\x01" + bytes(7) + b"a",
        "longest": b"\x8e\x01" + bytes(7) + b"a",
        "list": b"(K\x01l",
        "dict": b"(K\x01K\x02d",
        "float": b"G" + struct.pack(">d", 0.5),
        "twice": b"K\x0120",
        "marked": b"N(K\x011",
        "popped": b"N(0",
        "keywords": b"cargparse\nNamespace\n)}\x92",
        "pairs": b"ccollections\nOrderedDict\n](](" + text("k") + b"K\x01ee\x85R",
        "three": b"NNN\x87",
        "memo": b"Nq\x00j\x00\x00\x00\x000",
    }
    path = archive(tmp_path / "x.pt", state(x=ONE, **beside), [TWO])
    assert list(open_file(path)) == ["x"]
    assert told == [
        f"{path}: left out, since they are no tensors: {', '.join(list(beside)[:8])} and {len(beside) - 8} more"
    ]


# ---- the older format ----

BAD_OLD = [
    (old_format(state(x=old_tensor()), version=1000), "is of version 1000 of PyTorch's older format, expected 1001"),
    (old_format(state(x=old_tensor()), keys=()), "lists the storages [], expected ['0']"),
    (old_format(state(x=old_tensor()), keys=("0", "0")), "has two storages of one name"),
    (old_format(state(x=old_tensor()), keys=("0", "1")), "lists the storages ['0', '1'], expected ['0']"),
    (old_format(state(x=old_tensor()), storages=[TWO[:4]]), "the storage 0 has 1 elements, expected 2"),
    (old_format(state(x=old_tensor()))[:-1], "the storage 0 ends at byte", "truncated, fetch it again"),
    (old_format(state(x=old_tensor())) + b"x", "1 bytes follow the last storage, expected none"),
    (old_format(state(x=old_tensor(b"N"), y=old_tensor(elements=3))), "the storage 0 has 2 elements and 3; damaged"),
    (old_format(state(x=old_tensor(b"K\x01"))), "the storage 0 is viewed by 1; damaged"),
    (old_format(state(x=old_tensor(b"(" + text("p") + b"K\x01K\x02t"))), "is viewed by ('p', 1, 2)"),
    (
        old_format(
            state(x=old_tensor(b"(" + text("p") + b"K\x00K\x02t"), y=old_tensor(b"(" + text("p") + b"K\x01K\x01t"))
        ),
        "is viewed by ('p', 1, 1)",
    ),
    (old_format(state(x=old_tensor(b"(" + text("0") + b"K\x00K\x02t"))), "has two storages of one name"),
    (old_format(state(x=old_tensor()))[:40], "the pickle ", "damaged or truncated"),
]


@pytest.mark.parametrize("case", BAD_OLD, ids=[str(i) for i in range(len(BAD_OLD))])
def test_bad_files_of_the_older_format(tmp_path, case):
    content, *parts = case
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    with complaint(CheckpointError, f"{path}: ", *parts):
        read(path)


# ---- zip files ----


def changed(content, at, piece):
    return content[:at] + piece + content[at + len(piece) :]


def zip_of(tmp_path, **options):
    path = archive(tmp_path / "x.pt", state(x=tensor()), [TWO], **options)
    return path, path.read_bytes()


def test_damaged_zip_files(tmp_path):
    path, good = zip_of(tmp_path)
    directory, end = good.index(b"PK\1\2"), good.index(b"PK\5\6")
    second = good.index(b"PK\1\2", directory + 4)
    last = good.rindex(b"PK\3\4")
    cases = [
        (good[:-30], "a zip file without its directory, which is at the end; truncated, fetch it again"),
        (good[:20], "a zip file without its directory"),
        (b"PK\3\4", "a zip file without its directory"),
        (
            good[:100] + b"x" + good[100:],
            "the zip directory is not where the file says; damaged, or something was added",
        ),
        (changed(good, end + 8, b"\xff\xff\xff\xff"), "the zip directory lists 65535 members in"),
        (changed(good, directory, b"PK\1\1"), "the zip directory is damaged"),
        (changed(good, directory + 8, b"\x01\x00"), "the member archive/data.pkl is encrypted"),
        (changed(good, directory + 10, b"\x0c\x00"), "is packed by method 12, expected stored or deflated"),
        (
            changed(good, directory + 46, b"archive/Data.pkl"),
            "archive/Data.pkl: its own header contradicts the directory",
        ),
        (changed(good, directory + 42, b"\x01\0\0\0"), "the member archive/data.pkl is not where the directory says"),
        (
            changed(good, directory + 42, b"\xff\xff\xff\x7f"),
            "the member archive/data.pkl is not where the directory says",
        ),
        (
            changed(good, directory + 20, b"\xff\xff\xff\x7f" * 2),
            "the member archive/data.pkl lies outside of the file",
        ),
        (changed(good, directory + 24, b"\x01\0\0\0"), "the member archive/data.pkl lies outside of the file"),
        (changed(good, 14, b"\0\0\0\1"), "archive/data.pkl: its own header contradicts the directory"),
        (changed(good, second + 42, good[directory + 42 : directory + 46]), "its own header contradicts the directory"),
        (
            changed(good, last - 30, b"!"),
            "the member archive/data.pkl has another checksum than the directory; damaged",
        ),
        (changed(good, second + 20, b"\xff\xff\xff\xff" * 2), "the zip directory is damaged"),
        (good.replace(b"data.pkl", b"date.pkl"), "is a zip file without a data.pkl in one folder; expected"),
    ]
    for number, (content, part) in enumerate(cases):
        path.write_bytes(content)
        with complaint(CheckpointError, f"{path}: ", part):
            read(path)
            pytest.fail(f"case {number}: {part}")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", state(x=tensor()))
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("a/data.pkl", state())
    with complaint(CheckpointError, "holds two members named a/data.pkl"):
        read(path)


def test_members_that_overlap(tmp_path):
    path = tmp_path / "x.pt"
    inner = b"PK\3\4" + bytes(22) + struct.pack("<HH", 1, 0) + b"y"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", state(x=tensor()))
        file.writestr("a/data/0", inner)
        file.writestr("y", b"")
    content = path.read_bytes()
    at = content.rindex(b"PK\1\2")
    header = content.index(inner)
    content = changed(content, at + 8, bytes(4))
    content = changed(content, at + 42, struct.pack("<L", header))
    path.write_bytes(content)
    with complaint(CheckpointError, "the member y overlaps another one"):
        read(path)


def test_wide_numbers_are_read(tmp_path):
    """Sizes of 64 bits, which stand in an extra field, in a member's own header and in the directory."""
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w") as file:
        for name, content in (("a/data.pkl", state(x=tensor())), ("a/data/0", TWO)):
            with file.open(zipfile.ZipInfo(name), "w", force_zip64=True) as member:
                member.write(content)
    assert read(path)["x"].tolist() == [1.0, -2.0]
    good = path.read_bytes()
    at = good.rindex(b"PK\1\2")
    extra = struct.pack("<HHQQ", 1, 16, 8, 8)
    end = good.index(b"PK\5\6")
    entry = changed(changed(good[at:end], 20, b"\xff" * 8), 30, struct.pack("<H", len(extra))) + extra
    size = struct.unpack_from("<L", good, end + 12)[0] + len(extra)
    path.write_bytes(good[:at] + entry + changed(good[end:], 12, struct.pack("<L", size)))
    assert read(path)["x"].tolist() == [1.0, -2.0]
    path.write_bytes(path.read_bytes().replace(extra, extra[:4] + bytes(16)))
    with complaint(CheckpointError, "the storage 0 has 0 bytes, expected 8"):
        read(path)


def test_deflated_members_that_lie(tmp_path):
    path, _ = zip_of(tmp_path, method=zipfile.ZIP_DEFLATED)
    good = path.read_bytes()
    directory = good.index(b"PK\1\2")
    for at, size in ((directory + 24, 22), (directory + 24, 5000)):
        content = changed(changed(good, at, struct.pack("<L", size)), 22, struct.pack("<L", size))
        path.write_bytes(content)
        with complaint(CheckpointError, f"the member archive/data.pkl has not the {size} bytes that it promises"):
            read(path)
    begin = 30 + len("archive/data.pkl")
    path.write_bytes(changed(good, begin, b"\xff" * 8))
    with complaint(CheckpointError, "the member archive/data.pkl cannot be unpacked; damaged"):
        read(path)


def test_a_checksum_of_zero_is_none(tmp_path):
    """As torch.save writes it when it is told not to compute any."""
    path, good = zip_of(tmp_path)
    checksum = struct.pack("<L", zlib.crc32(state(x=tensor())))
    path.write_bytes(good.replace(checksum, bytes(4)))
    assert list(read(path)) == ["x"]


@pytest.mark.parametrize(
    ("members", "part"),
    [
        (["config.json", "metadata.json", "model.weights.h5"], "is a .keras file of Keras 3; expected"),
        (["a.npy", "b.npy"], "is an .npz file of NumPy; expected"),
        (["x.mlpackage/Manifest.json", "x.mlpackage/Data/com.apple.CoreML/model.mlmodel"], "is a packed Core ML model"),
        (["readme.txt"], "is a zip file without a data.pkl in one folder; expected a file that torch.save wrote"),
        (["a/data.pkl", "b/data.pkl"], "is a zip file without a data.pkl in one folder"),
    ],
    ids=lambda value: None,
)
def test_other_zip_files(tmp_path, members, part):
    path = tmp_path / "x.bin"
    with zipfile.ZipFile(path, "w") as file:
        for name in members:
            file.writestr(name, b"")
    with complaint(CheckpointError, f"{path}: ", part):
        read(path)


@pytest.mark.parametrize("content", [b"", b"\x80", b"garbage"])
def test_files_of_nothing(tmp_path, content):
    path = tmp_path / "x.bin"
    path.write_bytes(content)
    with complaint(
        CheckpointError, f"{path}: ", "bytes, too short" if len(content) < 4 else "no file that torch.save wrote"
    ):
        read(path)


@given(st.data())
def test_an_altered_file_is_a_complaint_or_a_file(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "altered.pt"
    with path.open("wb") as file:
        tensor_writer(PLAIN)(file)
    content = bytearray(data.draw(st.sampled_from([path.read_bytes(), old_format(state(x=old_tensor()))])))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1), "at") :]
    else:
        content[data.draw(st.integers(0, len(content) - 1), "at")] = data.draw(st.integers(0, 255), "byte")
    path.write_bytes(content)
    with contextlib.suppress(CheckpointError):
        assert all(isinstance(array, np.ndarray) for array in read(path).values())


# ---- writing ----


def written(tensors):
    file = io.BytesIO()
    tensor_writer(tensors)(file)
    return file.getvalue()


def test_the_same_tensors_are_the_same_bytes(monkeypatch):
    first = written(PLAIN)
    monkeypatch.setattr(sys, "platform", "win32")
    assert written(PLAIN) == first
    assert len(first) < 2000
    with zipfile.ZipFile(io.BytesIO(first)) as file:
        assert file.testzip() is None
        assert file.namelist() == [
            "archive/data.pkl",
            "archive/byteorder",
            "archive/data/0",
            "archive/data/1",
            "archive/version",
        ]


def test_what_cannot_be_written():
    with complaint(OutputError, "tensor w has dtype complex64, expected one of float64, float32, float16, int64"):
        tensor_writer({"w": np.zeros(1, np.complex64)})
    with complaint(OutputError, "tensor '\\ud800': a name that is no text"):
        tensor_writer({"\ud800": np.zeros(1)})
    with complaint(OutputError, "tensor 3: a name that is no text"):
        tensor_writer({3: np.zeros(1)})


# ---- shards, and models ----


def test_shards_of_pytorch_load_as_one(tmp_path):
    for shard, names in (("one.bin", "ac"), ("two.bin", "b")):
        with (tmp_path / shard).open("wb") as file:
            tensor_writer({name: np.array([ord(name)], np.float32) for name in names})(file)
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text('{"weight_map": {"a": "one.bin", "b": "two.bin", "c": "one.bin"}}')
    for name in (tmp_path, index):
        tensors = weights.load_tensors(name)
        assert {name: tensor.tolist() for name, tensor in tensors.items()} == {name: [ord(name)] for name in "abc"}
    index.write_text('{"weight_map": {"a": "one.safetensors"}}')
    with complaint(
        CheckpointError, f"{index}: the shard 'one.safetensors', expected the name of a .bin file beside it"
    ):
        weights.load_tensors(tmp_path)


def test_a_checkpoint_in_pytorch_files(tmp_path, checkpoints):
    ours = weights.load_tensors(checkpoints["classifier"])
    (tmp_path / "config.json").write_bytes((checkpoints["classifier"] / "config.json").read_bytes())
    with (tmp_path / "pytorch_model.bin").open("wb") as file:
        tensor_writer(ours)(file)
    for name in (tmp_path, tmp_path / "pytorch_model.bin"):
        found = weights.load_tensors(name)
        assert found.keys() == ours.keys()
        for each, array in ours.items():
            assert_same(found[each], array)
