"""A port that needs no other library: the reference in float32 on a tiny network, right or with one op gone wrong.

Its dump has a tensor for every node, then those of the modules and the logits, as forward hooks give them.
"""

from functools import cache

import numpy as np

import tinymvit
from tinymvit import reference
from torch_models import TINY

STEM = "mobilevit.conv_stem.convolution"
BLOCK = "mobilevit.encoder.layer.2"  # the first MobileViT block
LAYER = f"{BLOCK}.transformer.layer.0"
ATTENTION = f"{LAYER}.attention.attention"


@cache
def model():
    """A classifier."""
    return with_random_weights(tinymvit.MobileViTForImageClassification, tinymvit.MobileViTConfig(**TINY))


def with_random_weights(kind, config):
    """A model of this class with weights under which activations neither die nor blow up."""
    rng = np.random.default_rng(0)
    shapes = kind.recorder(config, (1, 3, *config.image_shape)).weight_shapes()
    return kind.from_tensors(config, {name: _draw(rng, name, shape) for name, shape in shapes.items()})


def _draw(rng, name, shape):
    x = rng.standard_normal(shape, np.float32)
    if name.endswith("running_var"):
        return np.float32(0.5) + rng.random(shape, np.float32) / 2
    if len(shape) == 1:
        return x / 10 + np.float32(name.endswith(".weight"))
    gain = 0.03 if "encoder" in name and name.endswith("conv_1x1.convolution.weight") else 1  # tokens of a usual size
    return x * np.float32(gain * ((1 + (len(shape) == 4)) / x[0].size) ** 0.5)


@cache
def pixels(batch=2, height=64, width=96):
    return np.random.default_rng(3).random((batch, 3, height, width), np.float32)


def run(network, pixel_values, wrong=None):
    """Every node's value in float32. wrong: for some nodes a function of op, inputs and weights in place of theirs."""
    graph = network.graph(pixel_values.shape)
    values = {"pixel_values": pixel_values}
    for node in list(graph)[1:]:
        compute = (wrong or {}).get(node.name, reference.compute)
        inputs = [values[name] for name in node.inputs]
        value = compute(node.op, inputs, [network.weights[name] for name in node.weights])
        values[node.name] = np.ascontiguousarray(value)  # since safetensors writes the memory as it lies
    return values


def dump(network, pixel_values, wrong=None):
    """`run`, with the tensors of modules, and the logits."""
    graph = network.graph(pixel_values.shape)
    values = run(network, pixel_values, wrong)
    modules = {name: values[node] for name, node in graph.modules.items()}
    return values | modules | {"logits": values[graph.outputs["logits"]]}


@cache
def _right():
    return dump(model(), pixels())


def right():
    """The dump of a right port: arrays of two images by name, in the graph's order."""
    return dict(_right())


def without(tensors, *names):
    return {name: x for name, x in tensors.items() if name not in names}


def doubled(tensors, *names):
    """With these tensors twice as large."""
    return {name: 2 * x if name in names else x for name, x in tensors.items()}


def channels_swapped(op, inputs, weights):
    return reference.compute(op, [inputs[0][:, ::-1]], weights)


def folded(tensors):
    """The dump of a port whose normalisations are folded into the convolutions before them."""
    return {
        name.replace("normalization", "convolution"): x
        for name, x in tensors.items()
        if not name.endswith("convolution") or name.replace("convolution", "normalization") not in tensors
    }
