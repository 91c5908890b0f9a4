"""File formats: bytes on disk to tensors by name, read lazily. One file a format.

In here: for each format which files are its own (`FILES`, `SUFFIXES`, `recognise`) and `open_file(path)`, the tensors
by name with their shapes and a way to load each; and its writer, if we write it. Beside the formats `index`, the list
of a checkpoint's several files, `foreign`, what other files are, and what `pytorch` is made of: `pickles`, `zips`. Left
to others: what the names mean (`weights.families`), which dtype a model wants (`weights.checkpoint`). A new format is a
file here and its place in `FORMATS`. Whatever a file is called, it is read by the format that its bytes are of; its
name says only whether it is meant for weights.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from tinymvit.errors import CheckpointError, tell
from tinymvit.files import open_file as open_to_read
from tinymvit.files import reason
from tinymvit.weights.formats import foreign, hdf5, pytorch, safetensors
from tinymvit.weights.formats.index import SUFFIX as INDEX_SUFFIX
from tinymvit.weights.formats.index import open_index
from tinymvit.weights.stored import StoredTensor

# What wrappers put in front of the names of a model's tensors: DataParallel, torch.compile, modules of training.
PREFIXES = ("module.", "_orig_mod.", "model.", "base_model.", "net.", "network.", "backbone.", "mobilevit.")
# With "mobilevit." in front these are transformers' own names, and whole.
_WHOLE = ("mobilevit.conv_stem.", "mobilevit.encoder.")
# What training leaves beside the weights, in files of our formats that hold none.
_BESIDE = re.compile(r"(?:training_args|(?:optimizer|scheduler|scaler)(?:_\d+)?|rng_state(?:_\d+)*)\.(?:bin|pt|pth)")


class Format(Protocol):
    """What a file of this folder provides."""

    NAME: str
    """What the format is called in messages."""
    FILES: tuple[str, ...]
    """The names of the weights file in a checkpoint's folder, the best first; an index's among them."""
    SUFFIXES: tuple[str, ...]
    """What the names of its files end in."""

    def recognise(self, head: bytes) -> bool:
        """Whether a file with these first bytes (`foreign.LENGTH`, or all of a shorter one) is of the format."""

    def open_file(self, path: Path) -> Mapping[str, StoredTensor]:
        """The tensors of a file by name, checked but not loaded. Raises CheckpointError naming file and tensor."""


FORMATS: tuple[Format, ...] = (safetensors, pytorch, hdf5)  # a folder that holds several is read in the first of these


def weights_files() -> list[str]:
    """The names that the weights file of a checkpoint's folder may have, the best first."""
    return [file for format in FORMATS for file in format.FILES]


def choose(files: Collection[str]) -> str | None:
    """The weights file of a checkpoint's folder that holds these files: the best of those with the usual names, or else
    the only one of the `candidates`."""
    usual = next((name for name in weights_files() if name in files), None)
    others = candidates(files)
    return usual or (others[0] if len(others) == 1 else None)


def candidates(files: Iterable[str]) -> list[str]:
    """Those of a folder's files whose names are for weights: a format has a word for them, they lie in no folder below,
    and are none that training is known to leave there for itself. In the order of the alphabet."""
    return sorted(
        file for file in files if format_of(file) is not None and "/" not in file and not _BESIDE.fullmatch(file)
    )


def suffixes() -> str:
    """What the name of a weights file may end in, for messages."""
    simple = [suffix for format in FORMATS for suffix in format.SUFFIXES if suffix.count(".") == 1]
    return f"{', '.join(simple[:-1])} or {simple[-1]}"


def format_of(file: str | Path) -> Format | None:
    """The format that a file's name is for; None if it is for none of ours. What is in it, `open_file` sees."""
    return next((format for format in FORMATS if str(file).endswith(format.SUFFIXES)), None)


def format_in(path: Path) -> Format | None:
    """The format that a file's bytes are of; None if it is none of ours. Raises CheckpointError if there is no file."""
    head = _head(path)
    return next((format for format in FORMATS if format.recognise(head)), None)


def what_else(path: Path) -> str | None:
    """What a file is that is of none of our formats, in words; None if it cannot be told."""
    return foreign.what_it_is(_head(path))


def open_file(path: Path) -> Mapping[str, StoredTensor]:
    """The tensors of a file by the names that it gives them, checked but not loaded; of an index those of its files.

    The bytes tell the format. Of a file that is of none the error says what it is, or what its name promises that it
    is not. Raises CheckpointError naming file and tensor.
    """
    if path.name.endswith(INDEX_SUFFIX):
        return open_index(path, open_file)
    format = format_in(path)
    if format is None:
        if found := what_else(path):
            raise CheckpointError(f"{path}: is {found}; expected a {' or '.join(f.NAME for f in FORMATS)} file")
        format = format_of(path) or FORMATS[0]  # says what is wrong with it
    return format.open_file(path)


def open_weights(path: Path) -> Mapping[str, StoredTensor]:
    """As `open_file`, of a model's weights: what a wrapper has put in front of every name is left out, and that said in
    one line."""
    tensors = open_file(path)
    dropped = ""
    while prefix := _prefix_of_all(tensors):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        dropped += prefix
    if dropped:
        tell(f"{path}: the names of the tensors are taken without the prefix {dropped!r}, which all of them have")
    return tensors


def _prefix_of_all(names: Collection[str]) -> str | None:
    """The prefix of a wrapper that all names have, with something behind it; None if there is none."""
    if not names or any(name.startswith(_WHOLE) for name in names):
        return None
    return next((p for p in PREFIXES if all(name.startswith(p) and name != p for name in names)), None)


def _head(path: Path) -> bytes:
    with open_to_read(path, CheckpointError) as file:
        try:
            return file.read(foreign.LENGTH)
        except OSError as failure:
            raise CheckpointError(f"{path}: cannot be read: {reason(failure)}") from None


def names_in(folder: Path) -> Collection[str]:
    """The names of the tensors in a checkpoint's folder; none if they cannot be read."""
    try:
        chosen = choose([path.name for path in folder.iterdir()])
        return [] if chosen is None else open_weights(folder / chosen)
    except (CheckpointError, OSError):
        return []
