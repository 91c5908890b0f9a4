"""Checkpoints of the Hugging Face hub, through the `huggingface_hub` library (the extra `hub`).

A copy in the library's cache is used as it lies, without asking the network: a checkpoint does not change under its
users, and work goes on offline. Only the files that a model needs are fetched.
"""

from pathlib import Path

from tinymvit.errors import CheckpointError

_FILES = ["config.json", "preprocessor_config.json", "*.safetensors", "*.safetensors.index.json"]


def fetch(repository: str, revision: str) -> Path:
    """The cache folder of `repository` ("org/name") at `revision` (branch, tag, commit), downloaded if need be.

    Raises CheckpointError saying what to do: install the extra, connect, correct the name, ask for access.
    """
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        raise CheckpointError(
            f'{repository}: no such folder, and as a Hugging Face hub id it needs: pip install "tinymvit[hub]"'
        ) from None

    def snapshot(offline: bool) -> Path:
        path = huggingface_hub.snapshot_download(
            repository, revision=revision, allow_patterns=_FILES, local_files_only=offline
        )
        return Path(path)

    try:
        folder = snapshot(offline=True)
        if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
            return folder
    except errors.LocalEntryNotFoundError:
        pass  # not in the cache, or not all of it
    except errors.HFValidationError as error:
        raise CheckpointError(f"{repository}: not a hub id: {_first_line(error)}") from None
    try:
        return snapshot(offline=False)
    except errors.GatedRepoError:
        reason = f"asks for permission first: https://huggingface.co/{repository}, then: hf auth login"
    except errors.RepositoryNotFoundError:
        reason = (
            "no such folder here, and no such repository on the Hugging Face hub (private ones need: hf auth login)"
        )
    except errors.RevisionNotFoundError:
        reason = f"the repository on the Hugging Face hub has no revision {revision}"
    except errors.LocalEntryNotFoundError:
        reason = "not in the Hugging Face cache, and the hub cannot be reached (no network, or HF_HUB_OFFLINE is set)"
    except Exception as error:  # the library's HTTP client, and with it its errors, changes between releases
        reason = f"cannot be downloaded: {_first_line(error)}"
    raise CheckpointError(f"{repository}: {reason}")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
