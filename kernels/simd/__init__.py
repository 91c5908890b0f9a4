"""What the loops are written in: vectors of 16 lanes, functions on them, the tiled matrix product.

In here: `instructions` (LLVM's, by name), `elementary` (exp, tanh), `activations`, `product`. Left to others: the ops
that are built of these (above), compiling and running (`runtime`). A new instruction is a function in
`instructions.py`.
"""

from .instructions import (
    LANES,
    POWER_OF_ONE,
    SQUARE,
    copy,
    fill,
    fma,
    fma_double,
    instruction,
    load,
    magnitude,
    max_lanes,
    maximum,
    minimum,
    narrow,
    opaque,
    power_of_two,
    splat,
    store,
    sum_lanes,
    tile_instructions,
    transpose,
    vector,
    where_less,
    widen,
    with_sign,
)

__all__ = [
    "LANES",
    "POWER_OF_ONE",
    "SQUARE",
    "copy",
    "fill",
    "fma",
    "fma_double",
    "instruction",
    "load",
    "magnitude",
    "max_lanes",
    "maximum",
    "minimum",
    "narrow",
    "opaque",
    "power_of_two",
    "splat",
    "store",
    "sum_lanes",
    "tile_instructions",
    "transpose",
    "vector",
    "where_less",
    "widen",
    "with_sign",
]
