"""`tinymvit attention`: where one pixel of an image looks, as a picture."""

from __future__ import annotations

import argparse
from typing import Any

from tinymvit.commands import terminal
from tinymvit.commands.options import (
    add_command,
    checkpoint_options,
    image_option,
    model_and_pixels,
    model_option,
    natural,
    picture_option,
)


def add(commands: Any) -> None:
    command = add_command(
        commands,
        "attention",
        run,
        "draw which parts of an image one of its pixels attends to",
        "tinymvit attention docs/images/digit-7.png --block 1 --query 60,70 --output attention.png",
    )
    image_option(command)
    model_option(command, "digits")
    checkpoint_options(command)
    command.add_argument(  # suppressed, so that the options say which of the two was given first
        "--block",
        type=natural,
        default=argparse.SUPPRESS,
        metavar="B",
        help="which of the three MobileViT blocks, from 0 (required)",
    )
    command.add_argument(
        "--layer",
        type=natural,
        default=argparse.SUPPRESS,
        metavar="L",
        help="which transformer layer in the block, from 0 (default: 0)",
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


def block_and_layer(options: argparse.Namespace) -> tuple[int, int]:
    """The MobileViT block and the transformer layer in it that the options name.

    Version 0.1 exchanged the two words; an option that it would have been given (`--layer`, then perhaps `--block`) is
    read as it read it, with a warning. To be removed after one release, when --block becomes required.
    """
    from tinymvit.inspection.attention_map import in_words_of_0_1

    given = {word: number for word, number in vars(options).items() if word in ("block", "layer")}  # in their order
    if not given:
        raise ValueError("--block is missing; expected the number of a MobileViT block: 0, 1 or 2")
    block, layer = given.get("block", 0), given.get("layer", 0)
    if in_words_of_0_1(list(given)):
        block, layer = layer, block
        written = " ".join(f"--{word} {number}" for word, number in given.items())
        terminal.report(
            f"warning: {written} is read as in version 0.1, which exchanged the two words: write --block {block} "
            f"--layer {layer}. From the next version on, --block is the MobileViT block and --layer the transformer "
            "layer in it, in any order"
        )
    return block, layer


def run(options: argparse.Namespace) -> int:
    from tinymvit.images.draw import check_suffix, save_picture
    from tinymvit.inspection.attention_map import attention_picture

    check_suffix(options.output)
    block, layer = block_and_layer(options)
    model, pixel_values = model_and_pixels(options)
    attention = model.attention(pixel_values, block, layer, options.head, query=options.query, progress=True)
    save_picture(attention_picture(pixel_values, attention, options.query), options.output)
    y, x = options.query
    height, width = attention.shape
    terminal.say(
        f"{options.image} -> {options.output}: pixel {y},{x} of {height} x {width} takes "
        f"{attention.min():.2%} to {attention.max():.2%} from each patch, {attention[y, x]:.2%} from its own"
    )
    return 0
