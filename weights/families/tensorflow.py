"""TensorFlow's classes of transformers 4, which transformers 5 dropped: `tf_model.h5`, a file of Keras weights.

Source: modeling_tf_mobilevit.py and modeling_tf_pytorch_utils.py of transformers 4.57. Its names are transformers' own,
written as paths below the name of the Keras model; its settings lie in transformers' files.
"""

from tinymvit.weights.families import transformers
from tinymvit.weights.families.naming import BACKBONE, HEADS, Naming

NAME = "TensorFlow"
WORD = "tensorflow"
READS = None
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

read_config = transformers.read_config
read_processor = transformers.read_processor
assume = transformers.assume
