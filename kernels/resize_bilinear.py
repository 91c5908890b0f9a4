"""Bilinear resizing, as PyTorch's with align_corners=False: pixel centres stay where they are in the picture.

    at = max(0, (y + 1/2) H / H' - 1/2);  y0 = floor(at);  y1 = min(y0 + 1, H - 1);  f = at - y0;  the same along x
    out[y, x] = (1 - fy) ((1 - fx) in[y0, x0] + fx in[y0, x1]) + fy ((1 - fx) in[y1, x0] + fx in[y1, x1])

PyTorch rounds H / H' to float32, then `at`, a fused multiply-add, once: the coordinates of a long map show it (at 1,000
pixels, 3e-4 of the result; with the product rounded too, 1e-5 remains). So they are part of the definition. Making a
map smaller does not average it (no antialiasing), as PyTorch does not.

Cost for each image: about 8 H' W' C operations, 16 H' W' C bytes read, mostly from cache, and 4 H' W' C written.
"""

from typing import NamedTuple

import numpy as np

from .runtime import arguments
from .runtime.jit import jit, kernel, unpack
from .runtime.program import Step, launch
from .simd.instructions import LANES, load, store


class Sizes(NamedTuple):
    old_height: int
    old_width: int
    channels: int
    height: int
    width: int
    start: int
    rows: int


def resize_bilinear(
    x: np.ndarray, height: int, width: int, *, rows: range | None = None, out: np.ndarray | None = None
) -> np.ndarray:
    """x (B, H, W, C) -> (B, height, width, C), as `torch.nn.functional.interpolate`, bilinear, to this size.

    rows: only these rows of the result, (B, len(rows), width, C): a large map can be made, and used, band by band.
    Raises TypeError or ValueError, one line, for an argument of the wrong type or shape.
    """
    x = arguments.tensor(x, "resize_bilinear: x", "(B, H, W, C)")
    height = arguments.whole_number(height, "resize_bilinear: height", 1)
    width = arguments.whole_number(width, "resize_bilinear: width", 1)
    batch, old_height, old_width, channels = x.shape
    rows = range(height) if rows is None else rows
    if not isinstance(rows, range) or rows.step != 1 or not 0 <= rows.start < rows.stop <= height:
        raise ValueError(f"resize_bilinear: rows must be consecutive ones of {height}, not {rows}")
    out = arguments.output(out, "resize_bilinear: out", (batch, len(rows), width, channels), [x])
    sizes = Sizes(old_height, old_width, channels, height, width, rows.start, len(rows))
    launch(Step(_resize_bilinear, batch * len(rows), [x], out, sizes))
    return out


@kernel
def _resize_bilinear(arrays, sizes, first, last):
    """A unit of work is one output row."""
    x, _, _, _, out, _ = arrays
    size = unpack(sizes, Sizes)
    channels = size.channels
    for row in range(first, last):
        image, y = divmod(row, size.rows)
        y0, y1, down = _neighbours(size.start + y, size.old_height, size.height)
        above, below = (image * size.old_height + y0) * size.old_width, (image * size.old_height + y1) * size.old_width
        for column in range(size.width):
            x0, x1, right = _neighbours(column, size.old_width, size.width)
            up, left = np.float32(1) - down, np.float32(1) - right
            for i in range(0, channels, LANES):
                lanes = channels - i
                a = load(x, (above + x0) * channels + i, lanes, 0.0)
                b = load(x, (above + x1) * channels + i, lanes, 0.0)
                c = load(x, (below + x0) * channels + i, lanes, 0.0)
                d = load(x, (below + x1) * channels + i, lanes, 0.0)
                value = up * (left * a + right * b) + down * (left * c + right * d)
                store(out, (row * size.width + column) * channels + i, lanes, value)


@jit
def _neighbours(position, old_size, size):
    """The two old pixels around a new one, and how far it is from the first of them."""
    scale = np.float64(np.float32(old_size) / np.float32(size))
    at = np.float32(max(0.0, scale * (position + 0.5) - 0.5))  # in float64 the product is exact
    low = min(int(at), old_size - 1)
    return low, min(low + 1, old_size - 1), at - np.float32(low)
