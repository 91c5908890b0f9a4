"""Checkpoints of the Hugging Face hub, through the `huggingface_hub` library (the extra `hub`).

A copy in the library's cache is used as it lies, without asking the network: a checkpoint does not change under its
users, and work goes on offline. Only the files that a model needs are fetched: of several that hold the same weights,
the best.
"""

from pathlib import Path
from typing import Any

from tinymvit.errors import CheckpointError
from tinymvit.text import some
from tinymvit.weights.entries import MAIN
from tinymvit.weights.families import config_files, has_settings, settings_files
from tinymvit.weights.formats import candidates, choose, names_in, suffixes, weights_files
from tinymvit.weights.formats.index import SUFFIX as INDEX_SUFFIX


def fetch(repository: str, revision: str | None = None, published: str | None = None) -> Path:
    """The cache folder of `repository` ("org/name") at `revision` (branch, tag or commit), downloaded if need be.

    Without a revision the main branch is meant, or where the weights were `published` in another one, that; a copy of
    either in the cache will do. Raises CheckpointError saying what to do: install the extra, connect, correct the name,
    ask for access.
    """
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        raise CheckpointError(
            f'{repository}: no such folder; as a Hugging Face hub id it needs: pip install "tinymvit[hub]"'
        ) from None

    wanted = revision or published or MAIN
    try:
        for each in dict.fromkeys([wanted] if revision else [wanted, MAIN]):
            folder = _cached(huggingface_hub, repository, each)
            if folder is not None:
                return folder
    except errors.HFValidationError:
        raise CheckpointError(f"{repository}: no such folder, and no valid Hugging Face hub id") from None

    try:
        return _download(huggingface_hub, repository, wanted)
    except CheckpointError as error:
        reason = f"revision {wanted} {error}"
    except errors.GatedRepoError:
        reason = f"ask for access at https://huggingface.co/{repository}, then: hf auth login"
    except errors.RepositoryNotFoundError:
        reason = "no such folder here, no such repository on the Hugging Face hub (for a private one: hf auth login)"
    except errors.RevisionNotFoundError:
        reason = f"the repository on the Hugging Face hub has no revision {wanted}"
    except errors.HfHubHTTPError as error:
        reason = f"cannot be downloaded: {str(error).strip().partition(chr(10))[0]}"
    except Exception as error:  # of the library's HTTP client, which changes between releases
        reason = (
            "no such folder here, not in the Hugging Face cache, and the hub is out of reach (network? offline mode?): "
            f"{str(error).strip().partition(chr(10))[0] or type(error).__name__}"
        )
    raise CheckpointError(f"{repository}: {reason}")


def _cached(library: Any, repository: str, revision: str) -> Path | None:
    """The folder of a revision if all that is needed of it lies in the cache. What cannot be read is downloaded, which
    then says why not."""
    try:
        least = config_files()  # of any other file that the library knows of it would say that it is missing
        folder = Path(
            library.snapshot_download(repository, revision=revision, allow_patterns=least, local_files_only=True)
        )
        return folder if _is_complete(folder) else None
    except (library.errors.LocalEntryNotFoundError, OSError):
        return None


def _download(library: Any, repository: str, revision: str) -> Path:
    """The folder of a revision with the best of its weights and the settings beside them. Raises CheckpointError saying
    what it has instead."""
    nothing = CheckpointError(f"has no MobileViT in a file that is read here ({suffixes()})")
    files = [sibling.rfilename for sibling in library.model_info(repository, revision=revision).siblings or ()]
    chosen = choose(files)
    if chosen is None:
        several = candidates(files)
        if not several:
            raise nothing
        raise CheckpointError(
            f"has no {weights_files()[0]} and no other single weights file, only {some(several, 3)}; download the one "
            "that is meant and name it"
        )
    weights = [chosen]
    if chosen.endswith(INDEX_SUFFIX):
        stem, _, suffix = chosen.removesuffix(INDEX_SUFFIX).rpartition(".")
        weights.append(f"{stem}-*.{suffix}")
    wanted = [*settings_files(), *weights]
    folder = Path(library.snapshot_download(repository, revision=revision, allow_patterns=wanted))
    if not _is_complete(folder):
        raise nothing
    return folder


def _is_complete(folder: Path) -> bool:
    has_weights = choose([path.name for path in folder.iterdir()]) is not None
    return has_weights and has_settings(folder, lambda: names_in(folder))
