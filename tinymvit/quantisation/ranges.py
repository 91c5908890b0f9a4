"""The ranges of a network's values, as calibration finds them: in memory, as JSON, and the network in int8 by them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Self

import numpy as np

from tinymvit.checks import is_positive_integer
from tinymvit.errors import ConfigError, OutputError, TinyMViTError
from tinymvit.files import at_home, json_writer, read_json, write_files
from tinymvit.graph import Graph
from tinymvit.passes.fold import fold_batch_norm, kind_of
from tinymvit.passes.quantise import computed_in_int8, in_need_of_ranges, quantise
from tinymvit.passes.rewrite import Weights
from tinymvit.text import did_you_mean, short, some

MIN_MAX, PERCENTILE = METHODS = ("min-max", "percentile")
LARGEST = 1e12  # of the end of a range: its scale times that of any weights is a number of float32
FORMAT, VERSION = "tinymvit ranges", 1


@dataclass(frozen=True)
class Ranges:
    """The smallest and the largest number that each node's value shall hold, by the node's name.

    method: "min-max" or "percentile", and with the latter percentile: the share, in percent, that lies below the upper
    end, and above the lower one. images: how many were seen. size: height and width of the input. stem: the SHA-256 of
    the first convolution's weights, which tells other weights of the same names.
    """

    ranges: Mapping[str, tuple[float, float]]
    method: str
    percentile: float | None
    images: int
    size: tuple[int, int]
    stem: str

    def save(self, path: str | Path) -> None:
        """Write it as JSON. Raises OutputError."""
        path = at_home(path, OutputError)
        write_files(path.parent, {path.name: json_writer({"format": FORMAT, "version": VERSION} | asdict(self))})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote. Raises ConfigError, which names the file and what is wrong in it."""
        path = at_home(path, ConfigError)
        values = read_json(path, ConfigError)
        try:
            return cls(**_checked(values))
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None

    def quantised(self, graph: Graph, weights: Weights, keep_float: Iterable[str] = ()) -> tuple[Graph, Weights]:
        """A network in int8, its normalisations in the convolutions: see `passes.quantise`.

        graph, weights: of a model, before any pass. keep_float: nodes that stay in float, see `kept`. Raises
        ConfigError if these ranges are of another network, TinyMViTError for a name in `keep_float` that is none.
        """
        graph, weights = folded(graph, weights)
        keep = kept(graph, keep_float)
        missing = [name for name in in_need_of_ranges(graph, keep) if name not in self.ranges]
        if missing:
            raise ConfigError(f"the ranges: none for {some(missing, 3)}; expected those of this model, calibrated anew")
        if self.stem != stem(graph, weights):
            raise ConfigError("the ranges: of a model with other weights; expected those of this one, calibrated anew")
        return quantise(graph, weights, self.ranges, keep)


def folded(graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
    """A network with its normalisations in the convolutions, as far as that is not seen: see `passes.fold`."""
    kinds = {node.weights: kind_of(node, weights) for node in graph}
    return fold_batch_norm(graph, weights, kinds)


def stem(graph: Graph, weights: Weights) -> str:
    """What tells a network's weights from others: the SHA-256 of those of its first node that has some."""
    name = next(name for node in graph for name in node.weights)
    return hashlib.sha256(np.ascontiguousarray(weights[name], "<f4").tobytes()).hexdigest()


def kept(graph: Graph, patterns: Iterable[str]) -> set[str]:
    """The nodes of a folded graph that `patterns` keep in float: a node's name, that of a module for all nodes in it,
    or either with `*`, `?` and `[...]`. Raises TinyMViTError for one that names no node that would be in int8."""
    if isinstance(patterns, str):
        patterns = [patterns]
    choice = [name for name in graph.nodes if name in computed_in_int8(graph)]
    found: set[str] = set()
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"keep_float: a {type(pattern).__name__} among them, expected names of nodes or patterns")
        named = {name for name in choice if fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")}
        if not named:
            raise TinyMViTError(f"keep_float: {pattern} names no node in int8{did_you_mean(pattern, choice)}")
        found |= named
    return found


def _checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `Ranges` in a JSON object. Raises ConfigError."""
    if values.get("format") != FORMAT:
        raise ConfigError(f"format: {short(values.get('format'))}, expected {FORMAT!r}, as tinymvit.calibrate saves it")
    if values.get("version") != VERSION or isinstance(values["version"], bool):
        raise ConfigError(f"version: {short(values.get('version'))}, expected {VERSION}")
    names = [field.name for field in fields(Ranges)]
    missing = [name for name in names if name not in values]
    if missing:
        raise ConfigError(f"{', '.join(missing)}: missing")
    if not isinstance(values["method"], str) or values["method"] not in METHODS:
        raise ConfigError(f"method: {short(values['method'])}, expected {' or '.join(METHODS)}")
    percentile = values["percentile"]
    if (percentile is None) != (values["method"] == MIN_MAX):
        raise ConfigError(f"percentile: {short(percentile)} for the method {values['method']}")
    if not is_positive_integer(values["images"]):
        raise ConfigError(f"images: {short(values['images'])}, expected a whole number of at least 1")
    size = values["size"]
    if not isinstance(size, list) or len(size) != 2 or not all(map(is_positive_integer, size)):
        raise ConfigError(f"size: {short(size)}, expected [height, width]")
    if not isinstance(values["stem"], str):
        raise ConfigError(f"stem: {short(values['stem'])}, expected the SHA-256 of the first weights")
    if not isinstance(values["ranges"], dict):
        raise ConfigError(f"ranges: {short(values['ranges'])}, expected an object of [low, high] by the nodes' names")
    return {name: values[name] for name in names} | {
        "percentile": None if percentile is None else check_percentile(percentile),
        "size": tuple(size),
        "ranges": {name: _range(name, ends) for name, ends in values["ranges"].items()},
    }


def check_percentile(value: Any) -> float:
    """A percentile, above 50 and at most 100. Raises ConfigError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 50 < value <= 100:
        raise ConfigError(f"percentile: {short(value)}, expected a number above 50, at most 100")
    return float(value)


def _range(name: str, ends: Any) -> tuple[float, float]:
    numbers = isinstance(ends, list) and len(ends) == 2 and all(type(end) in (int, float) for end in ends)
    if not numbers or not all(-LARGEST <= end <= LARGEST for end in ends) or ends[0] > ends[1]:
        raise ConfigError(f"ranges: {name}: {short(ends)}, expected [low, high], low first, at most {LARGEST:g}")
    return float(ends[0]), float(ends[1])
