"""Random weights for a graph, drawn in two ways: to train from, or like those of a trained network.

Both give float32 arrays by the tensors' names, in the graph's shapes, and the same numbers for the same seed.
"""

from __future__ import annotations

import math
from numbers import Integral

import numpy as np

from tinymvit import limits
from tinymvit.errors import ConfigError
from tinymvit.graph import Graph
from tinymvit.ops import Array, BatchNorm, Conv2d, LayerNorm, Shape
from tinymvit.text import short


def as_for_training(graph: Graph, deviation: float, seed: int = 0) -> dict[str, Array]:
    """Weights to train from, as transformers draws them: matrices normal with this deviation, biases and running means
    zero, norms' weights and running variances one."""
    _check_memory(graph)
    rng = _generator(seed)
    weights: dict[str, Array] = {}
    for name, shape in graph.weight_shapes().items():
        if len(shape) > 1:
            weights[name] = rng.standard_normal(shape, np.float32) * np.float32(deviation)
        else:  # of the tensors with one axis, a "weight" is a norm's
            is_one = name.endswith((".weight", ".running_var"))
            weights[name] = np.ones(shape, np.float32) if is_one else np.zeros(shape, np.float32)
    return weights


def as_trained(graph: Graph, seed: int = 0) -> dict[str, Array]:
    """Weights under which activations neither die nor explode, as in a trained network: products keep the variance of
    their input (He for convolutions, Glorot for linear layers), norms are near one."""
    _check_memory(graph)
    rng = _generator(seed)

    def normal(mean: float, deviation: float, shape: Shape) -> Array:
        return (mean + deviation * rng.standard_normal(shape)).astype(np.float32)

    weights: dict[str, Array] = {}
    for node in graph:
        for name, (role, shape) in zip(node.weights, node.op.weight_shapes().items(), strict=True):
            if role == "running_var":
                weights[name] = rng.uniform(0.75, 1.25, shape).astype(np.float32)
            elif role == "weight" and isinstance(node.op, BatchNorm | LayerNorm):
                weights[name] = normal(1, 0.1, shape)
            elif role == "weight":
                fan_out, fan_in = shape[0], int(np.prod(shape[1:]))
                variance = 2 / fan_in if isinstance(node.op, Conv2d) else 2 / (fan_in + fan_out)
                weights[name] = normal(0, variance**0.5, shape)
            else:
                weights[name] = normal(0, 0.1, shape)
    return weights


def _generator(seed: int) -> np.random.Generator:
    """Raises ConfigError for what is no seed."""
    if not isinstance(seed, Integral) or isinstance(seed, bool) or seed < 0:
        raise ConfigError(f"seed: {short(seed)}, expected a whole number of at least 0")
    return np.random.default_rng(int(seed))


def _check_memory(graph: Graph) -> None:
    count = sum(map(math.prod, graph.weight_shapes().values()))
    limits.check(4 * count, f"a network of {count:,} weights", ConfigError)
