"""Checkpoint families: the names that one library gives to tensors and settings, and what they are called here.

In here: one file a family. `NAMINGS` are its tables of names, one for each network (`naming` says how they are read in
both directions); `CONFIG_FILES` and `PROCESSOR_FILES` name the files of its settings, `read_config` and
`read_processor` read them in transformers' words, and `assume` says what holds where there is no file; what the tensors
tell is `read_off` them; `files` writes a checkpoint as the library itself would. Left to others: how tensors lie in a
file (`weights.formats`), whether they fit a model (`weights.matching`). A new family is a file here and its place in
`FAMILIES`, a new network a table in each family that has it.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Protocol

from tinymvit.errors import CheckpointError, OutputError
from tinymvit.files import what_is
from tinymvit.text import short
from tinymvit.weights.families import cvnets, tensorflow, timm, transformers
from tinymvit.weights.families.naming import Naming
from tinymvit.weights.families.others import other_network
from tinymvit.weights.stored import Assumptions, Settings, StoredSettings, StoredTensor, Tensors, Writer

Stored = Mapping[str, StoredTensor]


class Family(Protocol):
    """What a file of this folder provides."""

    NAME: str
    """As messages call it."""
    WORD: str
    """As options and arguments call it."""
    NAMINGS: tuple[Naming, ...]
    """The names of its tensors, a table for each network. No two families know tensors of the same names."""
    CONFIG_FILES: tuple[str, ...]
    """The files that may hold the model's settings."""
    PROCESSOR_FILES: tuple[str, ...]
    """The files that may hold the processor's settings."""

    def reads(self, config: Settings) -> str | None:
        """The order of the channels, "RGB" or "BGR", of what its models with these settings read; None where a file
        beside them says it."""

    def read_config(self, folder: Path, tensors: Stored) -> StoredSettings | None:
        """The model's settings as transformers' config.json has them; None if no file says them. `tensors`, under their
        own names, is empty if they cannot be read. Raises ConfigError naming the file."""

    def read_processor(self, folder: Path, tensors: Stored) -> StoredSettings | None:
        """The processor's settings as transformers' preprocessor_config.json has them; None if no file says them.
        Raises ConfigError naming the file."""

    def assume(self, task: str, tensors: Stored) -> Assumptions:
        """What holds where no file says it: for a model that is to "classify", "segment" or for "features"."""

    def files(self, tensors: Tensors, config: Settings, processor: Settings | None) -> dict[str, Writer]:
        """The files of a checkpoint, by name: of our tensors, and of a model's and a processor's settings in
        transformers' words. Raises OutputError for what the family has no words for."""


FAMILIES: tuple[Family, ...] = (transformers, timm, cvnets, tensorflow)


def family_of(names: Collection[str]) -> Family | None:
    """The family of a checkpoint, told from its tensors' names; None if no family recognises them, or if they are of
    another network."""
    if other_network(names) is not None:
        return None
    return next((family for family in FAMILIES if naming_of(family, names)), None)


def family_named(word: str) -> Family:
    """The family that options and arguments call so. Raises OutputError for another word."""
    by_word = {family.WORD: family for family in FAMILIES}
    if not isinstance(word, str) or word not in by_word:
        raise OutputError(f"family: {short(word)}, expected one of {', '.join(by_word)}")
    return by_word[word]


def naming_of(family: Family, names: Collection[str]) -> Naming | None:
    """The table of a family that knows tensors of these names; None if it has none."""
    return next(
        (naming for naming in family.NAMINGS if naming.fits(names)),
        next((naming for naming in family.NAMINGS if naming.knows_most_of(names)), None),
    )


def settings_files() -> list[str]:
    """The files that lie beside the weights of a checkpoint, whatever its family."""
    return list(dict.fromkeys(file for family in FAMILIES for file in (*family.CONFIG_FILES, *family.PROCESSOR_FILES)))


def config_files() -> list[str]:
    """Those of them that hold a model's settings."""
    return list(dict.fromkeys(file for family in FAMILIES for file in family.CONFIG_FILES))


def has_settings(folder: Path, names: Callable[[], Collection[str]]) -> bool:
    """Whether a model's settings are known: they lie in `folder`, or can be read off its tensors, which a family
    recognises. Without them it holds tensors and no checkpoint. `names` gives the tensors' names, and is asked only
    where they decide. Raises CheckpointError if the folder cannot be read."""
    return any(what_is(folder / file, CheckpointError) for file in config_files()) or family_of(names()) is not None
