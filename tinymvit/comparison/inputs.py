"""What a comparison is given, opened: dumps, and the question whether our side is a dump or a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinymvit.comparison.pairing import PIXEL_VALUES
from tinymvit.errors import DumpError
from tinymvit.inspection.dump import Dump, open_dump
from tinymvit.numerics import Array
from tinymvit.weights import bundled

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


def open_if_dump(ours: Any) -> Dump | None:
    """Our dump, if `ours` is one or names one; None if it is a model, or the name or folder of one.

    A folder with a config.json holds a model; so does a file beside one, unless it has pixels. A bundled model's name
    is a model's, even if a file is called so. Raises DumpError if a dump cannot be opened.
    """
    if isinstance(ours, Mapping):
        return open_tensors(ours)
    if not isinstance(ours, str | Path) or ours in bundled():
        return None
    path = Path(ours).expanduser()
    if path.is_dir():
        return None if (path / "config.json").exists() else open_dump(path)
    if path.is_file():
        dump = open_dump(path)
        return dump if PIXEL_VALUES in dump or not (path.parent / "config.json").exists() else None
    return None
