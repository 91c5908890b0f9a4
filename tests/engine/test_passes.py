"""Each pass leaves the results as they were, and does merge what it is for."""

from collections import Counter

import numpy as np
import pytest

from oracle import REFERENCE_FLOAT64, assert_same
from tinymvit import reference
from tinymvit.config import MobileViTConfig
from tinymvit.engine import passes
from tinymvit.graph import Graph
from tinymvit.networks import mobilevit
from tinymvit.networks.layers import activate, pixels
from tinymvit.networks.random_weights import as_trained
from tinymvit.ops import Add, Linear
from torch_models import TINY

PASSES = (
    passes.fold_batch_norm,
    passes.fuse_attention,
    passes.fuse_activation,
    passes.fuse_residual,
    passes.fuse_inverted_residual,
)
# Folded weights are rounded to float32, the others only move.
TOLERANCE = dict.fromkeys(PASSES, REFERENCE_FLOAT64) | {passes.fold_batch_norm: 2e-6}


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
    optimized, _ = passes.optimize(graph.select(["logits"]), weights)
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
    optimized, _ = passes.optimize(g, {})
    assert list(optimized.nodes) == list(g.nodes)


def test_a_user_s_activation_is_not_fused():
    g = Graph()
    a = g.add("a", Linear(4, 4), pixels(g, (1, 2, 4)))
    g.outputs["b"] = activate(g, "b", a, np.sin).name
    assert kinds(passes.optimize(g, {})[0])["Activation"] == 1
