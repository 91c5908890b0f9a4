"""How exact the engine is beside PyTorch: `python tests/measures/exactness.py [SHAPE ...]` prints a table, by default
of six.

Both run in float32 on random weights that act like trained ones, and are compared with PyTorch in float64: the relative
root mean square error of each hidden state and of the logits, over a few weights and inputs.
"""

import sys
import tempfile

import numpy as np
import torch
import transformers

import tinymvit
from tinymvit.config import MobileViTConfig
from tinymvit.networks import mobilevit, random_weights
from tinymvit.text import align
from tinymvit.weights import save_checkpoint

SHAPES = [head + size for head in ("", "deeplabv3-") for size in ("xx-small", "x-small", "small")]
SEEDS = range(5)


def errors(shape, seed):
    """(2, 6): ours and PyTorch's for the five hidden states and the logits, at the published input size."""
    config = MobileViTConfig.preset(shape)
    segments = shape.startswith("deeplabv3-")
    name = "MobileViTForSemanticSegmentation" if segments else "MobileViTForImageClassification"
    record = mobilevit.semantic_segmentation if segments else mobilevit.image_classification
    size = (1, config.num_channels, *config.image_shape)
    with tempfile.TemporaryDirectory() as folder:
        named = config.to_dict() | {"architectures": [name]}
        save_checkpoint(folder, random_weights.as_trained(record(config, size), seed), named)
        ours = getattr(tinymvit, name).from_pretrained(folder)
        theirs = getattr(transformers, name).from_pretrained(folder).eval()
        x = np.random.default_rng(seed).random(size, np.float32)
        single = run(theirs, torch.from_numpy(x))
        exact = run(theirs.double(), torch.from_numpy(x).double())
        outputs = ours(x, output_hidden_states=True)
    return np.array([relative([*outputs.hidden_states, outputs.logits], exact), relative(single, exact)])


def run(model, x):
    with torch.no_grad():
        outputs = model(x, output_hidden_states=True)
    return [each.numpy() for each in (*outputs.hidden_states, outputs.logits)]


def relative(results, exact):
    return [
        float(np.sqrt(np.mean((a.astype(np.float64) - b) ** 2) / np.mean(b**2)))
        for a, b in zip(results, exact, strict=True)
    ]


def over_seeds(shape):
    return np.sqrt(np.mean([errors(shape, seed) ** 2 for seed in SEEDS], axis=0))


def main(shapes):
    transformers.utils.logging.disable_progress_bar()
    rows = [("", "", *[f"hidden {i}" for i in range(5)], "logits")]
    for shape in shapes or SHAPES:
        found = over_seeds(shape)
        rows += [
            (label, who, *[f"{error:.1e}" for error in row])
            for label, who, row in zip((shape, ""), ("tinymvit", "PyTorch"), found, strict=True)
        ]
        print(shape, file=sys.stderr)
    print("\n".join(align(rows, left=(0, 1))))


if __name__ == "__main__":
    main(sys.argv[1:])
