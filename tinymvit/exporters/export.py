"""A model becomes a file: what is exported, whether it can be, and how it gets on the disk."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from tinymvit.checks import is_positive_integer
from tinymvit.errors import OutputError, TinyMViTError
from tinymvit.exporters import c, onnx, tflite
from tinymvit.exporters.int8 import in_int8
from tinymvit.exporters.network import ANSWERS, FLOAT32, INT8, Network, Preprocessing
from tinymvit.files import FILE, FOLDER, open_file, what_is, write_files
from tinymvit.graph import Graph
from tinymvit.modeling import MobileViTModel, MobileViTPreTrainedModel
from tinymvit.numerics import Array
from tinymvit.ops import Shape
from tinymvit.quantisation import Ranges
from tinymvit.quantisation.calibration import Images, input_size, model_and_processor
from tinymvit.text import short, some
from tinymvit.version import __version__
from tinymvit.weights import Checkpoint, backbone_tensors


class Exporter(Protocol):
    """What each file of an exporter has."""

    NAME: str  # what `to` calls it
    WORD: str  # what people call it
    SUFFIX: str  # of the file; "" for an exporter that writes a folder
    PRECISIONS: tuple[str, ...]
    MODULES: tuple[str, ...]  # that writing needs
    EXTRA: str | None  # that installs them
    RUNTIME: str  # that `check` runs the file in, as people call it
    RUNTIME_MODULES: tuple[str, ...]
    MOST_THREADS: int | None  # that it can have; None if that is as many as one likes

    def files(self, network: Network, name: str) -> dict[str, Callable[[BinaryIO], object]]:
        """What is to be written, by the names of the files in the folder: `name` alone for an exporter of one file, the
        same bytes for the same network. Raises TinyMViTError, in a line, for a network that the target cannot take."""

    def about(self, network: Network) -> str:
        """What its user must know of the written file beside its size; nothing is "" """

    def load(self, path: Path, threads: int) -> Callable[[Array], Mapping[str, Array]]:
        """What runs the written file in its runtime: from an input, as the file takes it, to the results by their
        public names."""


EXPORTERS: dict[str, Exporter] = {exporter.NAME: exporter for exporter in (onnx, tflite, c)}
IN_INTEGERS = (onnx.NAME, tflite.NAME)  # those whose files can compute in int8


def export(
    model: str | Path | Checkpoint | MobileViTPreTrainedModel,
    path: str | Path,
    *,
    to: str,
    precision: str = "float32",
    size: int | tuple[int, int] | None = None,
    batch: int = 1,
    dynamic_batch: bool = False,
    backbone: bool = False,
    with_preprocessing: bool = False,
    answer: str | None = None,
    calibrate: Ranges | Images | None = None,
    keep_float: Iterable[str] = (),
) -> Network:
    """Write a model as a file that another runtime runs, or as a program in C; the same bytes each time.

    model: anything `from_pretrained` takes, or a model. path: the file, or for C the folder. to: "onnx", "tflite"
    or "c". precision: of the stored weights: "float32", "float16" or "int8"; arithmetic stays float32, unless int8 is
    calibrated. size: of the input, a side or (height, width), by default the configuration's; batch: its images.
    dynamic_batch: leave their number open. backbone: leave out the head. with_preprocessing: the file takes a picture,
    uint8 RGB (B, H, W, 3) of that size, and divides and orders its channels itself. answer: "softmax" or "argmax" of
    the logits. calibrate: with int8, compute in it too: a folder of pictures or a list of them, what
    `tinymvit.calibrate` gives, or the name of the JSON file that this was saved as. keep_float: names of nodes, of
    modules, or patterns of them, which then stay in float.

    Every tensor in the file has the name of its node in `model.graph()`. Returns what was exported. Raises
    CheckpointError or ConfigError for what cannot be loaded, OutputError for what cannot be written, TinyMViTError for
    what the target cannot take; nothing is written then.
    """
    exporter = EXPORTERS.get(to) if isinstance(to, str) else None
    if exporter is None:
        raise TinyMViTError(f"to: {short(to)}, expected one of {', '.join(EXPORTERS)}")
    check_writable(exporter, Path(path))
    if precision not in exporter.PRECISIONS:
        raise TinyMViTError(
            f"precision: {short(precision)}, expected one of {', '.join(exporter.PRECISIONS)} for {exporter.WORD}"
        )
    if calibrate is not None and (precision != INT8 or to not in IN_INTEGERS):
        expected = "precision int8" if to in IN_INTEGERS else f"one of {', '.join(IN_INTEGERS)}, which compute in int8"
        raise TinyMViTError(f"calibrate: for {exporter.WORD} in {precision}, expected {expected}")
    network = describe_network(
        model,
        precision=precision,
        size=size,
        batch=batch,
        dynamic_batch=dynamic_batch,
        backbone=backbone,
        with_preprocessing=with_preprocessing,
        answer=answer,
        calibrate=calibrate,
        keep_float=keep_float,
    )
    path = Path(path)
    files = exporter.files(network, path.name)
    folder = path.parent if exporter.SUFFIX else path
    if not exporter.SUFFIX:
        _check_own(folder, files)
    write_files(folder, files)
    return network


MARK = b"written by tinymvit"  # stands at the head of what an exporter of a folder writes


def _check_own(folder: Path, files: Iterable[str]) -> None:
    """Raise OutputError if the folder holds a file of these names and did not come from here."""
    theirs = [name for name in files if what_is(folder / name, OutputError, "written")]
    for name in theirs:
        if what_is(folder / name, OutputError) == FILE:
            with open_file(folder / name, OutputError) as file:
                if MARK in file.read(4096):
                    return
    if theirs:
        raise OutputError(f"{folder}: holds {some(theirs, 2)}, which tinymvit did not write; expected a new folder")


def check_writable(exporter: Exporter, path: Path) -> None:
    """Raise OutputError unless the exporter is installed and can write at `path`, before the long work."""
    missing = next((name for name in exporter.MODULES if find_spec(name.partition(".")[0]) is None), None)
    if missing is not None:
        raise OutputError(f"{exporter.WORD} needs {missing}: pip install 'tinymvit[{exporter.EXTRA}]'")
    there = what_is(path, OutputError, "written")
    if exporter.SUFFIX and there == FOLDER:
        raise OutputError(f"{path}: is a folder, expected a file for {exporter.WORD}")
    if not exporter.SUFFIX and there == FILE:
        raise OutputError(f"{path}: is a file, expected a folder for {exporter.WORD}")
    if exporter.SUFFIX and path.suffix.lower() != exporter.SUFFIX:
        raise OutputError(f"{path}: the suffix {path.suffix!r}, expected {exporter.SUFFIX} for {exporter.WORD}")


def describe_network(
    model: str | Path | Checkpoint | MobileViTPreTrainedModel,
    *,
    precision: str = FLOAT32,
    size: int | tuple[int, int] | None = None,
    batch: int = 1,
    dynamic_batch: bool = False,
    backbone: bool = False,
    with_preprocessing: bool = False,
    answer: str | None = None,
    calibrate: str | Path | Ranges | Images | None = None,
    keep_float: Iterable[str] = (),
) -> Network:
    """The network that `export` is asked for: see there."""
    loaded, processor = model_and_processor(model)
    if backbone:
        loaded = _without_head(loaded)
    config = loaded.config
    if answer is not None and answer not in ANSWERS:
        raise TinyMViTError(f"answer: {short(answer)}, expected one of {', '.join(ANSWERS)}, or none")
    if not is_positive_integer(batch):
        raise TinyMViTError(f"batch: {short(batch)}, expected a whole number of at least 1")
    height, width = input_size(size, loaded)
    graph = _graph(loaded, (batch, config.num_channels, height, width))
    if answer is not None and "logits" not in graph.outputs:
        raise TinyMViTError(f"answer: {answer}, expected a model with a head: this one gives features")
    _check_sizes(graph)
    _check_weights(loaded.weights, graph)
    labels = tuple(config.id2label[i] for i in range(config.num_labels)) if "logits" in graph.outputs else ()
    _check_labels(labels)
    preprocessing = None
    if with_preprocessing:
        if config.num_channels != 3:
            raise TinyMViTError(f"with_preprocessing: {config.num_channels} channels, expected 3, of an RGB picture")
        factor = processor.rescale_factor if processor.do_rescale else 1.0
        preprocessing = Preprocessing(factor, processor.do_flip_channel_order)
    facts = {
        "producer": f"tinymvit {__version__}",
        "task": _task(graph),
        "precision": precision,
        "size": [height, width],
        "input": "image" if with_preprocessing else "pixel_values",
        "channel_order": "BGR" if processor.do_flip_channel_order and not with_preprocessing else "RGB",
        "rescale_factor": processor.rescale_factor if processor.do_rescale and not with_preprocessing else 1.0,
        "labels": list(labels),
    }
    network = Network(graph, loaded.weights, precision, dynamic_batch, preprocessing, answer, labels, facts)
    single = _graph(loaded, (1, config.num_channels, height, width))  # on which pictures are seen one by one
    return in_int8(network, single, processor, calibrate, keep_float)


def _graph(model: MobileViTPreTrainedModel, shape: Shape) -> Graph:
    """A model's graph for its logits, or without a head for its features."""
    graph = model.graph(shape)
    results = [name for name in graph.outputs if not name.startswith("hidden_states")]
    return graph.select(["logits"] if "logits" in results else results)


def _task(graph: Graph) -> str:
    """What a model is for, told from its results."""
    if "logits" not in graph.outputs:
        return "features"
    return "classify" if len(graph[graph.outputs["logits"]].shape) == 2 else "segment"


def _without_head(model: MobileViTPreTrainedModel) -> MobileViTModel:
    if isinstance(model, MobileViTModel):
        return model
    expands = any(node.name.endswith("conv_1x1_exp.convolution") for node in model.graph())
    return MobileViTModel.from_tensors(model.config, backbone_tensors(model.weights), expand_output=expands)


LARGEST = 2**31 - 1  # numbers in a value: files of other runtimes count them in 32 bits


def _check_sizes(graph: Graph) -> None:
    """Raise TinyMViTError for values that no target can hold."""
    for node in graph:
        count = math.prod(node.shape)
        if count > LARGEST:
            shape = " x ".join(map(str, node.shape))
            raise TinyMViTError(
                f"size: {node.name} has {shape} numbers then, expected at most {LARGEST:,} in a value; a smaller input"
            )


def _check_labels(labels: Iterable[str]) -> None:
    """Raise TinyMViTError for a label that files cannot hold."""
    for number, label in enumerate(labels):
        try:
            fits = b"\0" not in label.encode()
        except UnicodeEncodeError:
            fits = False
        if not fits:
            raise TinyMViTError(f"label {number}: {short(label)}, expected text of UTF-8 without a null character")


def _check_weights(weights: Mapping[str, Array], graph: Graph) -> None:
    """Raise TinyMViTError for weights that are no numbers."""
    for name in graph.weight_shapes():
        if not np.isfinite(weights[name]).all():
            raise TinyMViTError(f"{name}: not finite, expected finite weights")
