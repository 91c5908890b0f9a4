"""Random weights: of the graph's shapes, the same for the same seed, alive or as for training."""

import numpy as np
import pytest

from oracle import assert_same
from tinymvit import reference
from tinymvit.config import MobileViTConfig
from tinymvit.networks import mobilevit, random_weights


@pytest.mark.parametrize("record", [mobilevit.image_classification, mobilevit.semantic_segmentation])
def test_drawn_weights_keep_activations_alive(record):
    graph = record(MobileViTConfig.preset("xx-small"), (1, 3, 128, 128))
    weights = random_weights.as_trained(graph)
    assert {name: value.shape for name, value in weights.items()} == graph.weight_shapes()
    assert {value.dtype for value in weights.values()} == {np.dtype(np.float32)}
    pixels = np.random.default_rng(1).random((1, 3, 128, 128), np.float32)
    for node, value in reference.steps(graph, weights, pixels):
        assert 0.01 < np.sqrt(np.mean(np.square(value, dtype=np.float64))) < 20, node.name
        assert np.ptp(value) > 0.01, node.name
    for name, value in random_weights.as_trained(graph).items():
        assert_same(value, weights[name], name=name)


def test_weights_for_training_are_normal_and_norms_do_nothing():
    graph = mobilevit.image_classification(MobileViTConfig.preset("xx-small"), (1, 3, 64, 64))
    weights = random_weights.as_for_training(graph, 0.02, seed=3)
    assert {name: value.shape for name, value in weights.items()} == graph.weight_shapes()
    assert {value.dtype for value in weights.values()} == {np.dtype(np.float32)}
    matrices = np.concatenate([value.ravel() for value in weights.values() if value.ndim > 1])
    assert matrices.std() == pytest.approx(0.02, rel=0.01)
    for name, value in weights.items():
        if value.ndim == 1:
            assert (value == name.endswith((".weight", ".running_var"))).all(), name
    again, other = (random_weights.as_for_training(graph, 0.02, seed)["classifier.weight"] for seed in (3, 4))
    assert_same(again, weights["classifier.weight"])
    assert (other != again).any()
