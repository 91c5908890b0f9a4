"""Global average pooling: the mean of each channel over the map.

    out[c] = sum over y and x of in[y, x, c] / (H W)

Cost: B H W C additions; 4 B H W C bytes read. A sum over all pixels in turn would carry their rounding errors along, so
BLOCK pixels are summed at a time, then the sums.
"""

from typing import NamedTuple

import numpy as np

from .runtime import arguments
from .runtime.jit import jit, kernel, unpack
from .runtime.program import Step, launch
from .simd.instructions import LANES, load, splat, store

BLOCK = 16


class Sizes(NamedTuple):
    pixels: int
    channels: int


def mean_pool(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """x (B, H, W, C) -> (B, C), float32.

    Raises TypeError or ValueError, one line, for an argument of the wrong type or shape.
    """
    x = arguments.tensor(x, "mean_pool: x", "(B, H, W, C)")
    batch, height, width, channels = x.shape
    out = arguments.output(out, "mean_pool: out", (batch, channels), [x])
    launch(Step(_mean_pool, batch * -(-channels // LANES), [x], out, Sizes(height * width, channels)))
    return out


@kernel
def _mean_pool(arrays, sizes, first, last):
    """A unit of work is one vector of channels of one map."""
    x, _, _, _, out, _ = arrays
    pixels, channels = unpack(sizes, Sizes)
    vectors = (channels + LANES - 1) // LANES
    for unit in range(first, last):
        image, channel = unit // vectors, unit % vectors * LANES
        lanes = channels - channel
        total = splat(0.0)
        for start in range(0, pixels, BLOCK):
            at = (image * pixels + start) * channels + channel
            total = total + _sum(x, at, channels, min(BLOCK, pixels - start), lanes)
        store(out, image * channels + channel, lanes, total / np.float32(pixels))


@jit
def _sum(x, at, stride, count, lanes):
    total = splat(0.0)
    for i in range(count):
        total = total + load(x, at + i * stride, lanes, 0.0)
    return total
