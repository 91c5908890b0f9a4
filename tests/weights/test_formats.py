"""Which format a file is of: its bytes decide, whatever it is called, and what is none of ours is named."""

import io
import json

import numpy as np
import pytest
import safetensors.numpy

from checkpoints import complaint
from oracle import assert_same
from tinymvit import weights
from tinymvit.errors import CheckpointError, DumpError
from tinymvit.inspection.dump import open_dump
from tinymvit.weights import formats
from tinymvit.weights.formats import pytorch
from tinymvit.weights.formats import safetensors as ours

TENSORS = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}


def content_of(module):
    file = io.BytesIO()
    module.tensor_writer(TENSORS)(file)
    return file.getvalue()


@pytest.mark.parametrize("module", [ours, pytorch])
@pytest.mark.parametrize("name", ["x.safetensors", "x.bin", "x.pt", "x.pth", "x.pth.tar", "x.ckpt", "x.h5", "x"])
def test_the_bytes_decide_and_not_the_name(tmp_path, module, name):
    path = tmp_path / name
    path.write_bytes(content_of(module))
    assert formats.format_in(path) is module
    assert_same(formats.open_file(path)["x"].load(), TENSORS["x"])
    assert_same(weights.load_tensors(path)["x"], TENSORS["x"])
    assert_same(open_dump(path)["x"], TENSORS["x"])


def npy():
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


FOREIGN = [
    (b"", "is an empty file"),
    (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
        "is a Git LFS pointer, not the file itself",
    ),
    (b"<!DOCTYPE html><html>Not found", "is a page of HTML or XML, as a server sends it with an error; fetch the file"),
    (b"\n<HTML>", "is a page of HTML or XML"),
    (b'<?xml version="1.0"?><Error>', "is a page of HTML or XML"),
    (b"\xef\xbb\xbf\r\n<html>", "is a page of HTML or XML"),
    (b"<!-- " + b"x" * 600, "is a page of HTML or XML"),
    (json.dumps({"model_type": "mobilevit", "é": 1}, ensure_ascii=False).encode(), "is JSON text"),
    (b"Entry not found", "is text, beginning with 'Entry not found'"),
    ("é".encode() * 400, "is text, beginning with"),
    (b"x" + "é".encode() * 400, "is text, beginning with"),
    (b"\x08\x08\x12\x07pytorch\x1a\x06", "is an ONNX model"),
    (b"\x08\x07\x3a\xb7\x9f\x4a\x0a", "is an ONNX model"),
    (b"\x08\x07\x12\xa0\x01\n\x16", "is a Core ML model"),
    (b"\x08\x01\x12\xe8\xb6\x50\x0a", "is a SavedModel of TensorFlow"),
    (b"\x1c\0\0\0TFL3" + bytes(20), "is a TFLite model"),
    (npy(), "is a .npy file of NumPy"),
    (b"\x1f\x8b\x08\0", "is compressed by gzip; unpack it first"),
    (b"PK\5\6" + bytes(18), "is an empty zip file"),
    (bytes(257) + b"ustar\0" + bytes(250), "is a tar archive (files that PyTorch wrote before 0.1.10 are, and are not"),
]


@pytest.mark.parametrize(("content", "part"), FOREIGN, ids=[str(i) for i in range(len(FOREIGN))])
@pytest.mark.parametrize("name", ["model.safetensors", "x.pth"])
def test_what_is_none_of_ours_is_named(tmp_path, content, part, name):
    path = tmp_path / name
    path.write_bytes(content)
    with complaint(CheckpointError, f"{path}: {part}", "; expected a safetensors or PyTorch or HDF5 file"):
        weights.load_tensors(path)
    with complaint(DumpError, f"{path}: {part}"):
        open_dump(path)


@pytest.mark.parametrize("content", [b"damaged", b"\x08\x30", b"\0\1\2\3" * 300, b"\xff" * 600, b"\x08\x01 ab\xff"])
def test_what_cannot_be_told_is_a_damaged_file_of_what_its_name_promises(tmp_path, content):
    for name, part in (("x.safetensors", "safetensors file"), ("x.bin", "torch.save"), ("x", "safetensors file")):
        (tmp_path / name).write_bytes(content)
        with complaint(CheckpointError, f"{tmp_path / name}: ", part if len(content) > 3 or name != "x.bin" else ""):
            formats.open_file(tmp_path / name)


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["mobilevit.pth", "training_args.bin"], "mobilevit.pth"),
        (["mobilevit.pth", "optimizer.pt", "scheduler.pt", "rng_state.pth", "scaler.pt"], "mobilevit.pth"),
        (["mobilevit.pth", "optimizer.bin", "optimizer_1.bin", "rng_state_0.pth", "rng_state_12.pth"], "mobilevit.pth"),
        (["mobilevit.pth", "checkpoints/last.pth", "README.md"], "mobilevit.pth"),
        (["checkpoints/last.pth"], None),
        (["checkpoints/model.safetensors"], None),
        (["optimizer.pt"], None),
        (["my_optimizer.pt"], "my_optimizer.pt"),
        (["a.pt", "b.pt"], None),
        (["a.pt", "b.pt", "tf_model.h5"], "tf_model.h5"),
    ],
)
def test_which_of_a_folders_files_has_the_weights(files, chosen):
    assert formats.choose(files) == chosen


def test_a_shard_may_be_of_another_format_than_its_name(tmp_path):
    (tmp_path / "one.safetensors").write_bytes(content_of(pytorch))
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"x": "one.safetensors"}}')
    assert_same(formats.open_file(index)["x"].load(), TENSORS["x"])


def test_a_safetensors_file_may_have_a_prefix_too(tmp_path):
    safetensors.numpy.save_file({"module.x": TENSORS["x"]}, tmp_path / "x.safetensors")
    assert list(weights.load_tensors(tmp_path / "x.safetensors")) == ["x"]
    assert list(open_dump(tmp_path / "x.safetensors")) == ["module.x"]
