"""A network that is to compute in int8: the ranges of its values, wherever they come from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tinymvit.errors import TinyMViTError
from tinymvit.exporters.network import Network
from tinymvit.images.processor import MobileViTImageProcessor
from tinymvit.quantisation.calibration import Images, Pictures, known_ranges, observe
from tinymvit.quantisation.ranges import Ranges


def in_int8(
    network: Network,
    processor: MobileViTImageProcessor,
    calibrate: Ranges | Images | None,
    keep_float: Iterable[str],
) -> Network:
    """The network with the ranges of its values, and the nodes that stay in float; as it is if `calibrate` is None.

    processor: that prepares the pictures. calibrate, keep_float: see `export`. Raises ConfigError for ranges that are
    not this network's, ImageError if there are no pictures, TinyMViTError for a name in `keep_float` that is none.
    """
    keep_float = (keep_float,) if isinstance(keep_float, str) else tuple(keep_float)
    if calibrate is None:
        if keep_float:
            raise TinyMViTError("keep_float: without calibrate all arithmetic is in float, expected both or neither")
        return network
    _, channels, height, width = network.graph["pixel_values"].shape
    ranges = known_ranges(calibrate)
    if ranges is None:
        pixels = Pictures(calibrate, processor).pixels(channels, height, width)
        ranges = observe(network.graph, network.weights, pixels)
    found = {"method": ranges.method, "percentile": ranges.percentile, "images": ranges.images}
    facts = dict(network.facts) | {"calibration": found, "keep_float": list(keep_float)}
    network = replace(network, ranges=ranges, keep_float=keep_float, facts=facts)
    network.quantised()  # which says what does not fit, before the long work
    return network
