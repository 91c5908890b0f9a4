"""`tinymvit models`: the checkpoints that have a name."""

from __future__ import annotations

import argparse
from typing import Any

from tinymvit.commands.options import add_command
from tinymvit.commands.terminal import say, say_json
from tinymvit.text import align


def add(commands: Any) -> None:
    command = add_command(commands, "models", run, "list the bundled and the published checkpoints", "tinymvit models")
    command.add_argument("--json", action="store_true", help="print a JSON list")


def run(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from tinymvit.weights import catalog

    entries = catalog()
    if options.json:
        say_json([asdict(entry) for entry in entries])
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
    say(*align(lines, left=range(len(lines[0]))))
    return 0
