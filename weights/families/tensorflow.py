"""TensorFlow's classes of transformers 4, which transformers 5 dropped: `tf_model.h5`, a file of Keras weights.

Source: modeling_tf_mobilevit.py and modeling_tf_pytorch_utils.py of transformers 4.57. Its names are transformers' own,
written as paths below the name of the Keras model; its settings lie in transformers' files.
"""

import re
from collections.abc import Iterable

from tinymvit.weights.families import transformers
from tinymvit.weights.families.naming import BACKBONE, CLASSIFIER, HEADS, SEGMENTER, TRANSFORMER_LAYERS, Naming
from tinymvit.weights.formats.hdf5 import WEIGHTS_FILE, tensor_writer
from tinymvit.weights.stored import Settings, Tensors, Writer

NAME = "TensorFlow"
WORD = "tensorflow"
CONFIG_FILES: tuple[str, ...] = (transformers.CONFIG_FILE,)
PROCESSOR_FILES: tuple[str, ...] = (transformers.PROCESSOR_FILE,)


def _spelling(name: str) -> str:
    """A path in the file as a name: without the Keras model at its beginning and the output's number at its end."""
    return name.partition("/")[2].removesuffix(":0").replace("/", ".")


# ---- the names of version 1 ----

V1 = Naming(
    mark="conv_stem.convolution.kernel",
    modules={name: name for name in transformers.MODULES},
    roles={"kernel": "weight"},
    norm_roles={"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"},
    # TensorFlow holds a convolution as (height, width, in, out), and a matrix as (in, out).
    axes={4: (3, 2, 0, 1), 2: (1, 0)},
    encoder=BACKBONE,
    encoder_under=("", *HEADS),  # the bare model stands under its attribute too
    spelling=_spelling,
)
NAMINGS: tuple[Naming, ...] = (V1,)

# ---- the settings, which lie in transformers' own files ----

reads = transformers.reads
read_config = transformers.read_config
read_processor = transformers.read_processor
assume = transformers.assume

# ---- writing ----

# A Keras model is called after its class; its layers are the backbone and what the head consists of.
_MODELS = {
    "": ("tf_mobile_vi_t_model", ("mobilevit",)),
    # Keras counts the dropouts of a process: three in each transformer layer come before the head's.
    CLASSIFIER: (
        "tf_mobile_vi_t_for_image_classification",
        ("mobilevit", f"dropout_{3 * sum(TRANSFORMER_LAYERS.values())}", "classifier"),
    ),
    SEGMENTER: ("tf_mobile_vi_t_for_semantic_segmentation", ("mobilevit", "segmentation_head")),
}
# The words in names, in the order in which Keras lists the parts of a layer. What is not trained comes after all else.
_WORDS = (
    *("conv_stem", "encoder", "downsampling_layer", "expand_1x1", "conv_3x3", "reduce_1x1", "conv_kxk", "conv_1x1"),
    *("transformer", "attention", "query", "key", "value", "intermediate", "output"),
    *("layernorm_before", "layernorm_after", "layernorm", "conv_projection", "fusion", "conv_1x1_exp"),
    *("aspp", "convs", "project", "classifier", "convolution", "normalization", "dense"),
    *("kernel", "gamma", "bias", "beta", "moving_mean", "moving_variance"),
)
_UNTRAINED = ("moving_mean", "moving_variance")


def files(tensors: Tensors, config: Settings, processor: Settings | None) -> dict[str, Writer]:
    """What the classes of transformers 4 load, and wrote. Raises OutputError without the h5py library."""
    model, layers = _MODELS[next((head for head in HEADS if any(name.startswith(head) for name in tensors)), "")]
    theirs = V1.to_theirs(tensors)
    listed = {
        layer: {_path(model, name): theirs[name] for name in _in_keras_order(theirs) if name.startswith(f"{layer}.")}
        for layer in layers
    }
    return {WEIGHTS_FILE: tensor_writer(listed), **transformers.settings_files(config, processor)}


def _path(model: str, name: str) -> str:
    """A name as a path in the file, the other way than `_spelling`. A number belongs to the word before it."""
    return f"{model}/{re.sub(r'[.](?![0-9])', '/', name)}:0"


def _in_keras_order(names: Iterable[str]) -> list[str]:
    def place(name: str) -> tuple[bool, list[int]]:
        words = [word for word in name.split(".") if word.isdecimal() or word in _WORDS]
        places = [int(word) if word.isdecimal() else _WORDS.index(word) for word in words]
        return name.endswith(_UNTRAINED), places

    return sorted(names, key=place)
