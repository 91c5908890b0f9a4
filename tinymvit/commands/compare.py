"""`tinymvit compare`: which tensor of a port's dump is the first to be wrong, and why."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tinymvit.commands.options import add_command, output_file
from tinymvit.commands.terminal import say_text


def add(commands: Any) -> None:
    command = add_command(
        commands,
        "compare",
        run,
        "name the first wrong operation of a port, from a dump of its tensors",
        "tinymvit compare apple/mobilevit-small port.safetensors --isolate",
    )
    command.add_argument(
        "ours",
        metavar="MODEL|DUMP",
        help="what is right: a model's name or folder, run on their pixel_values; or a dump of `tinymvit trace`",
    )
    command.add_argument(
        "theirs",
        type=Path,
        metavar="THEIRS",
        help="the port's tensors: a .safetensors file, a folder of .npy files, or one with manifest.json and raw files",
    )
    command.add_argument(
        "--map", type=Path, metavar="NAMES.json", help="a JSON object from their names to ours, where they differ"
    )
    command.add_argument(
        "--write-map",
        type=output_file,
        metavar="NAMES.json",
        help="write the names that were paired, as --map takes them, to be corrected and given back",
    )
    command.add_argument(
        "--layout",
        choices=("auto", "nchw", "nhwc", "tokens"),
        default="auto",
        help="how their maps lie in memory (default: auto, by the values)",
    )
    command.add_argument(
        "--tolerance",
        type=_tolerance,
        default="auto",
        metavar="auto|RTOL",
        help="error allowed relative to a node's size (default: auto, a multiple of that node's own float32 rounding)",
    )
    command.add_argument(
        "--precision",
        choices=("auto", "float32", "int8"),
        default="auto",
        help="of their arithmetic; auto: int8 if most tensors have at most 256 different numbers (default: auto)",
    )
    command.add_argument(
        "--isolate", action="store_true", help="judge each op alone, computed from their inputs: names every wrong op"
    )
    command.add_argument("--json", type=output_file, metavar="FILE", help="also write everything as JSON")
    command.add_argument("--html", type=output_file, metavar="FILE", help="also write a page to look at")


def run(options: argparse.Namespace) -> int:
    from tinymvit.comparison import compare
    from tinymvit.comparison.report import to_html, to_json, to_text
    from tinymvit.files import json_writer, text_writer, write_files

    comparison = compare(
        options.ours,
        options.theirs,
        names=read_map(options.map) if options.map else None,
        layout=options.layout,
        tolerance=options.tolerance,
        isolate=options.isolate,
        progress=True,
        precision=options.precision,
    )
    try:
        if options.write_map:
            pairs = json.dumps(comparison.names, indent=2)  # in the graph's order, to be read
            write_files(options.write_map.parent, {options.write_map.name: text_writer(f"{pairs}\n")})
        if options.json:
            write_files(options.json.parent, {options.json.name: json_writer(to_json(comparison))})
        if options.html:
            write_files(options.html.parent, {options.html.name: text_writer(to_html(comparison))})
    finally:  # a file that cannot be written does not cost the answer
        say_text(to_text(comparison))
    return 0 if comparison.agrees else 1


def read_map(path: Path) -> dict[str, str]:
    """The names in a JSON file. Raises DumpError if they are not text to text."""
    from tinymvit.errors import DumpError
    from tinymvit.files import read_json

    names = read_json(path, DumpError)
    for theirs, ours in names.items():
        if not isinstance(ours, str):
            raise DumpError(f"{path}: {theirs!r} is mapped to {ours!r}, expected the name of a node of ours")
    return names


def _tolerance(text: str) -> str | float:
    if text == "auto":
        return text
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}; expected auto or a number above 0")
    return value
