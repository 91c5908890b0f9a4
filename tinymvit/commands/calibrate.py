"""`tinymvit calibrate`: the ranges of a network's values over pictures, for int8."""

from __future__ import annotations

import argparse
from typing import Any

from tinymvit.commands import progress
from tinymvit.commands.options import (
    MODEL_HELP,
    add_command,
    images_option,
    labels_option,
    order_option,
    output_file,
    size_option,
)
from tinymvit.commands.terminal import say
from tinymvit.errors import OutputError

METHODS = ("min-max", "percentile")


def add(commands: Any) -> None:
    command = add_command(
        commands,
        "calibrate",
        run,
        "find the ranges of a network's values over pictures, for int8",
        "tinymvit calibrate digits photos/ --output ranges.json --method percentile",
    )
    command.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    images_option(command)
    command.add_argument("--output", type=output_file, required=True, metavar="FILE", help="the ranges to write, .json")
    command.add_argument(
        "--method",
        choices=METHODS,
        default="min-max",
        help="all that is seen, or without a few numbers at each end (default: %(default)s)",
    )
    command.add_argument(
        "--percentile",
        type=float,
        default=99.99,
        metavar="P",
        help="of the numbers, in percent, below the upper end and above the lower one (default: %(default)s)",
    )
    size_option(command)
    labels_option(command)
    order_option(command)


def run(options: argparse.Namespace) -> int:
    from tinymvit.quantisation import calibrate
    from tinymvit.weights import open_checkpoint

    if options.output.suffix.lower() != ".json":
        raise OutputError(f"{options.output}: the suffix {options.output.suffix!r}, expected .json")
    checkpoint = open_checkpoint(options.model, labels=options.labels, channel_order=options.channel_order)
    progress.warm_up()
    ranges = calibrate(
        checkpoint, options.images, method=options.method, percentile=options.percentile, size=options.size
    )
    ranges.save(options.output)
    count = len(ranges.ranges)
    say(f"{options.output}: the ranges of {count} nodes over {ranges.images} pictures, by {ranges.method}")
    return 0
