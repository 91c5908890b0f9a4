"""The fast way to run a graph: merged nodes, packed weights, planned memory, Numba kernels, float32.

In here: `optimize` (the passes that it takes), `lowering` (op to kernel, and the packing of its weights), `memory`
(where each value lies), `engine` (what runs it). Left to others: what an op means (`ops`), the rewriting of graphs
(`passes`), the loops themselves (`kernels`). A new op that the engine is to run is a row in `lowering.py`.
"""

from tinymvit.engine.engine import Engine
from tinymvit.engine.memory import Memory, memory_of

__all__ = ["Engine", "Memory", "memory_of"]
