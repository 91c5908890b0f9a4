"""Checkpoint families: the names that one library gives to tensors and settings, and what they are called here.

In here: one file a family. `CONFIG_FILES` and `PROCESSOR_FILES` name the files of its settings, `recognise` tells a
checkpoint of the family by its tensors' names, `translate` gives its tensors our names, which are those of
transformers, `read_config` and `read_processor` its settings in transformers' words. Left to others: how tensors lie in
a file (`weights.formats`), whether they fit a model (`weights.checkpoint`). A new family is a file here and its
place in `FAMILIES`.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Protocol

from tinymvit.errors import CheckpointError
from tinymvit.files import what_is
from tinymvit.weights.families import transformers
from tinymvit.weights.stored import StoredSettings, StoredTensor

Tensors = Mapping[str, StoredTensor]


class Family(Protocol):
    """What a file of this folder provides."""

    NAME: str
    CONFIG_FILES: tuple[str, ...]
    """The files that may hold the model's settings; none if the tensors tell them."""
    PROCESSOR_FILES: tuple[str, ...]
    """The files that may hold the processor's settings."""

    def recognise(self, names: Collection[str]) -> bool:
        """Whether tensors of these names are a checkpoint of this family. No two families say so of the same names."""

    def translate(self, tensors: Tensors) -> Tensors:
        """The tensors under our names, cut and turned as our models want them; without those that no model needs."""

    def read_config(self, folder: Path, tensors: Tensors) -> StoredSettings:
        """The model's settings as transformers' config.json has them. `tensors` is empty if they cannot be read.

        Raises ConfigError naming the file.
        """

    def read_processor(self, folder: Path, tensors: Tensors) -> StoredSettings | None:
        """The processor's settings as transformers' preprocessor_config.json has them; None if the checkpoint says
        nothing of them. Raises ConfigError naming the file."""


FAMILIES: tuple[Family, ...] = (transformers,)


def family_of(names: Collection[str]) -> Family | None:
    """The family of a checkpoint, told from its tensors' names; None if no family recognises them."""
    return next((family for family in FAMILIES if family.recognise(names)), None)


def settings_files() -> list[str]:
    """The files that lie beside the weights of a checkpoint, whatever its family."""
    return list(dict.fromkeys(file for family in FAMILIES for file in (*family.CONFIG_FILES, *family.PROCESSOR_FILES)))


def config_files() -> list[str]:
    """Those of them that hold a model's settings."""
    return list(dict.fromkeys(file for family in FAMILIES for file in family.CONFIG_FILES))


def has_settings(folder: Path, names: Callable[[], Collection[str]]) -> bool:
    """Whether a model's settings are known: they lie in `folder`, or its tensors tell them. Without them it holds
    tensors and no checkpoint. `names` gives the tensors' names, and is asked only where they decide. Raises
    CheckpointError if the folder cannot be read."""
    telling = [family for family in FAMILIES if not family.CONFIG_FILES]
    return any(what_is(folder / file, CheckpointError) for file in config_files()) or any(
        family.recognise(names()) for family in telling
    )
