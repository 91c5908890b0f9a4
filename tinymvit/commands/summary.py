"""`tinymvit summary`: the table of a network's layers."""

from __future__ import annotations

import argparse
import json
from typing import Any

from tinymvit.commands import shared


def add(commands: Any) -> None:
    command = shared.command(
        commands, "summary", run, "print the table of a network's layers", "tinymvit summary --shape deeplabv3-small"
    )
    shared.model_or_shape_option(command)
    shared.size_option(command)
    command.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
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
