"""A network that is to compute in int8: the ranges of its values, wherever they come from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tinymvit.errors import TinyMViTError, warn
from tinymvit.exporters.network import Network
from tinymvit.graph import Graph
from tinymvit.images.processor import MobileViTImageProcessor
from tinymvit.quantisation.calibration import Images, Pictures, known_ranges, observe
from tinymvit.quantisation.ranges import Ranges


def in_int8(
    network: Network,
    single: Graph,
    processor: MobileViTImageProcessor,
    calibrate: Ranges | Images | None,
    keep_float: Iterable[str],
) -> Network:
    """The network with the ranges of its values, and the nodes that stay in float; as it is if `calibrate` is None.

    single: the network's graph for one image, before any pass. processor: that prepares the pictures. calibrate,
    keep_float: see `export`. Ranges of inputs of another size draw a warning. Raises ConfigError for ranges that are
    not this network's, ImageError if there are no pictures, TinyMViTError for a name in `keep_float` that is none.
    """
    keep_float = (keep_float,) if isinstance(keep_float, str) else tuple(keep_float)
    if calibrate is None:
        if keep_float:
            raise TinyMViTError("keep_float: without calibrate all arithmetic is in float, expected both or neither")
        return network
    _, channels, height, width = single["pixel_values"].shape
    ranges = known_ranges(calibrate)
    if ranges is None:
        ranges = observe(single, network.weights, Pictures(calibrate, processor).pixels(channels, height, width))
    if ranges.size != (height, width):
        seen = " x ".join(map(str, ranges.size))
        warn(f"calibrate: the ranges are of inputs of {seen}, those of {height} x {width} may be others")
    found = {"method": ranges.method, "percentile": ranges.percentile, "images": ranges.images}
    facts = dict(network.facts) | {"calibration": found, "keep_float": list(keep_float)}
    network = replace(network, ranges=ranges, keep_float=keep_float, facts=facts)
    network.quantised()  # which says what does not fit, before the long work
    return network
