"""`tinymvit attention`: where one pixel of an image looks, as a picture."""

from __future__ import annotations

import argparse
from typing import Any

from tinymvit.commands.options import add_command, image_option, model_and_pixels, model_option, natural, picture_option


def add(commands: Any) -> None:
    command = add_command(
        commands,
        "attention",
        run,
        "draw which parts of an image one of its pixels attends to",
        "tinymvit attention docs/images/digit-7.png --layer 1 --query 60,70 --output attention.png",
    )
    image_option(command)
    model_option(command, "digits")
    command.add_argument(
        "--layer", type=natural, required=True, metavar="L", help="which of the three MobileViT blocks, from 0"
    )
    command.add_argument(
        "--block", type=natural, default=0, metavar="B", help="which transformer layer in it (default: 0)"
    )
    command.add_argument(
        "--head", type=natural, metavar="H", help="which attention head, from 0 (default: the mean of all)"
    )
    command.add_argument(
        "--query",
        type=pixel,
        required=True,
        metavar="Y,X",
        help="the pixel that looks, row and column from the top left of the image as the model sees it: resized and "
        "cropped",
    )
    picture_option(command)


def pixel(text: str) -> tuple[int, int]:
    places = text.split(",")
    if len(places) != 2:
        raise argparse.ArgumentTypeError(f"{text!r}; expected Y,X")
    return natural(places[0]), natural(places[1])


def run(options: argparse.Namespace) -> int:
    from tinymvit.images.draw import check_suffix, save_picture
    from tinymvit.inspection.attention_map import attention_picture

    check_suffix(options.output)
    model, pixel_values = model_and_pixels(options)
    attention = model.attention(
        pixel_values, options.layer, options.block, options.head, query=options.query, progress=True
    )
    save_picture(attention_picture(pixel_values, attention, options.query), options.output)
    y, x = options.query
    height, width = attention.shape
    print(
        f"{options.image} -> {options.output}: pixel {y},{x} of {height} x {width} takes "
        f"{attention.min():.2%} to {attention.max():.2%} from each patch, {attention[y, x]:.2%} from its own"
    )
    return 0
