"""`tinymvit trace`: every intermediate of a model for an image, written to a file or folder."""

from __future__ import annotations

import argparse
from typing import Any

from tinymvit.commands import progress
from tinymvit.commands.options import (
    add_command,
    checkpoint_options,
    image_option,
    model_and_pixels,
    model_option,
    output,
    set_threads,
    threads_option,
)
from tinymvit.commands.terminal import say, say_json


def add(commands: Any) -> None:
    command = add_command(
        commands,
        "trace",
        run,
        "write every intermediate value of a model, by its name",
        "tinymvit trace digit.png --output trace.safetensors --names '*.scores' logits",
    )
    image_option(command)
    model_option(command, "digits")
    checkpoint_options(command)
    command.add_argument(
        "--output",
        type=output,
        required=True,
        metavar="DUMP",
        help="a name that ends in .safetensors, or that of a folder",
    )
    command.add_argument(
        "--format",
        choices=("safetensors", "npy", "raw"),
        help="one safetensors file, a folder of .npy files, or a folder of raw little-endian files; both folders with "
        "manifest.json (default: by --output's name; a folder holds .npy)",
    )
    command.add_argument(
        "--names",
        nargs="+",
        metavar="PATTERN",
        help="names of nodes or PyTorch modules; * and ? stand for any characters (default: every node)",
    )
    command.add_argument(
        "--dtype", choices=("float32", "float64"), default="float32", help="to compute in (default: float32)"
    )
    command.add_argument(
        "--source",
        choices=("reference", "ordered", "engine"),
        default="reference",
        help="who computes: the NumPy reference, the same in the order of sums of the exported C, or the engine, which "
        "merges nodes (default: reference)",
    )
    threads_option(command)
    command.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    from tinymvit.inspection.dump_writer import choose_format, write_dump
    from tinymvit.inspection.trace import Trace

    kind = choose_format(options.output, options.format)
    set_threads(options)
    model, pixel_values = model_and_pixels(options)
    if options.source == "engine":
        progress.warm_up()
    graph = model.graph(pixel_values.shape)
    trace = Trace(graph, model.weights, pixel_values, options.names, options.dtype, options.source, progress=True)
    size = 0
    with write_dump(options.output, trace.specs(), kind) as write:
        for name, value in trace:
            write(name, value)
            size += value.nbytes
    facts = {
        "file": str(options.image),
        "output": str(options.output),
        "format": kind,
        "tensors": len(trace),
        "bytes": size,
        "dtype": options.dtype,
        "source": options.source,
    }
    if options.json:
        say_json(facts)
    else:
        amount = f"{len(trace)} tensors, {size / 1e6:.1f} MB"
        say(f"{options.image} -> {options.output}: {amount}, {options.dtype} of the {options.source}")
    return 0
