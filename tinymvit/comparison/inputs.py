"""What a comparison is given, opened: dumps, and the question whether our side is a dump or a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinymvit.comparison.pairing import PIXEL_VALUES
from tinymvit.errors import DumpError
from tinymvit.inspection.dump import Dump, open_dump
from tinymvit.numerics import Array
from tinymvit.weights import find_checkpoint

Tensors = str | Path | Mapping[str, Array]  # a dump's path, a dump that was opened, or arrays by name


def open_tensors(tensors: Tensors) -> Dump:
    """The dump of these tensors. Raises DumpError if it cannot be opened."""
    if isinstance(tensors, Dump):
        return tensors
    return Dump.of(tensors) if isinstance(tensors, Mapping) else open_dump(tensors)


def open_theirs(tensors: Tensors) -> Dump:
    """The port's dump. Raises DumpError if it cannot be opened or is empty."""
    dump = open_tensors(tensors)
    if not dump:
        raise DumpError("their dump holds no tensors")
    return dump


def open_ours(ours: Any) -> Any:
    """Our side: a dump, if `ours` is one or names one; the checkpoint, if it names one; else `ours` itself.

    A checkpoint that is named by its weights file is one unless it has pixels, which no model has. Raises DumpError if
    a dump cannot be opened, CheckpointError if there is nothing of this name.
    """
    if isinstance(ours, Mapping):
        return open_tensors(ours)
    if not isinstance(ours, str | Path):
        return ours
    checkpoint = find_checkpoint(ours)
    if checkpoint is None:
        return open_dump(ours)
    if not checkpoint.is_named_by_file:
        return checkpoint
    dump = open_dump(checkpoint)
    return dump if PIXEL_VALUES in dump else checkpoint
