"""How fast: this library side by side with other runtimes, and each layer against what the machine can do.

In here: the race, what a contestant is, the peers, the times of layers, the tables. Left to others: the command line
that asks for it (`commands.bench`), how a kernel is fast (`kernels`). A new peer is a class in `peers.py`.
"""
