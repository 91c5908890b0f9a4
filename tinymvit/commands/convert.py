"""`tinymvit convert`: a checkpoint as the software of another family loads it."""

from __future__ import annotations

import argparse
from typing import Any

from tinymvit.commands.options import MODEL_HELP, add_command, checkpoint_options, named_checkpoint, output_folder
from tinymvit.commands.terminal import say

FAMILIES = ("transformers", "timm", "cvnets", "tensorflow")


def add(commands: Any) -> None:
    command = add_command(
        commands,
        "convert",
        run,
        "write a checkpoint as transformers, timm, ml-cvnets or TensorFlow load it",
        "tinymvit convert mobilevit_xxs.pt apple-xxs --to transformers",
    )
    command.add_argument("model", metavar="SOURCE", help=MODEL_HELP)
    command.add_argument("folder", type=output_folder, metavar="TARGET", help="the folder to write, made if need be")
    command.add_argument("--to", choices=FAMILIES, required=True, help="whose names and files")
    checkpoint_options(command)


def run(options: argparse.Namespace) -> int:
    from tinymvit.conversion import convert

    checkpoint = named_checkpoint(options)
    convert(checkpoint, options.folder, to=options.to)
    say(f"{options.model} ({checkpoint.family.NAME}) -> {options.folder} ({options.to})")
    return 0
