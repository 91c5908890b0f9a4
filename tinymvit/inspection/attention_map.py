"""Where a pixel looks: one query's attention as a map of the image, and the picture of it.

A MobileViT block attends among the pixels that lie at one position inside all the patches (`Unfold`), so a query takes
from one pixel of each patch and from no other. From an image to its place in the block:

    map            H' x W', the block's feature map, resized up where the patch does not divide it
    query (y, x)   falls on pixel (y H' // H, x W' // W) of the map: of patch n, at position p inside it
    attention      row n of sequence p: one probability for each patch, N of them, which sum to one
    result         each patch's probability at all the pixels of the image that fall on the patch

Each patch covers ph H / H' x pw W / W' pixels, so the values of the whole result sum to about H W / N, and exactly so
where H and W are multiples of the grid of patches. The values are the reference's, in float32.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from operator import index
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from tinymvit.graph import Graph
from tinymvit.inspection.trace import Trace
from tinymvit.numerics import Array
from tinymvit.ops import Unfold
from tinymvit.text import short

Method = TypeVar("Method", bound=Callable[..., Array])

COLOUR = np.array([255, 96, 0], np.float32)  # of full attention
OPACITY = 0.85  # of the colour where the attention is largest
SIDE = 384  # pixels that the longer side of a picture reaches at most by enlarging it


class Query(NamedTuple):
    """Who looks: `pixel` (y, x) of the image, with one head, or the mean of all (None), of one transformer layer in one
    of the three MobileViT blocks. All of them count from 0."""

    block: int
    layer: int
    head: int | None
    pixel: tuple[int, int]


def attention_map(
    graph: Graph, weights: Mapping[str, Array], pixel_values: Array, query: Query, progress: bool = False
) -> Array:
    """How much `query` takes from each other part of the image: (H, W) float32.

    pixel_values: (1, C, H, W). progress: as of a `Trace`. Raises ValueError if pixel_values are several images, for a
    number out of range, and for NaN; TypeError for a number that is not whole.
    """
    images, _, height, width = pixel_values.shape
    if images != 1:
        raise ValueError(f"pixel_values hold {images} images; expected one")
    blocks = [path.removesuffix(".transformer") for path in graph.modules if path.endswith(".transformer")]
    block = blocks[_checked("block", query.block, len(blocks))]
    layers = [name for name in graph.nodes if name.startswith(f"{block}.transformer.") and name.endswith(PROBABILITIES)]
    name = layers[_checked("layer", query.layer, len(layers))]
    head = slice(None) if query.head is None else _checked("head", query.head, graph[name].shape[1])
    if isinstance(query.pixel, str) or not isinstance(query.pixel, Sequence | np.ndarray) or len(query.pixel) != 2:
        raise ValueError(f"query is {short(query.pixel)}; expected two numbers, (y, x)")
    y, x = _checked("query's y", query.pixel[0], height), _checked("query's x", query.pixel[1], width)

    unfold = graph[f"{block}.unfolding"]
    assert isinstance(unfold.op, Unfold)
    ph, pw = unfold.op.patch_height, unfold.op.patch_width
    _, _, map_height, map_width = graph.inputs_of(unfold)[0].shape
    rows, columns = map_height // ph, map_width // pw  # of patches
    row, column = y * map_height // height, x * map_width // width
    position = row % ph * pw + column % pw
    patch = row // ph * columns + column // pw

    ((_, probabilities),) = Trace(graph, weights, pixel_values, [name], progress=progress)  # (P, h, N, N)
    of_patches = probabilities[position, head, patch]  # (h, N) or (N)
    if query.head is None:
        of_patches = of_patches.mean(0)
    if not np.isfinite(of_patches).all():
        raise ValueError(f"{name}: holds NaN; expected probabilities")
    of_rows = of_patches.reshape(rows, columns)[np.arange(height) * rows // height]
    return of_rows[:, np.arange(width) * columns // width]


PROBABILITIES = ".attention.attention.probabilities"  # a transformer layer's attention, below the layer's name


def _checked(what: str, value: Any, count: int) -> int:
    try:
        number = index(value)
    except TypeError:
        raise TypeError(f"{what} is {short(value)}; expected a whole number") from None
    if not 0 <= number < count:
        raise ValueError(f"{what} is {number}; expected 0 to {count - 1}")
    return number


# ---- the words of version 0.1, which exchanged `layer` and `block`; to be removed after one release ----


def in_words_of_0_1(words: Sequence[str]) -> bool:
    """Whether a call that names these words, in this order, means what version 0.1 meant by them.

    Version 0.1 asked for `layer`, one of the three MobileViT blocks, and then for `block`, a transformer layer in it.
    Both words are still there, each for what the other meant, so only the order tells: whoever learnt the words from
    version 0.1 names `layer` first, or alone.
    """
    return list(words) in (["layer"], ["layer", "block"])


def with_words_of_0_1(attention: Method) -> Method:
    """`attention`, a method with (pixel_values, block, layer, ...), which also takes the keywords of version 0.1.

    By position the two are what they always were. As keywords, `layer=1, block=0` in this order, or a MobileViT block
    by position and `block=`, are read as version 0.1 read them, and a FutureWarning says how to write that now.
    """

    @wraps(attention)
    def call(self: Any, *places: Any, **named: Any) -> Array:
        words = [word for word in named if word in ("block", "layer")]
        if "block" in words and len(places) == 2:  # pixel_values and a MobileViT block: what is named is inside it
            words = ["layer", *words]
            named["layer"], places = places[1], places[:1]
        if len(words) == 2 and in_words_of_0_1(words):
            named["block"], named["layer"] = named["layer"], named["block"]
            warnings.warn(
                f"attention(layer={named['block']!r}, block={named['layer']!r}) is read as in version 0.1, which "
                f"exchanged the two words: write block={named['block']!r}, layer={named['layer']!r}. From the next "
                "version on, block is the MobileViT block and layer the transformer layer in it, in any order",
                FutureWarning,
                stacklevel=2,
            )
        return attention(self, *places, **named)

    return call  # type: ignore[return-value]


def attention_picture(pixel_values: Array, attention: Array, query: tuple[int, int]) -> Image.Image:
    """The image in grey with the attention over it in orange, strongest where it is largest, and the query in a circle.

    pixel_values: (1, C, H, W), 0 to 1. attention: (H, W), as of `attention_map`. query: the pixel (y, x). A small image
    is enlarged a whole number of times.
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
