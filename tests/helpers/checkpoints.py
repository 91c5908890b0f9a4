"""Checkpoints as tests of them need: tiny ones, files written byte by byte, and one line of complaint."""

import json
import re
import struct

import numpy as np
import pytest

from tinymvit import modeling
from tinymvit.config import MobileViTConfig

TINY = {
    "hidden_sizes": [8, 8, 8],
    "neck_hidden_sizes": [4, 4, 4, 8, 8, 8, 16],
    "num_attention_heads": 2,
    "expand_ratio": 1.0,
    "aspp_out_channels": 8,
    "image_size": 32,
    "num_labels": 3,
}
CLASSES = {
    "classifier": "MobileViTForImageClassification",
    "segmenter": "MobileViTForSemanticSegmentation",
    "bare": "MobileViTModel",
}


def save_tiny(name, folder):
    """The checkpoint of a tiny model of our class CLASSES[name], with random weights, in `folder`."""
    model = getattr(modeling, CLASSES[name])(MobileViTConfig(**TINY))
    rng = np.random.default_rng(0)
    weights = {key: rng.random(tensor.shape, np.float32) for key, tensor in model.weights.items()}
    type(model).from_tensors(model.config, weights).save_pretrained(folder)
    return folder


def saved(path, tensors, header=None):
    """A safetensors file written here byte by byte; `header` replaces or adds entries of the right header."""
    entries, data = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(entries | (header or {})).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def complaint(error, *parts):
    """`pytest.raises` for `error` whose one line holds the given parts in this order."""
    return pytest.raises(error, match=r"\A[^\n]*" + "[^\n]*".join(map(re.escape, parts)) + r"[^\n]*\Z")
