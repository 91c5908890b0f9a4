"""Checkpoints: finding them by name, reading and writing their tensors, and the ones that come with the package.

The public functions, re-exported from the files that explain them.
"""

from tinymvit.weights.entries import CatalogEntry, bundled, catalog
from tinymvit.weights.checkpoint import backbone_tensors, load_tensors, match_tensors, save_checkpoint
from tinymvit.weights.locate import resolve, weights_file

__all__ = [
    "CatalogEntry",
    "backbone_tensors",
    "bundled",
    "catalog",
    "load_tensors",
    "match_tensors",
    "resolve",
    "save_checkpoint",
    "weights_file",
]
