"""From what a user calls a checkpoint to files on this machine.

In order: a bundled name ("digits"), whatever lies in the working folder; a path that exists; a hub id ("org/name" or
"org/name@revision"). A `Path` object is never anything but a path.
"""

import difflib
import re
from pathlib import Path

from tinymvit.errors import CheckpointError
from tinymvit.weights import hub
from tinymvit.weights.catalog import PUBLISHED, bundled

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


def resolve(name: str | Path) -> Path:
    """The folder that holds a checkpoint's `config.json`, `preprocessor_config.json` and weights.

    `name` is a folder, a weights file in it (`*.safetensors` or `*.safetensors.index.json`), a bundled name, or a hub
    id, which is downloaded unless it is in the cache. Raises CheckpointError saying what to do.
    """
    if isinstance(name, str) and name in bundled():
        return bundled()[name]
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        return _checked_weights_file(path).parent
    if isinstance(name, str) and (match := re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@(.+))?", name)):
        repository, revision = match.groups()
        published = {entry.name: entry.revision for entry in PUBLISHED}
        return hub.fetch(repository, revision or published.get(repository) or "main")
    raise CheckpointError(f"{name}: no such checkpoint{_nearest(str(name))}")


def weights_file(name: str | Path) -> Path:
    """The weights file of a checkpoint: `name` itself if it is one, else the one in the folder of `resolve(name)`."""
    path = Path(name).expanduser()
    if path.is_file():
        return _checked_weights_file(path)
    folder = resolve(name)
    for file in (WEIGHTS_FILE, INDEX_FILE):
        if (folder / file).is_file():
            return folder / file
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    if others:
        raise CheckpointError(f"{folder}: has no {WEIGHTS_FILE}; to use {others[0]}, name the file itself")
    if (folder / "pytorch_model.bin").is_file():
        raise CheckpointError(
            f"{folder}: has only pytorch_model.bin, a pickle that may run any code when opened; "
            f"expected {WEIGHTS_FILE}, which transformers' save_pretrained writes"
        )
    raise CheckpointError(f"{folder}: has no {WEIGHTS_FILE}")


def _checked_weights_file(path: Path) -> Path:
    if not path.name.endswith((".safetensors", ".safetensors.index.json")):
        raise CheckpointError(f"{path}: expected a checkpoint's folder or a .safetensors file")
    return path


def _nearest(name: str) -> str:
    """What the user may have meant, or what there is."""
    known = [*bundled(), *(entry.name for entry in PUBLISHED)]
    by_tail = {candidate.split("/")[-1]: candidate for candidate in known}
    near = difflib.get_close_matches(name.split("/")[-1], by_tail, n=1)
    return f'; did you mean "{by_tail[near[0]]}"?' if near else f"; known names are {', '.join(known)}"
