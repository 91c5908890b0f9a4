"""`tinymvit vectors`: inputs, weights and expected outputs of each operation, for those who port the model."""

from __future__ import annotations

import argparse
from typing import Any

from tinymvit.commands.options import add_command, model_option, output, size
from tinymvit.commands.terminal import say


def add(commands: Any) -> None:
    command = add_command(
        commands,
        "vectors",
        run,
        "write test vectors for a port: each operation's inputs, weights and expected output",
        "tinymvit vectors --model digits --output vectors --format c",
    )
    model_option(command, "digits")
    command.add_argument("--output", type=output, required=True, metavar="FOLDER", help="the new folder to write into")
    command.add_argument(
        "--format",
        choices=("npy", "raw", "safetensors", "c"),
        default="npy",
        help="npy or raw: a file a tensor; safetensors or c (a C header): a file a vector (default: npy)",
    )
    command.add_argument(
        "--precision",
        choices=("float32", "int8"),
        default="float32",
        help="int8: the operations in integers, to the bit (default: %(default)s)",
    )
    command.add_argument(
        "--size",
        type=size,
        metavar="N|HxW",
        help="give the operations the maps that an input of this size has (default: maps of a few pixels)",
    )


def run(options: argparse.Namespace) -> int:
    from tinymvit.inspection.dump import MANIFEST
    from tinymvit.modeling import load_model
    from tinymvit.vectors.write import README, write_vectors

    model = load_model(options.model)
    manifest = write_vectors(
        model, options.output, options.format, options.size, source=options.model, precision=options.precision
    )
    count = len(manifest["vectors"])
    what = f"{count - 1} operations and the whole model" if options.precision == "float32" else f"{count} operations"
    size = sum(path.stat().st_size for path in options.output.iterdir())
    say(f"{options.output}: {what}, {size / 1e6:.1f} MB as {options.format}")
    say(f"how to use them: {options.output / README}; what they are: {options.output / MANIFEST}")
    return 0
