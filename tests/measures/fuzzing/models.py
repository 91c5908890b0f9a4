"""Tiny models and their checkpoints, which cases of many targets are made from."""

import json
from functools import cache

import numpy as np

from tinymvit import modeling
from tinymvit.config import MobileViTConfig

from .settings import CONFIG, PROCESSOR

CLASSES = ("MobileViTForImageClassification", "MobileViTForSemanticSegmentation", "MobileViTModel")
IMAGE = (1, 3, 32, 32)
SETTINGS = {name: value for name, value in CONFIG.items() if name not in ("architectures", "model_type", "torch_dtype")}


@cache
def model(name=CLASSES[0]):
    """A model with weights that are about as large as trained ones."""
    kind = getattr(modeling, name)
    blank = kind(MobileViTConfig(**SETTINGS))
    return kind.from_tensors(blank.config, weights(name))


@cache
def weights(name):
    """Its weights, by name."""
    numbers = np.random.default_rng(0)
    blank = getattr(modeling, name)(MobileViTConfig(**SETTINGS))
    return {
        key: (
            numbers.random(tensor.shape) + 0.5 if key.endswith("_var") else numbers.normal(0, 0.3, tensor.shape)
        ).astype("f4")
        for key, tensor in blank.weights.items()
    }


@cache
def weights_content(name):
    """The bytes of its safetensors file: header, data."""
    entries, data = {"__metadata__": {"format": "pt"}}, []
    begin = 0
    for key, tensor in weights(name).items():
        data.append(tensor.tobytes())
        end = begin + tensor.nbytes
        entries[key] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [begin, end]}
        begin = end
    return entries, b"".join(data)


def in_file(header, data):
    """The bytes of a safetensors file with a header of bytes."""
    return len(header).to_bytes(8, "little") + header + data


def save(folder, name=CLASSES[0]):
    """A right checkpoint in a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    entries, data = weights_content(name)
    (folder / "model.safetensors").write_bytes(in_file(json.dumps(entries).encode(), data))
    (folder / "config.json").write_text(json.dumps(CONFIG | {"architectures": [name]}), encoding="utf-8")
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR), encoding="utf-8")
    return folder


@cache
def pixels():
    return np.random.default_rng(1).random(IMAGE, np.float32)


@cache
def traced(name=CLASSES[0]):
    """Every intermediate of the model on `pixels`."""
    return model(name).trace(pixels())
