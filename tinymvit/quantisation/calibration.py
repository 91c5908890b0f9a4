"""Calibration: a network is run on pictures, and the range of each value that int8 shall stand for is kept.

By `min-max` a range holds every number that was seen. By `percentile` it leaves out a few at each end, so that the rest
has finer steps: numbers are counted in bins whose width is a power of two, and doubles when a larger one comes. So the
memory does not grow with the pictures, and the counts depend on no order. The engine computes, whose bits are the same
on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tinymvit.checks import is_positive_integer
from tinymvit.engine import Engine
from tinymvit.errors import ConfigError, ImageError, TinyMViTError, warn
from tinymvit.files import named_json
from tinymvit.graph import Graph
from tinymvit.images.folders import find_images
from tinymvit.images.load import ImageSource
from tinymvit.images.processor import MobileViTImageProcessor
from tinymvit.modeling import MobileViTPreTrainedModel, check_pixel_values, load_model
from tinymvit.numerics import Array
from tinymvit.ops import Input
from tinymvit.passes.quantise import in_need_of_ranges
from tinymvit.passes.rewrite import Weights
from tinymvit.quantisation.ranges import LARGEST, METHODS, MIN_MAX, PERCENTILE, Ranges, check_percentile, folded, stem
from tinymvit.text import short
from tinymvit.weights import Checkpoint, open_checkpoint

Images = str | Path | ImageSource | Iterable[str | Path | ImageSource]

BINS = 4096


def calibrate(
    model: str | Path | Checkpoint | MobileViTPreTrainedModel,
    images: Images,
    *,
    method: str = MIN_MAX,
    percentile: float = 99.99,
    size: int | tuple[int, int] | None = None,
) -> Ranges:
    """The ranges of a model's values over pictures, for int8.

    model: anything `from_pretrained` takes, or a model. images: a folder, a picture, or a list of both; a hundred like
    those that the model will see are plenty. method: "min-max", or "percentile": at each end, the part of the numbers
    that lies beyond `percentile` percent is left out. size: of the input, a side or (height, width), by default the
    configuration's; the pictures are resized and cropped to it. A picture that cannot be read draws a warning and is
    left out.

    Raises CheckpointError or ConfigError for what cannot be loaded, ImageError if there are no pictures, TinyMViTError
    if the model's weights give no numbers.
    """
    check_method(method, percentile)
    loaded, processor = model_and_processor(model)
    height, width = input_size(size, loaded)
    graph = loaded.graph((1, loaded.config.num_channels, height, width))
    graph = graph.select([name for name in graph.outputs if not name.startswith("hidden_states")])
    pixels = Pictures(images, processor).pixels(loaded.config.num_channels, height, width)
    return observe(graph, loaded.weights, pixels, method, percentile)


def ranges_of(given: Any, model: str | Path | Checkpoint | MobileViTPreTrainedModel, **settings: Any) -> Ranges:
    """What somebody calls the ranges of a model: `Ranges`, the name of the JSON file that they were saved as, or
    pictures to calibrate on. settings: as for `calibrate`, which raises what this does."""
    return known_ranges(given) or calibrate(model, given, **settings)


def known_ranges(given: Ranges | Images) -> Ranges | None:
    """Ranges, if `given` is them or names the JSON file that they were saved as; None for pictures. Raises ConfigError,
    which names the file."""
    if isinstance(given, Ranges):
        return given
    path = named_json(given) if isinstance(given, str | Path) else None
    return None if path is None else Ranges.load(path)


def check_method(method: Any, percentile: Any) -> None:
    """Raise ConfigError for what is no method of calibration, or no percentile."""
    if not isinstance(method, str) or method not in METHODS:
        raise ConfigError(f"method: {short(method)}, expected {' or '.join(METHODS)}")
    check_percentile(percentile)


def model_and_processor(
    model: str | Path | Checkpoint | MobileViTPreTrainedModel,
) -> tuple[MobileViTPreTrainedModel, MobileViTImageProcessor]:
    """A model, and the processor that makes its pixels."""
    if isinstance(model, MobileViTPreTrainedModel):
        return model, processor_of(model)
    checkpoint = open_checkpoint(model)
    return load_model(checkpoint), processor_of(checkpoint)


def processor_of(model: str | Path | Checkpoint | MobileViTPreTrainedModel) -> MobileViTImageProcessor:
    """The processor that makes a model's pixels; one that was not loaded gets what its configuration says."""
    if isinstance(model, MobileViTPreTrainedModel):
        return MobileViTImageProcessor(do_flip_channel_order=model.config.extra.get("channel_order") != "RGB")
    return MobileViTImageProcessor.from_pretrained(model)


def input_size(size: Any, model: MobileViTPreTrainedModel) -> tuple[int, int]:
    """Height and width of the input: what the caller gave, a side or (height, width), or None for the configuration's.
    Raises ConfigError for anything else."""
    if size is None:
        return model.config.image_shape
    sides = (size, size) if is_positive_integer(size) else size
    if not (isinstance(sides, tuple | list) and len(sides) == 2 and all(map(is_positive_integer, sides))):
        raise ConfigError(f"size: {short(size)}, expected a side or (height, width), whole numbers of at least 1")
    return int(sides[0]), int(sides[1])


class Pictures:
    """Pictures to calibrate on, each prepared by a processor when its turn comes."""

    def __init__(self, images: Any, processor: MobileViTImageProcessor) -> None:
        """images: as for `calibrate`. Raises ImageError for a folder without pictures, and for none at all."""
        self.sources = list(_sources(images))
        self.processor = processor
        if not self.sources:
            raise ImageError("images: none, expected pictures to calibrate on")

    def pixels(self, channels: int, height: int, width: int) -> Iterator[Array]:
        """(1, channels, height, width) of each picture that can be read; the others draw a warning. Raises ImageError
        if none can."""
        from tqdm import tqdm

        processor = sized(self.processor, height, width)
        refused: list[Exception] = []
        for source in tqdm(self.sources, unit="image", disable=None, leave=False):
            try:
                pixels = check_pixel_values(processor(source).pixel_values, channels)
            except (ValueError, TypeError) as error:
                refused.append(error)
                if len(self.sources) > 1:
                    warn(f"{error}; left out")
                continue
            yield pixels
        if len(refused) == len(self.sources):
            more = f"; nor can any other of {len(refused)}" if len(refused) > 1 else ""
            raise ImageError(f"{refused[0]}{more}")


def _sources(images: Any) -> Iterator[ImageSource]:
    """The pictures that `images` name."""
    many = isinstance(images, Iterable) and not isinstance(images, str | np.ndarray) and not hasattr(images, "mode")
    for each in images if many else [images]:
        yield from find_images([Path(each)]) if isinstance(each, str | Path) else [each]


def sized(processor: MobileViTImageProcessor, height: int, width: int) -> MobileViTImageProcessor:
    """The processor for another size of the input: what it cuts off keeps its share."""
    crop = processor.crop_size
    if processor.do_center_crop and (crop["height"], crop["width"]) == (height, width):
        return processor
    shorter, longest = max(height, width), max(crop["height"], crop["width"])
    if processor.do_center_crop and processor.do_resize and "shortest_edge" in processor.size:
        shorter = max(shorter, math.ceil(shorter * processor.size["shortest_edge"] / longest))
    settings = {"do_resize": True, "size": {"shortest_edge": shorter}, "do_center_crop": True}
    return MobileViTImageProcessor.from_dict(
        processor.to_dict() | settings | {"crop_size": {"height": height, "width": width}}
    )


def observe(
    graph: Graph, weights: Weights, batches: Iterable[Array], method: str = MIN_MAX, percentile: float = 99.99
) -> Ranges:
    """The ranges of a network's values over pixels: see `calibrate`.

    graph: of a model, before any pass. batches: float32 (B, C, H, W), B being the graph's or a multiple of it.
    """
    height, width = graph["pixel_values"].shape[2:]
    plain, plain_weights = folded(graph, weights)
    needed = in_need_of_ranges(plain)
    engine = Engine(replace(graph, outputs={name: name for name in needed}), weights)  # an output is merged into none
    seen: dict[str, Seen] = {name: Seen(count=method == PERCENTILE) for name in needed}
    images = 0
    for pixels in batches:
        images += len(pixels)
        for name, value in engine.run(pixels).items():
            seen[name].add(value, name)
    ranges = {name: each.range(percentile) for name, each in seen.items()}
    for name in ranges:
        if isinstance(plain[name].op, Input):  # a picture's numbers are 256 steps from 0 to 1, and int8 has them all
            ranges[name] = min(ranges[name][0], 0.0), max(ranges[name][1], 1.0)
    share = percentile if method == PERCENTILE else None
    return Ranges(ranges, method, share, images, (height, width), stem(plain, plain_weights))


@dataclass
class Seen:
    """What was seen of one node's values. low, high: their ends. counts: if asked for, how many fell into each bin:
    `BINS` bins of width `step`, half of them below 0."""

    count: bool
    low: float = math.inf
    high: float = -math.inf
    step: float = 0.0
    counts: Array = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def add(self, value: Array, name: str) -> None:
        """Take in a value, float32 of any shape. Raises TinyMViTError, which calls it `name`, if there is more
        than int8 can stand for."""
        low, high = float(value.min()), float(value.max())
        if not (low >= -LARGEST and high <= LARGEST):  # which NaN is not
            raise TinyMViTError(f"{name}: from {low:g} to {high:g}, expected at most {LARGEST:g} for int8")
        self.low, self.high = min(self.low, low), max(self.high, high)
        if self.count and (largest := max(-low, high)) > 0:
            self._widen(largest)
            bins = np.floor(value.ravel() * np.float64(1 / self.step)).astype(np.int64) + BINS // 2
            self.counts += np.bincount(bins, minlength=BINS)
        elif self.count:
            self.counts[BINS // 2] += value.size

    def _widen(self, largest: float) -> None:
        """Make the bins reach as far as `largest`, by powers of two."""
        step = 2.0 ** math.frexp(largest)[1] / (BINS // 2)  # larger than largest, so that the last bin holds it
        if step <= self.step:
            return
        if self.step:
            half, merged = BINS // 2, min(round(math.log2(step / self.step)), BINS.bit_length())
            numbers = (np.arange(BINS) - half >> merged) + half
            self.counts = np.bincount(numbers, self.counts, BINS).astype(np.int64)
        self.step = step

    def range(self, percentile: float) -> tuple[float, float]:
        """The ends, or with counts the narrowest ends of bins beyond each of which at most 100 - percentile percent of
        all numbers lie."""
        if not self.count or not self.step:
            return self.low, self.high
        most = (1 - percentile / 100) * int(self.counts.sum())
        first = int(np.argmax(np.cumsum(self.counts) > most))
        last = BINS - 1 - int(np.argmax(np.cumsum(self.counts[::-1]) > most))
        low, high = (first - BINS // 2) * self.step, (last + 1 - BINS // 2) * self.step
        return max(low, self.low), min(high, self.high)
