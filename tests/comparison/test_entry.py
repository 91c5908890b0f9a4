"""`compare`: whether our side is a model or a dump, and options that are none."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from tiny_port import STEM, model, pixels, right
from tinymvit import compare
from tinymvit.errors import DumpError


def is_compared_with_a_model(ours):
    """Only a comparison with a model tells ops."""
    return bool(compare(ours, {"pixel_values": pixels(), STEM: right()[STEM]}).rows[0].op)


def test_a_model_its_folder_and_the_file_of_its_tensors_are_models(tmp_path):
    model().save_pretrained(tmp_path)
    assert is_compared_with_a_model(model())
    assert is_compared_with_a_model(tmp_path)
    assert is_compared_with_a_model(tmp_path / "model.safetensors")


def test_arrays_files_and_folders_of_tensors_are_dumps(tmp_path):
    found = {"pixel_values": pixels(), STEM: right()[STEM]}
    assert not is_compared_with_a_model(found)
    save_file(found, tmp_path / "port.safetensors")
    assert not is_compared_with_a_model(tmp_path / "port.safetensors")
    (tmp_path / "folder").mkdir()
    for name, x in found.items():
        np.save(tmp_path / "folder" / f"{name}.npy", x)
    assert not is_compared_with_a_model(str(tmp_path / "folder"))


def test_a_dump_with_pixels_beside_a_model_is_a_dump(tmp_path):
    model().save_pretrained(tmp_path)
    save_file({"pixel_values": pixels(), STEM: right()[STEM]}, tmp_path / "port.safetensors")
    assert not is_compared_with_a_model(tmp_path / "port.safetensors")


def test_what_is_neither():
    with pytest.raises(TypeError, match="ours: a int, expected a model"):
        compare(3, right())
    with pytest.raises(DumpError, match="holds no tensors"):
        compare(model(), {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "nwhc"}, "layout 'nwhc', expected one of"),
        ({"tolerance": 0.0}, 'expected "auto" or a number above 0'),
        ({"tolerance": "tight"}, 'expected "auto" or a number above 0'),
    ],
    ids=["layout", "zero", "a word"],
)
def test_options_that_are_none(options, message):
    with pytest.raises(DumpError, match=message):
        compare(model(), right(), **options)
