"""Attention, from its formula to blocks of queries on register tiles: the code of docs/kernels.md.

    out = softmax(q k^T / sqrt(d)) v          for S sequences of N tokens of D channels, each head's d by themselves

The last step, queries across the lanes, is `kernels.attention`.
"""

import math

import numba
import numpy as np

from tinymvit.kernels.activate import IDENTITY
from tinymvit.kernels.elementary import exp
from tinymvit.kernels.product import panel_width, product
from tinymvit.kernels.simd import LANES, load, max_lanes, maximum, splat, store, sum_lanes

compiled = numba.njit(error_model="numpy")


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
    depth, first = width // heads, 0
    while first < tokens:
        columns = panel_width(tokens - first)
        for n in range(min(columns, tokens - first)):
            for k in range(depth):
                panels[first * depth + k * columns + n] = key[at + (first + n) * width + k]
        first += columns


@compiled
def pack_values(value, at, shape, panels):
    """The values of the head that begins at `at` as panels: a row a token, a column a channel."""
    _, tokens, width, heads = shape
    depth, first = width // heads, 0
    while first < depth:
        columns = panel_width(depth - first)
        for n in range(tokens):
            for i in range(0, columns, LANES):
                channels = load(value, at + n * width + first + i, depth - first - i, 0.0)
                store(panels, first * tokens + n * columns + i, LANES, channels)
        first += columns


@compiled
def multiply_query(query, at, rows, shape, panels, zeros, scores, scores_at):
    """scores (rows, N) = queries, the first at `at`, times keys."""
    _, tokens, width, heads = shape
    left, target = (query, at, 0, width, 1), (scores, scores_at, 0, tokens)
    depth = width // heads
    product((1, rows, depth, tokens), left, (panels, 0, depth, 0), (zeros, 0, 0, 0), target, (zeros[:0], IDENTITY))


@compiled
def multiply_value(scores, scores_at, rows, shape, panels, zeros, out, at):
    """The context of so many queries, the first at `at`, = scores (rows, N) times values."""
    _, tokens, width, heads = shape
    left, target = (scores, scores_at, 0, tokens, 1), (out, at, 0, width)
    sizes = (1, rows, tokens, width // heads)
    product(sizes, left, (panels, 0, tokens, 0), (zeros, 0, 0, 0), target, (zeros[:0], IDENTITY))


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
        scale = np.float32(1) / np.sqrt(np.float32(width // heads))
        for unit in range(sequences * heads):
            pack_keys(key, head_start(unit, shape), shape, panels)
            multiply_query(query, head_start(unit, shape), tokens, shape, panels, zeros, scores, unit * tokens**2)
        for row in range(sequences * heads * tokens):
            softmax(scores, row * tokens, tokens, scale)
        for unit in range(sequences * heads):
            pack_values(value, head_start(unit, shape), shape, panels)
            multiply_value(scores, unit * tokens**2, tokens, shape, panels, zeros, out, head_start(unit, shape))

    return op_by_op


op_by_op, op_by_op_on_vectors = make_op_by_op(softmax_by_numbers), make_op_by_op(softmax_by_vectors)

QUERIES = 16


@compiled
def block_by_block(query, key, value, out, memory, shape):
    """QUERIES rows of scores at a time, through all three steps while they are in cache."""
    scores, key_panels, value_panels, zeros = memory
    sequences, tokens, width, heads = shape
    scale = np.float32(1) / np.sqrt(np.float32(width // heads))
    for unit in range(sequences * heads):
        start = head_start(unit, shape)
        pack_keys(key, start, shape, key_panels)
        pack_values(value, start, shape, value_panels)
        for first in range(0, tokens, QUERIES):
            at, rows = start + first * width, min(QUERIES, tokens - first)
            multiply_query(query, at, rows, shape, key_panels, zeros, scores, 0)
            for row in range(rows):
                softmax_by_vectors(scores, row * tokens, tokens, scale)
            multiply_value(scores, 0, rows, shape, value_panels, zeros, out, at)
