"""The weights package: the file format against the safetensors library, checkpoints against transformers, and every
complaint about a file, a tensor or a name."""

import contextlib
import errno
import http.server
import json
import os
import re
import resource
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import urllib.parse
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from oracle import assert_same
from tinymvit import weights
from tinymvit.config import MobileViTConfig
from tinymvit.errors import CheckpointError, ConfigError, OutputError
from tinymvit.files import write_files
from tinymvit.weights import entries as named
from tinymvit.weights import hub
from tinymvit.weights.entries import CLASSIFICATION, PUBLISHED, SEGMENTATION
from tinymvit.weights.formats.safetensors import read_header, read_tensors, tensor_writer

TINY = {
    "hidden_sizes": [8, 8, 8],
    "neck_hidden_sizes": [4, 4, 4, 8, 8, 8, 16],
    "num_attention_heads": 2,
    "expand_ratio": 1.0,
    "aspp_out_channels": 8,
    "image_size": 32,
    "num_labels": 3,
}
CLASSES = {
    "classifier": transformers.MobileViTForImageClassification,
    "segmenter": transformers.MobileViTForSemanticSegmentation,
    "bare": transformers.MobileViTModel,
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A tiny checkpoint of each class, as transformers saves it: folders by the names in CLASSES."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("checkpoints")
    for name, model in CLASSES.items():
        model(transformers.MobileViTConfig(**TINY)).save_pretrained(root / name)
    return {name: root / name for name in CLASSES}


def saved(path, tensors, header=None):
    """A safetensors file written here byte by byte; `header` replaces or adds entries of the right header."""
    entries, data = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(entries | (header or {})).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def complaint(error, *parts):
    """`pytest.raises` for `error` whose one line holds the given parts in this order."""
    return pytest.raises(error, match=r"\A[^\n]*" + "[^\n]*".join(map(re.escape, parts)) + r"[^\n]*\Z")


# ------------------------------------------------------------------------------------------------------- file format


def test_a_file_byte_by_byte(tmp_path):
    header = (
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F16","shape":[],"data_offsets":[8,10]}}'
    )
    path = tmp_path / "two.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<ffe", 1.0, -2.0, 0.5))
    tensors = read_tensors(path)
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
    found = read_tensors(path)
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
    assert list(read_header(path)) == ["count", "single", "half"]
    (length,) = struct.unpack("<Q", path.read_bytes()[:8])
    assert length % 8 == 0


def test_tensors_without_elements_take_no_room(tmp_path):
    tensors = {"w": ("F32", [1], struct.pack("<f", 2.0))}
    empty = {"e": {"dtype": "F32", "shape": [0, 3], "data_offsets": [0, 0]}}
    found = read_tensors(saved(tmp_path / "empty.safetensors", tensors, empty))
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
        read_tensors(path)


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
    (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "not a safetensors file"),  # how a pickle of PyTorch begins
]


@pytest.mark.parametrize(("content", "part"), BAD_BYTES, ids=[str(i) for i in range(len(BAD_BYTES))])
def test_bad_bytes(tmp_path, content, part):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with complaint(CheckpointError, str(path), part):
        read_tensors(path)


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
        read_tensors(path)


# ------------------------------------------------------------------------------------------------------------ loading


@pytest.mark.parametrize("name", CLASSES)
def test_loads_what_transformers_saves(checkpoints, name):
    expected = CLASSES[name].from_pretrained(checkpoints[name]).state_dict()
    expected = {key: value.numpy() for key, value in expected.items() if "num_batches_tracked" not in key}
    tensors = weights.load_tensors(checkpoints[name])
    assert tensors.keys() == expected.keys()
    for key, value in expected.items():
        assert_same(tensors[key], value, name=key)


def test_float32_tensors_are_views_of_the_mapped_file(checkpoints):
    for name, tensor in weights.load_tensors(checkpoints["bare"]).items():
        base = tensor
        while base.base is not None and not isinstance(base, np.memmap):
            base = base.base
        assert isinstance(base, np.memmap), name
        assert tensor.flags.c_contiguous
        assert tensor.flags.aligned
        assert not tensor.flags.writeable


def test_unaligned_tensors_are_copied(tmp_path):
    path = saved(tmp_path / "odd.safetensors", {"byte": ("U8", [1], b"\7"), "w": ("F32", [1], struct.pack("<f", 1.5))})
    tensor = read_tensors(path)["w"]
    assert tensor.flags.aligned
    assert_same(tensor, np.array([1.5], np.float32))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_becomes_float32(tmp_path, dtype):
    values = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    safetensors.torch.save_file({"w": values}, tmp_path / "model.safetensors")
    tensor = weights.load_tensors(tmp_path)["w"]
    assert_same(tensor, values.to(torch.float32).numpy())
    assert not tensor.flags.writeable


def test_bfloat16_by_hand(tmp_path):
    saved(tmp_path / "model.safetensors", {"w": ("BF16", [3], bytes.fromhex("803f c0bf 0000"))})
    assert_same(weights.load_tensors(tmp_path)["w"], np.array([1.0, -1.5, 0.0], np.float32))


def test_integers_are_not_weights(tmp_path):
    saved(tmp_path / "model.safetensors", {"w": ("I64", [1], bytes(8))})
    with complaint(CheckpointError, "model.safetensors: tensor w is int64, expected floating point"):
        weights.load_tensors(tmp_path)


def test_not_a_number_is_warned_of_by_name(tmp_path):
    bad = np.array([1.0, np.nan, np.inf], np.float32)
    content = {
        "good": ("F32", [3], bytes(12)),
        "bad": ("F32", [3], bad.tobytes()),
        "big": ("F64", [1], struct.pack("<d", 1e300)),
    }
    saved(tmp_path / "model.safetensors", content)
    expected = "model.safetensors: 2 with NaN or infinite values: bad (2 of them), big (1 of them); results will not"
    with pytest.warns(UserWarning, match=re.escape(expected)):
        tensors = weights.load_tensors(tmp_path)
    assert_same(tensors["bad"], bad)


def test_a_file_goes_by_its_own_name(tmp_path, checkpoints):
    file = checkpoints["bare"] / "model.safetensors"
    (tmp_path / "half.safetensors").write_bytes(file.read_bytes())
    saved(tmp_path / "model.safetensors", {})
    assert weights.load_tensors(tmp_path / "half.safetensors").keys() == weights.load_tensors(file).keys()
    assert weights.load_tensors(str(tmp_path / "model.safetensors")) == {}
    assert weights.resolve(tmp_path / "half.safetensors") == tmp_path


# ------------------------------------------------------------------------------------------------------------- shards


@pytest.fixture
def sharded(tmp_path):
    """A folder with a sharded checkpoint as transformers writes it, and its index as a dictionary."""
    torch.manual_seed(0)
    transformers.MobileViTModel(transformers.MobileViTConfig(**TINY)).save_pretrained(tmp_path, max_shard_size="10KB")
    return tmp_path, json.loads((tmp_path / "model.safetensors.index.json").read_text())


def test_shards_load_as_one(sharded, checkpoints):
    folder, index = sharded
    assert len(set(index["weight_map"].values())) > 2
    tensors, expected = weights.load_tensors(folder), weights.load_tensors(checkpoints["bare"])
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        name: tensor.shape for name, tensor in expected.items()
    }
    state = transformers.MobileViTModel.from_pretrained(folder).state_dict()
    for name, tensor in tensors.items():
        assert_same(tensor, state[name].numpy(), name=name)
    assert weights.load_tensors(folder / "model.safetensors.index.json").keys() == tensors.keys()


def test_bad_shards(sharded):
    folder, index = sharded
    names, shards = list(index["weight_map"]), sorted(set(index["weight_map"].values()))
    first = next(name for name in names if index["weight_map"][name] == shards[0])

    def rewrite(**changes):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index["weight_map"] | changes}))

    rewrite(**{first: shards[1]})
    with complaint(CheckpointError, f"{shards[0]}: holds tensor {first}, which", f"places in {shards[1]}"):
        weights.load_tensors(folder)
    rewrite(ghost=shards[0])
    with complaint(CheckpointError, f"{shards[0]}: lacks tensor ghost, which", "places in it"):
        weights.load_tensors(folder)
    rewrite(ghost="../escape.safetensors")
    with complaint(CheckpointError, "index.json: the shard '../escape.safetensors', expected the name of"):
        weights.load_tensors(folder)
    rewrite(ghost="absent.safetensors")
    with complaint(CheckpointError, "index.json: names the shard absent.safetensors, which is missing"):
        weights.load_tensors(folder)
    rewrite(ghost=3)
    with complaint(CheckpointError, "index.json: expected a weight_map of tensor names to file names"):
        weights.load_tensors(folder)


# ----------------------------------------------------------------------------------------------------------- matching


def shapes(tensors):
    return {name: tensor.shape for name, tensor in tensors.items()}


def test_a_match_keeps_the_arrays_and_takes_the_models_order():
    tensors = {"b": np.zeros((2, 3), np.float32), "a": np.ones(4, np.float32)}
    matched = weights.match_tensors(tensors, {"a": (4,), "b": (2, 3)}, "here")
    assert list(matched) == ["a", "b"]
    assert matched["b"] is tensors["b"]


def test_all_misfits_are_listed_in_one_error():
    tensors = {"conv.wieght": np.zeros((2, 3)), "conv.bias": np.zeros(4), "fine": np.zeros(1)}
    expected = {"conv.weight": (2, 3), "conv.bias": (3,), "norm.scale": (3,), "fine": (1,)}
    with pytest.raises(CheckpointError) as raised:
        weights.match_tensors(tensors, expected, "here")
    assert str(raised.value) == (
        "here: does not fit the model: 2 missing: conv.weight [2, 3], norm.scale [3]; "
        "1 unexpected: conv.wieght [2, 3] (nearest: conv.weight [2, 3]); "
        "1 of another shape: conv.bias [4] (expected [3])"
    )


def test_many_misfits_are_counted():
    with complaint(CheckpointError, "25 missing: a0 [1], a1 [1],", "a9 [1], and 15 more"):
        weights.match_tensors({}, {f"a{index}": (1,) for index in range(25)}, "here")


def test_another_number_of_labels_is_named_as_such(checkpoints):
    for name in ("classifier", "segmenter"):
        tensors = weights.load_tensors(checkpoints[name])
        expected = shapes(tensors)
        for head in ("classifier.weight", "segmentation_head.classifier.convolution.weight"):
            if head in expected:
                expected[head] = (1000, *expected[head][1:])
        with complaint(CheckpointError, "the checkpoint has 3 labels, the configuration 1000; 1 of another shape"):
            weights.match_tensors(tensors, expected, name)


def test_another_task_is_named_as_such(checkpoints):
    loaded = {name: weights.load_tensors(folder) for name, folder in checkpoints.items()}
    with complaint(CheckpointError, "the checkpoint is a segmentation model; ", "missing: "):
        weights.match_tensors(loaded["segmenter"], shapes(loaded["classifier"]), "here")
    with complaint(CheckpointError, "the checkpoint is a classification model; ", "missing: "):
        weights.match_tensors(loaded["classifier"], shapes(loaded["segmenter"]), "here")
    with complaint(CheckpointError, "the checkpoint is a bare MobileViTModel without a head; ", "missing: "):
        weights.match_tensors(loaded["bare"], shapes(loaded["classifier"]), "here")


def test_the_backbone_of_a_checkpoint(checkpoints):
    loaded = {name: weights.load_tensors(folder) for name, folder in checkpoints.items()}
    for name in ("classifier", "bare"):
        matched = weights.match_tensors(weights.backbone_tensors(loaded[name]), shapes(loaded["bare"]), name)
        assert matched.keys() == loaded["bare"].keys()
    without_expansion = {name: shape for name, shape in shapes(loaded["bare"]).items() if "conv_1x1_exp" not in name}
    weights.match_tensors(weights.backbone_tensors(loaded["segmenter"]), without_expansion, "segmenter")
    stem = "conv_stem.convolution.weight"
    assert weights.backbone_tensors(loaded["classifier"])[stem] is loaded["classifier"][f"mobilevit.{stem}"]


# ------------------------------------------------------------------------------------------------------------- saving


@pytest.mark.parametrize("name", CLASSES)
def test_transformers_loads_what_is_saved_strictly(tmp_path, checkpoints, name):
    tensors = weights.load_tensors(checkpoints[name])
    weights.save_checkpoint(
        tmp_path / "new" / "folder", tensors, MobileViTConfig.from_pretrained(checkpoints[name]).to_dict()
    )
    model, report = CLASSES[name].from_pretrained(tmp_path / "new" / "folder", output_loading_info=True)
    assert not any(report.values()), report
    for key, value in CLASSES[name].from_pretrained(checkpoints[name]).state_dict().items():
        assert_same(model.state_dict()[key].numpy(), value.numpy(), name=key)
    again = weights.load_tensors(tmp_path / "new" / "folder")
    assert again.keys() == tensors.keys()
    for key, value in tensors.items():
        assert_same(again[key], value, name=key)


def test_float16_is_saved_as_float16(tmp_path):
    weights.save_checkpoint(tmp_path, {"w": np.array([0.1], np.float16)}, {})
    assert read_header(tmp_path / "model.safetensors")["w"].dtype == "F16"
    assert_same(weights.load_tensors(tmp_path)["w"], np.array([np.float16(0.1)], np.float32))


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_the_dtype_of_another_checkpoint_does_not_round_the_weights(tmp_path, checkpoints, key):
    tensors = weights.load_tensors(checkpoints["bare"])
    config = MobileViTConfig.from_pretrained(checkpoints["bare"]).to_dict()
    weights.save_checkpoint(tmp_path, tensors, config | {"dtype": "float16", key: "float16"})
    assert CLASSES["bare"].from_pretrained(tmp_path).dtype == torch.float32


def test_a_checkpoint_can_be_saved_over_the_one_it_is_mapped_from(tmp_path, checkpoints):
    weights.save_checkpoint(tmp_path, weights.load_tensors(checkpoints["bare"]), {})
    tensors = weights.load_tensors(tmp_path)
    weights.save_checkpoint(tmp_path, {"w": np.zeros(1, np.float32)}, {})
    for name, tensor in weights.load_tensors(checkpoints["bare"]).items():
        assert_same(tensors[name], tensor, name=name)
    assert weights.load_tensors(tmp_path).keys() == {"w"}


def test_saved_files_have_the_usual_permissions(tmp_path):
    weights.save_checkpoint(tmp_path, {}, {})
    (tmp_path / "usual").touch()
    for name in ("model.safetensors", "config.json"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_full_disk_loses_nothing(tmp_path):
    weights.save_checkpoint(tmp_path, {"w": np.ones(3, np.float32)}, {"num_channels": 3})
    before = contents(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # the disk has room for 10,000 bytes of a file
    try:
        with complaint(OutputError, f"{tmp_path / 'model.safetensors'}: cannot be written: File too large"):
            weights.save_checkpoint(tmp_path, {"w": np.ones(100_000, np.float32)}, {"num_channels": 4})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("failure", "raised"),
    [(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), OutputError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
def test_a_failure_in_the_second_file_leaves_both_as_they_were(tmp_path, failure, raised):
    write_files(tmp_path, {"a": lambda file: file.write(b"1"), "b": lambda file: file.write(b"2")})

    def fail(file):
        file.write(b"4")
        raise failure

    with pytest.raises(raised) as error:
        write_files(tmp_path, {"a": lambda file: file.write(b"3"), "b": fail})
    if raised is OutputError:
        assert str(error.value) == f"{tmp_path / 'b'}: cannot be written: No space left on device"
    assert contents(tmp_path) == {"a": b"1", "b": b"2"}


def test_a_link_is_replaced_and_not_what_it_points_to(tmp_path):
    (tmp_path / "shared").write_bytes(b"1")
    (tmp_path / "link").symlink_to(tmp_path / "shared")
    write_files(tmp_path, {"link": lambda file: file.write(b"2")})
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "link").read_bytes() == b"2"
    assert (tmp_path / "shared").read_bytes() == b"1"


def test_what_is_no_regular_file_is_not_replaced(tmp_path):
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link):
        with complaint(OutputError, f"{path}: is no regular file, expected one or nothing"):
            write_files(tmp_path, {"a": lambda file: file.write(b"1"), path.name: lambda file: file.write(b"2")})
    assert pipe.is_fifo()
    assert sorted(tmp_path.iterdir()) == [link, pipe]


def test_folders_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("precious")
    with complaint(OutputError, f"{tmp_path / 'file'}: is a file, expected a folder to write model.safetensors"):
        weights.save_checkpoint(tmp_path / "file", {}, {})
    with complaint(OutputError, f"{tmp_path / 'file' / 'folder'}: cannot be written: Not a directory"):
        weights.save_checkpoint(tmp_path / "file" / "folder", {}, {})
    assert (tmp_path / "file").read_text() == "precious"
    (tmp_path / "config.json").mkdir()
    with complaint(OutputError, f"{tmp_path / 'config.json'}: is a folder, expected a file or nothing"):
        weights.save_checkpoint(tmp_path, {}, {})
    assert not (tmp_path / "model.safetensors").exists()


@pytest.fixture
def locked():
    """A folder that the process may neither read nor write, even if it is root's."""
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(0o755)
        folder = Path(parent, "locked")
        folder.mkdir(mode=0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)  # nobody
        yield folder
        os.seteuid(user)
        folder.chmod(0o700)


def test_folders_without_permission(locked):
    for folder, target in ((locked, "locked/model.safetensors"), (locked / "new", "locked/new")):
        with complaint(OutputError, f"{target}: cannot be written: Permission denied"):
            weights.save_checkpoint(folder, {}, {})
    with complaint(CheckpointError, "locked: cannot be read: Permission denied"):
        weights.weights_file(locked)
    with complaint(CheckpointError, "locked/model.safetensors: cannot be read: Permission denied"):
        weights.resolve(locked / "model.safetensors")
    with complaint(ConfigError, "locked/config.json: cannot be read: Permission denied"):
        MobileViTConfig.from_pretrained(locked)


# ------------------------------------------------------------------------------------------------------------ finding


@pytest.fixture
def bundle(tmp_path, monkeypatch, checkpoints):
    """Two bundled checkpoints, "digits" and "digits-seg", in a folder that stands for the package's."""
    for name, source in (("digits", "classifier"), ("digits-seg", "segmenter")):
        folder = tmp_path / "package" / name
        folder.mkdir(parents=True)
        for file in checkpoints[source].iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Digits\n")
    (tmp_path / "package" / "__pycache__").mkdir()
    monkeypatch.setattr(named, "__file__", str(tmp_path / "package" / "named.py"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "package"


def test_bundled_names_mean_the_same_in_every_folder(bundle, tmp_path):
    (tmp_path / "digits").mkdir()
    assert weights.resolve("digits") == bundle / "digits"
    assert weights.resolve("./digits") == Path("digits")
    assert weights.resolve(Path("digits")) == Path("digits")
    assert weights.weights_file("digits") == bundle / "digits" / "model.safetensors"
    assert MobileViTConfig.from_pretrained("digits").num_labels == 3


def test_home_is_where_it_should_be(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert weights.resolve("~/model") == tmp_path / "model"


UNKNOWN = [
    ("digist", 'digist: no such file, folder or checkpoint; did you mean "digits"?'),
    ("mobilevit-small", 'mobilevit-small: no such file, folder or checkpoint; did you mean "apple/mobilevit-small"?'),
    (
        "resnet",
        "resnet: no such file, folder or checkpoint; known are digits, digits-seg, apple/mobilevit-small, apple",
    ),
    ("/data/digits", '/data/digits: no such file, folder or checkpoint; did you mean "digits"?'),
    ("./none", "./none: no such file, folder or checkpoint"),
    ("runs/last.safetensors", "runs/last.safetensors: no such file, folder or checkpoint"),
    (Path("apple/mobilevit"), "apple/mobilevit: no such file, folder or checkpoint"),
    ("a" * 5000, ": cannot be read: File name too long"),
    ("~nobody-of-that-name/model", "~nobody-of-that-name/model: cannot be read: Could not determine home directory"),
    (__file__, "test_weights.py: expected a checkpoint's folder or a .safetensors file"),
    ("org--x/name", "org--x/name: no such folder, and no valid Hugging Face hub id"),
]


@pytest.mark.parametrize(("name", "message"), UNKNOWN, ids=[str(i) for i in range(len(UNKNOWN))])
def test_unknown_names(bundle, name, message):
    with complaint(CheckpointError, message):
        weights.resolve(name)


def test_a_name_is_text_or_a_path():
    with complaint(TypeError, "the checkpoint: a int, expected a name or a path"):
        weights.resolve(7)


def test_folders_without_usable_weights(tmp_path):
    with complaint(CheckpointError, f"{tmp_path}: has no model.safetensors"):
        weights.weights_file(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    with complaint(CheckpointError, "has no model.safetensors, only pytorch_model.bin, a pickle"):
        weights.weights_file(tmp_path)
    (tmp_path / "half.safetensors").touch()
    with complaint(CheckpointError, "has no model.safetensors; to use half.safetensors, name that file"):
        weights.weights_file(tmp_path)
    (tmp_path / "model.safetensors.index.json").touch()
    assert weights.weights_file(tmp_path) == tmp_path / "model.safetensors.index.json"
    (tmp_path / "model.safetensors").touch()
    assert weights.weights_file(tmp_path) == tmp_path / "model.safetensors"


# ------------------------------------------------------------------------------------------------------------ catalog


def test_the_catalog_describes_bundled_checkpoints(bundle, checkpoints):
    digits, digits_seg, *published = weights.catalog()
    assert tuple(published) == PUBLISHED
    assert (digits.name, digits.task, digits.revision) == ("digits", CLASSIFICATION, None)
    assert (digits_seg.name, digits_seg.task) == ("digits-seg", SEGMENTATION)
    assert (digits.num_labels, digits.image_size, digits.licence) == (3, 32, "apache-2.0")
    model = CLASSES["segmenter"].from_pretrained(checkpoints["segmenter"])
    assert digits_seg.num_parameters == sum(parameter.numel() for parameter in model.parameters())
    assert digits_seg.num_bytes == (checkpoints["segmenter"] / "model.safetensors").stat().st_size


@pytest.mark.parametrize("listed", PUBLISHED, ids=lambda listed: listed.name)
def test_the_catalog_describes_published_checkpoints(listed):
    config = MobileViTConfig.preset(listed.name)
    assert (config.num_labels, config.image_size) == (listed.num_labels, listed.image_size)
    head = "ForSemanticSegmentation" if listed.task == SEGMENTATION else "ForImageClassification"
    with torch.device("meta"):
        model = getattr(transformers, f"MobileViT{head}")(transformers.MobileViTConfig(**config.to_dict()))
    assert listed.num_parameters == sum(parameter.numel() for parameter in model.parameters())


# ---------------------------------------------------------------------------------------------------------------- hub

REPOSITORIES = {
    "apple/mobilevit-small": (
        "refs/pr/2",
        ["config.json", "preprocessor_config.json", "model.safetensors", "README.md"],
    ),
    "someone/numbers": ("main", ["config.json", "model.safetensors"]),
    "someone/pickled": ("main", ["config.json", "pytorch_model.bin"]),
}
COMMIT = "c0ffee" * 6 + "c0de"


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the Hugging Face hub as a download needs: a repository's revision, its files, each file."""

    asked: list[str] = []  # noqa: RUF012 - set anew by the fixture

    def do_GET(self):
        self.asked.append(self.path)
        path = urllib.parse.unquote(urllib.parse.urlparse(self.path).path)
        repository = "/".join(path.removeprefix("/api/models").split("/")[1:3])
        if repository == "someone/gated":
            return self.answer(403, error="GatedRepo")
        if repository not in REPOSITORIES:
            return self.answer(401, error="RepoNotFound")
        revision, files = REPOSITORIES[repository]
        rest = path.split(repository + "/")[1]
        if rest == f"revision/{revision}":
            return self.answer(
                200, {"id": repository, "sha": COMMIT, "siblings": [{"rfilename": file} for file in files]}
            )
        if rest == f"tree/{COMMIT}":
            return self.answer(200, [{"type": "file", "path": file, "size": 2, "oid": "0" * 40} for file in files])
        if rest.startswith(f"resolve/{COMMIT}/") and rest.split("/")[-1] in files:
            return self.answer(200, {}, etag=rest.split("/")[-1])
        return self.answer(404, error="RevisionNotFound")

    do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

    def answer(self, status, value=None, error=None, etag=None):
        content = json.dumps({"error": error} if error else value).encode()
        self.send_response(status)
        for header, text in {"X-Repo-Commit": COMMIT, "X-Error-Code": error, "ETag": etag and f'"{etag}"'}.items():
            if text:
                self.send_header(header, text)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub_server(monkeypatch):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    monkeypatch.setattr(Hub, "asked", [])
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def resolve_in_a_new_process(names, home, **environment):
    """What `resolve` makes of each name, a path or a complaint; the hub library reads its settings at its import."""
    script = (
        "import json, sys\n"
        "from tinymvit.weights import resolve\n"
        "from tinymvit.errors import CheckpointError\n"
        "def answer(name):\n"
        "    try: return str(resolve(name))\n"
        "    except CheckpointError as error: return str(error)\n"
        "print(json.dumps([answer(name) for name in sys.argv[1:]]))\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", script, *names],
        env={**os.environ, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", **environment},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def test_hub(tmp_path, hub_server):
    names = ["apple/mobilevit-small", "someone/numbers@main"]
    small, digits = resolve_in_a_new_process(names, tmp_path, HF_ENDPOINT=hub_server)
    assert Path(small).name == COMMIT
    assert sorted(path.name for path in Path(small).iterdir()) == sorted(REPOSITORIES[names[0]][1][:3])
    assert sorted(path.name for path in Path(digits).iterdir()) == ["config.json", "model.safetensors"]

    asked_before = len(Hub.asked)
    assert resolve_in_a_new_process(names, tmp_path, HF_ENDPOINT=hub_server) == [small, digits]
    assert len(Hub.asked) == asked_before, "a cached checkpoint needs no network"

    bad = ["apple/mobilevit-smal", "someone/gated", "someone/numbers@v9", "someone/pickled"]
    misspelt, gated, no_revision, pickled = resolve_in_a_new_process(bad, tmp_path, HF_ENDPOINT=hub_server)
    assert misspelt.startswith("apple/mobilevit-smal: no such folder here, no such repository on the Hugging Face hub")
    assert misspelt.endswith('did you mean "apple/mobilevit-small"?')
    assert gated == "someone/gated: ask for access at https://huggingface.co/someone/gated, then: hf auth login"
    assert no_revision == "someone/numbers: the repository on the Hugging Face hub has no revision v9"
    assert pickled.startswith("someone/pickled: revision main has no config.json with .safetensors weights")


@pytest.mark.parametrize(
    "environment", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}], ids=["offline", "no network"]
)
def test_hub_out_of_reach(tmp_path, environment):
    """A copy that transformers, or anything else, left in the cache is used; else one line says what is wrong."""
    cached = tmp_path / "hub" / "models--someone--numbers"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(COMMIT)
    (cached / "snapshots" / COMMIT).mkdir(parents=True)
    for file in ("config.json", "model.safetensors"):
        (cached / "snapshots" / COMMIT / file).touch()
    found, missing = resolve_in_a_new_process(["someone/numbers", "apple/mobilevit-small"], tmp_path, **environment)
    assert found == str(cached / "snapshots" / COMMIT)
    assert missing.startswith(
        "apple/mobilevit-small: no such folder here, not in the Hugging Face cache, and the hub is"
    )


def test_hub_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with complaint(
        CheckpointError, "apple/mobilevit-small: no such folder; as a Hugging", 'pip install "tinymvit[hub]"'
    ):
        hub.fetch("apple/mobilevit-small", "main")
