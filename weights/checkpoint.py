"""A checkpoint: a name becomes one opened object, which gives a model its settings and tensors, and a way to save them.

Strict throughout: a tensor that is missing, left over or of another shape is an error that names it. Finding the files
is left to `locate`, reading them to `formats`, the names of other libraries to `families`.
"""

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tinymvit.errors import CheckpointError, warn
from tinymvit.files import FILE, at_home, json_writer, what_is, write_files
from tinymvit.numerics import as_array
from tinymvit.text import nearest
from tinymvit.weights import locate
from tinymvit.weights.families import FAMILIES, Family, family_of, has_settings, transformers
from tinymvit.weights.families.transformers import BACKBONE, BATCH_COUNT, CLASSIFIERS, RUNNING_VARIANCE, has_head
from tinymvit.weights.formats import format_of, open_weights
from tinymvit.weights.formats.safetensors import WEIGHTS_FILE, tensor_writer
from tinymvit.weights.stored import StoredSettings, StoredTensor

_IN_WORDS = {"classify": "classification", "segment": "segmentation"}  # tasks, as messages call them
_LISTED = 10  # tensors of a kind that an error lists


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint, found once. Each part is read when it is first asked for, and kept.

    name: what the caller called it, for messages. folder: where its files are.
    """

    name: str | Path
    folder: Path

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

    @property
    def has_settings(self) -> bool:
        """Whether a model's settings are known; if not, these are tensors and no checkpoint."""
        return has_settings(self.folder, lambda: self._known)

    @cached_property
    def config(self) -> StoredSettings:
        """The model's settings, as a config.json of transformers has them. Raises ConfigError naming the file."""
        return self.family.read_config(self.folder, self._known)

    @cached_property
    def processor(self) -> StoredSettings | None:
        """The image processor's settings, as a preprocessor_config.json of transformers has them; None if there are
        none. Raises ConfigError naming the file."""
        return self.family.read_processor(self.folder, self._known)

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
        loaded = {name: tensor.load() for name, tensor in self.family.translate(self.stored).items()}
        tensors = as_weights(loaded, self.file)
        _warn_of_non_finite(tensors, self.file)
        return tensors

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


def _after_fork_in_child() -> None:
    """Before Python 3.12 a cached property has a lock, which a thread that is not in the child may have held."""
    for value in vars(Checkpoint).values():
        if isinstance(value, cached_property) and hasattr(value, "lock"):
            value.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def open_checkpoint(name: str | Path | Checkpoint) -> Checkpoint:
    """The checkpoint that `name` stands for: a folder, a weights file in one, a bundled name ("digits") or a hub id
    ("org/name", "org/name@revision"), whose files are downloaded unless they are in the cache. One that is open already
    is given back.

    Raises CheckpointError saying what to do if there is none, TypeError for what is no name.
    """
    return name if isinstance(name, Checkpoint) else Checkpoint(name, locate.resolve(name))


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


def backbone_tensors(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors of a bare `MobileViTModel` under its own names, from a checkpoint with or without a head."""
    if not has_head(tensors):
        return dict(tensors)
    # Within a model with a head the bare one is the attribute `mobilevit`; what lies outside it is the head.
    return {name.removeprefix(BACKBONE): tensor for name, tensor in tensors.items() if name.startswith(BACKBONE)}


def match_tensors(
    tensors: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]], source: str | os.PathLike | Checkpoint
) -> dict[str, np.ndarray]:
    """`tensors` in the order of `expected`, which maps each name to its shape; `source` names the checkpoint in errors.

    Raises CheckpointError listing all missing, unexpected and misshapen tensors (of each kind the first ten).
    """
    missing = [name for name in expected if name not in tensors]
    unexpected = [name for name in tensors if name not in expected]
    misshapen = [name for name in expected if name in tensors and tensors[name].shape != tuple(expected[name])]
    if not (missing or unexpected or misshapen):
        return {name: tensors[name] for name in expected}

    def found(name: str) -> str:
        return f"{name} {list(tensors[name].shape)}"

    def wanted(name: str) -> str:
        return f"{name} {list(expected[name])}"

    def found_with_nearest(name: str) -> str:
        near = nearest(name, missing)
        return found(name) if near is None else f"{found(name)} (nearest: {wanted(near)})"

    def found_and_wanted(name: str) -> str:
        return f"{found(name)} (expected {list(expected[name])})"

    problems = [
        *_diagnosis(tensors, expected),
        *_listing("missing", missing, wanted),
        *_listing("unexpected", unexpected, found_with_nearest),
        *_listing("of another shape", misshapen, found_and_wanted),
    ]
    raise CheckpointError(f"{source}: does not fit the model: {'; '.join(problems)}")


def save_checkpoint(folder: str | Path, tensors: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> None:
    """Write `model.safetensors` and `config.json` into `folder`, both or neither; transformers loads them strictly.

    `tensors` are float32 or float16 and are written as they are; `config` is a configuration's `to_dict()`. Raises
    OutputError.
    """
    batch_counts = {
        name.removesuffix(RUNNING_VARIANCE) + BATCH_COUNT: np.zeros((), np.int64)
        for name in tensors
        if name.endswith(RUNNING_VARIANCE)
    }
    # transformers converts the weights to the dtype that config.json names; one left from the checkpoint that these
    # weights came from (under the new key or the old) would round them.
    config = {key: value for key, value in config.items() if key != "torch_dtype"} | {"dtype": "float32"}
    files = {WEIGHTS_FILE: tensor_writer({**tensors, **batch_counts}), transformers.CONFIG_FILE: json_writer(config)}
    write_files(folder, files)


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
    for problem in _listing("with NaN or infinite values", bad, lambda name: f"{name} ({counts[name]} of them)"):
        warn(f"{source}: {problem}; results will not be meaningful")


def _diagnosis(tensors: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]]) -> list[str]:
    """The known reasons for a misfit, told before the tensors are listed."""
    if tensors and family_of(tensors.keys()) is None and tensors.keys().isdisjoint(expected):
        return [f"its names are of no family that is known here ({', '.join(family.NAME for family in FAMILIES)})"]
    reasons = []
    if has_head(expected) and not has_head(tensors):
        reasons.append("the checkpoint is a bare MobileViTModel without a head")
    for task, name in CLASSIFIERS.items():
        if name in tensors and name not in expected and has_head(expected):
            reasons.append(f"the checkpoint is a {_IN_WORDS[task]} model")
        if name in tensors and name in expected and tensors[name].shape[:1] != tuple(expected[name][:1]):
            reasons.append(
                f"the checkpoint has {_rows(tensors[name].shape)} labels, the configuration {_rows(expected[name])}"
            )
    return reasons


def _rows(shape: tuple[int, ...]) -> int:
    return shape[0] if shape else 0


def _listing(kind: str, names: list[str], describe: Callable[[str], str]) -> list[str]:
    """One phrase that counts the tensors `names` and describes them, the first few of many; none for none."""
    if not names:
        return []
    more = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return [f"{len(names)} {kind}: {', '.join(map(describe, names[:_LISTED]))}{more}"]
