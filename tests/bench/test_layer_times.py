"""The times of layers: every node is timed, and its multiply-adds and bytes are held against the machine's peak."""

import numpy as np

from tinymvit.bench import layer_times
from tinymvit.config import MobileViTConfig
from tinymvit.engine.engine import Engine
from tinymvit.kernels import set_num_threads
from tinymvit.kernels.runtime import peak
from tinymvit.kernels.runtime.jit import KERNELS
from tinymvit.networks import mobilevit

PIXELS = np.random.default_rng(0).random((1, 3, 32, 32), np.float32)


def test_profile_times_every_node(tiny):
    engine = Engine(tiny.graph().select(["logits"]), tiny.weights)
    nodes = [node for node, seconds in engine.profile(PIXELS) if seconds > 0]
    assert nodes == list(engine.graph)


def test_bytes_and_bounds_of_a_node():
    graph = mobilevit.image_classification(MobileViTConfig.preset("xx-small"), (1, 3, 64, 64))
    node = graph["mobilevit.conv_stem.convolution"]  # 3 x 64 x 64 to 16 x 32 x 32 by 16 x 3 x 3 x 3
    moved = layer_times.moved_bytes(graph, node)
    assert moved == 4 * (3 * 64 * 64 + 16 * 32 * 32 + 16 * 27)
    layer = layer_times.LayerTime(node.name, "", 1.0, graph.multiply_adds(node), moved)
    assert layer.bounds(layer_times.Peak(16 * 32 * 32 * 27, 2 * moved)) == {"arithmetic": 1.0, "memory": 0.5}


def test_the_machines_limits_are_measured_without_burdening_the_first_run():
    set_num_threads(1)
    assert peak.multiply_adds_a_second() > 1e8
    assert peak.bytes_a_second() > 1e8
    assert not {kernel.name for kernel in KERNELS} & {"multiply_add_loop", "copy_loop"}
