"""Test vectors for porters: what each distinct op of a model is given, and what must come out of it.

In here: `make` (which ops there are, their inputs and weights, the expected output and its tolerance), `write` (a
folder of them as `.npy`, raw, safetensors or C files, with a manifest and a README). Left to others: the formulas
(`reference`), comparing a port's own dump (`comparison`). A new file format goes into `write.py`.
"""

from tinymvit.vectors.make import Expected, Vector, int8_vectors, noise, vectors
from tinymvit.vectors.write import write_vectors

__all__ = ["Expected", "Vector", "int8_vectors", "noise", "vectors", "write_vectors"]
