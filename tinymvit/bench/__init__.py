"""How fast: this library side by side with other runtimes, and each layer against what the machine can do.

In here: `race` (who runs when, and how often), `contestant` (the program of one of them), `peers` (the runtimes),
`report` (the machine and the table), `layer_times` (where our own time goes). Left to others: the command line that
asks for it (`commands.bench`), how a kernel is fast and what the machine can do at most (`kernels`). A new peer is a
class in `peers.py`.
"""
