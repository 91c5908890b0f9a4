"""Each pass leaves the results as they were, and does merge what it is for."""

from collections import Counter

import numpy as np
import pytest

from oracle import MODEL_FLOAT32, REFERENCE_FLOAT64, assert_same
from tinymvit import reference
from tinymvit.config import MobileViTConfig
from tinymvit.engine import Engine
from tinymvit.engine.optimize import optimize
from tinymvit.graph import Graph
from tinymvit.networks import mobilevit
from tinymvit.networks.layers import activate, pixels
from tinymvit.networks.random_weights import as_trained
from tinymvit.ops import Activation, Add, Conv2d, Fused, Linear
from tinymvit.passes.fold import fold_batch_norm
from tinymvit.passes.fuse import fuse_activation, fuse_attention, fuse_inverted_residual, fuse_residual
from torch_models import TINY

PASSES = (
    fold_batch_norm,
    fuse_attention,
    fuse_activation,
    fuse_residual,
    fuse_inverted_residual,
)
# Folded weights are rounded to float32, the others only move.
TOLERANCE = dict.fromkeys(PASSES, REFERENCE_FLOAT64) | {fold_batch_norm: 2e-6}


def kinds(graph):
    return Counter(type(node.op).__name__ for node in graph)


@pytest.fixture(scope="module")
def segmenter():
    options = TINY | {"output_stride": 16}
    graph = mobilevit.semantic_segmentation(MobileViTConfig(**options), (2, 3, 34, 47))
    return graph, as_trained(graph)


@pytest.mark.parametrize("apply", PASSES)
def test_a_pass_keeps_every_output(segmenter, apply):
    graph, weights = segmenter
    for earlier in PASSES[: PASSES.index(apply)]:
        graph, weights = earlier(graph, weights)
    x = np.random.default_rng(0).random(graph["pixel_values"].shape)
    before = reference.run(graph, weights, x)
    nodes = dict(graph.nodes)
    new_graph, new_weights = apply(graph, weights)
    assert graph.nodes == nodes, "a pass changed its argument"
    assert len(new_graph) < len(graph)
    after = reference.run(new_graph, new_weights, x)
    assert after.keys() == before.keys()
    for name, value in before.items():
        assert_same(after[name], value, TOLERANCE[apply], name)


def test_what_is_left_after_all_passes(segmenter):
    graph, weights = segmenter
    optimized, _ = optimize(graph.select(["logits"]), weights)
    before, after = kinds(graph), kinds(optimized)
    assert {"BatchNorm", "Softmax", "Activation", "Add"} <= before.keys()
    assert not {"BatchNorm", "Scores", "Softmax", "Context", "Activation", "Add"} & after.keys()
    assert after["Attention"] == before["Softmax"]
    assert after["InvertedResidual"] == sum(name.endswith(".reduce_1x1.convolution") for name in graph.nodes)


def test_a_value_that_is_read_twice_or_is_an_output_stays():
    g = Graph()
    x = pixels(g, (1, 2, 4))
    a = g.add("a", Linear(4, 4), x)
    b = activate(g, "b", a, "relu")
    c = g.add("c", Add(), a, b)
    d = g.add("d", Linear(4, 4), c)
    e = g.add("e", Add(), d, c)
    g.outputs = {"d": "d", "e": e.name}
    optimized, _ = optimize(g, {})
    assert list(optimized.nodes) == list(g.nodes)


def test_a_user_s_activation_is_not_fused():
    g = Graph()
    a = g.add("a", Linear(4, 4), pixels(g, (1, 2, 4)))
    g.outputs["b"] = activate(g, "b", a, np.sin).name
    assert kinds(optimize(g, {})[0])["Activation"] == 1


def test_only_the_activations_that_are_named_are_fused(segmenter):
    graph, _ = fuse_activation(*fold_batch_norm(*segmenter), ("relu",))
    assert {node.op.activation for node in graph if isinstance(node.op, Fused)} == {"relu"}
    assert {node.op.function for node in graph if isinstance(node.op, Activation)} == {"silu"}


@pytest.mark.parametrize("stride", [1, 2])
def test_a_residual_behind_a_depthwise_convolution_is_added(stride):
    """A `Fused` may say so by its specification, whether a pass made it or a user."""
    g = Graph()
    x = pixels(g, (1, 20, 9, 7))
    op = Conv2d(20, 20, 3, stride=stride, padding=1, groups=20, bias=True)
    other = g.add("other", Conv2d(20, 20, 1, stride=stride), x)
    g.outputs["sum"] = g.add("sum", Fused(op, "silu", residual=True), x, other).name
    check_engine(g)


def test_a_sum_is_done_by_the_depthwise_convolution_before_it():
    g = Graph()
    x = pixels(g, (1, 20, 9, 7))
    filtered = g.add("filtered", Conv2d(20, 20, 3, padding=1, groups=20, bias=True), x)
    g.outputs["sum"] = g.add("sum", Add(), filtered, x).name
    assert kinds(optimize(g, {})[0]) == {"Input": 1, "Fused": 1}
    check_engine(g)


@pytest.mark.parametrize("summed", ["wide", "filtered"])
def test_an_inverted_residual_with_another_sum_inside_is_none(summed):
    g = Graph()
    x = pixels(g, (1, 8, 9, 7))
    other = g.add("other", Conv2d(8, 32, 1), x)
    value = g.add("wide", Conv2d(8, 32, 1, bias=True), x)
    if summed == "wide":
        value = g.add("wide.sum", Add(), value, other)
    value = g.add("filtered", Conv2d(32, 32, 3, padding=1, groups=32, bias=True), value)
    if summed == "filtered":
        value = g.add("filtered.sum", Add(), value, other)
    g.outputs["narrow"] = g.add("narrow", Conv2d(32, 8, 1, bias=True), value).name
    assert "InvertedResidual" not in kinds(optimize(g, {})[0])
    check_engine(g)


def check_engine(graph):
    """The engine gives what the reference does."""
    weights = as_trained(graph)
    x = np.random.default_rng(0).random(graph["pixel_values"].shape, np.float32)
    expected = reference.run(graph, weights, x.astype(np.float64))
    for name, value in Engine(graph, weights).run(x).items():
        assert_same(value, expected[name], MODEL_FLOAT32, name)
