"""What a format costs: `python tests/measures/loading.py` loads one checkpoint, MobileViT XXS, from a safetensors file
and from one of torch.save, in turn, and prints the median times and the median of their ratios."""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from tinymvit import modeling
from tinymvit.config import MobileViTConfig
from tinymvit.text import align
from tinymvit.weights import formats, load_tensors

ROUNDS = 200


def load(path):
    """All tensors as they are stored."""
    return [tensor.load() for tensor in formats.open_file(path).values()]


def timed(work, path):
    begin = time.perf_counter()
    work(path)
    return time.perf_counter() - begin


def main():
    model = modeling.MobileViTForImageClassification(MobileViTConfig.preset("xx-small"))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        first = Path(folder, "model.safetensors")
        second = Path(folder, "pytorch_model.bin")
        tensors = formats.open_file(first).items()
        torch.save({name: torch.from_numpy(np.array(tensor.load())) for name, tensor in tensors}, second)
        rows = [["", "safetensors", "PyTorch", "ratio"]]
        ways = {"tensors as stored": load, "weights.load_tensors": load_tensors, "a model": modeling.load_model}
        for title, work in ways.items():
            pairs = [(timed(work, first), timed(work, second)) for _ in range(ROUNDS)]
            medians = [f"{statistics.median(times) * 1e3:.2f} ms" for times in zip(*pairs, strict=True)]
            rows.append([title, *medians, f"{statistics.median(theirs / ours for ours, theirs in pairs):.2f}"])
        print("\n".join(align(rows)))


if __name__ == "__main__":
    main()
