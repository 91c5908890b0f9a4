"""int8 takes the place of convolutions, linear layers and the activations between them; the rest stays as it is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from op_cases import normal
from tinymvit import ops, reference
from tinymvit.config import MobileViTConfig
from tinymvit.graph import Graph, Node
from tinymvit.networks import mobilevit
from tinymvit.networks.random_weights import as_trained
from tinymvit.numerics import relative_error
from tinymvit.ops.quantised import multiplier
from tinymvit.passes.fold import fold_batch_norm
from tinymvit.passes.quantise import (
    LONGEST_SUM,
    computed_in_int8,
    in_need_of_ranges,
    in_whole_numbers,
    quantisation_of,
    quantise,
)
from torch_models import TINY

PIXELS = np.random.default_rng(0).random((1, 3, 34, 47))


@pytest.fixture(scope="module", params=[mobilevit.image_classification, mobilevit.semantic_segmentation])
def network(request):
    graph = request.param(MobileViTConfig(**TINY), PIXELS.shape).select(["logits"])
    return fold_batch_norm(graph, as_trained(graph))


@pytest.fixture(scope="module")
def ranges(network):
    return {node.name: (float(x.min()), float(x.max())) for node, x in reference.steps(*network, PIXELS)}


def test_layers_and_the_activations_between_them_are_in_int8(network, ranges):
    graph, _ = network
    quantised, _ = quantise(*network, ranges)
    kinds = {name: type(node.op).__name__ for name, node in quantised.nodes.items()}
    for node in graph:
        readers = [reader for reader in graph if node.name in reader.inputs]
        layers = (ops.Conv2d, ops.Linear)
        between = any(isinstance(reader.op, layers) for reader in readers) and isinstance(
            graph[(node.inputs or (node.name,))[0]].op, layers
        )
        if isinstance(node.op, layers):
            assert kinds[f"{node.name}.int8"] == "Quantised"
        elif isinstance(node.op, ops.Activation) and between:
            assert kinds[f"{node.name}.int8"] == "QuantisedActivation"
        else:
            assert quantised[node.name] == node
            assert kinds.get(f"{node.name}.int8", "Quantise") == "Quantise"
    assert graph.outputs == quantised.outputs
    used = {name for node in quantised for name in node.inputs} | set(quantised.outputs.values())
    assert set(quantised.nodes) == used, "a node that nothing reads"


def test_an_op_s_numbers_are_those_of_the_nodes_around_it(network, ranges):
    quantised, _ = quantise(*network, ranges)
    by = {}
    for node in quantised:
        match node.op:
            case ops.Quantise():
                by[node.name] = node.op.by
            case ops.Dequantise():
                assert node.op.by == by[node.inputs[0]]
                assert node.inputs == (f"{node.name}.int8",)
            case ops.Quantised() | ops.QuantisedActivation():
                assert node.op.x == by[node.inputs[0]]
                by[node.name] = node.op.y


def test_the_results_are_near_and_the_same_in_float32(network, ranges):
    exact = reference.run(*network, PIXELS)["logits"]
    quantised = quantise(*network, ranges)
    in_int8 = reference.run(*quantised, PIXELS)["logits"]
    assert 1e-4 < relative_error(in_int8, exact) < 0.15
    assert relative_error(reference.run(*quantised, PIXELS, np.float32)["logits"].astype(float), exact) < 0.15


def test_its_arguments_stay_and_the_float_weights_that_are_left_are_the_same(network, ranges):
    graph, weights = network
    nodes = dict(graph.nodes)
    quantised, tensors = quantise(graph, weights, ranges)
    assert graph.nodes == nodes
    assert list(tensors) == list(quantised.weight_shapes())
    for name, shape in quantised.weight_shapes().items():
        assert tensors[name].shape == shape
        if name in weights:
            assert (tensors[name] == weights[name]).all()
            assert tensors[name].dtype == np.float32
    dtypes = {str(x.dtype) for name, x in tensors.items() if name not in weights}
    assert dtypes == {"int8", "float32", "int32"}


def test_what_is_kept_stays_as_it_is(network, ranges):
    graph, _ = network
    layer = next(node for node in graph if isinstance(node.op, ops.Linear))
    quantised, tensors = quantise(*network, ranges, {layer.name})
    assert quantised[layer.name] == layer
    assert set(layer.weights) <= set(tensors)
    everything, same = quantise(*network, {}, set(graph.nodes))
    assert everything.nodes == graph.nodes
    assert list(same) == list(graph.weight_shapes())


def test_an_activation_behind_a_layer_in_float_is_in_float(network, ranges):
    graph, _ = network
    activation = next(node for node in graph if isinstance(node.op, ops.Activation))
    quantised, _ = quantise(*network, ranges, {activation.inputs[0]})
    assert quantised[activation.name] == activation
    assert isinstance(quantised[f"{activation.name}.int8"].op, ops.Quantise)


def test_ranges_are_asked_for_where_they_are_needed(network, ranges):
    graph, _ = network
    needed = in_need_of_ranges(graph)
    assert "pixel_values" in needed
    assert needed == [name for name in graph.nodes if name in needed]
    for name in needed:
        with pytest.raises(KeyError, match=name):
            quantise(*network, {each: ranges[each] for each in needed if each != name})
    assert set(in_need_of_ranges(graph, computed_in_int8(graph))) == set()


def test_a_normalisation_by_itself_stays():
    graph = mobilevit.image_classification(MobileViTConfig(**TINY), PIXELS.shape).select(["logits"])
    weights = as_trained(graph)
    ranges = {node.name: (float(x.min()), float(x.max())) for node, x in reference.steps(graph, weights, PIXELS)}
    quantised, _ = quantise(graph, weights, ranges)
    assert {node.name for node in graph if isinstance(node.op, ops.BatchNorm)} <= quantised.nodes.keys()


def test_a_sum_that_no_int32_holds_is_in_float():
    for length, expected in ((LONGEST_SUM, {"y"}), (LONGEST_SUM + 1, set())):
        g = Graph()
        x = g.append(Node("x", ops.Input(), (), (), (1, length)))
        g.add("y", ops.Linear(length, 1), x)
        assert computed_in_int8(g) == expected
    assert LONGEST_SUM * 255 * 127 + 2**24 < 2**31 <= (LONGEST_SUM + 600) * 255 * 127 + 2**24


@pytest.mark.parametrize(
    ("ends", "scale", "zero_point"),
    [
        ((0, 1), 1 / 255, -128),
        ((-1, 0), 1 / 255, 127),
        ((-1, 1), 2 / 255, -1),  # the scale in float32 is a little more than that
        ((2, 5), 5 / 255, -128),
        ((-5, -2), 5 / 255, 127),
        ((-1, 254), 1, -127),
        ((0, 0), 1 / 255, -128),
        ((0, 1e-30), 2.0**-56 / 255, -128),
    ],
)
def test_the_numbers_of_a_range(ends, scale, zero_point):
    assert quantisation_of(*ends) == ops.Quantisation(float(np.float32(scale)), zero_point)


@given(st.floats(-1e12, 1e12), st.floats(-1e12, 1e12))
def test_a_range_is_covered_and_0_is_exact(a, b):
    low, high = min(a, b), max(a, b)
    by = quantisation_of(low, high)
    assert by.scale == np.float32(by.scale) > 0
    assert -128 <= by.zero_point <= 127
    ends = by.dequantise(np.array([-128.0, 127.0]))
    slack = 0.51 * by.scale
    assert ends[0] - slack <= min(low, 0)
    assert ends[1] + slack >= max(high, 0)


@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6), st.floats(1e-12, 1e12), st.floats(0, 1e12))
def test_weights_in_whole_numbers(seed, x_scale, size, bias_size):
    weight, bias = (normal(seed, 4, 5) * size).astype(np.float32), (normal(seed + 1, 4) * bias_size).astype(np.float32)
    weight[0] = 0
    q, scale, whole_bias = in_whole_numbers(weight, bias, x_scale)
    assert (q.dtype, scale.dtype, whole_bias.dtype) == (np.int8, np.float32, np.int32)
    assert (np.abs(q.astype(int)) <= 127).all()
    assert (scale > 0).all()
    assert (np.abs(q * scale[:, None].astype(float) - weight).max(1) <= scale * 0.501).all()
    assert (np.abs(whole_bias.astype(np.int64)) <= 2**24 + 2).all()
    real = whole_bias * (x_scale * scale.astype(float))
    assert (np.abs(real - bias) <= 0.51 * x_scale * scale.astype(float)).all()


def test_ranges_that_no_value_keeps_to_do_no_harm(network, ranges):
    """Somebody's own, or those of pictures that were all black."""
    for ends in ((0, 0), (0, 1e-30), (-1e12, 1e12), (5, 5)):
        for name in ("pixel_values", "every node"):
            changed = dict.fromkeys(ranges, ends) if name == "every node" else ranges | {name: ends}
            quantised, weights = quantise(*network, changed)
            assert np.isfinite(reference.run(quantised, weights, PIXELS)["logits"]).all()
            for node in quantised:
                if isinstance(node.op, ops.Quantised):
                    for s in weights[node.weights[1]]:
                        multiplier(node.op.x.scale * float(s) / node.op.y.scale)


def test_one_layer_s_wide_weights_and_narrow_result():
    g = Graph()
    x = g.append(Node("x", ops.Input(), (), (), (1, 2)))
    g.outputs["logits"] = g.add("y", ops.Linear(2, 1, bias=False), x).name
    weights = {"y.weight": np.float32([[1e20, -1e20]])}
    quantised, _ = quantise(g, weights, {"x": (0.0, 1.0), "y": (-1e-9, 3e-9)})
    op = quantised["y.int8"].op
    assert op.y.scale == pytest.approx(op.x.scale * 1e20 / 127 / 2**29)
