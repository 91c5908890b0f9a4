"""The classes people know from transformers: a configuration, weights, and a call from pixels to outputs.

Everything they compute is done by `engine` on the graph that `networks` records; a compiled engine is kept for each of
the last few input shapes. Loading and naming tensors is `weights`' part.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from tinymvit import kernels, weights
from tinymvit.checks import is_positive_integer
from tinymvit.config import MobileViTConfig
from tinymvit.engine.engine import Engine, Prepared
from tinymvit.errors import tell
from tinymvit.graph import Graph, parameters
from tinymvit.inspection.attention_map import Query, attention_map, with_words_of_0_1
from tinymvit.inspection.trace import Trace
from tinymvit.modeling.losses import classification_loss, segmentation_loss
from tinymvit.modeling.outputs import (
    BaseModelOutputWithPooling,
    ImageClassifierOutput,
    ModelOutput,
    SemanticSegmenterOutput,
)
from tinymvit.networks import mobilevit, random_weights
from tinymvit.numerics import Array, as_array
from tinymvit.ops import Shape
from tinymvit.text import short
from tinymvit.weights.checkpoint import Checkpoint, as_weights, open_checkpoint
from tinymvit.weights.families.naming import BATCH_COUNT

ENGINES_KEPT = 4  # compiled input shapes a model remembers
HIDDEN_STATES = tuple(f"hidden_states.{stage}" for stage in range(5))


class MobileViTPreTrainedModel:
    """What the three models share. `weights` maps tensor names to float32 arrays; do not change them in place."""

    def __init__(self, config: MobileViTConfig, *, seed: int = 0) -> None:
        """A model with random weights, drawn from `seed` as for training: normal with deviation
        config.initializer_range, biases zero, norms one. Raises TypeError if config is no MobileViTConfig."""
        self.config = _checked(config)
        self._set_weights(random_weights.as_for_training(self.graph(), config.initializer_range, seed))

    @classmethod
    def from_pretrained(cls, name: str | Path | Checkpoint, *, config: MobileViTConfig | None = None) -> Self:
        """Load a checkpoint strictly: every tensor must be there, be used and have the right shape.

        name: a folder, a weights file (safetensors, PyTorch, HDF5) or an index of shards, of transformers, timm,
        ml-cvnets or TensorFlow; a bundled name ("digits"); a hub id ("apple/mobilevit-small"); or what
        `weights.open_checkpoint` made of one of these.
        config: used in place of the checkpoint's own.
        Raises CheckpointError or ConfigError, both ValueErrors, that name the file and the tensor or field.
        """
        return cls.__new__(cls)._load(name, config)

    @classmethod
    def from_tensors(cls, config: MobileViTConfig, tensors: Mapping[str, Array]) -> Self:
        """A model of these tensors, as strict as `from_pretrained`: every one must be there, be used and have the right
        shape.

        tensors: arrays by their names in PyTorch, which `graph().weight_shapes()` lists, of any float dtype. What is
        float32 in C order is not copied: do not change it afterwards; the rest is copied as float32. PyTorch's counts
        of batches, `num_batches_tracked`, are left out. Raises CheckpointError, a ValueError, that names the tensors,
        and TypeError if config is no MobileViTConfig or tensors are no mapping.
        """
        return cls.__new__(cls)._adopt(config, tensors)

    def save_pretrained(self, folder: str | Path, *, family: str = "transformers") -> None:
        """Write the model as the software of a family loads it: by default model.safetensors (float32) and config.json,
        for transformers.

        family: "transformers", "timm", "cvnets" or "tensorflow". Weights that read RGB are written for a family whose
        models read BGR with the stem's input axis reversed, and the other way round; all other bits stay.
        Raises OutputError, a ValueError, for a model that the family has no words for, and if the folder cannot be
        written; files already there then stay whole.
        """
        # Also of the TensorFlow classes, a config.json names the class of PyTorch.
        config = self.config.to_dict() | {"architectures": [type(self).__name__.removeprefix("TF")]}
        weights.save_checkpoint(folder, self.weights, config, family=family)

    def graph(self, shape: Shape | None = None) -> Graph:
        """The graph for an input shape (B, C, H, W); by default one image of config.image_size. Raises ValueError for
        another shape."""
        channels = self.config.num_channels
        if shape is None:
            return self._record((1, channels, *self.config.image_shape))
        if len(shape) != 4 or not all(map(is_positive_integer, shape)) or shape[1] != channels:
            raise ValueError(f"shape is {short(shape)}; expected (B, {channels}, H, W), whole numbers of at least 1")
        return self._record(tuple(map(int, shape)))

    def num_parameters(self) -> int:
        """The number of parameters, as PyTorch counts them."""
        return sum(parameters(node) for node in self.graph())

    def state_dict(self) -> dict[str, Array]:
        """Every tensor by its name in PyTorch; read-only."""
        return dict(self.weights)

    def trace(
        self,
        pixel_values: Array,
        names: str | Sequence[str] | None = None,
        dtype: str = "float32",
        source: str = "reference",
    ) -> dict[str, Array]:
        """Every intermediate by its name in the graph, in order, with PyTorch's shapes: pixels first, logits last.

        pixel_values: (B, C, H, W) floats, as for a call. names: names of nodes or PyTorch modules, or patterns such as
        "*.scores"; by default all nodes. dtype: "float32" or "float64", of the computation and the results.
        source: "reference" (NumPy), "ordered" (NumPy in float32, each sum in a fixed order, as the exported C has it),
        or "engine": what the engine itself computes, in float32, its merged nodes under the name of the last of them.
        Raises ValueError for a name that is not there and TypeError or ValueError for pixels as a call does. For large
        inputs iterate over a `tinymvit.Trace`, which keeps nothing.
        """
        return dict(iter(self._trace(pixel_values, names, dtype, source)))

    @with_words_of_0_1
    def attention(
        self,
        pixel_values: Array,
        block: int,
        layer: int,
        head: int | None = None,
        *,
        query: tuple[int, int],
        progress: bool = False,
    ) -> Array:
        """How much one pixel takes from each other part of the image: (H, W) float32, the size of the image.

        pixel_values: (1, C, H, W) floats, as for a call. block: which of the three MobileViT blocks, from 0. layer:
        which transformer layer in it, from 0. head: one of the attention heads, from 0, or None for their mean. query:
        (y, x), a pixel of the input. progress: show a bar if stderr is a terminal. `inspection.attention_map`, which
        does it, says what the values mean. Raises TypeError or ValueError for pixels as a call does, and for a number
        that is out of range.

        Version 0.1 exchanged the words `block` and `layer`. Its keywords, in its order (`layer=1, block=0`), still mean
        what they meant, with a FutureWarning, until the next version.
        """
        pixels = check_pixel_values(pixel_values, self.config.num_channels)
        who = Query(block, layer, head, query)
        return attention_map(self.graph(pixels.shape), self.weights, pixels, who, progress)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.num_parameters():,} parameters)"

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or another process needs: not the engines, which it compiles for itself."""
        return {name: value for name, value in vars(self).items() if name not in ("_prepared", "_engines", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._set_weights(self.weights)

    @staticmethod
    def recorder(config: MobileViTConfig, shape: Shape) -> Graph:
        """The network of this class, written down for an input shape (B, C, H, W)."""
        raise NotImplementedError

    def _record(self, shape: Shape) -> Graph:
        return self.recorder(self.config, shape)

    def _load(self, name: str | Path | Checkpoint, config: MobileViTConfig | None) -> Self:
        checkpoint = open_checkpoint(name)
        self.config = config or MobileViTConfig.from_pretrained(checkpoint)
        return self._match(checkpoint.tensors, checkpoint)

    def _adopt(self, config: MobileViTConfig, tensors: Mapping[str, Array]) -> Self:
        self.config = _checked(config)
        if not isinstance(tensors, Mapping):
            raise TypeError(f"tensors: {type(tensors).__name__}, expected a mapping of names to arrays")
        if not all(isinstance(name, str) for name in tensors):
            raise TypeError("tensors: a name that is no text, expected the names of tensors in PyTorch")
        source = f"the set of tensors for a {type(self).__name__}"
        counted = {name: tensor for name, tensor in tensors.items() if not name.endswith(BATCH_COUNT)}
        return self._match(as_weights(counted, source), source)

    def _match(self, tensors: Mapping[str, Array], source: str | Checkpoint) -> Self:
        self._set_weights(weights.match_tensors(self._own_tensors(tensors), self.graph().weight_shapes(), source))
        return self

    def _own_tensors(self, tensors: Mapping[str, Array]) -> Mapping[str, Array]:
        """Those of a checkpoint's tensors that this class should use, under its own names."""
        return tensors

    def _set_weights(self, tensors: Mapping[str, Array]) -> None:
        self.weights = dict(tensors)
        self._prepared = Prepared()
        self._engines: dict[tuple[Shape, tuple[str, ...]], Engine] = {}
        self._lock = threading.Lock()  # of the two above
        _models.add(self)

    def _run(self, pixel_values: Array, outputs: tuple[str, ...]) -> dict[str, Array]:
        pixel_values = check_pixel_values(pixel_values, self.config.num_channels)
        shape = (1, *pixel_values.shape[1:])
        key = shape, outputs
        with self._lock:
            engine = self._engines.pop(key, None)
            if engine is None:
                _compile_kernels()
                graph = self.graph(shape).select(outputs)
                engine = Engine(graph, self.weights, self._prepared)
            self._engines[key] = engine  # the latest used stands last
            while len(self._engines) > ENGINES_KEPT:
                del self._engines[next(iter(self._engines))]
        return engine.run(pixel_values)

    def _trace(
        self, pixel_values: Array, names: str | Sequence[str] | None, dtype: str, source: str = "reference"
    ) -> Trace:
        check_pixel_values(pixel_values, self.config.num_channels)
        if source == "engine":
            _compile_kernels()
        pixels = as_array(pixel_values, "pixel_values")  # as it is: a trace in float64 does not round it to float32
        return Trace(self.graph(pixels.shape), self.weights, pixels, names, dtype, source)

    def _option(self, given: bool | None, name: str) -> bool:
        return bool(getattr(self.config, name) if given is None else given)

    @staticmethod
    def _as_asked(output: ModelOutput, return_dict: bool) -> Any:
        return output if return_dict else output.to_tuple()


class MobileViTModel(MobileViTPreTrainedModel):
    """The network without a head. expand_output=False leaves out the last 1x1 convolution and the pooling."""

    recorder = staticmethod(mobilevit.mobilevit)

    def __init__(self, config: MobileViTConfig, expand_output: bool = True, *, seed: int = 0) -> None:
        self.expand_output = expand_output
        super().__init__(config, seed=seed)

    def _record(self, shape: Shape) -> Graph:
        return mobilevit.mobilevit(self.config, shape, self.expand_output)

    def _own_tensors(self, tensors: Mapping[str, Array]) -> Mapping[str, Array]:
        return weights.backbone_tensors(tensors)

    @classmethod
    def from_pretrained(
        cls, name: str | Path | Checkpoint, expand_output: bool = True, *, config: MobileViTConfig | None = None
    ) -> Self:
        """As the other models', from a checkpoint with or without a head. The DeepLabV3 checkpoints have no expanding
        convolution: load them with expand_output=False."""
        self = cls.__new__(cls)
        self.expand_output = expand_output
        return self._load(name, config)

    @classmethod
    def from_tensors(cls, config: MobileViTConfig, tensors: Mapping[str, Array], expand_output: bool = True) -> Self:
        """As the other models', from the tensors of a model with or without a head. Raises CheckpointError for one that
        is missing or has another shape than `graph().weight_shapes()` says."""
        self = cls.__new__(cls)
        self.expand_output = expand_output
        return self._adopt(config, tensors)

    def __call__(
        self, pixel_values: Array, output_hidden_states: bool | None = None, return_dict: bool | None = None
    ) -> BaseModelOutputWithPooling:
        """pixel_values (B, C, H, W) floats from 0 to 1, any H and W, BGR or what the checkpoint reads. Options left out
        are the configuration's.

        Raises TypeError or ValueError for pixels of another dtype, rank or number of channels, and for NaN.
        """
        hidden = HIDDEN_STATES if self._option(output_hidden_states, "output_hidden_states") else ()
        pooled = ("pooler_output",) if self.expand_output else ()
        results = self._run(pixel_values, ("last_hidden_state", *pooled, *hidden))
        output = BaseModelOutputWithPooling(
            results["last_hidden_state"], results.get("pooler_output"), _hidden_states(results)
        )
        return self._as_asked(output, self._option(return_dict, "return_dict"))


class MobileViTForImageClassification(MobileViTPreTrainedModel):
    """The network with a linear classifier on the pooled features."""

    recorder = staticmethod(mobilevit.image_classification)

    def __call__(
        self,
        pixel_values: Array,
        output_hidden_states: bool | None = None,
        labels: Array | None = None,
        return_dict: bool | None = None,
    ) -> ImageClassifierOutput:
        """pixel_values (B, C, H, W) floats from 0 to 1, any H and W, BGR or what the checkpoint reads. With labels the
        output has a loss (see `losses.classification_loss`). Options left out are the configuration's.

        Raises TypeError or ValueError for pixels or labels of another dtype, shape or range, and for NaN.
        """
        hidden = HIDDEN_STATES if self._option(output_hidden_states, "output_hidden_states") else ()
        results = self._run(pixel_values, ("logits", *hidden))
        logits = results["logits"]
        loss = None if labels is None else classification_loss(logits, labels, self.config)
        output = ImageClassifierOutput(loss, logits, _hidden_states(results))
        return self._as_asked(output, self._option(return_dict, "return_dict"))


class MobileViTForSemanticSegmentation(MobileViTPreTrainedModel):
    """The network with a DeepLabV3 head."""

    recorder = staticmethod(mobilevit.semantic_segmentation)

    def __call__(
        self,
        pixel_values: Array,
        labels: Array | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> SemanticSegmenterOutput:
        """pixel_values (B, C, H, W) floats from 0 to 1, any H and W, BGR or what the checkpoint reads. With labels
        (B, H', W') the output has a loss (see `losses.segmentation_loss`). Options left out are the configuration's.

        Raises TypeError or ValueError for pixels or labels of another dtype, shape or range, and for NaN.
        """
        hidden = HIDDEN_STATES if self._option(output_hidden_states, "output_hidden_states") else ()
        results = self._run(pixel_values, ("logits", *hidden))
        logits = results["logits"]
        loss = None if labels is None else segmentation_loss(logits, labels, self.config)
        output = SemanticSegmenterOutput(loss, logits, _hidden_states(results))
        return self._as_asked(output, self._option(return_dict, "return_dict"))


# What a checkpoint is for, as its `config.task` says it -> the class of its model.
MODELS: dict[str, type[MobileViTPreTrainedModel]] = {
    "classify": MobileViTForImageClassification,
    "segment": MobileViTForSemanticSegmentation,
    "features": MobileViTModel,
}


def load_model(name: str | Path | Checkpoint) -> MobileViTPreTrainedModel:
    """The model of a checkpoint, of the class that its config.json names; a classifier if it names none.

    name: anything `from_pretrained` takes. Raises CheckpointError or ConfigError.
    """
    checkpoint = open_checkpoint(name)
    config = MobileViTConfig.from_pretrained(checkpoint)
    return MODELS[config.task or "classify"].from_pretrained(checkpoint, config=config)


def check_pixel_values(pixel_values: Any, channels: int) -> Array:
    """`pixel_values` as a float32 array (B, channels, H, W) of finite numbers, or a TypeError or ValueError."""
    if pixel_values is None:
        raise ValueError("pixel_values is missing; expected an array (batch, channels, height, width)")
    x = as_array(pixel_values, "pixel_values")
    if x.dtype.kind != "f":
        raise TypeError(
            f"pixel_values have dtype {x.dtype}; expected floats from 0 to 1, as MobileViTImageProcessor makes them"
        )
    if x.ndim != 4:
        raise ValueError(f"pixel_values have shape {x.shape}; expected four axes (batch, channels, height, width)")
    if x.shape[1] != channels:
        hint = "; channels come second, before height and width" if x.shape[3] == channels else ""
        raise ValueError(f"pixel_values have shape {x.shape}, so {x.shape[1]} channels; expected {channels}{hint}")
    if 0 in x.shape:
        raise ValueError(f"pixel_values have shape {x.shape}; expected at least one image of at least one pixel")
    with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite, and is refused as such
        x = x.astype(np.float32, copy=False)
    if not (np.isfinite(x.min()) and np.isfinite(x.max())):  # without an array of as many truth values
        at = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
        raise ValueError(f"pixel_values hold {x[at]} at {at}; expected finite numbers")
    return x


def _checked(config: Any) -> MobileViTConfig:
    if not isinstance(config, MobileViTConfig):
        raise TypeError(f"config is a {type(config).__name__}; expected a MobileViTConfig")
    return config


# ---- the first run ----

_compiling = threading.Lock()  # so that two models do not compile the same kernels at the same time
_models: weakref.WeakSet[MobileViTPreTrainedModel] = weakref.WeakSet()  # all there are


def _compile_kernels() -> None:
    """Compile all kernels, if this is the first run here, and say so; the command line has done both by now.

    All of them, needed or not: two processes at it take half the time. If there is no folder to keep them in, those
    that are needed are compiled when they are.
    """
    with _compiling:
        if kernels.is_cached():
            return
        if kernels.cache_folder() is None:
            tell("compiling the kernels of tinymvit, as each time: no folder to keep them in can be written")
            return
        tell("first run of tinymvit here: compiling the kernels, once; `tinymvit warmup` does it ahead")
        for _ in kernels.warm_up():
            pass


def _after_fork_in_child() -> None:
    """Other threads of the parent may hold locks, and they will never let go here."""
    global _compiling
    _compiling = threading.Lock()
    for each in _models:
        each._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _hidden_states(results: Mapping[str, Array]) -> tuple[Array, ...] | None:
    return tuple(results[name] for name in HIDDEN_STATES) if HIDDEN_STATES[0] in results else None
