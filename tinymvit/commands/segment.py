"""`tinymvit segment`: name what each pixel shows, as a picture."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tinymvit.commands import options as shared
from tinymvit.errors import OutputError

MASK_SUFFIX = ".png"


def add(commands: Any) -> None:
    command = shared.command(
        commands,
        "segment",
        run,
        "name what each pixel shows",
        "tinymvit segment street.jpg --output street-classes.png",
    )
    shared.images_option(command)
    shared.model_option(command, "digits-seg")
    shared.threads_option(command)
    command.add_argument(
        "--output",
        type=shared.output,
        required=True,
        metavar="FILE|FOLDER",
        help="the picture to write; for several images or a folder, the folder to write into",
    )
    command.add_argument(
        "--mask", action="store_true", help="write the raw class ids as PNG instead of the overlay with its legend"
    )
    command.add_argument("--json", action="store_true", help="print one JSON object a line for each image")


def run(options: argparse.Namespace) -> int:
    images = shared.find_images(options.images)
    targets = output_paths(images, options.images, options.output, MASK_SUFFIX if options.mask else None)
    from tinymvit.images.load import load_image
    from tinymvit.images.draw import class_ids, overlay, save_picture
    from tinymvit.pipeline import ImageSegmentationPipeline

    shared.set_threads(options)
    pipeline = ImageSegmentationPipeline(options.model)
    shared.warm_up()

    def work(path: Path) -> Any:
        result = pipeline(path)
        picture = class_ids(result.mask) if options.mask else overlay(load_image(path), result.mask, result.labels)
        save_picture(picture, targets[path])
        return result

    failures = 0
    for path, result in shared.each(images, work):
        if isinstance(result, Exception):
            failures += 1
            if options.json:
                print(json.dumps({"file": str(path), "error": str(result)}))
            continue
        classes = [{"id": label, "label": name, "share": result.shares[label]} for label, name in result.labels.items()]
        classes.sort(key=lambda found: -found["share"])
        if options.json:
            print(json.dumps({"file": str(path), "output": str(targets[path]), "classes": classes}))
        else:
            found = ", ".join(f"{c['label']} {c['share']:.1%}" for c in classes)
            print(f"{path} -> {targets[path]}: {found}")
    return 2 if failures else 0


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
