"""A checkpoint: a name becomes one opened object, which gives a model its settings and tensors.

Finding the files is left to `locate`, reading them to `formats`, the names of other libraries to `families`, whether
the tensors fit a model to `matching`, and writing them to `saving`.
"""

import errno
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tinymvit.checks import is_one_of
from tinymvit.errors import CheckpointError, ConfigError, tell, warn
from tinymvit.files import FILE, at_home, what_is
from tinymvit.numerics import as_array
from tinymvit.weights import locate
from tinymvit.weights.families import (
    Family,
    family_of,
    has_settings,
    naming_of,
    transformers,
)
from tinymvit.weights.families.naming import Naming
from tinymvit.weights.families.read_off import in_words, read_off
from tinymvit.weights.families.transformers import CLASSIFIERS
from tinymvit.weights.formats import format_of, open_weights
from tinymvit.weights.given import CHANNEL_ORDERS, NOTHING, Given, channel_order_of
from tinymvit.weights.labels import read_labels
from tinymvit.weights.stored import Assumptions, StoredSettings, StoredTensor
from tinymvit.weights.wording import listing, no_family, row_count


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint, found once. Each part is read when it is first asked for, and kept.

    name: what the caller called it, for messages. folder: where its files are. given: what the caller says of it.
    """

    name: str | Path
    folder: Path
    given: Given = NOTHING

    def __str__(self) -> str:
        return str(self.name)

    @property
    def is_named_by_file(self) -> bool:
        """Whether the caller named the weights file, and not its folder."""
        return locate.names_the_file(self.folder, self.name)

    @cached_property
    def file(self) -> Path:
        """The weights file, or the index of several. Raises CheckpointError if there is none."""
        return locate.weights_file_in(self.folder, self.name)

    @cached_property
    def family(self) -> Family:
        """Whose names its tensors have. Those that no family recognises are taken for our own, which are those of
        transformers; a model that they do not fit says so."""
        return family_of(self._known) or transformers

    @cached_property
    def naming(self) -> Naming:
        """The names of its tensors in that family."""
        return naming_of(self.family, self._known) or self.family.NAMINGS[0]

    @property
    def has_settings(self) -> bool:
        """Whether a model's settings are known; if not, these are tensors and no checkpoint."""
        return has_settings(self.folder, lambda: self._known)

    @cached_property
    def config(self) -> StoredSettings:
        """The model's settings, as a config.json of transformers has them: from a file, or else read off the tensors,
        which a line tells. `channel_order` is among them where it is not "BGR", for which transformers has no word.
        Raises ConfigError naming the file, CheckpointError if there is none and no tensors."""
        config = self._own_config
        values = self.given.config(config.values, self._label_count, self)
        values.pop("channel_order", None)
        if self.channel_order != "BGR":
            values["channel_order"] = self.channel_order
        if config.assumed:
            tell(f"{self.file}: {_in_words(values, self._processor_or_none, self.family)}")
        return config._replace(values=values)

    @cached_property
    def processor(self) -> StoredSettings | None:
        """The image processor's settings, as a preprocessor_config.json of transformers has them; None if there are
        none. Raises ConfigError naming the file."""
        stored = self.family.read_processor(self.folder, self._known)
        if stored is None and self._known and self._config_file is None:
            stored = StoredSettings(self.file, dict(self._assumptions.processor), assumed=True)
        return None if stored is None else stored._replace(values=self.given.processor(stored.values))

    @property
    def channel_order(self) -> str:
        """Of the pixels that the model reads, "RGB" or "BGR": as is given, as the processor has it, as the model's
        settings say, or else as all models of the family."""
        if self.given.channel_order is not None:
            return self.given.channel_order
        if self._processor_or_none is not None:
            return channel_order_of(self._processor_or_none.values)
        values = self._own_config.values
        said = values.get("channel_order")
        return str(said) if is_one_of(said, CHANNEL_ORDERS) else self.family.reads(values) or "BGR"

    @property
    def task(self) -> str | None:
        """What its config says the model is for: "classify", "segment", or "features" for one without a head; None if
        it does not say. Raises ConfigError if there is no config."""
        return transformers.task(self.config.values)

    @cached_property
    def tensors(self) -> dict[str, np.ndarray]:
        """Every tensor by our name for it: float32, C order, read-only.

        float32 tensors are views of the memory-mapped file. float16 and bfloat16 are widened exactly, float64 is
        rounded; another dtype is an error, except for PyTorch's integer `num_batches_tracked`, which is dropped. NaN
        and infinite values draw a UserWarning naming the tensors. Raises CheckpointError naming file and tensor.
        """
        names = {name: tensor.source or name for name, tensor in self.translated.items()}
        loaded = {name: tensor.load() for name, tensor in self.translated.items()}
        tensors = {name: _as_float32(tensor, names[name], self.file) for name, tensor in loaded.items()}
        _warn_of_non_finite({names[name]: tensor for name, tensor in tensors.items()}, self.file)
        return tensors

    @cached_property
    def translated(self) -> Mapping[str, StoredTensor]:
        """The tensors under our names and in our form, not yet read. Raises CheckpointError if they cannot be."""
        return self.naming.to_ours(self.stored)

    @cached_property
    def stored(self) -> Mapping[str, StoredTensor]:
        """The tensors under the names that the file gives them, without a prefix that all have. Raises CheckpointError
        if they cannot be read."""
        return open_weights(self.file)

    @cached_property
    def _known(self) -> Mapping[str, StoredTensor]:
        """`stored`, or nothing where it cannot be read: who wants no more than the settings need not know."""
        try:
            return self.stored
        except CheckpointError:
            return {}

    @cached_property
    def _own_config(self) -> StoredSettings:
        """The model's settings without what is given."""
        if self._config_file is not None:
            return self._config_file
        if not self._has_file:
            path = self.folder / transformers.CONFIG_FILE
            raise ConfigError(f"{path}: cannot be read: {os.strerror(errno.ENOENT)}, and no tensors tell what it would")
        if family_of(self.stored) is None:
            raise CheckpointError(f"{self.file}: {no_family(self.stored)}")
        return StoredSettings(self.file, {**self._shape, **self._assumptions.config}, assumed=True)

    @cached_property
    def _config_file(self) -> StoredSettings | None:
        return self.family.read_config(self.folder, self._known)

    @cached_property
    def _shape(self) -> Mapping[str, Any]:
        """The settings that the tensors tell."""
        return read_off(self.translated, self.naming, self.file)

    @property
    def _assumptions(self) -> Assumptions:
        return self.family.assume(transformers.task(self._shape) or "features", self.stored)

    @property
    def _processor_or_none(self) -> StoredSettings | None:
        """The processor's settings, for those who want a model, and to whom a file of them with a mistake is none."""
        try:
            return self.processor
        except ConfigError:
            return None

    @property
    def _has_file(self) -> bool:
        try:
            return what_is(self.file, CheckpointError) is not None
        except CheckpointError:
            return False

    @property
    def _label_count(self) -> int | None:
        """The number of labels that the head has; None if there is no head."""
        tensors = self.translated if self._known else {}
        return next((row_count(tensors[name].shape) for name in CLASSIFIERS.values() if name in tensors), None)


def _after_fork_in_child() -> None:
    """Before Python 3.12 a cached property has a lock, which a thread that is not in the child may have held."""
    for value in vars(Checkpoint).values():
        if isinstance(value, cached_property) and hasattr(value, "lock"):
            value.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def open_checkpoint(
    name: str | Path | Checkpoint,
    *,
    labels: str | Path | Sequence[str] | None = None,
    channel_order: str | None = None,
    size: int | None = None,
) -> Checkpoint:
    """The checkpoint that `name` stands for: a folder, a weights file in one, a bundled name ("digits") or a hub id
    ("org/name", "org/name@revision"), whose files are downloaded unless they are in the cache. One that is open already
    is given back, if nothing else is said of it.

    labels: the names of its classes, by id, or a file of them. channel_order: "RGB" or "BGR", of the pixels that it
    reads. size: the side of its input in pixels; what pictures are resized to changes in proportion. What is left out
    is as the files beside the weights say, or else as the weights' family has it.

    Raises CheckpointError saying what to do if there is none, ConfigError for what cannot be said of it, TypeError for
    what is no name.
    """
    given = Given(None if labels is None else tuple(read_labels(labels)), channel_order, size)
    if isinstance(name, Checkpoint):
        return name if given == NOTHING else replace(name, given=given)
    return Checkpoint(name, locate.resolve(name), given)


def find_checkpoint(name: str | Path) -> Checkpoint | None:
    """As `open_checkpoint`, for a name that may also be the path of something else: None if what lies there is no
    checkpoint, a file of another format or one of tensors without a model's settings."""
    try:
        checkpoint = open_checkpoint(name)
    except CheckpointError:
        if format_of(name) is None and what_is(at_home(name, CheckpointError), CheckpointError) == FILE:
            return None
        raise
    return checkpoint if checkpoint.has_settings else None


def load_tensors(name: str | Path | Checkpoint) -> dict[str, np.ndarray]:
    """Every tensor of a checkpoint by its name, as `Checkpoint.tensors` describes; `name`: see `open_checkpoint`."""
    return dict(open_checkpoint(name).tensors)


def as_weights(tensors: Mapping[str, np.ndarray], source: str | Path) -> dict[str, np.ndarray]:
    """`tensors` as models hold them: float32, C order, read-only, views where that can be. `source` names their origin
    in errors. Raises CheckpointError for a tensor that is not floating point, TypeError for what is no array."""
    return {name: _as_float32(as_array(tensor, name), name, source) for name, tensor in tensors.items()}


def _as_float32(tensor: np.ndarray, name: str, source: str | Path) -> np.ndarray:
    if tensor.dtype.kind != "f":
        raise CheckpointError(f"{source}: tensor {name} is {tensor.dtype}, expected floating point")
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is warned of as such
        tensor = np.require(tensor, np.float32, "C").view()
    tensor.flags.writeable = False
    return tensor


def _warn_of_non_finite(tensors: Mapping[str, np.ndarray], source: str | Path) -> None:
    counts = {name: tensor.size - int(np.count_nonzero(np.isfinite(tensor))) for name, tensor in tensors.items()}
    bad = [name for name, count in counts.items() if count]
    for problem in listing("with NaN or infinite values", bad, lambda name: f"{name} ({counts[name]} of them)"):
        warn(f"{source}: {problem}; results will not be meaningful")


def _in_words(config: Mapping[str, Any], processor: StoredSettings | None, family: Family) -> str:
    """What a checkpoint's tensors tell, and what is taken for granted, as its family has it."""
    names = config.get("id2label")
    labels = "no head"
    if "num_labels" in config or names:
        labels = f"{len(names or range(config['num_labels']))} labels"
        labels += f" ({names[0]}, ...)" if names else " without names"
    segments = transformers.task(config) == "segment"
    granted = ["4 heads", "patches of 2 x 2", "SiLU", f"output stride {config.get('output_stride', 32)}"]
    if segments:
        granted.append(f"rates {' '.join(map(str, config.get('atrous_rates', (6, 12, 18))))}")
    if processor is not None and processor.assumed:
        sides = " x ".join(str(side) for side in dict(processor.values["size"]).values())
        crop = processor.values["crop_size"]["height"] if processor.values.get("do_center_crop", True) else ""
        pixels = f"pixels {channel_order_of(processor.values)}, resized to {sides}{crop and f', cut to {crop}'}"
        granted.append(pixels)
    network = f"DeepLabV3 on {in_words(config)}" if segments else in_words(config)
    told = f"no settings beside it: in the names of {family.NAME}, {network}, {labels}"
    return f"{told}; taken for granted: {', '.join(granted)}"
