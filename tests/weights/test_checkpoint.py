"""A checkpoint as one opened object: against transformers, and every complaint about a tensor or a folder."""

import os
import re
import signal
import stat
import struct
import threading

import numpy as np
import pytest

from checkpoints import CLASSES, TINY, complaint, saved
from frameworks import torch, transformers
from oracle import assert_same
from tinymvit import weights
from tinymvit.config import MobileViTConfig
from tinymvit.errors import CheckpointError, OutputError
from tinymvit.weights.formats.safetensors import open_file

# ---- loading ----


@pytest.mark.torch
@pytest.mark.parametrize("name", CLASSES)
def test_loads_what_transformers_saves(tmp_path, name):
    theirs = getattr(transformers, CLASSES[name])(transformers.MobileViTConfig(**TINY))
    theirs.save_pretrained(tmp_path)
    expected = {key: value.numpy() for key, value in theirs.state_dict().items() if "num_batches_tracked" not in key}
    tensors = weights.load_tensors(tmp_path)
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


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_floating_point_becomes_float32(tmp_path, dtype):
    import safetensors.torch

    values = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = values.to(getattr(torch, dtype))
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


# ---- matching ----


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


# ---- saving ----


@pytest.mark.parametrize("name", CLASSES)
def test_what_is_saved_loads_again(tmp_path, checkpoints, name):
    tensors = weights.load_tensors(checkpoints[name])
    config = MobileViTConfig.from_pretrained(checkpoints[name])
    weights.save_checkpoint(tmp_path / "new" / "folder", tensors, config.to_dict())
    again = weights.load_tensors(tmp_path / "new" / "folder")
    assert again.keys() == tensors.keys()
    for key, value in tensors.items():
        assert_same(again[key], value, name=key)
    assert MobileViTConfig.from_pretrained(tmp_path / "new" / "folder") == config


@pytest.mark.torch
@pytest.mark.parametrize("name", CLASSES)
def test_transformers_loads_what_is_saved_strictly(checkpoints, name):
    theirs = getattr(transformers, CLASSES[name])
    model, report = theirs.from_pretrained(checkpoints[name], output_loading_info=True)
    assert not any(report.values()), report
    state = {key: value.numpy() for key, value in model.state_dict().items()}
    for key, value in weights.load_tensors(checkpoints[name]).items():
        assert_same(state[key], value, name=key)


def test_float16_is_saved_as_float16(tmp_path):
    weights.save_checkpoint(tmp_path, {"w": np.array([0.1], np.float16)}, {})
    assert open_file(tmp_path / "model.safetensors")["w"].dtype == "float16"
    assert_same(weights.load_tensors(tmp_path)["w"], np.array([np.float16(0.1)], np.float32))


@pytest.mark.torch
@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_the_dtype_of_another_checkpoint_does_not_round_the_weights(tmp_path, checkpoints, key):
    tensors = weights.load_tensors(checkpoints["bare"])
    config = MobileViTConfig.from_pretrained(checkpoints["bare"]).to_dict()
    weights.save_checkpoint(tmp_path, tensors, config | {"dtype": "float16", key: "float16"})
    assert transformers.MobileViTModel.from_pretrained(tmp_path).dtype == torch.float32


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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_opens_checkpoints_while_another_thread_was_at_it(tmp_path):
    begun, done = threading.Event(), threading.Event()

    class Name(str):
        def __str__(self):
            begun.set()
            done.wait(20)
            return super().__str__()

    opening = threading.Thread(target=lambda: weights.Checkpoint(Name("model.safetensors"), tmp_path).file)
    opening.start()
    begun.wait(20)
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # ends a child that waits for ever
        os._exit(weights.open_checkpoint("digits").file.name != "model.safetensors")
    done.set()
    opening.join()
    assert os.waitpid(child, 0)[1] == 0
