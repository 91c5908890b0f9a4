"""Whether tensors fit a model. Strict: one that is missing, left over or of another shape is an error that names it.

The names are those of the checkpoint's own family, as who reads the error knows them.
"""

import os
from collections.abc import Collection, Mapping

import numpy as np

from tinymvit.errors import CheckpointError
from tinymvit.text import nearest
from tinymvit.weights.checkpoint import Checkpoint
from tinymvit.weights.families import FAMILIES, family_of, naming_of, transformers
from tinymvit.weights.families.naming import BACKBONE, HEADS, has_head
from tinymvit.weights.families.others import other_network
from tinymvit.weights.families.transformers import CLASSIFIERS
from tinymvit.weights.wording import listing, no_family, row_count

_IN_WORDS = {"classify": "classification", "segment": "segmentation"}  # tasks, as messages call them


def backbone_tensors(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors of a bare `MobileViTModel` under its own names, from a checkpoint with or without a head."""
    if not has_head(tensors):
        return dict(tensors)
    # Within a model with a head the bare one is the attribute `mobilevit`.
    return {name.removeprefix(BACKBONE): tensor for name, tensor in tensors.items() if not name.startswith(HEADS)}


def match_tensors(
    tensors: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]], source: str | os.PathLike | Checkpoint
) -> dict[str, np.ndarray]:
    """`tensors` in the order of `expected`, which maps each name to its shape; `source` names the checkpoint in errors.

    Raises CheckpointError listing all missing, unexpected and misshapen tensors (of each kind the first ten), under the
    names that the checkpoint's own family gives them.
    """
    if {name: tensor.shape for name, tensor in tensors.items()} == {name: tuple(expected[name]) for name in expected}:
        return {name: tensors[name] for name in expected}
    naming = source.naming if isinstance(source, Checkpoint) else transformers.V1
    there = naming.shapes_to_theirs({name: tensor.shape for name, tensor in tensors.items()})
    needed = naming.shapes_to_theirs({name: tuple(shape) for name, shape in expected.items()})
    missing = [name for name in needed if name not in there]
    unexpected = [name for name in there if name not in needed]
    misshapen = [name for name in needed if name in there and there[name] != needed[name]]

    def found(name: str) -> str:
        return f"{name} {list(there[name])}"

    def wanted(name: str) -> str:
        return f"{name} {list(needed[name])}"

    def found_with_nearest(name: str) -> str:
        near = nearest(name, missing)
        return found(name) if near is None else f"{found(name)} (nearest: {wanted(near)})"

    def found_and_wanted(name: str) -> str:
        return f"{found(name)} (expected {list(needed[name])})"

    problems = [
        *_diagnosis(tensors, expected, source.stored if isinstance(source, Checkpoint) else tensors),
        *listing("missing", missing, wanted),
        *listing("unexpected", unexpected, found_with_nearest),
        *listing("of another shape", misshapen, found_and_wanted),
    ]
    raise CheckpointError(f"{source}: does not fit the model: {'; '.join(problems)}")


def _diagnosis(
    tensors: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]], stored: Collection[str]
) -> list[str]:
    """The known reasons for a misfit, told before the tensors are listed. stored: the names that the tensors have where
    they come from."""
    if stored and family_of(stored) is None and tensors.keys().isdisjoint(expected):
        return [no_family(stored)]
    reasons = []
    families = [family.NAME for family in FAMILIES if naming_of(family, stored)]
    if len(families) > 1:
        reasons.append(f"its names are of several families, {' and '.join(families)}")
    if other := other_network(stored):
        reasons.append(f"some of its tensors are those of {other}")
    if has_head(expected) and not has_head(tensors):
        reasons.append("the checkpoint is a bare MobileViTModel without a head")
    for task, name in CLASSIFIERS.items():
        if name in tensors and name not in expected and has_head(expected):
            reasons.append(f"the checkpoint is a {_IN_WORDS[task]} model")
        if name in tensors and name in expected and tensors[name].shape[:1] != tuple(expected[name][:1]):
            labels = row_count(tensors[name].shape)
            reasons.append(f"the checkpoint has {labels} labels, the configuration {row_count(expected[name])}")
    return reasons
