"""`tinymvit export`: the network as a file for another runtime, or as a program in C."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tinymvit.commands import progress
from tinymvit.commands.options import (
    MODEL_HELP,
    add_command,
    calibrate_option,
    labels_option,
    order_option,
    output,
    output_file,
    positive,
    size_option,
    threads_option,
)
from tinymvit.commands.terminal import report, say
from tinymvit.errors import OutputError, TinyMViTError

TARGETS = ("onnx", "tflite", "c")
PRECISIONS = ("float32", "float16", "int8")
ANSWERS = ("softmax", "argmax")


def add(commands: Any) -> None:
    command = add_command(
        commands,
        "export",
        run,
        "write the network as ONNX, as TensorFlow Lite or as a program in C",
        "tinymvit export digits --to onnx --output digits.onnx --check",
    )
    command.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    command.add_argument("--to", choices=TARGETS, required=True, help="for which runtime; c: a folder with a program")
    command.add_argument("--output", type=output, required=True, metavar="PATH", help="the file, or for c the folder")
    command.add_argument(
        "--precision", choices=PRECISIONS, default="float32", help="of the stored weights (default: %(default)s)"
    )
    calibrate_option(command, "only the weights are int8, and arithmetic is float32")
    size_option(command)
    command.add_argument("--batch", type=positive, default=1, metavar="N", help="images a run (default: 1)")
    command.add_argument("--dynamic-batch", action="store_true", help="leave the number of images open")
    command.add_argument("--backbone", action="store_true", help="leave out the head: the file gives features")
    command.add_argument(
        "--with-preprocessing",
        action="store_true",
        help="the file takes a picture of uint8 RGB, (N, H, W, 3), of the input's size",
    )
    command.add_argument("--answer", choices=ANSWERS, help="what the file makes of the logits (default: logits)")
    labels_option(command)
    order_option(command)
    command.add_argument(
        "--check", action="store_true", help="run the file in its runtime, beside the reference and our engine"
    )
    command.add_argument(
        "--image", type=Path, metavar="IMAGE", help="the picture that --check runs it on (default: noise)"
    )
    threads_option(command)
    command.add_argument(
        "--json", type=output_file, metavar="FILE", help="write what was exported, and what --check finds, to this file"
    )


def run(options: argparse.Namespace) -> int:
    from tinymvit.exporters.export import EXPORTERS, export
    from tinymvit.files import json_writer, write_files
    from tinymvit.weights import open_checkpoint

    if options.image is not None and not options.check:
        raise TinyMViTError(f"--image {options.image}: expected --check, which runs the file on it")
    if options.json is not None and options.json.absolute() == options.output.absolute():
        raise OutputError(f"--json {options.json}: is the --output too, expected another file")
    checkpoint = open_checkpoint(options.model, labels=options.labels, channel_order=options.channel_order)
    network = export(
        checkpoint,
        options.output,
        to=options.to,
        precision=options.precision,
        size=options.size,
        batch=options.batch,
        dynamic_batch=options.dynamic_batch,
        backbone=options.backbone,
        with_preprocessing=options.with_preprocessing,
        answer=options.answer,
        calibrate=options.calibrate,
        keep_float=options.keep_float,
    )
    shape = " x ".join(map(str, network.graph["pixel_values"].shape))
    size = size_of(options.output)
    stored = "int8 weights" if options.precision == "int8" and options.calibrate is None else options.precision
    say(f"{options.output}: {options.to}, {stored}, for an input of {shape}; {size:,} bytes")
    about = EXPORTERS[options.to].about(network)
    if about:
        say(about)
    found = checked(options, network, checkpoint) if options.check else None
    if options.json:
        facts = dict(network.facts) | {"to": options.to, "bytes": size, "check": found and found.to_dict()}
        write_files(options.json.parent, {options.json.name: json_writer(facts)})
    return 0 if found is None or found.agrees else 1


def checked(options: argparse.Namespace, network: Any, checkpoint: Any) -> Any:
    """What the file does in its runtime, which is also said; None if that is not installed."""
    from tinymvit.exporters.check import check, missing_module, picture_for
    from tinymvit.images.processor import MobileViTImageProcessor

    missing = missing_module(options.to)
    if missing is not None:
        report(f"not checked: {missing} is not installed: pip install {missing.replace('_', '-')}")
        return None
    progress.warm_up()
    given = None
    if options.image is not None:
        given = picture_for(network, options.image, MobileViTImageProcessor.from_pretrained(checkpoint))
    found = check(network, options.output, to=options.to, threads=options.threads, given=given)
    for name, result in found.results.items():
        same = "" if result.same_answers is None else f", same answer {result.same_answers:.2%}"
        say(f"{name} in {found.runtime}: relative error {result.relative:.1e}, largest {result.largest:.1e}{same}")
    threads = f"{found.threads} thread{'s' if found.threads > 1 else ''}"
    say(f"{found.seconds * 1e3:.2f} ms on {threads}; our engine {found.engine_seconds * 1e3:.2f} ms")
    if not found.agrees:
        report(f"{options.output}: computes something else than the model, expected what rounding explains")
    return found


def size_of(path: Path) -> int:
    """The bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [each for each in path.iterdir() if each.is_file()]
    return sum(each.stat().st_size for each in files)
