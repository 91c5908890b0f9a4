"""Unfold and fold: a feature map becomes sequences of tokens and back, so that attention runs between patches.

The pixels at one position inside all patches form one sequence: P = patch height * patch width sequences of N
patches. Channels are last, so a token is one run of memory and both ops only move runs. With patches of 2 x 2:

    a b c d          a c i k     sequence 0: the top left pixel of each patch
    e f g h   ->     b d j l     sequence 1
    i j k l          e g m o     sequence 2
    m n o p          f h n p     sequence 3

Cost: no arithmetic; 4 B H W C bytes read and as many written.
"""

from typing import NamedTuple

import numpy as np

from .runtime import arguments
from .runtime.jit import inline, kernel, unpack
from .runtime.program import Step, launch
from .simd.instructions import copy


class Sizes(NamedTuple):
    height: int
    width: int
    channels: int
    patch_height: int
    patch_width: int


def unfold(x: np.ndarray, patch_height: int, patch_width: int, out: np.ndarray | None = None) -> np.ndarray:
    """x (B, H, W, C) -> tokens (B * P, N, C); P and N count row by row, as transformers' `unfolding` orders them.

    Raises TypeError or ValueError, one line, for an argument of the wrong type or shape, also if the patches do not
    divide the map.
    """
    x = arguments.tensor(x, "unfold: x", "(B, H, W, C)")
    batch, height, width, channels = x.shape
    pixels, patches = _count_patches(height, width, patch_height, patch_width, "unfold")
    out = arguments.output(out, "unfold: out", (batch * pixels, patches, channels), [x])
    launch(Step(_unfold, batch * height, [x], out, Sizes(height, width, channels, patch_height, patch_width)))
    return out


def fold(
    tokens: np.ndarray,
    batch: int,
    height: int,
    width: int,
    patch_height: int,
    patch_width: int,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """tokens (B * P, N, C) -> (B, H, W, C): the inverse of `unfold`.

    Raises TypeError or ValueError, one line, for an argument of the wrong type or shape, also if the patches do not
    divide the map or the tokens do not fill it.
    """
    tokens = arguments.tensor(tokens, "fold: tokens", "(B * P, N, C)")
    batch = arguments.whole_number(batch, "fold: batch", 1)
    height = arguments.whole_number(height, "fold: height", 1)
    width = arguments.whole_number(width, "fold: width", 1)
    pixels, patches = _count_patches(height, width, patch_height, patch_width, "fold")
    channels = tokens.shape[2]
    if tokens.shape[:2] != (batch * pixels, patches):
        raise ValueError(f"fold: tokens must be ({batch * pixels}, {patches}, C), not of shape {tokens.shape}")
    out = arguments.output(out, "fold: out", (batch, height, width, channels), [tokens])
    launch(Step(_fold, batch * height, [tokens], out, Sizes(height, width, channels, patch_height, patch_width)))
    return out


def _count_patches(height: int, width: int, patch_height: int, patch_width: int, op: str) -> tuple[int, int]:
    """P and N, checked."""
    patch_height = arguments.whole_number(patch_height, f"{op}: patch_height", 1)
    patch_width = arguments.whole_number(patch_width, f"{op}: patch_width", 1)
    if height % patch_height or width % patch_width:
        raise ValueError(f"{op}: {patch_height} x {patch_width} patches do not divide a {height} x {width} map")
    return patch_height * patch_width, height // patch_height * (width // patch_width)


@kernel
def _unfold(arrays, sizes, first, last):
    """A unit of work is one row of the map."""
    x, _, _, _, out, _ = arrays
    size = unpack(sizes, Sizes)
    for row in range(first, last):
        _move_row(x, out, row, size, True)


@kernel
def _fold(arrays, sizes, first, last):
    """A unit of work is one row of the map."""
    tokens, _, _, _, out, _ = arrays
    size = unpack(sizes, Sizes)
    for row in range(first, last):
        _move_row(tokens, out, row, size, False)


@inline
def _move_row(source, target, row, size, unfolding):
    """Copy one row of the map, counted through the batch, to its tokens or back."""
    image, y = divmod(row, size.height)
    patch_row, inside_y = divmod(y, size.patch_height)
    across = size.width // size.patch_width
    patches = size.height // size.patch_height * across
    for inside_x in range(size.patch_width):
        sequence = (image * size.patch_height + inside_y) * size.patch_width + inside_x
        for patch_column in range(across):
            pixel = (row * size.width + patch_column * size.patch_width + inside_x) * size.channels
            token = (sequence * patches + patch_row * across + patch_column) * size.channels
            if unfolding:
                copy(source, pixel, target, token, size.channels)
            else:
                copy(source, token, target, pixel, size.channels)
