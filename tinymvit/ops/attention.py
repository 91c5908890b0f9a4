"""Multi-head attention: its three steps as the network has them, and all three in one as the engine runs them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tinymvit.ops import elementary
from tinymvit.ops.op import Array, Op, Shape


@dataclass(frozen=True)
class Scores(Op):
    """Query times key, head by head, over the root of the head's width d = D / h.

        scores[s, head, q, k] = sum over i < d of query[s, q, head d + i] key[s, k, head d + i] / sqrt(d)

    Two `(B P, N, D)`, query and key, become `(B P, h, N, N)`: rows are queries, columns keys.
    """

    heads: int

    def output_shape(self, *inputs: Shape) -> Shape:
        sequences, tokens, _ = inputs[0]
        return (sequences, self.heads, tokens, tokens)

    def multiply_adds(self, output: Shape, *inputs: Shape) -> int:
        return math.prod(inputs[0]) * inputs[1][1]

    def compute(self, query: Array, key: Array) -> Array:
        """query and key (B P, N, D) -> (B P, h, N, N), of their dtype. Raises ValueError if h does not divide D."""
        query, key = _split_heads(query, self.heads), _split_heads(key, self.heads)  # (B P, h, N, D / h)
        return query @ key.swapaxes(2, 3) / query.dtype.type(math.sqrt(query.shape[-1]))

    def compute_in_order(self, query: Array, key: Array) -> Array:
        """As `compute`, in float32: from 0, the terms of i = 0, 1, ... d - 1 are added; then the quotient."""
        query, key = _split_heads(query, self.heads), _split_heads(key, self.heads)  # (B P, h, N, D / h)
        width = query.shape[-1]
        scores = np.zeros((*query.shape[:3], key.shape[2]), np.float32)
        for i in range(width):
            scores += query[..., i, None] * key[:, :, None, :, i]
        return scores / np.float32(math.sqrt(width))


@dataclass(frozen=True)
class Softmax(Op):
    """Scores become attention probabilities.

        y[..., k] = e^x[..., k] / sum over j of e^x[..., j]

    The shape `(B P, h, N, N)` stays. The last axis is that of the keys: each row of scores sums to one.
    """

    def compute(self, x: Array) -> Array:
        """x (..., N) -> (..., N), of x's dtype."""
        e = np.exp(x - x.max(-1, keepdims=True))  # the largest exponent becomes 0, so nothing overflows
        return e / e.sum(-1, keepdims=True)

    def compute_in_order(self, x: Array) -> Array:
        """As `compute`, in float32: the sum begins with 0 and takes the keys from the first to the last."""
        e = elementary.exponential(x - x.max(-1, keepdims=True))
        total = np.zeros(x.shape[:-1], np.float32)
        for k in range(x.shape[-1]):
            total += e[..., k]
        return e / total[..., None]


@dataclass(frozen=True)
class Context(Op):
    """Probabilities times value, head by head, and the heads side by side again.

        context[s, q, head d + i] = sum over k of probabilities[s, head, q, k] value[s, k, head d + i]

    `(B P, h, N, N)` and `(B P, N, D)` become `(B P, N, D)`.
    """

    def output_shape(self, *inputs: Shape) -> Shape:
        return inputs[1]

    def multiply_adds(self, output: Shape, *inputs: Shape) -> int:
        return math.prod(output) * inputs[0][-1]

    def compute(self, probabilities: Array, value: Array) -> Array:
        """probabilities (B P, h, N, N), value (B P, N, D) -> (B P, N, D), of their dtype. Raises ValueError if h does
        not divide D."""
        x = probabilities @ _split_heads(value, probabilities.shape[1])  # (B P, h, N, D / h)
        return x.swapaxes(1, 2).reshape(value.shape)

    def compute_in_order(self, probabilities: Array, value: Array) -> Array:
        """As `compute`, in float32: from 0, the terms of the keys from the first to the last are added."""
        heads = _split_heads(value, probabilities.shape[1])
        x = np.zeros((*probabilities.shape[:3], heads.shape[-1]), np.float32)
        for k in range(probabilities.shape[-1]):
            x += probabilities[..., k, None] * heads[:, :, None, k]
        return x.swapaxes(1, 2).reshape(value.shape)


def _split_heads(x: Array, heads: int) -> Array:
    sequences, tokens, width = x.shape
    return x.reshape(sequences, tokens, heads, width // heads).swapaxes(1, 2)


@dataclass(frozen=True)
class Attention(Op):
    """`Scores`, `Softmax` and `Context` in one.

        y = context(softmax(scores(query, key)), value)

    Query, key and value, `(B P, N, D)` each, become `(B P, N, D)`. Only the engine's passes
    (`tinymvit/passes/fuse.py`) make it, so that the N x N scores need not be kept.
    """

    heads: int

    def multiply_adds(self, output: Shape, *inputs: Shape) -> int:
        return 2 * math.prod(inputs[0]) * inputs[1][1]

    def compute(self, query: Array, key: Array, value: Array) -> Array:
        """query, key and value (B P, N, D) -> (B P, N, D), of their dtype. Raises ValueError if h does not divide D."""
        probabilities = Softmax().compute(Scores(self.heads).compute(query, key))
        return Context().compute(probabilities, value)

    def compute_in_order(self, query: Array, key: Array, value: Array) -> Array:
        """As `compute`, in float32: the three steps, each in its order."""
        probabilities = Softmax().compute_in_order(Scores(self.heads).compute_in_order(query, key))
        return Context().compute_in_order(probabilities, value)
