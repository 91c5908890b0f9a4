"""What lies in a checkpoint's files, as formats and families hand it on: tensors that are not read yet, settings."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

Tensors = Mapping[str, np.ndarray]
Settings = Mapping[str, Any]
Writer = Callable[[BinaryIO], object]  # of a file's content


class StoredTensor(NamedTuple):
    """A tensor that is known and not yet read.

    dtype: NumPy's name of what is stored; "bfloat16", which NumPy lacks, is loaded as float32. load: reads it, as an
    array of `shape` in native byte order and C order. source: what the file calls it, for messages, where we call it
    otherwise.
    """

    shape: tuple[int, ...]
    dtype: str
    load: Callable[[], np.ndarray]
    source: str = ""


class StoredSettings(NamedTuple):
    """The settings of a model or of its processor in transformers' words, and the file that they are from. assumed:
    whether none of it is from a file of settings, but read off the tensors and taken for granted."""

    source: Path
    values: dict[str, Any]
    assumed: bool = False


class Assumptions(NamedTuple):
    """What a family takes for granted where no file says it, in transformers' words: of the model, beside what its
    tensors tell, and of its processor."""

    config: Mapping[str, Any]
    processor: Mapping[str, Any]
