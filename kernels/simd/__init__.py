"""What the loops are written in: vectors of 16 lanes, functions on them, the tiled matrix product.

In here: `instructions` (LLVM's, by name), `elementary` (exp, tanh), `activations`, `product`. Left to others: the ops
that are built of these (above), compiling and running (`runtime`). A new instruction is a function in
`instructions.py`.
"""
