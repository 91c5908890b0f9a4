"""`tinymvit error`: what rounding costs, node by node, in float32 and in shorter formats."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tinymvit.commands import progress
from tinymvit.commands.options import (
    MODEL_HELP,
    add_command,
    calibrate_option,
    output_file,
    set_threads,
    threads_option,
)
from tinymvit.commands.terminal import say, say_text
from tinymvit.errors import OutputError, TinyMViTError


def add(commands: Any) -> None:
    command = add_command(
        commands,
        "error",
        run,
        "measure what rounding costs at each node, in float32, float16 and bfloat16, or in int8",
        "tinymvit error digits docs/images/digit-7.png --plot error.png",
    )
    command.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    command.add_argument("image", nargs="?", type=Path, metavar="IMAGE", help="an image file (default: noise)")
    command.add_argument(
        "--precision", choices=("int8",), help="measure int8 instead, and what to leave in float (default: the others)"
    )
    calibrate_option(command, "the image itself")
    command.add_argument("--plot", type=output_file, metavar="FILE", help="draw the errors: .png, .svg or .pdf")
    threads_option(command)
    command.add_argument("--json", type=output_file, metavar="FILE", help="write every number to this file")


def run(options: argparse.Namespace) -> int:
    from tinymvit.error_budget.report import check_plot, save_plot, to_text
    from tinymvit.files import json_writer, write_files
    from tinymvit.modeling import load_model
    from tinymvit.weights import open_checkpoint

    if options.precision and options.plot:
        raise OutputError("--plot: with --precision int8, expected --json, which holds every number")
    if not options.precision and (options.calibrate or options.keep_float):
        raise TinyMViTError("--calibrate and --keep-float: expected --precision int8 with them")
    if options.plot:
        check_plot(options.plot)
    set_threads(options)
    checkpoint = open_checkpoint(options.model)
    model = load_model(checkpoint)
    pixel_values = read_pixels(options.image, checkpoint, model)
    progress.warm_up()
    budget = measure(options, checkpoint, model, pixel_values)
    say_text(to_text(budget))
    if options.json:
        facts = {"model": options.model, "image": str(options.image) if options.image else None}
        write_files(options.json.parent, {options.json.name: json_writer(facts | budget.to_dict())})
    if options.plot:
        save_plot(budget, options.plot)
    return 0


def measure(options: argparse.Namespace, checkpoint: Any, model: Any, pixel_values: Any) -> Any:
    """The budget of the formats that are asked for."""
    from tinymvit.error_budget import int8_errors, rounding_errors

    if not options.precision:
        return rounding_errors(model, pixel_values)
    if options.calibrate:
        from tinymvit.quantisation import ranges_of

        ranges = ranges_of(options.calibrate, checkpoint, size=pixel_values.shape[2:])
        return int8_errors(model, pixel_values, ranges, options.keep_float)
    budget = int8_errors(model, pixel_values, keep_float=options.keep_float)
    say("calibrated on the image itself; pictures like those that the model will see tell more: --calibrate")
    return budget


def read_pixels(image: Path | None, checkpoint: Any, model: Any) -> Any:
    """The image as the checkpoint's processor prepares it; without one, the noise of the test vectors."""
    if image:
        from tinymvit.images.processor import MobileViTImageProcessor

        return MobileViTImageProcessor.from_pretrained(checkpoint)(image).pixel_values
    from tinymvit.vectors import noise

    return noise((1, model.config.num_channels, *model.config.image_shape))
