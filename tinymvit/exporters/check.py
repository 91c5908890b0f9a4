"""An exported file is run in the runtime that it is for, beside the float64 reference and our own engine."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from tinymvit import kernels, reference
from tinymvit.engine import Engine
from tinymvit.exporters.export import EXPORTERS
from tinymvit.exporters.network import ARGMAX, FLOAT16, FLOAT32, INT8, SOFTMAX, Network
from tinymvit.files import finite
from tinymvit.images.processor import MobileViTImageProcessor
from tinymvit.modeling import check_pixel_values
from tinymvit.numerics import Array, relative_error
from tinymvit.ops import Softmax
from tinymvit.quantisation.calibration import sized
from tinymvit.vectors import noise

ROUNDS, RUNS = 12, 3  # turns of the runtime and of our engine, and runs in a turn, the first of which is not counted
# Relative errors, some way above what was measured, beyond which a file computes something else; a class that changes
# is such an error of an answer.
LIMITS = {FLOAT32: 1e-4, FLOAT16: 2e-2, INT8: 0.5}
PAUSE = 0.05  # seconds before a turn, in which the threads of the one before stop spinning


@dataclass(frozen=True)
class ResultCheck:
    """How far a result is from the float64 reference. relative: root mean square of the differences over that of the
    truth; largest: the largest difference; same_answers: the share of images, or of pixels, whose best class is the
    same, None for features. Of classes, relative is the share of those that differ."""

    relative: float
    largest: float
    same_answers: float | None


@dataclass(frozen=True)
class Check:
    """What an exported file did in its runtime. runtime: its name and version; threads: that both had; results: by
    their public names; seconds, engine_seconds: the medians of a run of the file and of our engine, which took
    turns; agrees: whether each result is as near to the reference as its precision allows."""

    runtime: str
    threads: int
    results: dict[str, ResultCheck]
    seconds: float
    engine_seconds: float
    agrees: bool

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        return finite(asdict(self))


def missing_module(to: str) -> str | None:
    """The first module that the runtime of an exporter needs and that is not installed; None if there is none."""
    return next((name for name in EXPORTERS[to].RUNTIME_MODULES if find_spec(name) is None), None)


def check(
    network: Network, path: str | Path, *, to: str, threads: int | None = None, given: Array | None = None
) -> Check:
    """Run the file that `export` wrote at `path` for a network in its runtime.

    threads: of the runtime and of our engine, by default our engine's, and no more than the runtime can have. given:
    an input as the file takes it, by default noise. Raises OutputError, in a line, if the runtime refuses the file or
    what it needs is missing.
    """
    reference.check_memory(network.graph)
    exporter = EXPORTERS[to]
    threads = min(threads or kernels.get_num_threads(), exporter.MOST_THREADS or sys.maxsize)
    given = noise_for(network) if given is None else given
    pixels = pixels_of(network, given)
    run = exporter.load(Path(path), threads)
    found = run(given)
    engine = Engine(network.graph, network.weights)
    truth = truth_of(network, pixels)
    seconds, engine_seconds = _in_turns(lambda: run(given), lambda: engine.run(pixels), threads)
    results = {name: _compare(found[name], truth[name], network) for name in truth}
    agrees = all(result.relative <= LIMITS[network.precision] for result in results.values())
    runtime = _with_version(exporter.RUNTIME, exporter.RUNTIME_MODULES)
    return Check(runtime, threads, results, seconds, engine_seconds, agrees)


def noise_for(network: Network) -> Array:
    """Noise as the file takes it: `pixel_values`, or a picture of uint8 RGB (B, H, W, 3)."""
    pixels = noise(network.graph["pixel_values"].shape)
    if network.preprocessing is None:
        return pixels
    return np.ascontiguousarray((pixels * 255).astype(np.uint8).transpose(0, 2, 3, 1))


def picture_for(network: Network, image: str | Path, processor: MobileViTImageProcessor) -> Array:
    """A picture as the file takes it, in each place of the batch. processor: that of the model. Raises ImageError."""
    batch, channels, height, width = network.graph["pixel_values"].shape
    processor = sized(processor, height, width)
    if network.preprocessing is None:
        pixels = check_pixel_values(processor(image).pixel_values, channels)
    else:
        pixels = processor(image, do_rescale=False, do_flip_channel_order=False).pixel_values.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(np.repeat(pixels, batch, axis=0))


def pixels_of(network: Network, given: Array) -> Array:
    """What the network itself sees of it: float32 (B, C, H, W)."""
    preprocessing = network.preprocessing
    if preprocessing is None:
        return given
    pixels = given.transpose(0, 3, 1, 2).astype(np.float32) * np.float32(preprocessing.factor)
    return np.ascontiguousarray(pixels[:, ::-1] if preprocessing.flips else pixels)


def truth_of(network: Network, pixels: Array) -> dict[str, Array]:
    """The results of the float64 reference by their public names, the answer among them if the file gives one."""
    results = reference.run(network.graph, network.weights, pixels)
    if network.answer == SOFTMAX:
        scores = np.moveaxis(results["logits"], 1, -1)
        return {"probabilities": np.moveaxis(Softmax().compute(scores), -1, 1)}
    if network.answer == ARGMAX:
        return {"classes": results["logits"].argmax(1)}
    return results


def _compare(found: Array, truth: Array, network: Network) -> ResultCheck:
    if network.answer == ARGMAX:
        same = float(np.mean(found == truth))
        return ResultCheck(1 - same, float(np.abs(found - truth).max()), same)
    has_classes = "logits" in network.graph.outputs
    same_answers = float(np.mean(found.argmax(1) == truth.argmax(1))) if has_classes else None
    return ResultCheck(relative_error(found, truth), float(np.abs(found - truth).max()), same_answers)


def _in_turns(theirs: Callable[[], Mapping[str, Array]], ours: Callable[[], Any], threads: int) -> tuple[float, float]:
    """The medians of the seconds of both."""
    before = kernels.get_num_threads()
    kernels.set_num_threads(threads)
    try:
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(ROUNDS):
            for run, seconds in zip((theirs, ours), times, strict=True):
                time.sleep(PAUSE)
                seconds += [_time(run) for _ in range(RUNS)][1:]
        return float(np.median(times[0])), float(np.median(times[1]))
    finally:
        kernels.set_num_threads(before)


def _time(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _with_version(runtime: str, modules: tuple[str, ...]) -> str:
    for module in modules:
        try:
            return f"{runtime} {version(module.replace('_', '-'))}"
        except PackageNotFoundError:
            continue
    return runtime
