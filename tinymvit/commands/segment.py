"""`tinymvit segment`: name what each pixel shows, as a picture."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tinymvit.commands import progress
from tinymvit.commands.options import (
    add_command,
    checkpoint_options,
    images_option,
    model_option,
    named_checkpoint,
    output,
    set_threads,
    threads_option,
)
from tinymvit.commands.terminal import say, say_json
from tinymvit.images.folders import find_images, output_paths
from tinymvit.text import one_line

MASK_SUFFIX = ".png"


def add(commands: Any) -> None:
    command = add_command(
        commands,
        "segment",
        run,
        "name what each pixel shows",
        "tinymvit segment street.jpg --output street-classes.png",
    )
    images_option(command)
    model_option(command, "digits-seg")
    checkpoint_options(command)
    threads_option(command)
    command.add_argument(
        "--output",
        type=output,
        required=True,
        metavar="FILE|FOLDER",
        help="the picture to write; for several images or a folder, the folder to write into",
    )
    command.add_argument(
        "--mask", action="store_true", help="write the raw class ids as PNG instead of the overlay with its legend"
    )
    command.add_argument("--json", action="store_true", help="print one JSON object a line for each image")


def run(options: argparse.Namespace) -> int:
    images = find_images(options.images)
    targets = output_paths(images, options.images, options.output, MASK_SUFFIX if options.mask else None)
    from tinymvit.images.draw import class_ids, overlay, save_picture
    from tinymvit.images.load import load_image
    from tinymvit.pipeline import ImageSegmentationPipeline

    set_threads(options)
    pipeline = ImageSegmentationPipeline(named_checkpoint(options))
    progress.warm_up()

    def work(path: Path) -> Any:
        result = pipeline(path)
        picture = class_ids(result.mask) if options.mask else overlay(load_image(path), result.mask, result.labels)
        save_picture(picture, targets[path])
        return result

    failures = 0
    for path, result in progress.each(images, work):
        if isinstance(result, Exception):
            failures += 1
            if options.json:
                say_json({"file": str(path), "error": str(result)})
            continue
        classes = [{"id": label, "label": name, "share": result.shares[label]} for label, name in result.labels.items()]
        classes.sort(key=lambda found: -found["share"])
        if options.json:
            say_json({"file": str(path), "output": str(targets[path]), "classes": classes})
        else:
            found = ", ".join(f"{one_line(c['label'])} {c['share']:.1%}" for c in classes)
            say(f"{path} -> {targets[path]}: {found}")
    return 2 if failures else 0
