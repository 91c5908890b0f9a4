import math

import numpy as np
import pytest

from frameworks import torch, transformers
from op_cases import check, normal
from oracle import REFERENCE_FLOAT64, assert_same
from tinymvit import ops
from tinymvit.config import ACTIVATIONS

EXAMPLES = [(ops.Activation("silu"), (1, 3, 2, 5)), (ops.Activation(np.sin), (1, 3, 2, 5))]

BY_HAND = {
    "identity": [-4, 0, 1],
    "silu": [-4 / (1 + math.exp(4)), 0, 1 / (1 + math.exp(-1))],
    "relu": [0, 0, 1],
    "relu6": [0, 0, 1],
    "leaky_relu": [-0.04, 0, 1],
    "hardswish": [0, 0, 4 / 6],
    "sigmoid": [1 / (1 + math.exp(4)), 0.5, 1 / (1 + math.exp(-1))],
    "tanh": [math.tanh(-4), 0, math.tanh(1)],
    "gelu": [-2 * (1 + math.erf(-4 / math.sqrt(2))), 0, (1 + math.erf(1 / math.sqrt(2))) / 2],
    "gelu_tanh": [
        -2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (-4 - 0.044715 * 64))),
        0,
        (1 + math.tanh(math.sqrt(2 / math.pi) * 1.044715)) / 2,
    ],
}


@pytest.mark.parametrize("name", ops.ACTIVATION_FUNCTIONS)
def test_by_hand(name):
    assert_same(ops.Activation(name).compute(np.array([-4.0, 0.0, 1.0])), np.array(BY_HAND[name]), 1e-14, name)


def test_every_name_of_the_configuration_has_a_function():
    assert set(ACTIVATIONS.values()) <= ops.ACTIVATION_FUNCTIONS.keys()


@pytest.mark.parametrize("name", ops.ACTIVATION_FUNCTIONS)
def test_nothing_overflows_and_nan_stays(name):
    extremes = np.array([1e4, -1e4, np.nan])
    y = ops.Activation(name).compute(extremes)
    assert np.isfinite(y[:2]).all()
    assert np.isnan(y[2])


def test_a_callable_is_called_with_the_array():
    x = normal(0, 1, 2, 3, 3)
    assert_same(ops.Activation(np.sin).compute(x), np.sin(x))
    with pytest.raises(ValueError, match=r"gave shape \(2, 3, 3\) for an input of shape \(1, 2, 3, 3\)"):
        ops.Activation(lambda x: x[0]).compute(x)


@pytest.mark.torch
@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_as_pytorch(name):
    theirs = transformers.activations.ACT2FN[name]
    x = np.concatenate([np.linspace(-12, 12, 1001), [0.0, -0.0, 1e-30, -1e-30]]).astype(np.float32).astype(np.float64)
    op = ops.Activation(ACTIVATIONS[name])
    check(op, theirs(torch.tensor(x)), x)
    extremes = np.array([np.nan, 1e4, -1e4])
    assert_same(op.compute(extremes), theirs(torch.tensor(extremes)), REFERENCE_FLOAT64, name)
