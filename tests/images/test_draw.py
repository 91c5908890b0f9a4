"""The overlay, its legend, and files that stay whole when writing fails."""

import errno

import numpy as np
import pytest
from PIL import Image

from oracle import opened
from tinymvit.errors import OutputError
from tinymvit.images.draw import OPACITY, class_ids, overlay, save_picture
from tinymvit.labels import voc_palette


def test_the_overlay_colours_classes_and_leaves_the_background():
    image = np.full((3, 40, 60), 100, np.uint8)
    mask = np.zeros((40, 60), np.int64)
    mask[10:20, 10:30] = 2
    picture = np.asarray(overlay(image, mask, {0: "background", 2: "bicycle"}))
    assert picture.shape[0] > 40  # the legend below
    assert picture.shape[1] == 60
    assert picture[0, 0].tolist() == [100, 100, 100]
    expected = 100 + (voc_palette()[2].astype(float) - 100) * OPACITY
    assert picture[15, 15].tolist() == expected.round().tolist()
    legend = picture[40:].reshape(-1, 3)
    assert (legend == voc_palette()[2]).all(1).sum() >= 12 * 12  # the swatch
    assert (legend.sum(1) < 100).any()  # the name, in black


def test_a_mask_of_background_alone_has_no_legend():
    image = np.zeros((3, 8, 9), np.uint8)
    assert overlay(image, np.zeros((8, 9), np.int64), {0: "background"}).size == (9, 8)


def test_many_names_wrap_onto_more_rows():
    image, mask = np.zeros((3, 50, 100), np.uint8), np.ones((50, 100), np.int64)
    few = overlay(image, mask, {1: "one"}).height
    many = overlay(image, mask, {i: f"a rather long name {i}" for i in range(1, 6)}).height
    assert many > few + 3 * 12


def test_class_ids_are_the_pixel_values():
    mask = np.arange(12).reshape(3, 4)
    assert np.asarray(class_ids(mask)).tolist() == mask.tolist()
    assert class_ids(mask).mode == "L"
    assert np.asarray(class_ids(mask + 300)).tolist() == (mask + 300).tolist()


def test_an_unknown_suffix_is_one_clear_line(tmp_path):
    with pytest.raises(OutputError, match=r"out\.xyz: the suffix '\.xyz' names no picture format; expected \.png"):
        save_picture(Image.new("RGB", (2, 2)), tmp_path / "out.xyz")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "out.png"
    save_picture(Image.new("RGB", (2, 2), "red"), path)

    def full(self, target, *args, **options):
        target.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OutputError, match=r"out\.png: cannot be written: No space left on device"):
        save_picture(Image.new("RGB", (2, 2), "blue"), path)
    assert list(tmp_path.iterdir()) == [path]
    assert opened(path).getpixel((0, 0)) == (255, 0, 0)
