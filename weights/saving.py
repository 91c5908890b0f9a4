"""Checkpoints written, as the software of a family loads them."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from tinymvit.errors import OutputError
from tinymvit.files import at_home, write_files
from tinymvit.weights.families import family_named, transformers
from tinymvit.weights.families.naming import BACKBONE
from tinymvit.weights.formats import format_of, weights_files
from tinymvit.weights.given import channel_order_of


def save_checkpoint(
    folder: str | Path,
    tensors: Mapping[str, np.ndarray],
    config: Mapping[str, Any],
    *,
    family: str = transformers.WORD,
    processor: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint into `folder`, all of its files or none, as the software of the `family` loads it: by default
    `model.safetensors` and `config.json`, which transformers loads strictly.

    `tensors` have our names, are float32 or float16 and are written as they are; `config` is a configuration's
    `to_dict()`, `processor` a processor's. Where models of the family read their channels in another order than these
    weights do, the stem's input axis is reversed. Raises OutputError.
    """
    into = family_named(family)
    order = config.get("channel_order", "BGR") if processor is None else channel_order_of(processor)
    reads = into.reads(config) or order
    if reads != order:
        tensors = with_reversed_stem(tensors)
    if processor is not None:
        processor = {**processor, "do_flip_channel_order": reads == "BGR"}
    config = {key: value for key, value in config.items() if key != "channel_order"}
    if reads != "BGR":
        config["channel_order"] = reads  # transformers' config.json has no word for it, and its default is BGR
    files = into.files(tensors, config, processor)
    _check_target(folder, files)
    write_files(folder, files)


def _check_target(folder: str | Path, files: Collection[str]) -> None:
    """Raise OutputError if a folder holds other weights, which would be read in place of these, or with settings that
    are not theirs. Those that transformers itself writes beside its own are replaced by them."""
    beside = weights_files() if transformers.WEIGHTS_FILE in files else []
    with suppress(OSError):  # of a folder that there is not, or that cannot be read, writing says why
        for name in sorted(each.name for each in at_home(folder, OutputError).iterdir()):
            if format_of(name) is not None and name not in (*files, *beside):
                raise OutputError(f"{folder}: holds other weights, {name}; expected a folder without any, or a new one")


def with_reversed_stem(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tensors of a model that gives for RGB pixels what these give for BGR, and the other way round."""
    stems = [name for name in tensors if name.removeprefix(BACKBONE) == transformers.STEM]
    return {**tensors, **{name: np.ascontiguousarray(tensors[name][:, ::-1]) for name in stems}}
