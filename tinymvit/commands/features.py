"""`tinymvit features`: a feature map's channels, as a picture."""

from __future__ import annotations

import argparse
from typing import Any

from tinymvit.commands.options import (
    add_command,
    checkpoint_options,
    image_option,
    model_and_pixels,
    model_option,
    picture_option,
)
from tinymvit.commands.terminal import say


def add(commands: Any) -> None:
    command = add_command(
        commands,
        "features",
        run,
        "draw the channels of a feature map",
        "tinymvit features docs/images/digit-7.png --node mobilevit.conv_stem --output features.png",
    )
    image_option(command)
    model_option(command, "digits")
    checkpoint_options(command)
    command.add_argument(
        "--node",
        required=True,
        metavar="NAME",
        help="a node of the graph, as `tinymvit summary` lists them, or a PyTorch module",
    )
    picture_option(command)


def run(options: argparse.Namespace) -> int:
    from tinymvit.images.draw import check_suffix, save_picture
    from tinymvit.inspection.feature_map import channels, grid
    from tinymvit.inspection.trace import Trace

    check_suffix(options.output)
    model, pixel_values = model_and_pixels(options)
    trace = Trace(model.graph(pixel_values.shape), model.weights, pixel_values, options.node, progress=True)
    if len(trace) > 1:
        raise ValueError(f"--node {options.node}: stands for {len(trace)} names; expected one")
    ((name, value),) = trace
    maps = channels(trace.graph, trace.nodes[name], value)
    save_picture(grid(maps), options.output)
    count, height, width = maps.shape
    say(
        f"{options.image} -> {options.output}: {name}, {count} channels of {height} x {width}, "
        f"black {maps.min():.4g} to white {maps.max():.4g}"
    )
    return 0
