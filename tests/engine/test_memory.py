"""The engine's memory: shared only by values that never meet, and known without an engine."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymvit import kernels
from tinymvit.config import MobileViTConfig
from tinymvit.engine import Engine, memory_of
from tinymvit.engine.engine import Prepared
from tinymvit.engine.memory import plan_memory
from tinymvit.graph import last_use
from tinymvit.networks import mobilevit
from tinymvit.networks.random_weights import as_trained
from torch_models import TINY

OPTIONS = TINY | {"output_stride": 16}


def record(shape):
    return mobilevit.semantic_segmentation(MobileViTConfig(**OPTIONS), shape)


@pytest.fixture(scope="module")
def weights():
    return as_trained(record((1, 3, 32, 32)))


@given(st.integers(1, 3), st.integers(1, 70), st.integers(1, 70))
def test_no_two_values_needed_at_once_share_memory(batch, height, width):
    graph = record((batch, 3, height, width))
    offsets, size = plan_memory(graph)
    uses = last_use(graph)
    alive = []
    for index, node in enumerate(graph):
        alive = [other for other in alive if uses[other.name] >= index]
        start, end = offsets[node.name], offsets[node.name] + int(np.prod(node.shape))
        assert start % 16 == 0
        assert 0 <= start < end <= size // 4
        for other in alive:
            other_start = offsets[other.name]
            assert end <= other_start or other_start + np.prod(other.shape) <= start, (node.name, other.name)
        alive.append(node)


def test_memory_is_reused():
    graph = record((1, 3, 64, 64)).select(["logits"])
    everything = 4 * sum(int(np.prod(node.shape)) for node in graph)
    assert plan_memory(graph)[1] < everything / 5


@pytest.mark.parametrize("count", [1, 2])
def test_memory_is_what_is_allocated(weights, count):
    if count > kernels.max_num_threads():
        pytest.skip("one processor")
    graph = record((1, 3, 256, 256)).select(["logits"])
    x = np.zeros((1, 3, 256, 256), np.float32)
    before = kernels.get_num_threads()
    kernels.set_num_threads(count)
    Engine(graph, weights).run(x)  # what is imported and compiled once is not counted
    tracemalloc.start()
    try:
        engine = Engine(graph, weights)
        packed = tracemalloc.get_traced_memory()[0]
        result = engine.run(x)
        full = tracemalloc.get_traced_memory()[0] - sum(value.nbytes for value in result.values())
        tracemalloc.reset_peak()
        engine.run(x)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        kernels.set_num_threads(before)
    memory = engine.memory()
    nodes = 3000 * len(graph)  # bytes of Python objects, at most
    assert memory.weights < packed < memory.weights + nodes
    assert memory.values + count * memory.scratch <= full - packed < memory.values + count * memory.scratch + nodes
    assert peak - full < 3 * result["logits"].nbytes + 10_000  # a later call allocates its outputs
    assert memory.values > 1_000_000
    assert memory.scratch > 10_000


@pytest.mark.parametrize("task", [mobilevit.image_classification, mobilevit.semantic_segmentation])
@pytest.mark.parametrize("shape", ["xx-small", "deeplabv3-small"])
def test_memory_is_known_without_weights(task, shape):
    graph = task(MobileViTConfig.preset(shape), (1, 3, 64, 96)).select(["logits"])
    prepared = Prepared()
    engine = Engine(graph, as_trained(graph), prepared)
    assert memory_of(graph) == engine.memory()
    assert memory_of(graph).weights == sum(each.data.nbytes for tensors in prepared.packed.values() for each in tensors)


def test_nothing_is_packed_or_compiled_to_know_the_memory(monkeypatch):
    def refuse(*_):
        raise AssertionError("this must not be called")

    for name in vars(kernels):
        if name.startswith("pack_"):
            monkeypatch.setattr(kernels, name, refuse)
    monkeypatch.setattr(kernels.runtime.program, "run_steps", None)
    monkeypatch.setattr(kernels.runtime.program.Step, "row", refuse)
    memory = memory_of(record((1, 3, 64, 64)).select(["logits"]))
    assert min(memory.values, memory.scratch, memory.weights) > 0
