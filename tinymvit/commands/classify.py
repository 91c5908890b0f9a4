"""`tinymvit classify`: name what images show."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from tinymvit.commands import progress
from tinymvit.commands.options import (
    add_command,
    checkpoint_options,
    images_option,
    model_option,
    named_checkpoint,
    positive,
    set_threads,
    threads_option,
)
from tinymvit.commands.terminal import say, say_json
from tinymvit.images.folders import find_images
from tinymvit.text import align

BAR_WIDTH = 24


def add(commands: Any) -> None:
    command = add_command(commands, "classify", run, "name what an image shows", "tinymvit classify cat.jpg --top-k 3")
    images_option(command)
    model_option(command, "digits")
    checkpoint_options(command)
    threads_option(command)
    command.add_argument("--top-k", type=positive, default=5, metavar="K", help="how many labels to print (default: 5)")
    command.add_argument("--json", action="store_true", help="print one JSON object a line for each image")


def run(options: argparse.Namespace) -> int:
    images = find_images(options.images)
    from tinymvit.pipeline import ImageClassificationPipeline

    set_threads(options)
    pipeline = ImageClassificationPipeline(named_checkpoint(options))
    progress.warm_up()
    failures = 0
    for path, predictions in progress.each(images, lambda path: pipeline(path, top_k=options.top_k)):
        if isinstance(predictions, Exception):
            failures += 1
            if options.json:
                say_json({"file": str(path), "error": str(predictions)})
        elif options.json:
            say_json({"file": str(path), "predictions": predictions})
        else:
            if len(images) > 1:
                say(f"{path}:")
            print_bars(predictions)
    return 2 if failures else 0


def print_bars(predictions: list[dict[str, Any]]) -> None:
    """One line a label: name, probability, bar."""
    full, empty = ("█", "·") if _can_print("█·") else ("#", ".")
    rows = []
    for p in predictions:
        filled = round(p["score"] * BAR_WIDTH)
        rows.append((p["label"], f"{p['score']:7.2%}", full * filled + empty * (BAR_WIDTH - filled)))
    say(*align(rows, left=(0, 2)))


def _can_print(text: str) -> bool:
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "ascii")  # a closed one is None
    except UnicodeEncodeError:
        return False
    return True
