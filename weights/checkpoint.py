"""Checkpoints: the tensors of a trained network, read for a model, matched with its names, and saved.

Strict throughout: a tensor that is missing, left over or of another shape is an error that names it. The file format
is left to `tensor_file`, finding the files to `locate`.
"""

import difflib
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinymvit.errors import CheckpointError
from tinymvit.files import json_writer, read_json, write_files
from tinymvit.weights.formats.safetensors import read_tensors, tensor_writer
from tinymvit.weights.locate import CONFIG_FILE, WEIGHTS_FILE, weights_file

# PyTorch's count of the batches that a BatchNorm saw in training. No forward pass reads it, yet transformers calls a
# checkpoint without it incomplete: dropped when read, written as 0 beside each running variance.
_BATCH_COUNT = ".num_batches_tracked"
_RUNNING_VARIANCE = ".running_var"

_BACKBONE = "mobilevit."  # the attribute under which a model with a head holds the bare MobileViTModel
# The last layer of each head: its rows are the labels.
_CLASSIFIERS = {
    "classification": "classifier.weight",
    "segmentation": "segmentation_head.classifier.convolution.weight",
}
_LISTED = 10  # tensors of a kind that an error lists


def load_tensors(name: str | Path) -> dict[str, np.ndarray]:
    """Every tensor of a checkpoint by its name: float32, C order, read-only; `name` is anything `resolve` takes.

    float32 tensors are views of the memory-mapped file. float16 and bfloat16 are widened exactly, float64 is rounded;
    another dtype is an error, except for PyTorch's integer `num_batches_tracked`, which is dropped. NaN and infinite
    values draw a UserWarning naming the tensors. Raises CheckpointError naming the file and the tensor.
    """
    path = weights_file(name)
    tensors = _read_shards(path) if path.suffix == ".json" else read_tensors(path)
    tensors = {
        tensor_name: _as_float32(path, tensor_name, tensor)
        for tensor_name, tensor in tensors.items()
        if not tensor_name.endswith(_BATCH_COUNT)
    }
    _warn_of_non_finite(path, tensors)
    return tensors


def backbone_tensors(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors of a bare `MobileViTModel` under its own names, from a checkpoint with or without a head."""
    if not _has_head(tensors):
        return dict(tensors)
    # Within a model with a head the bare one is the attribute `mobilevit`; what lies outside it is the head.
    return {name.removeprefix(_BACKBONE): tensor for name, tensor in tensors.items() if name.startswith(_BACKBONE)}


def match_tensors(
    tensors: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]], source: str | Path
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
        near = difflib.get_close_matches(name, missing, n=1)
        return f"{found(name)} (nearest: {wanted(near[0])})" if near else found(name)

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
        name.removesuffix(_RUNNING_VARIANCE) + _BATCH_COUNT: np.zeros((), np.int64)
        for name in tensors
        if name.endswith(_RUNNING_VARIANCE)
    }
    # transformers converts the weights to the dtype that config.json names; one left from the checkpoint that these
    # weights came from (under the new key or the old) would round them.
    config = {key: value for key, value in config.items() if key != "torch_dtype"} | {"dtype": "float32"}
    write_files(folder, {WEIGHTS_FILE: tensor_writer({**tensors, **batch_counts}), CONFIG_FILE: json_writer(config)})


def _read_shards(index: Path) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint in several files; `index` is the JSON file that says which tensor lies in which."""
    shard_of = read_json(index, CheckpointError).get("weight_map")
    if not isinstance(shard_of, dict) or not all(isinstance(shard, str) for shard in shard_of.values()):
        raise CheckpointError(f"{index}: expected a weight_map of tensor names to file names")
    tensors: dict[str, np.ndarray] = {}
    for shard in sorted(set(shard_of.values())):
        path = index.parent / shard
        if path.name != shard or path.suffix != ".safetensors":  # an index must not point out of its folder
            raise CheckpointError(f"{index}: the shard {shard!r}, expected the name of a .safetensors file beside it")
        if not path.is_file():
            raise CheckpointError(f"{index}: names the shard {shard}, which is missing")
        found = read_tensors(path)
        for name in found:
            if shard_of.get(name) != shard:
                raise CheckpointError(f"{path}: holds tensor {name}, which {index.name} places in {shard_of.get(name)}")
        for name in shard_of:
            if shard_of[name] == shard and name not in found:
                raise CheckpointError(f"{path}: lacks tensor {name}, which {index.name} places in it")
        tensors |= found
    return tensors


def _as_float32(path: Path, name: str, tensor: np.ndarray) -> np.ndarray:
    if tensor.dtype.kind != "f":
        raise CheckpointError(f"{path}: tensor {name} is {tensor.dtype}, expected floating point")
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is warned of as such
        tensor = tensor.astype(np.float32, copy=False)
    tensor.flags.writeable = False
    return tensor


def _warn_of_non_finite(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    counts = {name: tensor.size - int(np.count_nonzero(np.isfinite(tensor))) for name, tensor in tensors.items()}
    bad = [name for name, count in counts.items() if count]
    for problem in _listing("with NaN or infinite values", bad, lambda name: f"{name} ({counts[name]} of them)"):
        warnings.warn(f"{path}: {problem}; results will not be meaningful", UserWarning, stacklevel=3)


def _diagnosis(tensors: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]]) -> list[str]:
    """The known reasons for a misfit, told before the tensors are listed."""
    reasons = []
    if _has_head(expected) and not _has_head(tensors):
        reasons.append("the checkpoint is a bare MobileViTModel without a head")
    for task, name in _CLASSIFIERS.items():
        if name in tensors and name not in expected and _has_head(expected):
            reasons.append(f"the checkpoint is a {task} model")
        if name in tensors and name in expected and tensors[name].shape[:1] != tuple(expected[name][:1]):
            reasons.append(
                f"the checkpoint has {_rows(tensors[name].shape)} labels, the configuration {_rows(expected[name])}"
            )
    return reasons


def _has_head(names: Iterable[str]) -> bool:
    return any(name.startswith(_BACKBONE) for name in names)


def _rows(shape: tuple[int, ...]) -> int:
    return shape[0] if shape else 0


def _listing(kind: str, names: list[str], describe: Callable[[str], str]) -> list[str]:
    """One phrase that counts the tensors `names` and describes them, the first few of many; none for none."""
    if not names:
        return []
    more = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return [f"{len(names)} {kind}: {', '.join(map(describe, names[:_LISTED]))}{more}"]
