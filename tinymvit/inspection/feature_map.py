"""A feature map's channels as pictures in a grid. Tokens are put back where they came from in the map."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from tinymvit import reference
from tinymvit.graph import Graph, Node
from tinymvit.numerics import Array
from tinymvit.ops import Fold, Unfold

SIDE = 1024  # pixels that a grid's side is enlarged to, about
CELL = 128  # pixels that one channel's side is enlarged to, at most
GAP_COLOUR = (48, 96, 160)  # between the channels, which are grey


def channels(graph: Graph, node: Node, value: Array) -> Array:
    """The first image's channels in `value`, the value of `node`: (C, H, W).

    value: a map (B, C, H, W), or tokens (B P, N, D), whose width becomes the channels. Raises ValueError for a value
    that has no place in the image: a vector, or attention scores.
    """
    if value.ndim == 4 and (unfolded := _unfold_of(graph, node)) is None:
        return value[0]
    if value.ndim == 3 and (unfolded := _unfold_of(graph, node)) is not None:
        op = unfolded.op
        assert isinstance(op, Unfold)
        _, _, height, width = graph.inputs_of(unfolded)[0].shape
        return reference.compute(Fold(op.patch_height, op.patch_width, height, width), [value], [])[0]
    shape = " x ".join(map(str, value.shape))
    instead = "; see tinymvit attention" if value.ndim == 4 else ""
    raise ValueError(f"{node.name}: {shape} values that are no map of the image; expected a map or tokens{instead}")


def _unfold_of(graph: Graph, node: Node) -> Node | None:
    """The unfold that made the tokens that `node` computes with; None for a node outside of a transformer."""
    while node.inputs and not isinstance(node.op, Fold):
        if isinstance(node.op, Unfold):
            return node
        node = graph.nodes[node.inputs[0]]
    return None


def grid(channels: Array) -> Image.Image:
    """Channels (C, H, W) as grey pictures, row by row in a grid that is nearly square. Black is the smallest value of
    all channels, white the largest. Each value is drawn as a square of pixels, equally large in the whole grid.
    Raises ValueError for NaN and infinite values, which have no grey."""
    if not np.isfinite(channels).all():
        raise ValueError("the feature map holds NaN or infinite values; expected finite numbers")
    count, height, width = channels.shape
    columns = min(count, max(1, round(math.sqrt(count * height / width))))
    rows = math.ceil(count / columns)
    times = max(1, min(SIDE // (columns * width), SIDE // (rows * height), CELL // max(height, width)))
    low, high = float(channels.min()), float(channels.max())
    grey = ((channels - low) * (255 / ((high - low) or 1))).round().astype(np.uint8)
    cells = grey.repeat(times, 1).repeat(times, 2)
    down, across = height * times + 1, width * times + 1  # a line between the cells, and around them
    picture = Image.new("RGB", (columns * across + 1, rows * down + 1), GAP_COLOUR)
    for number, cell in enumerate(cells):
        row, column = divmod(number, columns)
        picture.paste(Image.fromarray(cell), (column * across + 1, row * down + 1))
    return picture
