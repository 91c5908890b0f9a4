"""The end that convolutions and linear layers share: bias, activation, residual, in place, while the rows are in cache.

    out = activation(out + bias) + residual

Cost: one pass over rows that the product has just written, from L1 or L2.
"""

from .activate import activated
from .jit import inline, jit
from .simd import LANES, load, store


@jit
def finish(out, first_row, last_row, columns, bias, residual, code):
    """Rows [first_row, last_row) of `out` (rows, columns); an empty bias or residual is none."""
    tail = columns % LANES
    for row in range(first_row, last_row):
        at = row * columns
        for column in range(0, columns - tail, LANES):
            _finish_vector(out, at, column, bias, residual, code, LANES)
        if tail:
            _finish_vector(out, at, columns - tail, bias, residual, code, tail)


@inline
def _finish_vector(out, at, column, bias, residual, code, lanes):
    value = load(out, at + column, lanes, 0.0)
    if bias.size:
        value = value + load(bias, column, lanes, 0.0)
    value = activated(value, code)
    if residual.size:
        value = value + load(residual, at + column, lanes, 0.0)
    store(out, at + column, lanes, value)
