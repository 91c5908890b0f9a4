"""Checkpoints of the Hugging Face hub, through the `huggingface_hub` library (the extra `hub`).

A copy in the library's cache is used as it lies, without asking the network: a checkpoint does not change under its
users, and work goes on offline. Only the files that a model needs are fetched.
"""

from pathlib import Path

from tinymvit.errors import CheckpointError
from tinymvit.weights.families import config_files, has_settings, settings_files
from tinymvit.weights.formats import names_in, patterns, suffixes

DEFAULT_REVISION = "main"


def fetch(repository: str, revision: str) -> Path:
    """The cache folder of `repository` ("org/name") at `revision` (branch, tag or commit), downloaded if need be.

    Raises CheckpointError saying what to do: install the extra, connect, correct the name, ask for access.
    """
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        raise CheckpointError(
            f'{repository}: no such folder; as a Hugging Face hub id it needs: pip install "tinymvit[hub]"'
        ) from None

    def snapshot(offline: bool) -> Path:
        path = huggingface_hub.snapshot_download(
            repository, revision=revision, allow_patterns=[*settings_files(), *patterns()], local_files_only=offline
        )
        return Path(path)

    try:
        folder = snapshot(offline=True)
        if _is_complete(folder):
            return folder
    except (errors.LocalEntryNotFoundError, OSError):
        pass  # not in the cache, or not all of it, or it cannot be read: the next attempt says so
    except errors.HFValidationError:
        raise CheckpointError(f"{repository}: no such folder, and no valid Hugging Face hub id") from None

    try:
        folder = snapshot(offline=False)
        if _is_complete(folder):
            return folder
        reason = (
            f"revision {revision} has no {' or '.join(config_files())} with {' or '.join(suffixes())} weights (pickles "
            f"are not read); the hub's own conversion often waits as a pull request: try {repository}@refs/pr/1"
        )
    except errors.GatedRepoError:
        reason = f"ask for access at https://huggingface.co/{repository}, then: hf auth login"
    except errors.RepositoryNotFoundError:
        reason = "no such folder here, no such repository on the Hugging Face hub (for a private one: hf auth login)"
    except errors.RevisionNotFoundError:
        reason = f"the repository on the Hugging Face hub has no revision {revision}"
    except errors.LocalEntryNotFoundError:
        reason = (
            "no such folder here, not in the Hugging Face cache, and the hub is out of reach (network? offline mode?)"
        )
    except Exception as error:  # the library's HTTP client, and with it its errors, changes between releases
        reason = f"cannot be downloaded: {str(error).strip().partition(chr(10))[0] or type(error).__name__}"
    raise CheckpointError(f"{repository}: {reason}")


def _is_complete(folder: Path) -> bool:
    has_weights = any(path.name.endswith(tuple(suffixes())) for path in folder.iterdir())
    return has_weights and has_settings(folder, lambda: names_in(folder))
