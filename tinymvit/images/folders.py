"""Folders of pictures: which files in them are pictures, and what is written for each of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tinymvit.errors import ImageError, OutputError


def find_images(names: Iterable[Path]) -> list[Path]:
    """Each file, and for each folder the pictures anywhere below it, by their suffix, in order. A file that does not
    exist stays in the list: reading it reports it. Raises ImageError for a folder without pictures."""
    found: dict[Path, None] = {}  # in order, each once
    for name in names:
        found.update(dict.fromkeys(_pictures_in(name) if name.is_dir() else [name]))
    return list(found)


def _pictures_in(folder: Path) -> list[Path]:
    from PIL import Image

    known = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}  # loads them all
    pictures = sorted(path for path in folder.rglob("*") if path.suffix.lower() in known and path.is_file())
    if not pictures:
        raise ImageError(f"{folder}: no pictures in this folder")
    return pictures


def output_paths(images: list[Path], names: Iterable[Path], output: Path, suffix: str | None) -> dict[Path, Path]:
    """Where each image's result goes: `output` itself for one image if it has a suffix and is no folder, otherwise
    into that folder, under the image's path below the folder it was found in. `suffix` replaces each image's own.

    Raises OutputError if two results would share a file or a result would replace one of the images.
    """
    from tinymvit.images.draw import check_suffix

    single = len(images) == 1 and not any(name.is_dir() for name in names)
    if single and output.suffix and not output.is_dir():
        if suffix and output.suffix.lower() != suffix:
            raise OutputError(f"{output}: class ids are written as PNG; expected a name that ends in {suffix}")
        check_suffix(output)
        targets = {images[0]: output}
    else:
        if output.is_file():
            raise OutputError(f"{output}: is a file; expected a folder for the results of {len(images)} images")
        folders = [name for name in names if name.is_dir()]
        targets = {}
        for path in images:
            home = next((folder for folder in folders if path.is_relative_to(folder)), path.parent)
            relative = path.relative_to(home)
            targets[path] = output / (relative.with_suffix(suffix) if suffix else _writable_name(relative))
    taken: dict[Path, Path] = {}
    sources = {path.resolve() for path in images}
    for path, target in targets.items():
        where = target.resolve()
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
