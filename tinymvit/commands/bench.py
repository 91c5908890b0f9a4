"""`tinymvit bench`: time this library side by side with its peers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tinymvit.commands import progress
from tinymvit.commands.options import (
    add_command,
    model_or_shape_option,
    output_file,
    positive,
    set_threads,
    size_option,
    threads_option,
)
from tinymvit.commands.terminal import say, say_text
from tinymvit.errors import ConfigError

TASKS = ("classify", "segment")


def add(commands: Any) -> None:
    command = add_command(
        commands,
        "bench",
        run,
        "time this library side by side with its peers",
        "tinymvit bench --shape xx-small --threads 2 --against onnxruntime,openvino",
    )
    model_or_shape_option(command, default="--shape small, random weights")
    command.add_argument("--task", choices=TASKS, help="what a --shape is built for (default: classify)")
    size_option(command)
    command.add_argument("--batch", type=positive, default=1, metavar="N", help="images a call (default: 1)")
    threads_option(command)
    command.add_argument(
        "--against",
        type=peers,
        default="torch,onnxruntime,openvino,litert",
        metavar="NAMES",
        help="peers, comma between, or none (default: %(default)s)",
    )
    command.add_argument(
        "--rounds", type=positive, default=20, metavar="N", help="turns of each contestant (default: 20)"
    )
    command.add_argument("--runs", type=positive, default=3, metavar="N", help="timed runs in a turn (default: 3)")
    command.add_argument(
        "--per-layer", action="store_true", help="print the time of every layer against the machine's limits too"
    )
    command.add_argument(
        "--json", type=output_file, metavar="FILE", help="write everything measured, every run, to a file"
    )


def peers(text: str) -> list[str]:
    from tinymvit.bench.peers import OURS, PEERS

    known = [name for name in PEERS if name != OURS]
    names = [] if text == "none" else list(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"no peer is named {name!r}; expected some of {','.join(known)}, or none")
    return names


def run(options: argparse.Namespace) -> int:
    if options.task and options.model:
        raise ConfigError("--task goes with --shape; a MODEL's own configuration says its task")
    import math
    import tempfile
    from contextlib import ExitStack
    from dataclasses import asdict

    import numpy as np

    from tinymvit import limits
    from tinymvit.bench import race as bench
    from tinymvit.bench import report
    from tinymvit.files import json_writer, one_line_for, write_files
    from tinymvit.kernels import get_num_threads

    set_threads(options)
    progress.warm_up()
    with ExitStack() as stack:
        with one_line_for("a temporary folder"):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tinymvit-bench-")))
        model = make_model(options, folder)
        height, width = options.size or model.config.image_shape
        shape = (options.batch, model.config.num_channels, height, width)
        limits.check(4 * math.prod(shape), f"pixels of {' x '.join(map(str, shape))}")
        pixel_values = np.random.default_rng(0).random(shape, np.float32)
        graph = model.graph(shape).select(["logits"])

        facts = report.machine() | {
            "model": options.model or f"{options.shape or 'small'}, random weights",
            "class": type(model).__name__,
            "input": list(shape),
            "multiply_adds": sum(graph.multiply_adds(node) for node in graph),
            "threads": get_num_threads(),
        }
        settings = [f"{name}={value}" for name, value in facts["settings"].items()]
        machine = ", ".join([facts["cpu"], f"{facts['processors']} processors", *settings])
        say(
            f"{facts['class']} ({facts['model']}), input {' x '.join(map(str, shape))}, "
            f"{1e-9 * facts['multiply_adds']:.2f} billion multiply-adds, threads: {facts['threads']}",
            machine,
            "",
        )
        race = bench.race(folder, pixel_values, options.against, facts["threads"], options.rounds, options.runs)
        say_text(report.format_race(race))
        facts |= {
            "contestants": [asdict(each) | {"statistics": asdict(each.times)} for each in race.results],
            "absent": race.absent,
        }
        if options.per_layer:
            from tinymvit.bench import layer_times
            from tinymvit.engine.engine import Engine

            one = model.graph((1, *shape[1:])).select(["logits"])  # the engine takes the images of a batch one by one
            layers = layer_times.time_layers(Engine(one, model.weights), pixel_values[:1])
            of_one = "one image of the batch; " if options.batch > 1 else ""
            say_text(f"\n{of_one}{layer_times.format_layer_times(layers)}")
            profile = asdict(layers)
            facts["profile"] = profile | {"limits": profile.pop("peak")}
    if options.json is not None:
        write_files(options.json.parent, {options.json.name: json_writer(facts)})
    return 0


def make_model(options: argparse.Namespace, folder: Path) -> Any:
    """Write the checkpoint that all contestants load into `folder`, and return our model of it."""
    from tinymvit.config import MobileViTConfig, preset_task, preset_with_segmenter
    from tinymvit.modeling import MODELS
    from tinymvit.networks import random_weights
    from tinymvit.weights import open_checkpoint

    if options.model:
        checkpoint = open_checkpoint(options.model)
        task = "segment" if checkpoint.task == "segment" else "classify"
        model = MODELS[task].from_pretrained(checkpoint)
    else:
        shape = options.shape or "small"
        if options.task == "segment":
            shape = preset_with_segmenter(shape)
        config = MobileViTConfig.preset(shape)
        task = preset_task(shape)
        if task == "segment" and options.task == "classify":
            raise ConfigError(f"--shape {shape} is for segmentation; expected --task segment, or none")
        graph = MODELS[task].recorder(config, (1, config.num_channels, *config.image_shape))
        model = MODELS[task].from_tensors(config, random_weights.as_trained(graph))
    model.save_pretrained(folder)
    return model
