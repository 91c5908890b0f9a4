"""The graph: what it refuses, selects and counts."""

import pytest

from tinymvit import graph, ops
from tinymvit.config import MobileViTConfig
from tinymvit.graph import Graph, parameters
from tinymvit.networks import mobilevit
from tinymvit.networks.layers import pixels
from tinymvit.ops import Add, Conv2d, Linear
from torch_models import TINY


def test_multiply_adds_of_one_convolution_by_hand():
    g = Graph()
    x = pixels(g, (1, 3, 8, 8))
    y = g.add("conv", Conv2d(3, 5, 3, stride=2, padding=1), x)
    assert g.multiply_adds(y) == 5 * 4 * 4 * 3 * 9
    assert parameters(y) == 5 * 3 * 9


def test_select_keeps_only_what_the_outputs_need():
    g = mobilevit.image_classification(MobileViTConfig(**TINY), (1, 3, 32, 32))
    first = g.select(["hidden_states.0"])
    assert list(first.outputs) == ["hidden_states.0"]
    assert all(name == "pixel_values" or ".conv_stem." in name or ".layer.0." in name for name in first.nodes)
    assert len(g.select(["logits"])) == len(g)


def test_a_graph_refuses_two_nodes_of_one_name_and_unknown_inputs():
    g = Graph()
    x = pixels(g, (1, 3, 8, 8))
    g.add("a", Add(), x, x)
    with pytest.raises(ValueError, match="two nodes are named a"):
        g.add("a", Add(), x, x)
    with pytest.raises(ValueError, match="node b reads a, which no node before it makes"):
        Graph().add("b", Linear(3, 3), g["a"])


def test_the_ops_are_found_where_version_0_1_had_them():
    assert graph.Conv2d is ops.Conv2d
    with pytest.raises(AttributeError, match="has no attribute 'Conv3d'"):
        _ = graph.Conv3d
