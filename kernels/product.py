"""The matrix product that convolutions, linear layers and attention share, on register tiles. Not an op itself.

    out[r, n] = start[r, n] + sum over k of a[r, k] * b[k, n]          2 operations for each multiply-add

A tile of ROWS x VECTORS accumulators stays in registers while k runs; a step of k reads VECTORS vectors of b and
ROWS numbers of a for ROWS * VECTORS fused multiply-adds, so arithmetic is the limit, not loads. Each sum begins with
`start` and takes its products in order of k, whatever the tile: the bits depend on nothing else.

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
def product(shape, a, b, start, out):
    """out[r, n] = start[r, n] + the sum over k, for `shape` (rows, depth, columns).

    `a`, `start` and `out` are (flat array, offset, elements from row to row), `b` is (panels, offset). A `start` with
    rows 0 elements apart is a bias; with `out` itself a product goes on where another stopped, with the same bits as
    one product over all of k.
    """
    rows, depth, columns = shape
    panels, at = b
    for column in range(0, columns, PANEL):
        width = min(PANEL, padded_columns(columns) - column)
        for row in range(0, rows, ROWS):
            part = (min(ROWS, rows - row), depth, columns - column)
            ends = (_part(a, row, 0), (panels, at), _part(start, row, column), _part(out, row, column))
            if width == 3 * LANES:
                _tile3(part, *ends)
            elif width == 2 * LANES:
                _tile2(part, *ends)
            else:
                _tile1(part, *ends)
        at += depth * width


@jit
def _part(matrix, row, column):
    array, at, stride = matrix
    return array, at + row * stride + column, stride


def _make_tile(vectors):
    load, step, store = tile_instructions(ROWS, vectors)
    width = vectors * LANES

    @jit
    def tile(shape, a, b, start, out):
        rows, depth, columns = shape
        a_array, a_at, a_stride = a
        panels, b_at = b
        sums = load(*start, rows, columns)
        for k in range(depth):
            sums = step(sums, a_array, a_at + k, a_stride, rows, panels, b_at + k * width)
        store(sums, *out, rows, columns)

    return tile


_tile1, _tile2, _tile3 = _make_tile(1), _make_tile(2), _make_tile(3)
