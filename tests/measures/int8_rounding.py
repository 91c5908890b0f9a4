"""How often other ways to round the last step of an int8 layer give another number than ours.

    python tests/measures/int8_rounding.py

The bundled classifier is run in int8 on one of our pictures, and the exact sums of each layer, on the same inputs, are
brought to int8 in each of these ways: ours, the definition; the product with the float32 quotient of the scales,
rounded to the even neighbour, as XNNPACK and ONNX Runtime do; and twice, as gemmlowp and TensorFlow Lite's own kernels
do, first the doubled high half of the product with the multiplier, then the shift, a half away from zero each time.
Where LiteRT and ONNX Runtime are installed, the files of `tinymvit export` are run in them, and each layer's own result
is held against ours on the runtime's own inputs.
"""

import importlib
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from tinymvit import MobileViTImageProcessor, calibrate, export, reference
from tinymvit.modeling import load_model
from tinymvit.ops import Conv2d, Input, Quantised, QuantisedActivation

ROOT = Path(__file__).parent.parent.parent
PICTURES = ROOT / "docs" / "images"
sys.path.insert(0, str(ROOT / "docs" / "porting"))


def sums_of(op, x, weight, bias):
    """The int32 sums of a layer, in int64."""
    shifted = x.astype(np.float64) - op.x.zero_point
    biases = [bias.astype(np.float64)] if op.op.bias else []
    return op.op.compute(shifted, weight.astype(np.float64), *biases).astype(np.int64)


def by_even(op, sums, scale):
    factor = (np.float32(op.x.scale) * scale / np.float32(op.y.scale)).astype(np.float32)
    return np.rint(sums.astype(np.float32) * by_channel(op, factor)).astype(np.int64)


def twice(op, sums, scale):
    m, n = (by_channel(op, each.astype(np.int64)) for each in op.multipliers(scale))
    product = sums * m
    high = np.where(product >= 0, product + 2**30, product + 1 - 2**30)
    high = np.where(high >= 0, high // 2**31, -(-high // 2**31))  # the doubled high half, cut off towards zero
    right = n - 31
    threshold = (1 << right >> 1) * (right > 0)
    size = np.abs(high) + threshold >> np.maximum(right, 0)
    return np.sign(high) * size


def by_channel(op, x):
    return x[:, None, None] if isinstance(op.op, Conv2d) else x


def in_bounds(op, y):
    return np.clip(y + op.y.zero_point, -128, 127)


def ways(graph, weights, pixels):
    """The shares of all numbers of layers that differ from ours, and the largest difference, by the way to round."""
    counts = {"the even neighbour": [0, 0], "twice": [0, 0]}
    total, values = 0, {}
    for node, value in reference.steps(graph, weights, pixels, np.float32):
        values[node.name] = value
        if isinstance(node.op, Quantised):
            weight, scale, bias = (weights[name] for name in node.weights)
            sums = sums_of(node.op, values[node.inputs[0]], weight, bias)
            total += value.size
            for count, way in zip(counts.values(), (by_even, twice), strict=True):
                away = np.abs(in_bounds(node.op, way(node.op, sums, scale)) - value.astype(np.int64))
                count[0] += int((away > 0).sum())
                count[1] = max(count[1], int(away.max()))
    return total, {name: (count / total, largest) for name, (count, largest) in counts.items()}


def of_a_dump(graph, weights, dump, kind, channels_last):
    """The same of a runtime's own results, each op on the runtime's own inputs; None where the dump lacks them."""
    differ, total, largest = 0, 0, 0
    for node in graph:
        if not isinstance(node.op, kind) or isinstance(node.op, Input):
            continue
        x, y = (dump.get(name.removesuffix(".int8")) for name in (node.inputs[0], node.name))
        if x is None or y is None:
            continue
        shapes = (graph[node.inputs[0]].shape, node.shape)
        x, y = (as_ours(each, shape, channels_last) for each, shape in zip((x, y), shapes, strict=True))
        tensors = [weights[name] for name in node.weights]
        ours = node.op.compute(node.op.x.quantise(x), *tensors)
        away = np.abs(node.op.y.quantise(y) - ours)
        differ, total, largest = differ + int((away > 0).sum()), total + away.size, max(largest, int(away.max()))
    return total, differ / max(total, 1), largest


def as_ours(x, shape, channels_last):
    """A tensor of one of our files in our shape: maps may lie with their channels last, tokens lie (N, P, D)."""
    x = np.asarray(x, np.float32)
    if len(shape) == 4:
        return x.transpose(0, 3, 1, 2) if channels_last else x
    return x.reshape(shape[1], shape[0], shape[2]).swapaxes(0, 1) if len(shape) == 3 else x.reshape(shape)


def main():
    model = load_model("digits")
    pixels = MobileViTImageProcessor.from_pretrained("digits")(PICTURES / "digit-7.png").pixel_values
    graph = model.graph().select(["logits"])
    ranges = calibrate("digits", PICTURES)
    graph, weights = ranges.quantised(graph, model.weights)
    total, found = ways(graph, weights, pixels)
    for name, (share, largest) in found.items():
        print(f"{name}: {share:.3%} of {total:,} numbers differ, by {largest} at most")
    targets = {
        "LiteRT": ("tflite", "dump_litert", "ai_edge_litert", lambda p: np.ascontiguousarray(p.transpose(0, 2, 3, 1))),
        "ONNX Runtime": ("onnx", "dump_onnxruntime", "onnxruntime", lambda p: p),
    }
    for name, (to, script, needed, lay) in targets.items():
        if find_spec(needed) is None:
            print(f"{name}: not installed")
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"model.{to}"
            export("digits", path, to=to, precision="int8", calibrate=ranges)
            if to == "onnx":
                path = importlib.import_module("onnx").load(path)
            dump = importlib.import_module(script).dump(path, lay(pixels))
        for what, kind in (("layers", Quantised), ("activations", QuantisedActivation)):
            total, share, largest = of_a_dump(graph, weights, dump, kind, to == "tflite")
            print(f"{name}, {what}: {share:.3%} of {total:,} numbers differ, by {largest} at most")


if __name__ == "__main__":
    main()
