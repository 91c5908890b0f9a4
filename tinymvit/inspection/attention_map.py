"""Where a pixel looks: one query's attention as a map of the image, and the picture of it.

A MobileViT block attends among the pixels that lie at one position inside all the patches (`Unfold`), so a query takes
from one pixel of each patch and from no other. From an image to its place in the block:

    map            H' x W', the block's feature map, resized up where the patch does not divide it
    query (y, x)   falls on pixel (y H' // H, x W' // W) of the map: of patch n, at position p inside it
    attention      row n of sequence p: one probability for each patch, N of them, which sum to one
    result         each patch's probability at all the pixels of the image that fall on the patch

Each patch covers ph H / H' x pw W / W' pixels, so the values of the whole result sum to about H W / N, and exactly so
where H and W are multiples of the grid of patches. Computed with the reference in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import index
from typing import Any

import numpy as np
from PIL import Image

from tinymvit.graph import Graph
from tinymvit.inspection.trace import Trace
from tinymvit.ops import Unfold

Array = np.ndarray

COLOUR = np.array([255, 96, 0], np.float32)  # of full attention
OPACITY = 0.85  # of the colour where the attention is largest
SIDE = 384  # pixels that the longer side of a picture reaches at most by enlarging it


def attention_map(
    graph: Graph,
    weights: Mapping[str, Array],
    pixel_values: Array,
    layer: int,
    block: int,
    head: int | None,
    query: tuple[int, int],
    progress: bool = False,
) -> Array:
    """The attention of the pixel `query` (y, x) in transformer layer `block` of MobileViT block `layer`, both from 0:
    (H, W) float32. head: one of them, from 0, or None for their mean. progress: as of a `Trace`.

    Raises ValueError if pixel_values, (1, C, H, W), are several images, for a number out of range, and for NaN.
    """
    images, _, height, width = pixel_values.shape
    if images != 1:
        raise ValueError(f"pixel_values hold {images} images; expected one")
    paths = [path for path in graph.modules if path.endswith(".transformer")]
    stages = [path.removesuffix(".transformer") for path in paths]
    stage = stages[_checked("layer", layer, len(stages))]
    blocks = sum(name.startswith(f"{stage}.transformer.") and name.endswith(".probabilities") for name in graph.nodes)
    number = _checked("block", block, blocks)
    name = f"{stage}.transformer.layer.{number}.attention.attention.probabilities"
    heads = graph[name].shape[1]
    chosen = slice(None) if head is None else _checked("head", head, heads)
    if np.shape(query) != (2,):
        raise ValueError(f"query is {query!r}; expected two numbers, (y, x)")
    y, x = _checked("query's y", query[0], height), _checked("query's x", query[1], width)

    unfold = graph[f"{stage}.unfolding"]
    assert isinstance(unfold.op, Unfold)
    ph, pw = unfold.op.patch_height, unfold.op.patch_width
    _, _, map_height, map_width = graph.inputs_of(unfold)[0].shape
    rows, columns = map_height // ph, map_width // pw  # of patches
    row, column = y * map_height // height, x * map_width // width
    position = row % ph * pw + column % pw
    patch = row // ph * columns + column // pw

    ((_, probabilities),) = Trace(graph, weights, pixel_values, [name], progress=progress)  # (P, h, N, N)
    of_patches = probabilities[position, chosen, patch]  # (h, N) or (N)
    if head is None:
        of_patches = of_patches.mean(0)
    if not np.isfinite(of_patches).all():
        raise ValueError(f"{name}: holds NaN; expected probabilities")
    of_rows = of_patches.reshape(rows, columns)[np.arange(height) * rows // height]
    return of_rows[:, np.arange(width) * columns // width]


def _checked(what: str, value: Any, count: int) -> int:
    try:
        number = index(value)
    except TypeError:
        raise TypeError(f"{what} is {value!r}; expected a whole number") from None
    if not 0 <= number < count:
        raise ValueError(f"{what} is {number}; expected 0 to {count - 1}")
    return number


def attention_picture(pixel_values: Array, attention: Array, query: tuple[int, int]) -> Image.Image:
    """The image in grey, the more orange the more attention (strongest where it is largest), the query in a circle.

    pixel_values: (1, C, H, W), 0 to 1. attention: (H, W). Small images are enlarged a whole number of times.
    """
    from PIL import ImageDraw

    grey = np.clip(pixel_values[0].mean(0), 0, 1) * 255  # so that all the colour is attention
    strength = attention / (attention.max() or 1) * OPACITY
    pixels = grey[..., None] + (COLOUR - grey[..., None]) * strength[..., None]
    times = max(1, SIDE // max(grey.shape))
    pixels = pixels.round().astype(np.uint8).repeat(times, 0).repeat(times, 1)
    picture = Image.fromarray(pixels)
    y, x = ((place + 0.5) * times - 0.5 for place in query)
    draw = ImageDraw.Draw(picture)
    radius = max(5, max(picture.size) // 60)
    for colour, r in (("black", radius + 1), ("white", radius), ("white", radius - 1), ("black", radius - 2)):
        draw.ellipse((x - r, y - r, x + r, y + r), outline=colour)
    return picture
