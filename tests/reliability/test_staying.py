"""What stays after many calls, many models and errors: memory that does not grow, and an engine that can be used."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinymvit import kernels
from tinymvit.config import MobileViTConfig
from tinymvit.modeling.models import ENGINES_KEPT, MobileViTForImageClassification

MEASURE = Path(__file__).parent.parent / "measures" / "reliability.py"
PIXELS = np.random.default_rng(0).random((3, 3, 32, 32), np.float32)
SMALL = {
    "image_size": 32,
    "hidden_sizes": [12, 16, 20],
    "neck_hidden_sizes": [4, 4, 8, 8, 12, 12, 20],
    "num_labels": 3,
}


@pytest.mark.parametrize("threads", sorted({1, kernels.max_num_threads()}))
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_error_in_a_user_s_activation_leaves_the_model_usable(threads, error):
    fails = []

    def activation(x):
        if fails and fails.pop():
            raise error("in the activation")
        return np.tanh(x)

    model = MobileViTForImageClassification(MobileViTConfig(**SMALL, hidden_act=activation))
    before = kernels.get_num_threads()
    kernels.set_num_threads(threads)
    try:
        expected = model(PIXELS).logits
        for calls in (0, 1, 7, 20):
            fails[:] = [True] + [False] * calls
            with pytest.raises(error, match="in the activation"):
                model(PIXELS)
            fails.clear()
            np.testing.assert_array_equal(model(PIXELS).logits, expected)
    finally:
        kernels.set_num_threads(before)


def test_a_model_keeps_few_engines():
    model = MobileViTForImageClassification(MobileViTConfig(**SMALL))
    for size in range(32, 132, 4):
        model(np.zeros((1, 3, size, 64), np.float32))
    assert len(model._engines) == ENGINES_KEPT == 4


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_stays_flat():
    command = [sys.executable, str(MEASURE), "memory", "--calls", "400", "--models", "40", "--allowed", "12e6"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere folders change places in two steps")
def test_commands_that_are_stopped_at_random_moments():
    command = [sys.executable, str(MEASURE), "kills", "--rounds", "1", "--only", "segment", "trace", "vectors"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout
