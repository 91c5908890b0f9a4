"""Multi-head self-attention, between the projections: what each token takes from the others.

    out = softmax(q k^T / sqrt(d)) v          for each head by itself, d = D / heads

Cost for S sequences of N tokens: 4 S N^2 D operations and S heads N^2 exponentials; it reads 12 S N D bytes and writes
4 S N D. The scores, S heads N^2 of them, never exist at once: a block of QUERIES rows is in cache at a time. The
division by the softmax's sum is left to the end, where there are d values a row instead of N.
"""

import numpy as np

from . import border
from .elementary import exp
from .jit import jit, kernel
from .product import PANEL, padded_columns, product
from .simd import LANES, load, max_lanes, maximum, splat, store, sum_lanes
from .threads import launch

QUERIES = 32


def attention(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, heads: int, *, out: np.ndarray | None = None
) -> np.ndarray:
    """softmax(q k^T / sqrt(D / heads)) v for each head: three (S, N, D) -> (S, N, D), float32.

    Head h reads and writes the channels [h D / heads, (h + 1) D / heads). Raises TypeError or ValueError, one line, for
    arrays of the wrong type or shape and for heads that do not divide D.
    """
    query = border.tensor(query, "attention: query", "(S, N, D)")
    key = border.same_shape(key, "attention: key", query.shape)
    value = border.same_shape(value, "attention: value", query.shape)
    sequences, tokens, width = query.shape
    heads = border.whole_number(heads, "attention: heads", 1)
    if width % heads:
        raise ValueError(f"attention: heads must divide the {width} channels, but is {heads}")
    out = border.output(out, "attention: out", query.shape, [query, key, value])
    launch(_attention, sequences * heads, [query, key, value], out, [tokens, width, heads])
    return out


@kernel
def _attention(arrays, sizes, first, last):
    """A unit of work is one head of one sequence."""
    query, key, value, _, out = arrays
    tokens, width, heads = sizes[0], sizes[1], sizes[2]
    depth = width // heads
    stride = padded_columns(tokens)
    keys = np.empty(depth * stride, np.float32)
    values = np.empty(tokens * padded_columns(depth), np.float32)
    scores = np.empty(QUERIES * stride, np.float32)
    sums = np.empty(QUERIES, np.float32)
    zeros = (np.zeros(max(tokens, depth), np.float32), 0, 0)
    scale = np.float32(1) / np.sqrt(np.float32(depth))
    for unit in range(first, last):
        sequence, head = divmod(unit, heads)
        at = sequence * tokens * width + head * depth
        _pack(key, at, 1, width, depth, tokens, keys)
        _pack(value, at, width, 1, tokens, depth, values)
        for start in range(0, tokens, QUERIES):
            rows = min(QUERIES, tokens - start)
            row_at = at + start * width
            product((rows, depth, tokens), (query, row_at, width), (keys, 0), zeros, (scores, 0, stride))
            _exponentials(scores, rows, tokens, stride, scale, sums)
            product((rows, tokens, depth), (scores, 0, stride), (values, 0), zeros, (out, row_at, width))
            _divide(out, row_at, width, rows, depth, sums)


@jit
def _pack(source, at, k_stride, column_stride, depth, columns, panels):
    """The panels that `product` reads of B[k, n] = source[at + k * k_stride + n * column_stride]."""
    position = 0
    for first in range(0, columns, PANEL):
        width = min(PANEL, padded_columns(columns) - first)
        for k in range(depth):
            for n in range(width):
                inside = first + n < columns
                place = at + k * k_stride + (first + n) * column_stride
                panels[position + n] = source[place] if inside else np.float32(0)
            position += width


@jit
def _exponentials(scores, rows, tokens, stride, scale, sums):
    """Each score becomes e^(scale (score - the row's largest)), and the rows are summed.

    The largest is subtracted so that nothing overflows, and the largest term is 1, so no sum is 0.
    """
    for row in range(rows):
        largest = splat(-np.inf)
        for i in range(0, tokens, LANES):
            largest = maximum(largest, load(scores, row * stride + i, tokens - i, -np.inf))
        shift = max_lanes(largest)
        total = splat(0.0)
        for i in range(0, tokens, LANES):
            lanes = tokens - i
            term = exp((load(scores, row * stride + i, lanes, -np.inf) - shift) * scale)
            store(scores, row * stride + i, lanes, term)
            total = total + term
        sums[row] = sum_lanes(total)


@jit
def _divide(out, at, stride, rows, columns, divisors):
    for row in range(rows):
        for i in range(0, columns, LANES):
            lanes = columns - i
            value = load(out, at + row * stride + i, lanes, 0.0)
            store(out, at + row * stride + i, lanes, value / divisors[row])
