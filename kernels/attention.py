"""Multi-head self-attention, between the projections: what each token takes from the others.

    out = softmax(q k^T / sqrt(d)) v          for each head by itself, d = D / heads

Cost for S sequences of N tokens: 4 S N^2 D operations and S heads N^2 exponentials; it reads 12 S N D bytes and writes
4 S N D. The scores, S heads N^2 of them, never exist at once: a block of QUERIES rows is in cache at a time. The
division by the softmax's sum is left to the end, where there are d values a row instead of N.
"""

import numpy as np

from . import border
from .activate import IDENTITY
from .elementary import exp
from .jit import jit, kernel
from .product import padded_columns, panel_width, product
from .program import launch
from .simd import LANES, fill, load, max_lanes, maximum, splat, store, sum_lanes

QUERIES = 16


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
    *_, scratch = _places(tokens, width // heads)
    launch(_attention, sequences * heads, [query, key, value], out, [tokens, width, heads], scratch)
    return out


@kernel
def _attention(arrays, sizes, first, last):
    """A unit of work is one head of one sequence."""
    query, key, value, _, out, scratch = arrays
    tokens, width, heads = sizes[0], sizes[1], sizes[2]
    depth = width // heads
    values_at, scores_at, sums_at, zeros_at, end = _places(tokens, depth)
    stride = padded_columns(tokens)
    zeros = (scratch, zeros_at, 0)
    fill(scratch, zeros_at, end - zeros_at, 0.0)
    no_finish = (scratch[:0], IDENTITY)
    scale = np.float32(1) / np.sqrt(np.float32(depth))
    for unit in range(first, last):
        sequence, head = divmod(unit, heads)
        at = sequence * tokens * width + head * depth
        _pack_keys(key, at, width, depth, tokens, scratch)
        _pack_values(value, at, width, depth, tokens, scratch, values_at)
        for start in range(0, tokens, QUERIES):
            rows = min(QUERIES, tokens - start)
            row_at = at + start * width
            scores = (scratch, scores_at, stride)
            product((rows, depth, tokens), (query, row_at, width), (scratch, 0), zeros, scores, no_finish)
            _exponentials(scratch, scores_at, rows, tokens, stride, scale, sums_at)
            product((rows, tokens, depth), scores, (scratch, values_at), zeros, (out, row_at, width), no_finish)
            _divide(out, row_at, width, rows, depth, scratch, sums_at)


@jit
def _places(tokens, depth):
    """Where in the working memory are, after the keys in panels: the values in panels, a block of scores, the sums of
    its rows, zeros for a product to start with; and the end."""
    values = depth * padded_columns(tokens)
    scores = values + tokens * padded_columns(depth)
    sums = scores + QUERIES * padded_columns(tokens)
    zeros = sums + padded_columns(QUERIES)
    return values, scores, sums, zeros, zeros + padded_columns(max(tokens, depth))


@jit
def _pack_keys(key, at, stride, depth, tokens, panels):
    """The panels that `product` reads of the transposed keys: depth rows, a column for each token."""
    position = first = 0
    while first < tokens:
        width = panel_width(tokens - first)
        for n in range(min(width, tokens - first)):
            for k in range(depth):
                panels[position + k * width + n] = key[at + (first + n) * stride + k]
        position += depth * width
        first += width


@jit
def _pack_values(value, at, stride, depth, tokens, panels, position):
    """The panels of the values: a row for each token, depth columns."""
    first = 0
    while first < depth:
        width = panel_width(depth - first)
        for k in range(tokens):
            for i in range(0, width, LANES):
                taken = load(value, at + k * stride + first + i, depth - first - i, 0.0)
                store(panels, position + k * width + i, LANES, taken)
        position += tokens * width
        first += width


@jit
def _exponentials(scores, at, rows, tokens, stride, scale, sums_at):
    """Each score becomes e^(scale (score - the row's largest)), and the rows are summed.

    The largest is subtracted so that nothing overflows, and the largest term is 1, so no sum is 0. Four rows are
    taken together, because one alone spends half its time waiting for its own sums; the last may be the same row.
    """
    for row in range(0, rows, 4):
        row1, row2, row3 = min(row + 1, rows - 1), min(row + 2, rows - 1), min(row + 3, rows - 1)
        at0, at1, at2, at3 = at + row * stride, at + row1 * stride, at + row2 * stride, at + row3 * stride
        a = b = c = d = splat(-np.inf)
        for i in range(0, tokens, LANES):
            lanes = tokens - i
            a = maximum(a, load(scores, at0 + i, lanes, -np.inf))
            b = maximum(b, load(scores, at1 + i, lanes, -np.inf))
            c = maximum(c, load(scores, at2 + i, lanes, -np.inf))
            d = maximum(d, load(scores, at3 + i, lanes, -np.inf))
        shift0, shift1, shift2, shift3 = max_lanes(a), max_lanes(b), max_lanes(c), max_lanes(d)
        a = b = c = d = splat(0.0)
        for i in range(0, tokens, LANES):
            lanes = tokens - i
            term0 = exp((load(scores, at0 + i, lanes, -np.inf) - shift0) * scale)
            term1 = exp((load(scores, at1 + i, lanes, -np.inf) - shift1) * scale)
            term2 = exp((load(scores, at2 + i, lanes, -np.inf) - shift2) * scale)
            term3 = exp((load(scores, at3 + i, lanes, -np.inf) - shift3) * scale)
            store(scores, at0 + i, lanes, term0)
            store(scores, at1 + i, lanes, term1)
            store(scores, at2 + i, lanes, term2)
            store(scores, at3 + i, lanes, term3)
            a, b, c, d = a + term0, b + term1, c + term2, d + term3
        scores[sums_at + row] = sum_lanes(a)
        scores[sums_at + row1] = sum_lanes(b)
        scores[sums_at + row2] = sum_lanes(c)
        scores[sums_at + row3] = sum_lanes(d)


@jit
def _divide(out, at, stride, rows, columns, divisors, first):
    for row in range(rows):
        for i in range(0, columns, LANES):
            lanes = columns - i
            value = load(out, at + row * stride + i, lanes, 0.0)
            store(out, at + row * stride + i, lanes, value / divisors[first + row])
