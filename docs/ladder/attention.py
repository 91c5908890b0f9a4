"""Attention, from its formula to blocks of queries on register tiles: the code of docs/kernels.md.

    out = softmax(q k^T / sqrt(d)) v          for S sequences of N tokens of D channels, each head's d by themselves

The last step, queries across the lanes, is `kernels.attention`.
"""

import math

import numba
import numpy as np

from tinymvit.kernels.runtime.jit import OPTIONS
from tinymvit.kernels.simd.elementary import exp
from tinymvit.kernels.simd.instructions import LANES, load, max_lanes, maximum, splat, store, sum_lanes

from .convolution import ROWS, WIDTH, tile_load, tile_step, tile_store

compiled = numba.njit(**OPTIONS)


def formula(query, key, value, heads, out):
    """The formula. All arrays are (S, N, D)."""
    sequences, tokens, width = query.shape
    depth = width // heads
    q, k, v = [each.reshape(sequences, tokens, heads, depth).swapaxes(1, 2) for each in (query, key, value)]
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(np.float32(depth))  # (S, h, N, N)
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    context = scores / scores.sum(axis=-1, keepdims=True) @ v
    out[:] = context.swapaxes(1, 2).reshape(out.shape)


@compiled
def loops(query, key, value, heads, out):
    sequences, tokens, width = query.shape
    depth = width // heads
    scale = np.float32(1) / np.sqrt(np.float32(depth))
    scores = np.empty(tokens, np.float32)
    for s in range(sequences):
        for first in range(0, width, depth):
            for n in range(tokens):
                for m in range(tokens):
                    score = np.float32(0)
                    for c in range(first, first + depth):
                        score += query[s, n, c] * key[s, m, c]
                    scores[m] = score * scale
                largest, total = scores.max(), np.float32(0)
                for m in range(tokens):
                    scores[m] = math.exp(scores[m] - largest)
                    total += scores[m]
                for c in range(first, first + depth):
                    context = np.float32(0)
                    for m in range(tokens):
                        context += scores[m] * value[s, m, c]
                    out[s, n, c] = context / total


@compiled
def softmax_by_numbers(scores, at, tokens, scale):
    """One row, in place, with the C library's exp."""
    largest, total = scores[at], np.float32(0)
    for i in range(at, at + tokens):
        largest = max(largest, scores[i])
    for i in range(at, at + tokens):
        scores[i] = math.exp((scores[i] - largest) * scale)
        total += scores[i]
    for i in range(at, at + tokens):
        scores[i] /= total


@compiled
def softmax_by_vectors(scores, at, tokens, scale):
    """The same with our exp; lanes beyond the row are -inf, whose exp is 0."""
    largest, total = splat(-np.inf), splat(0.0)
    for i in range(0, tokens, LANES):
        largest = maximum(largest, load(scores, at + i, tokens - i, -np.inf))
    shift = max_lanes(largest)
    for i in range(0, tokens, LANES):
        term = exp((load(scores, at + i, tokens - i, -np.inf) - shift) * scale)
        store(scores, at + i, tokens - i, term)
        total = total + term
    divisor = sum_lanes(total)
    for i in range(0, tokens, LANES):
        store(scores, at + i, tokens - i, load(scores, at + i, tokens - i, 0.0) / divisor)


@compiled
def pack_keys(key, at, shape, panels):
    """The keys of the head that begins at `at`, transposed, as panels: a row a channel, a column a token."""
    _, tokens, width, heads = shape
    depth = width // heads
    for n in range(tokens):
        panel, column = n // WIDTH, n % WIDTH
        for k in range(depth):
            panels[(panel * depth + k) * WIDTH + column] = key[at + n * width + k]


@compiled
def pack_values(value, at, shape, panels):
    """The values of the head that begins at `at` as panels: a row a token, a column a channel."""
    _, tokens, width, heads = shape
    depth = width // heads
    for first in range(0, depth, LANES):
        panel, column = first // WIDTH, first % WIDTH
        for n in range(tokens):
            channels = load(value, at + n * width + first, depth - first, 0.0)
            store(panels, (panel * tokens + n) * WIDTH + column, LANES, channels)


@compiled
def multiply(sizes, left, panels, zeros, out):
    """out = left times panels; `out` and `left` are (flat array, offset, elements from row to row)."""
    rows, depth, columns = sizes
    array, at, stride = left
    target, target_at, target_stride = out
    for column in range(0, columns, WIDTH):
        for row in range(0, rows, ROWS):
            used, row_at = min(ROWS, rows - row), target_at + row * target_stride
            totals = tile_load(zeros, 0, 0, used, WIDTH)
            for k in range(depth):
                place = column * depth + k * WIDTH
                totals = tile_step(totals, array, at + row * stride + k, stride, used, panels, place)
            tile_store(totals, target, row_at + column, target_stride, used, columns - column)


@compiled
def head_start(unit, shape):
    """Where a head's first channel of its sequence's first token lies."""
    _, tokens, width, heads = shape
    return unit // heads * tokens * width + unit % heads * (width // heads)


def make_op_by_op(softmax):
    @compiled
    def op_by_op(query, key, value, out, memory, shape):
        """Scores of all heads (S, h, N, N), their softmax, then the context: each is a pass over memory."""
        scores, panels, _, zeros = memory
        sequences, tokens, width, heads = shape
        depth = width // heads
        scale = np.float32(1) / np.sqrt(np.float32(depth))
        for unit in range(sequences * heads):
            at, of_head = head_start(unit, shape), (scores, unit * tokens * tokens, tokens)
            pack_keys(key, at, shape, panels)
            multiply((tokens, depth, tokens), (query, at, width), panels, zeros, of_head)
        for row in range(sequences * heads * tokens):
            softmax(scores, row * tokens, tokens, scale)
        for unit in range(sequences * heads):
            at, of_head = head_start(unit, shape), (scores, unit * tokens * tokens, tokens)
            pack_values(value, at, shape, panels)
            multiply((tokens, tokens, depth), of_head, panels, zeros, (out, at, width))

    return op_by_op


op_by_op, op_by_op_on_vectors = make_op_by_op(softmax_by_numbers), make_op_by_op(softmax_by_vectors)

QUERIES = 16


@compiled
def block_by_block(query, key, value, out, memory, shape):
    """QUERIES rows of scores at a time, through all three steps while they are in cache."""
    scores, key_panels, value_panels, zeros = memory
    sequences, tokens, width, heads = shape
    depth = width // heads
    scale = np.float32(1) / np.sqrt(np.float32(depth))
    for unit in range(sequences * heads):
        start = head_start(unit, shape)
        pack_keys(key, start, shape, key_panels)
        pack_values(value, start, shape, value_panels)
        for first in range(0, tokens, QUERIES):
            at, rows = start + first * width, min(QUERIES, tokens - first)
            multiply((rows, depth, tokens), (query, at, width), key_panels, zeros, (scores, 0, tokens))
            for row in range(rows):
                softmax_by_vectors(scores, row * tokens, tokens, scale)
            multiply((rows, tokens, depth), (scores, 0, tokens), value_panels, zeros, (out, at, width))
