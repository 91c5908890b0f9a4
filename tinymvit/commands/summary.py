"""`tinymvit summary`: the table of a network's layers, and the memory that it needs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from tinymvit.commands.options import add_command, model_or_shape_option, size_option
from tinymvit.commands.terminal import say, say_json, say_text

if TYPE_CHECKING:
    from tinymvit.engine import Memory
    from tinymvit.graph import Graph


def add(commands: Any) -> None:
    command = add_command(
        commands,
        "summary",
        run,
        "print the table of a network's layers and the memory it needs",
        "tinymvit summary --shape deeplabv3-small",
    )
    model_or_shape_option(command)
    size_option(command)
    command.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from tinymvit.config import MobileViTConfig, preset_task
    from tinymvit.inspection.summary import rows, to_text, totals
    from tinymvit.modeling import MODELS

    if options.shape:
        config, task = MobileViTConfig.preset(options.shape), preset_task(options.shape)
    else:
        config = MobileViTConfig.from_pretrained(options.model or "digits")
        task = "segment" if config.task == "segment" else "classify"  # which has logits, as one without a head has not
    height, width = options.size or config.image_shape
    graph = MODELS[task].recorder(config, (1, config.num_channels, height, width)).select(["logits"])
    memory = memory_of(graph)
    if options.json:
        facts = totals(graph) | {"memory": asdict(memory), "layers": [asdict(row) for row in rows(graph)]}
        say_json(facts)
    else:
        say_text(to_text(graph))
        values, scratch, weights = (f"{size / 1e6:.1f} MB" for size in (memory.values, memory.scratch, memory.weights))
        say(
            f"the engine's memory: {values} for an image's values, {scratch} for each thread to work in, {weights} for "
            "weights; of a batch, as many images are at work as there are threads"
        )
    return 0


def memory_of(graph: Graph) -> Memory:
    """What an engine would need, whatever the weights."""
    from tinymvit import engine

    return engine.memory_of(graph)
