"""Folders of pictures: which files in them are pictures, and what is written for each of them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from tinymvit.errors import ImageError, OutputError, warn


def find_images(names: Iterable[Path]) -> list[Path]:
    """Each file, and for each folder the pictures anywhere below it, by their suffix, in order. A file that does not
    exist stays in the list: reading it reports it. A folder below that cannot be read draws a warning. Raises
    ImageError for a folder without pictures."""
    found: dict[Path, None] = {}  # in order, each once
    for name in names:
        found.update(dict.fromkeys(_pictures_in(name) if is_folder(name) else [name]))
    return list(found)


def is_folder(path: Path) -> bool:
    """Whether a folder stands at `path`; not if that cannot be known, as for a name that is too long."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises, before Python 3.14


def _pictures_in(folder: Path) -> list[Path]:
    from PIL import Image

    from tinymvit.files import files_below

    known = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}  # loads them all
    pictures = [
        path
        for path in files_below(folder, lambda line: warn(f"{line}; its pictures are left out"))
        if path.suffix.lower() in known and os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises
    ]
    if not pictures:
        raise ImageError(f"{folder}: no pictures in this folder")
    return pictures


def output_paths(images: list[Path], names: Iterable[Path], output: Path, suffix: str | None) -> dict[Path, Path]:
    """Where each image's result goes: `output` itself for one image if it has a suffix and is no folder, otherwise
    into that folder, under the image's path below the folder it was found in. `suffix` replaces each image's own.

    Raises OutputError if two results would share a file or a result would replace one of the images.
    """
    from tinymvit.files import FILE, FOLDER, what_is
    from tinymvit.images.draw import check_suffix

    single = len(images) == 1 and not any(map(is_folder, names))
    kind = what_is(output, OutputError, "written")
    if single and output.suffix and kind != FOLDER:
        if suffix and output.suffix.lower() != suffix:
            raise OutputError(f"{output}: class ids are written as PNG; expected a name that ends in {suffix}")
        check_suffix(output)
        targets = {images[0]: output}
    else:
        if kind == FILE:
            raise OutputError(f"{output}: is a file; expected a folder for the results of {len(images)} images")
        folders = [name for name in names if is_folder(name)]
        targets = {}
        for path in images:
            home = next((folder for folder in folders if path.is_relative_to(folder)), path.parent)
            relative = path.relative_to(home)
            targets[path] = output / (relative.with_suffix(suffix) if suffix else _writable_name(relative))
    taken: dict[str, Path] = {}
    sources = set(map(os.path.realpath, images))
    for path, target in targets.items():
        where = os.path.realpath(target)
        if where in taken:
            raise OutputError(f"{target}: would hold the results of both {taken[where]} and {path}")
        if where in sources:
            raise OutputError(f"{target}: is one of the images; choose another --output")
        taken[where] = path
    return targets


def _writable_name(path: Path) -> Path:
    """The path itself if its suffix names a format that can be written, else with .png."""
    from tinymvit.images.draw import SUFFIXES

    return path if path.suffix.lower() in SUFFIXES else path.with_suffix(".png")
