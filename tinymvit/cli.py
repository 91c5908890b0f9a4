"""The command line: `tinymvit classify | segment | summary | models`.

Exit codes: 0; 2 for bad use or bad input, with one line on stderr; 130 after Ctrl-C. What takes long to import is
imported by the command that needs it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tinymvit.errors import ImageError, OutputError
from tinymvit.version import __version__

Result = TypeVar("Result")
BAR_WIDTH = 24
MASK_SUFFIX = ".png"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (by default the process's own) name, and return the exit code."""
    options = build_parser().parse_args(arguments)
    warnings.showwarning = lambda message, *_: print(f"tinymvit: warning: {message}", file=sys.stderr)
    try:
        return options.run(options)
    except BrokenPipeError:  # the reader of our output, `head` perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("tinymvit: interrupted", file=sys.stderr)
        return 130
    except (ValueError, TypeError) as error:
        return fail(error)


def fail(error: object) -> int:
    print(f"tinymvit: {error}", file=sys.stderr)
    return 2


# ---- the commands ----


def classify(options: argparse.Namespace) -> int:
    images = find_images(options.images)
    from tinymvit.pipeline import ImageClassificationPipeline

    set_threads(options)
    pipeline = ImageClassificationPipeline(options.model)
    warm_up()
    failures = 0
    for path, predictions in each(images, lambda path: pipeline(path, top_k=options.top_k)):
        if isinstance(predictions, Exception):
            failures += 1
            if options.json:
                print(json.dumps({"file": str(path), "error": str(predictions)}))
        elif options.json:
            print(json.dumps({"file": str(path), "predictions": predictions}))
        else:
            if len(images) > 1:
                print(f"{path}:")
            print_bars(predictions)
    return 2 if failures else 0


def segment(options: argparse.Namespace) -> int:
    images = find_images(options.images)
    targets = output_paths(images, options.images, options.output, MASK_SUFFIX if options.mask else None)
    from tinymvit.image import load_image
    from tinymvit.picture import class_ids, overlay, save_picture
    from tinymvit.pipeline import ImageSegmentationPipeline

    set_threads(options)
    pipeline = ImageSegmentationPipeline(options.model)
    warm_up()

    def work(path: Path) -> Any:
        result = pipeline(path)
        target = targets[path]
        make_folder(target.parent)
        picture = class_ids(result.mask) if options.mask else overlay(load_image(path), result.mask, result.labels)
        save_picture(picture, target)
        return result

    failures = 0
    for path, result in each(images, work):
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


def summary(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from tinymvit import model
    from tinymvit.config import MobileViTConfig
    from tinymvit.summary import format_table, rows, totals

    if options.shape:
        config, segmenter = MobileViTConfig.preset(options.shape), options.shape.startswith("deeplabv3")
    else:
        config = MobileViTConfig.from_pretrained(options.model or "digits")
        segmenter = any("Segmentation" in str(name) for name in config.extra.get("architectures") or [])
    height, width = options.size or config.image_shape
    record = model.semantic_segmentation if segmenter else model.image_classification
    graph = record(config, (1, config.num_channels, height, width)).select(["logits"])
    if options.json:
        print(json.dumps(totals(graph) | {"layers": [asdict(row) for row in rows(graph)]}))
    else:
        print(format_table(graph))
    return 0


def models(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from tinymvit.weights import catalog

    entries = catalog()
    if options.json:
        print(json.dumps([asdict(entry) for entry in entries]))
        return 0
    lines = [("name", "task", "labels", "input", "parameters", "file", "licence")]
    lines += [
        (
            entry.name,
            entry.task,
            str(entry.num_labels),
            f"{entry.image_size} x {entry.image_size}",
            f"{entry.num_parameters / 1e6:.2f} M",
            f"{entry.num_bytes / 1e6:.1f} MB",
            entry.licence,
        )
        for entry in entries
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    return 0


# ---- what the commands share ----


def find_images(names: Iterable[Path]) -> list[Path]:
    """Each file, and for each folder the pictures anywhere below it, by their suffix, in order. A file that does not
    exist stays in the list: reading it reports it. Raises ImageError for a folder without pictures."""
    from PIL import Image

    known = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    found: dict[Path, None] = {}  # in order, each once
    for name in names:
        if name.is_dir():
            pictures = sorted(path for path in name.rglob("*") if path.suffix.lower() in known and path.is_file())
            if not pictures:
                raise ImageError(f"{name}: no pictures in this folder")
            found.update(dict.fromkeys(pictures))
        else:
            found[name] = None
    return list(found)


def output_paths(images: list[Path], names: Iterable[Path], output: Path, suffix: str | None) -> dict[Path, Path]:
    """Where each image's result goes: `output` itself for one image if it has a suffix and is no folder, otherwise
    into that folder, under the image's path below the folder it was found in. `suffix` replaces each image's own.

    Raises OutputError if two results would share a file or a result would replace one of the images.
    """
    from tinymvit.picture import check_suffix

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
    from tinymvit.picture import SUFFIXES

    return path if path.suffix.lower() in SUFFIXES else path.with_suffix(".png")


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot make this folder: {error.strerror}") from None


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
                fail(error)
            else:
                bar.clear()
            yield path, result


def print_bars(predictions: list[dict[str, Any]]) -> None:
    """One line a label: name, probability, bar."""
    full, empty = ("█", "·") if _can_print("█·") else ("#", ".")
    width = max(len(p["label"]) for p in predictions)
    for p in predictions:
        filled = round(p["score"] * BAR_WIDTH)
        print(f"{p['label']:<{width}}  {p['score']:7.2%}  {full * filled}{empty * (BAR_WIDTH - filled)}")


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def set_threads(options: argparse.Namespace) -> None:
    if options.threads is not None:
        from tinymvit.kernels import set_num_threads

        set_num_threads(options.threads)


def warm_up() -> None:
    """Compile the kernels if this is the first run, and say so: a line, and a bar if stderr is a terminal."""
    from tqdm import tqdm

    from tinymvit import kernels

    if kernels.is_cached():
        return
    print("tinymvit: first run here: compiling the kernels, once", file=sys.stderr)
    with tqdm(unit="kernel", disable=None, leave=False) as bar:
        for number, count, name in kernels.warm_up():
            bar.total, bar.n = count, number - 1
            bar.set_description(name)


# ---- the options ----


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tinymvit",
        description="MobileViT on NumPy and Numba: classify and segment images without a framework.",
        epilog="example: tinymvit classify docs/images/digit-7.png",
    )
    parser.add_argument("--version", action="version", version=f"tinymvit {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    command = _command(commands, classify, "name what an image shows", "tinymvit classify cat.jpg --top-k 3")
    _image_options(command, "digits")
    command.add_argument(
        "--top-k", type=_positive, default=5, metavar="K", help="how many labels to print (default: 5)"
    )
    command.add_argument("--json", action="store_true", help="print one JSON object a line for each image")

    command = _command(
        commands, segment, "name what each pixel shows", "tinymvit segment street.jpg --output street-classes.png"
    )
    _image_options(command, "digits-seg")
    command.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FILE|FOLDER",
        help="the picture to write; for several images or a folder, the folder to write into",
    )
    command.add_argument(
        "--mask", action="store_true", help="write the raw class ids as PNG instead of the overlay with its legend"
    )
    command.add_argument("--json", action="store_true", help="print one JSON object a line for each image")

    command = _command(
        commands, summary, "print the table of a network's layers", "tinymvit summary --shape deeplabv3-small"
    )
    which = command.add_mutually_exclusive_group()
    which.add_argument("model", nargs="?", metavar="MODEL", help=f"{MODEL_HELP} (default: digits)")
    which.add_argument(
        "--shape", metavar="SHAPE", help="a published shape: small, x-small, xx-small, or deeplabv3- and one of these"
    )
    command.add_argument("--size", type=_size, metavar="N|HxW", help="input size (default: the configuration's)")
    command.add_argument("--json", action="store_true", help="print one JSON object")

    command = _command(commands, models, "list the bundled and the published checkpoints", "tinymvit models")
    command.add_argument("--json", action="store_true", help="print a JSON list")
    return parser


MODEL_HELP = "a bundled name, a folder, a .safetensors file or a hub id such as apple/mobilevit-small"


def _command(commands: Any, run: Callable[[argparse.Namespace], int], does: str, example: str) -> Any:
    command = commands.add_parser(
        run.__name__, help=does, description=does[0].upper() + does[1:] + ".", epilog=f"example: {example}"
    )
    command.set_defaults(run=run)
    return command


def _image_options(command: Any, default: str) -> None:
    command.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image files, or folders of them")
    command.add_argument("--model", default=default, metavar="M", help=f"{MODEL_HELP} (default: {default})")
    command.add_argument(
        "--threads", type=_positive, metavar="N", help="threads to compute with (default: the physical cores)"
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number of at least 1")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    sides = [_positive(side) for side in text.lower().split("x")]
    if len(sides) > 2:
        raise argparse.ArgumentTypeError(f"{text!r}; expected N or HxW")
    return sides[0], sides[-1]


if __name__ == "__main__":
    sys.exit(main())
