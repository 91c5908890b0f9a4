"""Checkpoints: finding them by name, reading and writing their tensors, and the ones that come with the package.

In here: `checkpoint` opens what `locate` finds, on this machine or on the `hub`, with what the caller has `given`;
`matching` says whether it fits a model, `saving` writes one; `families` and `formats` are the libraries and file
formats that are read and written; `entries` are the checkpoints with a name, the bundled ones in folders beside it.
Left to others: what the settings and tensors are for (`tinymvit.config`, `tinymvit.modeling`). A new family or format
is a file in its folder, a new bundled checkpoint a folder. The public functions stand here again.
"""

from tinymvit.weights.checkpoint import Checkpoint, find_checkpoint, load_tensors, open_checkpoint
from tinymvit.weights.entries import CatalogEntry, bundled, catalog
from tinymvit.weights.locate import resolve, weights_file
from tinymvit.weights.matching import backbone_tensors, match_tensors
from tinymvit.weights.saving import save_checkpoint

__all__ = [
    "CatalogEntry",
    "Checkpoint",
    "backbone_tensors",
    "bundled",
    "catalog",
    "find_checkpoint",
    "load_tensors",
    "match_tensors",
    "open_checkpoint",
    "resolve",
    "save_checkpoint",
    "weights_file",
]
