"""Weights at the ends of float32, and normalisations that cancel: folding changes neither what is finite, nor how exact
a result is."""

import warnings

import numpy as np
import pytest

from frameworks import torch
from oracle import MODEL_FLOAT32, assert_same
from tinymvit import reference
from tinymvit.config import MobileViTConfig
from tinymvit.engine import lowering
from tinymvit.engine.engine import Engine
from tinymvit.graph import Graph
from tinymvit.networks.layers import conv_layer, inverted_residual, padded_conv2d, pixels
from tinymvit.networks.random_weights import as_trained
from tinymvit.numerics import relative_error
from tinymvit.ops import BatchNorm, Input
from tinymvit.passes.fold import Kind, kind_of
from torch_ops import port

EXTREMES = np.float32([0, 1e-42, 1e-30, 1e-12, -1e-6, -1e-5, -1, 1e3, -1e5, 1e7, 1e15, 1e20, -1e30])


def network():
    """Each kind of convolution before a normalisation."""
    g = Graph()
    x = pixels(g, (1, 8, 7, 6))
    x = conv_layer(g, "dense", x, padded_conv2d(x, 16, 3), "silu")
    x = inverted_residual(g, "three", x, 16, MobileViTConfig())
    x = conv_layer(g, "pointwise", x, padded_conv2d(x, 12, 1), "silu")
    x = conv_layer(g, "strided", x, padded_conv2d(x, 12, 3, stride=2))
    g.outputs["out"] = x.name
    return g


GRAPH = network()
WEIGHTS = as_trained(GRAPH)
PIXELS = np.random.default_rng(0).standard_normal(GRAPH["pixel_values"].shape, np.float32)


def spoilt(seed):
    """The weights with up to three tensors of which a number, a channel or all are extreme."""
    rng = np.random.default_rng(seed)
    weights = dict(WEIGHTS)
    for name in rng.choice(sorted(weights), rng.integers(1, 4), replace=False):
        tensor = weights[name].copy()
        where = [np.unravel_index(rng.integers(tensor.size), tensor.shape), rng.integers(len(tensor)), ...]
        tensor[where[rng.integers(3)]] = rng.choice(EXTREMES)
        weights[name] = tensor
    return weights


def in_pytorch(weights, dtype):
    values = {}
    for node in GRAPH:
        inputs = {name: values[name] for name in node.inputs}
        tensors = {name: weights[name] for name in node.weights}
        values[node.name] = PIXELS if isinstance(node.op, Input) else port(node.op, inputs, tensors, dtype).numpy()
    return values[GRAPH.outputs["out"]].astype(np.float64)


@pytest.mark.torch
@pytest.mark.parametrize("seed", range(12))
def test_what_is_finite_in_pytorch_is_finite_here_and_as_exact(seed):
    for case in range(12 * seed, 12 * seed + 12):
        weights = spoilt(case)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            out = Engine(GRAPH, weights).run(PIXELS)["out"]
        expected = in_pytorch(weights, torch.float32)
        assert_same(np.isfinite(out), np.isfinite(expected), name=f"case {case}")
        truth = in_pytorch(weights, torch.float64)
        if np.isfinite(expected).all():
            error = relative_error(out, truth)
            assert error <= max(2e-6, 4 * relative_error(expected, truth)), f"case {case}"


def test_nothing_is_folded_where_a_weight_is_extreme():
    name = next(iter(WEIGHTS))
    for value in (1e8, -1e8, np.inf, np.nan):
        weights = WEIGHTS | {name: WEIGHTS[name].copy()}
        weights[name].flat[-1] = value
        engine = Engine(GRAPH, weights)
        assert sum(isinstance(node.op, BatchNorm) for node in engine.graph) == 6
        assert all(engine.method(node) != lowering.WINOGRAD.method for node in engine.graph)
        assert engine.memory().weights != Engine(GRAPH, WEIGHTS).memory().weights


@pytest.mark.parametrize(
    ("variance", "kind"),
    [(-1e-5, Kind.EXTREME), (-1.0, Kind.EXTREME), (0.0, Kind.ORDINARY), (1e15, Kind.EXTREME), (np.nan, Kind.EXTREME)],
)
def test_the_kind_of_a_normalisation(variance, kind):
    name = "strided.normalization.running_var"
    weights = WEIGHTS | {name: np.full_like(WEIGHTS[name], variance)}
    assert kind_of(GRAPH["strided.normalization"], WEIGHTS) == Kind.ORDINARY
    assert kind_of(GRAPH["strided.normalization"], weights) == kind


def test_a_normalisation_whose_mean_cancels_stays_by_itself():
    values = dict(reference.steps(GRAPH, WEIGHTS, PIXELS.astype(np.float64)))
    convolved = next(value for node, value in values.items() if node.name == "strided.convolution") * 1e4
    norm = "strided.normalization"
    weights = WEIGHTS | {
        "strided.convolution.weight": WEIGHTS["strided.convolution.weight"] * np.float32(1e4),
        f"{norm}.running_mean": convolved.mean((0, 2, 3)).astype(np.float32),
        f"{norm}.running_var": np.full(12, 1e-3, np.float32),
        f"{norm}.weight": np.full(12, 1e-3, np.float32),
    }
    engine = Engine(GRAPH, weights)
    assert [node.name for node in engine.graph if isinstance(node.op, BatchNorm)] == [norm]
    expected = reference.run(GRAPH, weights, PIXELS.astype(np.float64))["out"]
    assert_same(engine.run(PIXELS)["out"], expected, MODEL_FLOAT32)
