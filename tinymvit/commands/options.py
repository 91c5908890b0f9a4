"""What the commands say alike: common options, finding images, progress, errors on the way."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tinymvit.errors import ImageError
from tinymvit.text import printable

Result = TypeVar("Result")
MODEL_HELP = "a bundled name, a folder, a .safetensors file or a hub id such as apple/mobilevit-small"


# ---- options ----


def command(commands: Any, name: str, run: Callable[[argparse.Namespace], int], does: str, example: str) -> Any:
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


def model_or_shape_option(command: Any, default: str = "digits") -> None:
    which = command.add_mutually_exclusive_group()
    which.add_argument("model", nargs="?", metavar="MODEL", help=f"{MODEL_HELP} (default: {default})")
    which.add_argument(
        "--shape", metavar="SHAPE", help="a published shape: small, x-small, xx-small, or deeplabv3- and one of these"
    )


def size_option(command: Any) -> None:
    command.add_argument("--size", type=size, metavar="N|HxW", help="input size (default: the configuration's)")


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
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r}: is a folder; expected a file")
    return path


def output(text: str) -> Path:
    """The name of a file or folder that can be written. Folders that are missing will be made."""
    path = Path(text).absolute()
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # a pipe, a device
            raise argparse.ArgumentTypeError(f"{text!r}: is no regular file; expected one, or nothing there")
        above = path.parents if path.is_file() else (path, *path.parents)
        folder = next(folder for folder in above if folder.exists())
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: cannot be written: {error.strerror}") from None
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r}: {folder} is a file; expected a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"{text!r}: the folder {folder} cannot be written")
    return Path(text)


# ---- work ----


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


def each(paths: list[Path], work: Callable[[Path], Result]) -> Iterator[tuple[Path, Result | Exception]]:
    """Each path with work(path), or with the error if it cannot be used, which is also reported on stderr. Many paths
    show a progress bar if stderr is a terminal."""
    from tqdm import tqdm

    with tqdm(paths, unit="image", disable=None if len(paths) > 2 else True, leave=False) as bar:
        for path in bar:
            result: Result | Exception
            try:
                result = work(path)
            except (ValueError, TypeError) as error:
                result = error
                bar.clear()
                report(error)
            else:
                bar.clear()
            yield path, result


def report(error: object) -> None:
    """The one line on stderr that says what is wrong."""
    print(f"tinymvit: {printable(str(error))}", file=sys.stderr)


def model_and_pixels(options: argparse.Namespace) -> tuple[Any, Any]:
    """The model that `options` name, and their image as its processor prepares it: (1, C, H, W)."""
    from tinymvit.images.processor import MobileViTImageProcessor
    from tinymvit.modeling import check_pixel_values, load_model

    model = load_model(options.model)
    pixel_values = MobileViTImageProcessor.from_pretrained(options.model)(options.image).pixel_values
    return model, check_pixel_values(pixel_values, model.config.num_channels)


def set_threads(options: argparse.Namespace) -> None:
    if options.threads is not None:
        from tinymvit.kernels import set_num_threads

        set_num_threads(options.threads)


def warm_up() -> None:
    """Compile the kernels if this is the first run, and say so: a line, and a bar if stderr is a terminal."""
    from tinymvit import kernels

    if not kernels.is_cached():
        once = "first run here: compiling the kernels, once"
        each_time = (
            "compiling the kernels, as each time: no folder to keep them in can be written (see tinymvit warmup)"
        )
        print("tinymvit:", each_time if kernels.cache_folder() is None else once, file=sys.stderr)
        compile_kernels()


def compile_kernels() -> None:
    """Compile or load all kernels, with a bar if stderr is a terminal."""
    from tqdm import tqdm

    from tinymvit import kernels

    with tqdm(unit="kernel", disable=None, leave=False) as bar:
        for number, count, name in kernels.warm_up():
            bar.total, bar.n = count, number - 1
            bar.set_description(name)
