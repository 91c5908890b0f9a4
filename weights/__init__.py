"""Checkpoints: finding them by name, reading and writing their tensors, and the ones that come with the package.

In here: `checkpoint` opens what `locate` finds, on this machine or on the `hub`; `families` and `formats` are the
libraries and file formats that can be read; `entries` are the checkpoints with a name, the bundled ones in folders
beside it. Left to others: what the settings and tensors are for (`tinymvit.config`, `tinymvit.modeling`). A new family
or format is a file in its folder, a new bundled checkpoint a folder. The public functions stand here again.
"""

from tinymvit.weights.checkpoint import (
    Checkpoint,
    backbone_tensors,
    find_checkpoint,
    load_tensors,
    match_tensors,
    open_checkpoint,
    save_checkpoint,
)
from tinymvit.weights.entries import CatalogEntry, bundled, catalog
from tinymvit.weights.locate import resolve, weights_file

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
