"""The options that commands share: declared once, checked when they are parsed, turned into models and pixels."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tinymvit.errors import OutputError
from tinymvit.images.folders import is_folder

Result = TypeVar("Result")
MODEL_HELP = "a bundled name, a folder, a weights file or a hub id such as apple/mobilevit-small"


# ---- options ----


def add_command(commands: Any, name: str, run: Callable[[argparse.Namespace], int], does: str, example: str) -> Any:
    """Declare a command: `does` says what, in a line; `example` ends its help."""
    parser = commands.add_parser(
        name, help=does, description=does[0].upper() + does[1:] + ".", epilog=f"example: {example}"
    )
    parser.set_defaults(run=run)
    return parser


def images_option(command: Any) -> None:
    command.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image files, or folders of them")


def image_option(command: Any) -> None:
    command.add_argument("image", type=Path, metavar="IMAGE", help="an image file")


def picture_option(command: Any) -> None:
    command.add_argument(
        "--output", type=output_file, required=True, metavar="FILE", help="the picture to write, PNG or another format"
    )


def model_option(command: Any, default: str) -> None:
    command.add_argument("--model", default=default, metavar="M", help=f"{MODEL_HELP} (default: {default})")


def checkpoint_options(command: Any) -> None:
    """What the user may say of a checkpoint, in place of what lies beside its weights."""
    labels_option(command)
    order_option(command)
    command.add_argument(
        "--size", type=positive, metavar="N", help="the side of its input; pictures are resized in proportion to it"
    )


def labels_option(command: Any) -> None:
    command.add_argument(
        "--labels",
        metavar="FILE",
        help="the names of its classes, one a line, or a JSON file with id2label or label2id",
    )


def order_option(command: Any) -> None:
    command.add_argument(
        "--channel-order", type=str.upper, choices=("RGB", "BGR"), help="of the pixels that its weights expect"
    )


def model_or_shape_option(command: Any, default: str = "digits") -> None:
    which = command.add_mutually_exclusive_group()
    which.add_argument("model", nargs="?", metavar="MODEL", help=f"{MODEL_HELP} (default: {default})")
    which.add_argument(
        "--shape", metavar="SHAPE", help="a published shape: small, x-small, xx-small, or deeplabv3- and one of these"
    )


def size_option(command: Any) -> None:
    command.add_argument("--size", type=size, metavar="N|HxW", help="input size (default: the configuration's)")


def calibrate_option(command: Any, default: str) -> None:
    """What int8 is calibrated on, and what stays in float."""
    command.add_argument(
        "--calibrate",
        metavar="PATH",
        help="for int8: a folder of pictures, a picture, or ranges that were found before, a .json file "
        f"(default: {default})",
    )
    command.add_argument(
        "--keep-float",
        nargs="+",
        default=[],
        metavar="NODE",
        help="nodes, modules or patterns of them that stay in float",
    )


def threads_option(command: Any) -> None:
    command.add_argument(
        "--threads", type=positive, metavar="N", help="threads of the engine (default: the physical cores)"
    )


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number of at least 1")
    return int(text)


def natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number, 0 or more")
    return int(text)


def size(text: str) -> tuple[int, int]:
    sides = [positive(side) for side in text.lower().split("x")]
    if len(sides) > 2:
        raise argparse.ArgumentTypeError(f"{text!r}; expected N or HxW")
    return sides[0], sides[-1]


def output_file(text: str) -> Path:
    """The name of a file that can be written, as far as can be known before the work."""
    path = output(text)
    if is_folder(path):
        raise argparse.ArgumentTypeError(f"{text!r}: is a folder; expected a file")
    return path


def output_folder(text: str) -> Path:
    """The name of a folder that can be written, as far as can be known before the work."""
    path = output(text)
    if path.exists() and not is_folder(path):
        raise argparse.ArgumentTypeError(f"{text!r}: is a file; expected a folder")
    return path


def output(text: str) -> Path:
    """The name of a file or folder that can be written. Folders that are missing will be made."""
    from tinymvit.files import FILE, FOLDER, reason, what_is

    try:
        path = Path(text).absolute()  # fails where the current folder is no more
        kind = what_is(Path(text), OutputError, "written")
        if kind not in (None, FILE, FOLDER):
            raise argparse.ArgumentTypeError(f"{text!r}: is {kind}; expected a file, or nothing there")
        above = path.parents if kind == FILE else (path, *path.parents)
        folder = next(folder for folder in above if what_is(folder, OutputError, "written"))
    except OutputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: cannot be written: {reason(error)}") from None
    if not is_folder(folder):
        raise argparse.ArgumentTypeError(f"{text!r}: {folder} is a file; expected a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"{text!r}: the folder {folder} cannot be written")
    return Path(text)


# ---- what they name ----


def named_checkpoint(options: argparse.Namespace) -> Any:
    """The checkpoint that `options` name, with what they say of it."""
    from tinymvit.weights import open_checkpoint

    return open_checkpoint(options.model, labels=options.labels, channel_order=options.channel_order, size=options.size)


def model_and_pixels(options: argparse.Namespace) -> tuple[Any, Any]:
    """The model that `options` name, and their image as its processor prepares it: (1, C, H, W)."""
    from tinymvit.images.processor import MobileViTImageProcessor
    from tinymvit.modeling import check_pixel_values, load_model

    checkpoint = named_checkpoint(options)
    model = load_model(checkpoint)
    pixel_values = MobileViTImageProcessor.from_pretrained(checkpoint)(options.image).pixel_values
    return model, check_pixel_values(pixel_values, model.config.num_channels)


def set_threads(options: argparse.Namespace) -> None:
    if options.threads is not None:
        from tinymvit.kernels import set_num_threads

        set_num_threads(options.threads)
