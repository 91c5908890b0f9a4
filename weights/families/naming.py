"""Two libraries' names for the same tensors, as one table that is read in both directions.

A table maps the modules of another library to ours, which are transformers' without the prefix of the backbone. A
tensor's name is its module's and a role: weight, bias, running_mean. What a library holds in another form is undone by
rule: several of our modules in one of theirs, one behind the other along the first axis, are split; axes in another
order are transposed. Both are exact, and so is the way back.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import numpy as np

from tinymvit.weights.stored import StoredTensor

BACKBONE = "mobilevit."  # the attribute under which a model with a head holds the bare MobileViTModel
CLASSIFIER = "classifier."  # what lies beside it: the head for classification,
SEGMENTER = "segmentation_head."  # and that for segmentation
HEADS = (CLASSIFIER, SEGMENTER)
# PyTorch's count of the batches that a BatchNorm saw in training. No forward pass reads it.
BATCH_COUNT = ".num_batches_tracked"
RUNNING_VARIANCE = ".running_var"
NORMS = ("normalization", "layernorm", "layernorm_before", "layernorm_after")  # what we call modules that normalise

# The stages of a MobileViT that are MobileViT blocks, counted from 0, and how many transformer layers each has.
TRANSFORMER_LAYERS = {2: 2, 3: 4, 4: 3}
INVERTED_RESIDUALS = {0: 1, 1: 3}  # the stages before them, and how many inverted residuals each has

Modules = Mapping[str, str | tuple[str, ...]]
Value = TypeVar("Value")


def is_batch_count(name: str) -> bool:
    """Whether a tensor of this name is no weight."""
    return name.endswith(BATCH_COUNT)


@dataclass(frozen=True)
class Naming:
    """The names that one library gives to the parts of one network.

    mark: the tensor by whose name the network is told. modules: their name of each module that has tensors, and ours;
    several of ours, where theirs is fused. Of two names for one module the first is written. outputs: what names mean
    in a dump of theirs, where this is not the module of the same name. roles, norm_roles: their words for the roles of
    tensors, and for those of normalisations, where these differ. axes: by the number of axes, from where ours takes
    each of its axes. encoder: what stands before the names of the backbone in models with a head of the kinds in
    `encoder_under`, "" being none. left_out: which tensors no forward pass needs. spelling: how a name in a file of
    theirs is written here, with dots.
    """

    mark: str
    modules: Modules
    outputs: Modules = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    norm_roles: Mapping[str, str] = field(default_factory=dict)
    axes: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    encoder: str = ""
    encoder_under: tuple[str, ...] = HEADS
    left_out: Callable[[str], bool] = is_batch_count
    spelling: Callable[[str], str] = str

    def fits(self, names: Collection[str]) -> bool:
        """Whether tensors of these names are of this network."""
        return any(self.spelling(name).removeprefix(self.encoder) == self.mark for name in names)

    def knows_most_of(self, names: Collection[str]) -> bool:
        """Whether the table has more than half of these names: tensors of the network, of which some are missing."""
        return 2 * sum(bool(self._ours(self.spelling(name))) for name in names) > len(names) > 10

    def to_ours(self, tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
        """Their tensors under our names and in our form. One that the table does not know keeps its name, and so does
        a second one for the same of ours."""
        found: dict[str, StoredTensor] = {}
        strangers: dict[str, StoredTensor] = {}
        spelled = {name: self.spelling(name) for name in tensors}
        for name in sorted(tensors, key=lambda name: not spelled[name].startswith(self.encoder)):
            theirs, tensor = spelled[name], tensors[name]._replace(source=name)
            if self.left_out(theirs):
                continue
            ours = self._ours(theirs)
            axes = self.axes.get(len(tensor.shape))
            turned = tensor if axes is None else _turned(tensor, axes)
            if found.keys() & ours:
                strangers[name] = tensor
            elif not ours or (len(ours) > 1 and (not turned.shape or turned.shape[0] % len(ours))):
                strangers[theirs] = tensor
            elif len(ours) == 1:
                found[ours[0]] = turned
            else:
                found |= {each: _part(turned, index, len(ours)) for index, each in enumerate(ours)}
        under_a_head = any(name.startswith(HEADS) for name in found)
        if self.encoder and "" not in self.encoder_under:  # then it tells that there should be one
            under_a_head |= any(name.startswith(self.encoder) for name in spelled.values())
        prefix = BACKBONE if under_a_head else ""
        named = {name if name.startswith(HEADS) else f"{prefix}{name}": tensor for name, tensor in found.items()}
        return named | strangers

    def to_theirs(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Our tensors under their names and in their form, in our order. One that the table does not know keeps its
        name."""
        found = {}
        for theirs, parts in self._theirs(tensors):
            tensor = np.concatenate(parts) if len(parts) > 1 else parts[0]
            axes = self.axes.get(tensor.ndim)
            found[theirs] = tensor if axes is None else np.ascontiguousarray(tensor.transpose(np.argsort(axes)))
        return found

    def shapes_to_theirs(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """The shapes that our tensors have under their names."""
        found = {}
        for theirs, parts in self._theirs(shapes):
            shape = parts[0] if len(parts) == 1 else (sum(part[0] for part in parts), *parts[0][1:])
            axes = self.axes.get(len(shape))
            found[theirs] = shape if axes is None else tuple(shape[axis] for axis in np.argsort(axes))
        return found

    def output(self, name: str) -> tuple[str, ...]:
        """What a tensor of this name holds in a dump of theirs: the values of these nodes or modules of ours, named
        without the prefix of the backbone, one behind the other along the channels. Empty if the name means nothing."""
        for known in (name, name.removeprefix(self.encoder)):
            for table in (self.outputs, self.modules):
                if known in table:
                    return _several(table[known])
        return ()

    def _ours(self, theirs: str) -> tuple[str, ...]:
        module, _, role = theirs.removeprefix(self.encoder).rpartition(".")
        role = self.roles.get(role) or self.norm_roles.get(role, role)
        return tuple(f"{ours}.{role}" for ours in _several(self.modules.get(module, ())))

    def _theirs(self, tensors: Mapping[str, Value]) -> Iterator[tuple[str, list[Value]]]:
        """Their names, each with what we have under those of our names that it stands for."""
        under = next((head for head in HEADS if any(name.startswith(head) for name in tensors)), "")
        if not under and has_head(tensors):  # which is missing
            under = CLASSIFIER
        encoder = self.encoder if under in self.encoder_under else ""
        found: dict[str, dict[int, Value]] = {}
        for name, value in tensors.items():
            module, _, role = name.rpartition(".")
            theirs, part = self._theirs_by_ours.get(module.removeprefix(BACKBONE), ("", 0))
            is_ours = not under or name.startswith((BACKBONE, *HEADS))
            if not theirs or not is_ours:
                found[name] = {0: value}
                continue
            words = self._norm_words if module.rpartition(".")[2] in NORMS else self._words
            prefix = "" if name.startswith(HEADS) else encoder
            found.setdefault(f"{prefix}{theirs}.{words.get(role, role)}", {})[part] = value
        for theirs, parts in found.items():
            yield theirs, [parts[index] for index in sorted(parts)]

    @cached_property
    def _theirs_by_ours(self) -> dict[str, tuple[str, int]]:
        """The name of their module that is ours, and which part of it is."""
        found: dict[str, tuple[str, int]] = {}
        for theirs, modules in self.modules.items():
            for part, ours in enumerate(_several(modules)):
                found.setdefault(ours, (theirs, part))
        return found

    @cached_property
    def _words(self) -> dict[str, str]:
        return {ours: theirs for theirs, ours in self.roles.items()}

    @cached_property
    def _norm_words(self) -> dict[str, str]:
        return {ours: theirs for theirs, ours in self.norm_roles.items()}


def rows(layers: Mapping[str, str], theirs: str, *ours: str) -> dict[str, str | tuple[str, ...]]:
    """The rows of a table for one module in each of `layers`, which are their names of layers and ours."""
    found = {f"{layer}.{theirs}": tuple(f"{our_layer}.{name}" for name in ours) for layer, our_layer in layers.items()}
    return {name: modules[0] if len(modules) == 1 else modules for name, modules in found.items()}


def with_batch_counts(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tensors in PyTorch's form, with a count of batches, 0, in each BatchNorm. Without it strict loading fails."""
    norms = [name.removesuffix(RUNNING_VARIANCE) for name in tensors if name.endswith(RUNNING_VARIANCE)]
    return {**tensors, **{norm + BATCH_COUNT: np.zeros((), np.int64) for norm in norms}}


def has_head(names: Collection[str]) -> bool:
    """Whether tensors of these names, which are ours, are those of a model with a head."""
    return any(name.startswith(BACKBONE) for name in names)


def _several(modules: str | tuple[str, ...]) -> tuple[str, ...]:
    return (modules,) if isinstance(modules, str) else modules


def _turned(tensor: StoredTensor, axes: tuple[int, ...]) -> StoredTensor:
    """A tensor whose axes are those of `tensor` in another order."""
    shape = tuple(tensor.shape[axis] for axis in axes)
    return tensor._replace(shape=shape, load=lambda: np.ascontiguousarray(tensor.load().transpose(axes)))


def _part(tensor: StoredTensor, index: int, count: int) -> StoredTensor:
    """One of so many equal parts of a tensor along its first axis."""
    rows = tensor.shape[0] // count
    part = slice(index * rows, (index + 1) * rows)
    return tensor._replace(shape=(rows, *tensor.shape[1:]), load=lambda: tensor.load()[part])
