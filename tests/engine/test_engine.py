"""The engine: the reference's results in float32, the same bits for any threads and batch, many callers."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from oracle import MODEL_FLOAT32, assert_same
from tinymvit import kernels, reference
from tinymvit.config import MobileViTConfig
from tinymvit.engine.engine import Engine, Prepared
from tinymvit.networks import mobilevit
from tinymvit.networks.random_weights import as_trained
from torch_models import TINY

OPTIONS = TINY | {"output_stride": 16}


@pytest.fixture(scope="module")
def weights():
    return as_trained(record((1, 3, 32, 32)))


def record(shape):
    return mobilevit.semantic_segmentation(MobileViTConfig(**OPTIONS), shape)


def test_results_are_the_reference_s_and_last(weights):
    graph = record((2, 3, 40, 51))
    x = np.random.default_rng(1).random((2, 3, 40, 51), np.float32)
    engine = Engine(graph, weights)
    first = engine.run(x)
    copies = {name: value.copy() for name, value in first.items()}
    expected = reference.run(graph, weights, x)
    engine.run(x * 2)
    for name, value in expected.items():
        assert first[name].flags.c_contiguous
        assert_same(first[name], value, MODEL_FLOAT32, name, np.float32)
        assert_same(first[name], copies[name], name=f"{name} after another call")


def test_the_bits_do_not_depend_on_threads_batch_or_company(weights):
    x = np.random.default_rng(2).random((3, 3, 40, 51), np.float32)
    threads = kernels.get_num_threads()
    try:
        kernels.set_num_threads(1)
        one = Engine(record(x.shape), weights).run(x)
        kernels.set_num_threads(2)
        two = Engine(record(x.shape), weights).run(x)
        alone = Engine(record((1, 3, 40, 51)), weights).run(x[1:2])
    finally:
        kernels.set_num_threads(threads)
    for name, value in one.items():
        assert_same(two[name], value, name=name)
        assert_same(alone[name], value[1:2], name=name)


@pytest.mark.parametrize("threads", range(1, kernels.max_num_threads() + 1))
@pytest.mark.parametrize("hidden_act", ["silu", np.tanh])
def test_an_engine_for_one_image_serves_any_number(weights, threads, hidden_act):
    graph = mobilevit.semantic_segmentation(MobileViTConfig(**OPTIONS, hidden_act=hidden_act), (1, 3, 40, 51))
    x = np.random.default_rng(5).random((5, 3, 40, 51), np.float32)
    before = kernels.get_num_threads()
    kernels.set_num_threads(threads)
    try:
        engine = Engine(graph, weights)
        together = engine.run(x)
        alone = [engine.run(image[None]) for image in x]
    finally:
        kernels.set_num_threads(before)
    for name, value in together.items():
        assert_same(value, np.concatenate([each[name] for each in alone]), name=name)


def test_many_python_threads_may_share_one_engine(weights):
    engine = Engine(record((1, 3, 32, 32)), weights)
    inputs = np.random.default_rng(3).random((12, 1, 3, 32, 32), np.float32)
    expected = [engine.run(x)["logits"] for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        for actual, value in zip(pool.map(lambda x: engine.run(x)["logits"], inputs), expected, strict=True):
            assert_same(actual, value)


def test_a_user_s_activation_sees_the_public_layout(weights):
    shapes = set()

    def activation(x):
        shapes.add(x.shape)
        return x * (1 + np.tanh(x / 2)) / 2

    silu = Engine(record((1, 3, 32, 48)), weights)
    own = Engine(
        mobilevit.semantic_segmentation(MobileViTConfig(**OPTIONS, hidden_act=activation), (1, 3, 32, 48)), weights
    )
    x = np.random.default_rng(4).random((1, 3, 32, 48), np.float32)
    assert_same(own.run(x)["logits"], silu.run(x)["logits"], MODEL_FLOAT32)
    assert (1, 4, 16, 24) in shapes  # the stem's map, channels first
    assert any(len(shape) == 3 for shape in shapes)  # the tokens of an MLP


def test_threads_that_change_during_a_batch_change_nothing(weights, monkeypatch):
    if kernels.max_num_threads() == 1:
        pytest.skip("one processor")
    engine = Engine(record((1, 3, 64, 64)).select(["logits"]), weights)
    x = np.random.default_rng(0).random((3, 3, 64, 64), np.float32)
    expected = engine.run(x)["logits"]
    for start, later in ((2, 1), (1, 2)):
        answers = iter([start])
        monkeypatch.setattr(kernels, "get_num_threads", lambda: next(answers, later))  # noqa: B023
        monkeypatch.setattr(kernels.runtime.program, "get_num_threads", lambda: later)  # noqa: B023
        assert_same(engine.run(x)["logits"], expected, name=f"{start}, then {later} threads")


def test_another_input_shape_folds_and_packs_nothing_again(weights):
    prepared = Prepared()
    first = Engine(record((1, 3, 40, 51)), weights, prepared)
    second = Engine(record((1, 3, 32, 32)), {}, prepared)  # no weight is there to be read
    x = np.random.default_rng(6).random((1, 3, 32, 32), np.float32)
    assert_same(second.run(x)["logits"], Engine(record(x.shape), weights).run(x)["logits"])
    assert first.method(first.graph["mobilevit.encoder.layer.2.fusion"]) == "Winograd"


@pytest.mark.parametrize("shape", [(1, 3, 32, 33), (1, 4, 32, 32), (3, 3, 32, 32), (3, 32, 32)])
def test_pixels_of_another_shape_are_refused(weights, shape):
    engine = Engine(record((2, 3, 32, 32)), weights)
    with pytest.raises(ValueError, match=r"expected \(3, 32, 32\) for each image, and a multiple of 2 images"):
        engine.run(np.zeros(shape, np.float32))
