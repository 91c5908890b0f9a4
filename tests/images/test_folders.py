"""Folders of pictures: what is found in them, and where the results go, whatever lies there."""

import os
import shutil

import pytest

from checkpoints import complaint
from command_line import DIGIT
from tinymvit.errors import ImageError, OutputError
from tinymvit.images.folders import find_images, output_paths


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    for name in ("b.png", "sub/a.PNG", "text.txt"):
        shutil.copy(DIGIT, folder / name)
    return folder


def test_pictures_are_found_by_their_suffix_anywhere_below(pictures):
    (pictures / "link.jpg").symlink_to(DIGIT)
    (pictures / "folder.png").mkdir()
    (pictures / "above").symlink_to("..")  # is not looked into
    names = ["b.png", "link.jpg", "sub/a.PNG"]
    assert find_images([pictures, pictures / "b.png"]) == [pictures / name for name in names]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes among the files of this system")
def test_what_is_no_file_is_no_picture(pictures):
    os.mkfifo(pictures / "pipe.png")
    (pictures / "zero.png").symlink_to("/dev/zero")
    (pictures / "loop.png").symlink_to("loop.png")
    (pictures / "dangling.png").symlink_to("nothing")
    assert find_images([pictures]) == [pictures / "b.png", pictures / "sub" / "a.PNG"]


def test_a_folder_that_cannot_be_read_costs_its_own_pictures(pictures, monkeypatch):
    scandir = os.scandir

    def refuse(folder):
        if folder == pictures / "sub":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.warns(UserWarning, match=r"sub: cannot be read: Permission denied; its pictures are left out"):
        assert find_images([pictures]) == [pictures / "b.png"]


def test_what_may_be_no_name_stays_in_the_list(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    names = [tmp_path / (500 * "x"), tmp_path / "loop", tmp_path / "a\0b", tmp_path / "none"]
    assert find_images(names) == names
    with complaint(ImageError, f"{tmp_path}: no pictures in this folder"):
        find_images([tmp_path])


def test_outputs_that_cannot_be(tmp_path):
    loop = tmp_path / "loop.png"
    loop.symlink_to("loop.png")
    with complaint(OutputError, "x: cannot be written: File name too long"):
        output_paths([loop], [loop], tmp_path / (500 * "x"), None)
    with complaint(OutputError, "loop.png: cannot be written: Too many levels of symbolic links"):
        output_paths([loop], [loop], loop, None)
    assert output_paths([loop], [loop], tmp_path / "new.png", None) == {loop: tmp_path / "new.png"}
