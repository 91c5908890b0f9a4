"""What it would cost to round the values of each kind of op to int8: `python tests/measures/int8_kinds.py`.

The network runs in float64 on our pictures; after each op of one kind its value is rounded to 256 steps of its own
range. The signal to noise ratio of the last map, or of the logits of a segmentation, says what that kind alone costs,
beside what convolutions, linear layers and activations in int8 cost. The residual sums of the transformers come by
themselves, and the tensors that are as wide as the attention is long.
"""

import numpy as np

from tinymvit import MobileViTImageProcessor, ops, reference
from tinymvit.error_budget.int8 import decibels
from tinymvit.images.folders import find_images
from tinymvit.modeling import load_model
from tinymvit.numerics import relative_error, to_uint8
from tinymvit.quantisation.calibration import Pictures, observe, processor_of
from tinymvit.quantisation.ranges import folded

KINDS = {
    "layer norm": lambda node: isinstance(node.op, ops.LayerNorm),
    "attention: scores": lambda node: isinstance(node.op, ops.Scores),
    "attention: probabilities": lambda node: isinstance(node.op, ops.Softmax),
    "attention: context": lambda node: isinstance(node.op, ops.Context),
    "residual sums of maps": lambda node: isinstance(node.op, ops.Add) and len(node.shape) == 4,
    "residual sums of tokens": lambda node: isinstance(node.op, ops.Add) and len(node.shape) == 3,
    "pool, resizing, concatenation": lambda node: isinstance(node.op, ops.MeanPool | ops.Resize | ops.Concat),
}
LAST = {"digits": "mobilevit.conv_1x1_exp.activation", "digits-seg": "segmentation_head.classifier.convolution"}
IMAGES = {"digits": "digit-*.png", "digits-seg": "scene-*.png"}


def rounded(graph, weights, pixels, last, chosen):
    """The value of the last map with those of the chosen nodes rounded."""
    values = {}
    for node in graph:
        inputs = [values[name] for name in node.inputs]
        tensors = [np.asarray(weights[name], np.float64) for name in node.weights]
        value = pixels if isinstance(node.op, ops.Input) else reference.compute(node.op, inputs, tensors)
        values[node.name] = to_uint8(value) if chosen(node) else value
        if node.name == last:
            return value
    raise AssertionError(last)


def main():
    from pathlib import Path

    folder = Path(__file__).parent.parent.parent / "docs" / "images"
    for name, last in LAST.items():
        model, processor = load_model(name), MobileViTImageProcessor.from_pretrained(name)
        images = [path for path in find_images([folder]) if path.match(IMAGES[name])]
        pixels = [processor(path).pixel_values.astype(np.float64) for path in images]
        graph = model.graph().select(["logits"])
        shape = graph["pixel_values"].shape
        ranges = observe(graph, model.weights, Pictures(images, processor_of(name)).pixels(*shape[1:]))
        plain, weights = folded(graph, model.weights)
        weights = {each: weights[each] for each in plain.weight_shapes()}
        exact = [rounded(plain, weights, x, last, lambda node: False) for x in pixels]
        in_int8, tensors = ranges.quantised(graph, model.weights)
        in_int8.outputs["last"] = last
        found = [reference.run(in_int8, tensors, x)["last"] for x in pixels]
        print(f"{name}, int8 as we define it: {_decibels(found, exact)}")
        for kind, chosen in KINDS.items():
            found = [rounded(plain, weights, x, last, chosen) for x in pixels]
            print(f"{name}, {kind}: {_decibels(found, exact)}")


def _decibels(found, exact):
    return f"{decibels(relative_error(np.stack(found), np.stack(exact))):.1f} dB"


if __name__ == "__main__":
    main()
