"""The matrix product that convolutions, linear layers and attention share, on register tiles. Not an op itself.

    out[r, n] = start[r, n] + sum over k of a[r, k] * b[k, n]          2 operations for each multiply-add

Rows come in lines, such as a map's, so that no array needs to be copied together first.

A tile of rows x vectors accumulators stays in registers while k runs; a step of k reads `vectors` vectors of b and
`rows` numbers of a for rows * vectors fused multiply-adds, so arithmetic is the limit, not loads.

A long sum is taken in parts of at most DEPTH products, each in order of k, and the parts are added: rounding errors
then grow with the square root of a part's length, not of the whole, and a part of `b` stays in L1 for all the rows.
The bits depend on nothing but the shape and the packing.

`b` is packed: panels as wide as a tile, padded with zeros to a multiple of 16 columns; inside a panel row k is
contiguous. The packed array begins at a cache line: else every load is two, and 128 GFLOP/s are 110. Nothing is gained
by packing `a` too: its rows are read from L1.
"""

from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import binding

from ..runtime.arguments import empty
from ..runtime.jit import inline, jit
from .activations import IDENTITY, finish
from .instructions import LANES, Matrix, tile_instructions

DEPTH = 96  # a part of a sum is at most so many products


def _tile_rows() -> tuple[int, ...]:
    """Rows of a tile that is 1, 2, ... vectors wide: as many accumulators as the registers hold.

    AVX-512 has 32 registers of a vector each; elsewhere a vector is two registers of 16 (AVX2) or four of 32 (NEON).
    """
    features = numba.config.CPU_FEATURES
    avx512 = "+avx512f" in features if features is not None else binding.get_host_cpu_features().get("avx512f", False)
    return (16, 8, 8) if avx512 else (6,)


TILE_ROWS = _tile_rows()
ROWS = max(TILE_ROWS)  # a multiple of each


def pack_panels(b: np.ndarray) -> np.ndarray:
    """The packed form, flat, of a float32 matrix (depth, columns), which `product` reads. Weights are packed once, when
    they are loaded."""
    depth, columns = b.shape
    padded = np.zeros((depth, padded_columns(columns)), np.float32)
    padded[:, :columns] = b
    packed = empty((padded.size,))
    at = column = 0
    while column < padded.shape[1]:
        width = panel_width(columns - column)
        packed[at : at + depth * width] = padded[:, column : column + width].ravel()
        at += depth * width
        column += width
    return packed


@jit
def panel_width(columns):
    """How wide the next panel is where `columns` are left. The panels share them evenly, so that none is narrow."""
    vectors = (columns + LANES - 1) // LANES
    panels = (vectors + len(TILE_ROWS) - 1) // len(TILE_ROWS)
    return (vectors + panels - 1) // panels * LANES


@jit
def padded_columns(columns):
    """`columns` rounded up to whole vectors."""
    return (columns + LANES - 1) // LANES * LANES


class Shape(NamedTuple):
    """The sizes of a product: how many lines `a` and `out` have, how many rows a line has, how many products are
    summed, and how many columns `b` and `out` have."""

    lines: int
    rows: int
    depth: int
    columns: int


class Rows(NamedTuple):
    """The matrix `a` in a flat array: where it begins, and how many elements further the next line, row and k are."""

    array: Any
    at: int
    line: int
    row: int
    step: int


class Panels(NamedTuple):
    """The matrix `b`, packed: where it begins in a flat array, the depth it is packed for, the first k that is used."""

    array: Any
    at: int
    depth: int
    first: int


class Lines(NamedTuple):
    """The matrix `start` or `out` in a flat array: where it begins, and how many elements further the next line and row
    are."""

    array: Any
    at: int
    line: int
    row: int


class Finish(NamedTuple):
    """What follows a product: an activation, and a residual of the same layout as `out`, empty if there is none."""

    residual: Any
    code: int


@jit
def product(shape, a, b, start, out, end):
    """out[r, n] = start[r, n] + the sum over k; then `finish`, for a line of a panel while it is in cache.

    `shape` is a Shape, `a` Rows, `b` Panels, `start` and `out` Lines, `end` Finish. A `start` whose rows are 0 elements
    apart is a bias; if its array is empty, the product is added to what `out` holds.
    """
    panel_at, column = b.at, 0
    while column < shape.columns:
        width = panel_width(shape.columns - column)
        columns = min(width, shape.columns - column)
        vectors = width // LANES
        height = TILE_ROWS[vectors - 1]
        parts = (shape.depth + DEPTH - 1) // DEPTH
        for part in range(parts):
            k, next_k = shape.depth * part // parts, shape.depth * (part + 1) // parts
            finishes = part == parts - 1 and (end.code != IDENTITY or end.residual.size > 0)
            for line in range(shape.lines):
                for row in range(0, shape.rows, height):
                    size = (min(height, shape.rows - row), next_k - k, columns)
                    a_at = a.at + line * a.line + row * a.row + k * a.step
                    b_at = panel_at + (b.first + k) * width
                    begin = _matrix(start, line, row, column) if part == 0 else Matrix(start.array[:0], 0, 0)
                    target = _matrix(out, line, row, column)
                    rows_of_a = Rows(a.array, a_at, a.line, a.row, a.step)
                    _tile(vectors, size, rows_of_a, Matrix(b.array, b_at, width), begin, target)
                if finishes:
                    finish(_matrix(out, line, 0, column), shape.rows, columns, end.residual, end.code)
        panel_at += b.depth * width
        column += width


@jit
def _matrix(lines, line, row, column):
    """The rows of a line, from this row and column on."""
    return Matrix(lines.array, lines.at + line * lines.line + row * lines.row + column, lines.row)


def _make_tile(rows, vectors):
    zeros, load, step, add, store = tile_instructions(rows, vectors)
    width = vectors * LANES

    @inline
    def tile(shape, a, b, start, out):
        rows, depth, columns = shape
        added = start.array.size == 0
        sums = zeros() if added else load(start.array, start.at, start.row, rows, columns)
        for k in range(depth):
            sums = step(sums, a.array, a.at + k * a.step, a.row, rows, b.array, b.at + k * width)
        if added:
            sums = add(load(out.array, out.at, out.row, rows, columns), sums)
        store(sums, out.array, out.at, out.row, rows, columns)

    return tile


def _make_tile_choice():
    """The tile of a number of vectors."""
    tiles = [_make_tile(rows, vectors) for vectors, rows in enumerate(TILE_ROWS, 1)]
    if len(tiles) == 1:
        (tile1,) = tiles

        @inline
        def choose(vectors, shape, a, b, start, out):
            tile1(shape, a, b, start, out)

    else:
        tile1, tile2, tile3 = tiles

        @inline
        def choose(vectors, shape, a, b, start, out):
            if vectors == 3:
                tile3(shape, a, b, start, out)
            elif vectors == 2:
                tile2(shape, a, b, start, out)
            else:
                tile1(shape, a, b, start, out)

    return choose


_tile = _make_tile_choice()
