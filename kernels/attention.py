"""Multi-head self-attention, between the projections: what each token takes from the others.

    out = softmax(q k^T / sqrt(d)) v          for each head by itself, d = D / heads

Cost for S sequences (`unfold` makes B P of them) of N tokens: 4 S N^2 D operations and S heads N^2 exponentials; it
reads 12 S N D bytes and writes 4 S N D. The scores, S heads N^2 of them, never exist at once: those of a few queries
are in cache at a time.

Queries lie across the lanes. A block of scores is k q^T, a row for each key; so the softmax goes down the columns and
no lane ever meets another, and out^T = v^T scores reads keys, values and scores as they lie. Only the queries and the
result, which are d / N of the scores, are transposed. The other way round, a query a row, the same products took as
long, but the softmax almost twice. The division by the softmax's sum is left to the end, where there are d values for a
query instead of N. The largest error of a softmax's weight is 4.4 ULP (`python tests/measures/ulp.py`: 256 scores
within 40).
"""

from typing import NamedTuple

import numpy as np

from .runtime import arguments
from .runtime.jit import jit, kernel, unpack
from .runtime.program import Step, launch
from .simd.activations import IDENTITY
from .simd.elementary import exp
from .simd.instructions import LANES, SQUARE, Matrix, fill, load, maximum, splat, store, transpose
from .simd.product import DEPTH, TILE_ROWS, Finish, Lines, Panels, Rows, Shape, panel_width, product

QUERIES = len(TILE_ROWS) * LANES  # at most so many are taken together: a panel of the products


class Sizes(NamedTuple):
    tokens: int
    width: int
    heads: int


class Places(NamedTuple):
    """Where in the working memory are, after the scores: a block of queries and then of the output, both (d, QUERIES);
    the sums of the scores; zeros for a product to start with; a square to transpose in; and the end."""

    block: int
    sums: int
    zeros: int
    square: int
    end: int


def attention(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, heads: int, *, out: np.ndarray | None = None
) -> np.ndarray:
    """softmax(q k^T / sqrt(D / heads)) v for each head: three (S, N, D) -> (S, N, D), float32.

    Head h reads and writes the channels [h D / heads, (h + 1) D / heads). Raises TypeError or ValueError, one line, for
    arrays of the wrong type or shape and for heads that do not divide D.
    """
    query = arguments.tensor(query, "attention: query", "(S, N, D)")
    key = arguments.same_shape(key, "attention: key", query.shape)
    value = arguments.same_shape(value, "attention: value", query.shape)
    sequences, tokens, width = query.shape
    heads = arguments.whole_number(heads, "attention: heads", 1)
    if width % heads:
        raise ValueError(f"attention: heads must divide the {width} channels, but is {heads}")
    out = arguments.output(out, "attention: out", query.shape, [query, key, value])
    scratch = _places(tokens, width // heads).end
    launch(Step(_attention, sequences * heads, [query, key, value], out, Sizes(tokens, width, heads), scratch))
    return out


@kernel
def _attention(arrays, sizes, first, last):
    """A unit of work is one head of one sequence."""
    query, key, value, _, out, scratch = arrays
    tokens, width, heads = unpack(sizes, Sizes)
    depth = width // heads
    places = _places(tokens, depth)
    fill(scratch, places.zeros, QUERIES, 0.0)
    zeros, no_finish = Lines(scratch, places.zeros, line=0, row=0), Finish(scratch[:0], IDENTITY)
    square = Matrix(scratch, places.square, row=LANES)
    scale = np.float32(1) / np.sqrt(np.float32(depth))
    for unit in range(first, last):
        sequence, head = divmod(unit, heads)
        at = sequence * tokens * width + head * depth
        query_at = 0
        while query_at < tokens:
            columns = panel_width(tokens - query_at)
            queries, rows = min(columns, tokens - query_at), at + query_at * width
            block = Matrix(scratch, places.block, columns)
            transpose(Matrix(query, rows, width), queries, depth, block, columns, square)

            keys, panel = Rows(key, at, line=0, row=width, step=1), Panels(scratch, places.block, depth, first=0)
            scores = Lines(scratch, at=0, line=0, row=columns)
            product(Shape(1, tokens, depth, columns), keys, panel, zeros, scores, no_finish)
            _exponentials(scratch, tokens, columns, scale, places.sums)

            values, panel = Rows(value, at, line=0, row=1, step=width), Panels(scratch, 0, depth=tokens, first=0)
            result = Lines(scratch, places.block, line=0, row=columns)
            product(Shape(1, depth, tokens, columns), values, panel, zeros, result, no_finish)
            _divide(block, depth, columns, places.sums)
            transpose(block, depth, queries, Matrix(out, rows, width), depth, square)
            query_at += columns


@jit
def _places(tokens, depth):
    block = tokens * QUERIES
    sums = block + depth * QUERIES
    square = sums + 2 * QUERIES
    return Places(block, sums, sums + QUERIES, square, square + SQUARE)


@jit
def _exponentials(scores, tokens, columns, scale, sums):
    """Each score becomes e^(scale (score - the column's largest)), and the columns are summed.

    The largest is subtracted so that nothing overflows, and the largest term is 1, so no sum is 0.
    """
    for column in range(0, columns, LANES):
        a = b = c = d = splat(-np.inf)
        for row in range(0, tokens, 4):  # four, because each has to wait for itself; the last may be the same row
            row1, row2, row3 = min(row + 1, tokens - 1), min(row + 2, tokens - 1), min(row + 3, tokens - 1)
            a = maximum(a, load(scores, row * columns + column, LANES, 0.0))
            b = maximum(b, load(scores, row1 * columns + column, LANES, 0.0))
            c = maximum(c, load(scores, row2 * columns + column, LANES, 0.0))
            d = maximum(d, load(scores, row3 * columns + column, LANES, 0.0))
        largest = maximum(maximum(a, b), maximum(c, d))
        total = splat(0.0)
        for first in range(0, tokens, DEPTH):  # in parts, as all long sums
            part = splat(0.0)
            for row in range(first, min(first + DEPTH, tokens)):
                term = exp((load(scores, row * columns + column, LANES, 0.0) - largest) * scale)
                store(scores, row * columns + column, LANES, term)
                part = part + term
            total = total + part
        store(scores, sums + column, LANES, total)


@jit
def _divide(block, rows, columns, divisors):
    """Each row of the block, divided by the values that lie at `divisors` in the same array."""
    array = block.array
    for column in range(0, columns, LANES):
        divisor = load(array, divisors + column, LANES, 0.0)
        for row in range(rows):
            place = block.at + row * block.row + column
            store(array, place, LANES, load(array, place, LANES, 0.0) / divisor)
