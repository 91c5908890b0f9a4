"""Names of checkpoints: what each finds, in every folder, and every complaint about one that finds nothing."""

from pathlib import Path

import pytest

from checkpoints import complaint
from tinymvit import weights
from tinymvit.config import MobileViTConfig
from tinymvit.errors import CheckpointError


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
    ("~nobody-of-that-name/model", "~nobody-of-that-name/model: Could not determine home directory"),
    (__file__, 'test_locate.py: is text, beginning with \'"""Names of'),
    (
        __file__,
        "; expected a checkpoint's folder or a .safetensors, .bin, .pt, .pth, .ckpt, .h5 or .hdf5 file",
    ),
]


@pytest.mark.parametrize(("name", "message"), UNKNOWN, ids=[str(i) for i in range(len(UNKNOWN))])
def test_unknown_names(bundle, name, message):
    with complaint(CheckpointError, message):
        weights.resolve(name)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x08\x08\x12\x07pytorch\x1a\x06", "an ONNX model"),
        (b"\x1c\0\0\0TFL3" + bytes(20), "a TFLite model"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "a Git LFS pointer, not the file"),
        (b"<!doctype html><title>Not found</title>", "a page of HTML or XML"),
        (b"", "an empty file"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_told_for_what_it_is(tmp_path, content, what):
    for name in ("x.onnx", "x.tflite", "x.txt", "x"):
        (tmp_path / name).write_bytes(content)
        with complaint(CheckpointError, f"{tmp_path / name}: is {what}", "; expected a checkpoint's folder or a .safe"):
            weights.resolve(tmp_path / name)


def test_a_file_of_nothing_that_is_known_is_only_told_what_was_expected(tmp_path):
    (tmp_path / "x").write_bytes(b"\xff" * 600)
    with complaint(CheckpointError, f"{tmp_path / 'x'}: expected a checkpoint's folder or a .safetensors, .bin"):
        weights.resolve(tmp_path / "x")


def test_a_name_that_no_hub_could_have():
    pytest.importorskip("huggingface_hub")
    with complaint(CheckpointError, "org--x/name: no such folder, and no valid Hugging Face hub id"):
        weights.resolve("org--x/name")


def test_a_name_is_text_or_a_path():
    with complaint(TypeError, "the checkpoint: a int, expected a name or a path"):
        weights.resolve(7)


def test_the_weights_file_of_a_folder(tmp_path):
    with complaint(CheckpointError, f"{tmp_path}: has no model.safetensors and no other single weights file"):
        weights.weights_file(tmp_path)
    (tmp_path / "mobilevit_xxs.pt").touch()
    (tmp_path / "notes.txt").touch()
    assert weights.weights_file(tmp_path) == tmp_path / "mobilevit_xxs.pt"
    (tmp_path / "half.safetensors").touch()
    with complaint(CheckpointError, "no other single weights file; to use half.safetensors or another of its 2, name"):
        weights.weights_file(tmp_path)
    for neighbour in ("optimizer.pt", "training_args.bin"):  # counted as no weights
        (tmp_path / neighbour).touch()
    with complaint(CheckpointError, "to use half.safetensors or another of its 2, name that file"):
        weights.weights_file(tmp_path)
    for best in ("pytorch_model.bin.index.json", "pytorch_model.bin", "model.safetensors.index.json"):
        (tmp_path / best).touch()
        assert weights.weights_file(tmp_path) == tmp_path / best
    (tmp_path / "model.safetensors").touch()
    assert weights.weights_file(tmp_path) == tmp_path / "model.safetensors"
    assert weights.weights_file(tmp_path / "half.safetensors") == tmp_path / "half.safetensors"


def test_a_weights_file_of_any_name_is_one_by_its_bytes(tmp_path, checkpoints):
    content = (checkpoints["classifier"] / "model.safetensors").read_bytes()
    (tmp_path / "weights").write_bytes(content)
    assert weights.weights_file(tmp_path / "weights") == tmp_path / "weights"
    expected = weights.load_tensors(checkpoints["classifier"])
    assert weights.load_tensors(tmp_path / "weights").keys() == expected.keys()
    assert weights.open_checkpoint(tmp_path / "weights").is_named_by_file
    folder = tmp_path / "same"  # which holds a file of its own name
    folder.mkdir()
    (folder / "same").write_bytes(content)
    (folder / "model.safetensors").write_bytes(content)
    assert weights.weights_file(folder) == folder / "model.safetensors"
    assert not weights.open_checkpoint(folder).is_named_by_file
