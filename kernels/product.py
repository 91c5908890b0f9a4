"""The matrix product that convolutions, linear layers and attention share, on register tiles. Not an op itself.

    out[r, n] = sum over k of a[r, k] * b[k, n]          2 operations for each multiply-add

A tile of ROWS x VECTORS accumulators stays in registers while k runs; a step of k reads VECTORS vectors of b and
ROWS numbers of a for ROWS * VECTORS fused multiply-adds, so arithmetic is the limit, not loads. Each sum starts at 0
and takes its products in order of k, whatever the tile: the bits depend on nothing else.

`b` is packed: panels of up to VECTORS * 16 columns, the last narrower, padded with zeros to a multiple of 16 columns;
inside a panel row k is contiguous. Nothing is gained by packing `a` too: its rows are read from L1.
"""

import numba
import numpy as np
from llvmlite import binding

from .jit import jit
from .simd import LANES, tile_instructions


def _tile_shape() -> tuple[int, int]:
    """What fits the registers: 8 x 3 accumulators in AVX-512's 32, 6 x 1 (of two or four registers each) elsewhere."""
    features = numba.config.CPU_FEATURES
    avx512 = "+avx512f" in features if features is not None else binding.get_host_cpu_features().get("avx512f", False)
    return (8, 3) if avx512 else (6, 1)


ROWS, VECTORS = _tile_shape()
PANEL = VECTORS * LANES


def pack_panels(b: np.ndarray) -> np.ndarray:
    """The packed form of a float32 matrix (K, N), flat: `product` reads it. For weights, once, when they are loaded."""
    depth, columns = b.shape
    padded = np.zeros((depth, padded_columns(columns)), np.float32)
    padded[:, :columns] = b
    return np.concatenate([padded[:, at : at + PANEL].ravel() for at in range(0, padded.shape[1], PANEL)])


@jit
def padded_columns(columns):
    """`columns` rounded up to whole vectors."""
    return (columns + LANES - 1) // LANES * LANES


@jit
def product(shape, a, a_at, a_stride, b, b_at, out, out_at, out_stride, accumulate):
    """out (+)= a b for `shape` (rows, depth, columns); offsets and the strides between rows count elements.

    `accumulate` continues the sums that are in `out`, with the same bits as one product over all of k.
    """
    rows, depth, columns = shape
    for column in range(0, columns, PANEL):
        width = min(PANEL, padded_columns(columns) - column)
        for row in range(0, rows, ROWS):
            tile = (min(ROWS, rows - row), depth, columns - column)
            x_at, y_at = a_at + row * a_stride, out_at + row * out_stride + column
            if width == 3 * LANES:
                _tile3(tile, a, x_at, a_stride, b, b_at, out, y_at, out_stride, accumulate)
            elif width == 2 * LANES:
                _tile2(tile, a, x_at, a_stride, b, b_at, out, y_at, out_stride, accumulate)
            else:
                _tile1(tile, a, x_at, a_stride, b, b_at, out, y_at, out_stride, accumulate)
        b_at += depth * width


def _make_tile(vectors):
    zero, load, step, store = tile_instructions(ROWS, vectors)
    width = vectors * LANES

    @jit
    def tile(shape, a, a_at, a_stride, b, b_at, out, out_at, out_stride, accumulate):
        rows, depth, columns = shape
        sums = load(out, out_at, out_stride, rows, columns) if accumulate else zero()
        for k in range(depth):
            sums = step(sums, a, a_at + k, a_stride, rows, b, b_at + k * width)
        store(sums, out, out_at, out_stride, rows, columns)

    return tile


_tile1, _tile2, _tile3 = _make_tile(1), _make_tile(2), _make_tile(3)
