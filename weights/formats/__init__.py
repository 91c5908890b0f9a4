"""File formats: bytes on disk to tensors by name, read lazily. One file a format.

In here: for each format which files are its own (`FILES`, `SUFFIXES`) and `open_file(path)`, the tensors by name with
their shapes and a way to load each; and its writer, if we write it. Left to others: what the names mean
(`weights.families`), which dtype a model wants (`weights.checkpoint`). A new format is a file here and its place in
`FORMATS`: a file is read by the format that its name ends in.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

from tinymvit.errors import CheckpointError
from tinymvit.files import FILE, what_is
from tinymvit.weights.formats import hdf5, safetensors
from tinymvit.weights.stored import StoredTensor


class Format(Protocol):
    """What a file of this folder provides."""

    FILES: tuple[str, ...]
    """The names of the weights file in a checkpoint's folder, the best first."""
    SUFFIXES: tuple[str, ...]
    """What the names of its files end in."""

    def open_file(self, path: Path) -> Mapping[str, StoredTensor]:
        """The tensors of a file by name, checked but not loaded. Raises CheckpointError naming file and tensor."""


FORMATS: tuple[Format, ...] = (safetensors, hdf5)  # a folder that holds several is read in the first of these


def weights_files() -> list[str]:
    """The names that the weights file of a checkpoint's folder may have, the best first."""
    return [file for format in FORMATS for file in format.FILES]


def patterns() -> list[str]:
    """What the names of all files of all formats match."""
    return [f"*{suffix}" for format in FORMATS for suffix in format.SUFFIXES]


def suffixes() -> list[str]:
    """What the name of a weights file may end in, for messages: the main suffix of each format."""
    return [format.SUFFIXES[0] for format in FORMATS]


def format_of(file: str | Path) -> Format | None:
    """The format of a weights file, told from its name; None if it is none of ours."""
    return next((format for format in FORMATS if str(file).endswith(format.SUFFIXES)), None)


def names_in(folder: Path) -> Collection[str]:
    """The names of the tensors in a checkpoint's folder; none if they cannot be read."""
    try:
        found = (folder / file for file in weights_files() if what_is(folder / file, CheckpointError) == FILE)
        path = next(found, None)
        format = None if path is None else format_of(path)
        return [] if path is None or format is None else format.open_file(path)
    except CheckpointError:
        return []
