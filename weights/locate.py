"""From what a user calls a checkpoint to files on this machine.

In this order: a bundled name ("digits"), so that it means the same in every working folder; a path that exists; a hub
id ("org/name" or "org/name@revision"). A `Path` object is never anything but a path.
"""

import os
import re
from pathlib import Path

from tinymvit.errors import CheckpointError
from tinymvit.files import FILE, FOLDER, at_home, reason, what_is
from tinymvit.text import nearest
from tinymvit.weights import hub
from tinymvit.weights.entries import PUBLISHED, bundled
from tinymvit.weights.formats import candidates, choose, format_in, format_of, suffixes, weights_files, what_else

_HUB_ID = re.compile(r"(\w[\w.-]*/\w[\w.-]*)(?:@(.+))?")


def resolve(name: str | Path) -> Path:
    """The folder that holds a checkpoint's settings and weights.

    `name` is a folder, a weights file in it of one of the `formats`, a bundled name, or a hub id, whose files are
    downloaded unless they are in the cache. Raises CheckpointError saying what to do.
    """
    if not isinstance(name, (str, os.PathLike)):
        raise TypeError(f"the checkpoint: a {type(name).__name__}, expected a name or a path")
    if isinstance(name, str) and name in bundled():
        return bundled()[name]
    path = at_home(name, CheckpointError)
    kind = what_is(path, CheckpointError)
    if kind == FOLDER:
        return path
    if kind is not None:
        if kind != FILE or not _is_weights_file(path):
            found = what_else(path) if kind == FILE else kind
            is_found = f"is {found}; " if found else ""
            raise CheckpointError(f"{path}: {is_found}expected a checkpoint's folder or a {suffixes()} file")
        return path.parent
    hub_id = _HUB_ID.fullmatch(name) if isinstance(name, str) else None
    if hub_id is None or format_of(hub_id[1]) is not None:
        raise CheckpointError(f"{name}: no such file, folder or checkpoint{_suggestion(str(name))}")
    repository, revision = hub_id.groups()
    published = {entry.name: entry.revision for entry in PUBLISHED}
    if repository in published:
        return hub.fetch(repository, revision, published[repository])
    try:
        return hub.fetch(repository, revision)
    except CheckpointError as error:
        raise CheckpointError(f"{error}{_suggestion(repository)}") from None


def weights_file(name: str | Path) -> Path:
    """The weights file of a checkpoint: `name` itself if it is one, else the one in the folder `resolve(name)`."""
    return weights_file_in(resolve(name), name)


def weights_file_in(folder: Path, name: str | Path) -> Path:
    """The weights file of the checkpoint `name`, which `resolve` found in `folder`."""
    if names_the_file(folder, name):
        return folder / Path(name).name
    try:
        files = sorted(path.name for path in folder.iterdir())
    except OSError as failure:
        raise CheckpointError(f"{folder}: cannot be read: {reason(failure)}") from None
    chosen = choose(files)
    if chosen is not None:
        return folder / chosen
    others = candidates(files)
    several = f"; to use {others[0]} or another of its {len(others)}, name that file" if others else ""
    raise CheckpointError(f"{folder}: has no {weights_files()[0]} and no other single weights file{several}")


def names_the_file(folder: Path, name: str | Path) -> bool:
    """Whether the checkpoint `name`, which `resolve` found in `folder`, is called by its weights file."""
    if format_of(name) is not None:
        return True
    path = at_home(name, CheckpointError)
    return path.parent == folder and _is_weights_file(path)


def _is_weights_file(path: Path) -> bool:
    """Whether this is a weights file: by what its name ends in, or by how it begins."""
    if format_of(path) is not None:
        return True
    return what_is(path, CheckpointError) == FILE and format_in(path) is not None


def _suggestion(name: str) -> str:
    """What the user may have meant; of a plain word that resembles nothing, what there is."""
    known = [*bundled(), *(entry.name for entry in PUBLISHED)]
    by_tail = {candidate.split("/")[-1]: candidate for candidate in known}
    near = nearest(Path(name).name, by_tail, cutoff=0.7)
    if near is not None and by_tail[near] != name:
        return f'; did you mean "{by_tail[near]}"?'
    return "" if "/" in name or os.sep in name else f"; known are {', '.join(known)}"
