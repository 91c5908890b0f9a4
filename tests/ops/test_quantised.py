"""Whole numbers against whole numbers: each op beside Python's own integers, which have no end and no rounding."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from op_cases import normal, seeds, sizes, weights_of, whole
from tinymvit import ops, reference
from tinymvit.graph import Graph, Node
from tinymvit.ops.quantised import multiplier

X, Y = ops.Quantisation(0.05, -3), ops.Quantisation(0.1, 11)
EXAMPLES = [
    (ops.Quantise(X), (1, 3, 5, 4)),
    (ops.Dequantise(X), (4, 3, 6)),
    (ops.Quantised(ops.Conv2d(3, 5, 3, stride=2, padding=1, bias=True), X, Y), (2, 3, 5, 4)),
    (ops.Quantised(ops.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4), X, Y), (1, 4, 5, 6)),
    (ops.Quantised(ops.Conv2d(6, 5, 1), X, Y), (1, 6, 1, 1)),
    (ops.Quantised(ops.Linear(6, 5), X, Y), (4, 3, 6)),
    (ops.Quantised(ops.Linear(6, 5, bias=False), X, Y), (2, 6)),
    (ops.QuantisedActivation("silu", X, Y), (1, 3, 5, 4)),
    (ops.QuantisedActivation("gelu", X, Y), (4, 3, 6)),
]


def requantised(total, x, scale, y):
    """What the docstring says of one sum, in Python's integers."""
    r = x.scale * float(scale) / y.scale
    exponent = math.frexp(r)[1]
    m, n = math.floor(Fraction(r) * 2 ** (31 - exponent) + Fraction(1, 2)), 31 - exponent
    return min(max((total * m + 2 ** (n - 1)) // 2**n + y.zero_point, -128), 127)


def test_quantising_by_hand():
    by = ops.Quantisation(0.5, 10)
    x = np.array([0, 0.25, 0.75, -0.25, 1, -69, -70, 58.5, 59, np.inf, -np.inf, np.nan])
    assert ops.Quantise(by).compute(x).tolist() == [10, 10, 12, 10, 12, -128, -128, 127, 127, 127, -128, 10]
    assert ops.Dequantise(by).compute(np.array([10.0, 12, -128])).tolist() == [0, 1, -69]


def test_a_linear_layer_by_hand():
    op = ops.Quantised(ops.Linear(2, 2), ops.Quantisation(0.5, 1), ops.Quantisation(1.0, -2))
    weight, scale, bias = np.array([[1, 2], [-3, 0]], np.int8), np.float32([0.5, 1]), np.array([6, 1], np.int32)
    # (1 - 1) + 2 (3 - 1) + 6 = 10, of 0.25 each: 2.5, rounded up to 3; -3 (1 - 1) + 1 = 1, of 0.5: 0.5, up to 1
    assert op.compute(np.array([[1.0, 3.0]]), weight, scale, bias).tolist() == [[3 - 2, 1 - 2]]
    # (4 - 1) + 2 (1 - 1) + 6 = 9: 2.25; -3 (4 - 1) + 1 = -8: -4
    assert op.compute(np.array([[4.0, 1.0]]), weight, scale, bias).tolist() == [[2 - 2, -4 - 2]]


def test_outside_the_map_lies_the_zero_point():
    op = ops.Quantised(ops.Conv2d(1, 1, 3, padding=1), ops.Quantisation(1.0, 7), ops.Quantisation(1.0, 0))
    weight, one, none = np.ones((1, 1, 3, 3), np.int8), np.float32([1]), np.zeros(1, np.int32)
    assert op.compute(np.full((1, 1, 2, 2), 9.0), weight, one, none).tolist() == [[[[8, 8], [8, 8]]]]
    assert op.compute(np.full((1, 1, 2, 2), 7.0), weight, one, none).tolist() == [[[[0, 0], [0, 0]]]]


def test_halves_are_rounded_upwards():
    op = ops.Quantised(ops.Linear(1, 1), ops.Quantisation(0.5, 0), ops.Quantisation(1.0, 0))
    weight, one, none = np.ones((1, 1), np.int8), np.float32([1]), np.zeros(1, np.int32)
    y = op.compute(np.arange(-5.0, 6)[:, None], weight, one, none)
    assert y.ravel().tolist() == [-2, -2, -1, -1, 0, 0, 1, 1, 2, 2, 3]


def test_a_table_by_hand():
    op = ops.QuantisedActivation("relu", ops.Quantisation(1.0, 0), ops.Quantisation(2.0, -128))
    table = op.table()
    assert (table.dtype, table.shape) == (np.int8, (256,))
    assert table[: 128 + 1].tolist() == [-128] * 129
    assert table[129:].tolist() == [round(q / 2) - 128 for q in range(1, 128)]
    assert op.compute(np.array([-7.0, 0, 7, 127])).tolist() == [-128, -128, -124, -64]


@given(seeds, st.floats(1e-4, 10), st.integers(-128, 127), st.sampled_from([np.float32, np.float64]))
def test_quantising_is_off_by_half_a_step_at_most(seed, scale, zero_point, dtype):
    by = ops.Quantisation(float(np.float32(scale)), zero_point)
    low, high = ((end - zero_point) * by.scale for end in (-128, 127))
    x = np.random.default_rng(seed).uniform(low, high, 50).astype(dtype)
    q = ops.Quantise(by).compute(x)
    assert q.dtype == x.dtype
    assert (q == np.rint(q)).all()
    assert ((q >= -128) & (q <= 127)).all()
    assert np.abs(ops.Dequantise(by).compute(q) - x).max() <= by.scale * (0.5 + 1e-4)
    assert (ops.Quantise(by).compute(ops.Dequantise(by).compute(q)) == q).all()


@given(st.floats(2.0**-40, 2.0**29))
def test_a_multiplier_is_its_quotient_to_31_bits(r):
    m, n = multiplier(r)
    assert (m, n) == (0, 62) or 2**30 <= m < 2**31
    assert 1 <= n <= 62
    if m:
        assert abs(Fraction(m, 2**n) / Fraction(r) - 1) <= Fraction(1, 2**31)


def test_the_ends_of_multipliers():
    assert multiplier(1.0) == (2**30, 30)
    assert multiplier(0.5) == (2**30, 31)
    assert multiplier(1 - 2**-40) == (2**30, 30)
    assert multiplier(2.0**29) == (2**30, 1)
    assert multiplier(2.0**-32) == (2**30, 62)
    assert multiplier(2.0**-33) == (0, 62)
    with pytest.raises(ValueError, match=r"a quotient of scales of 1\.07374e\+09, expected one below 2\^30"):
        multiplier(2.0**30)


@given(seeds, st.integers(1, 3), sizes, sizes, sizes, st.integers(-128, 127), st.integers(-128, 127))
def test_a_linear_layer_is_python_s_integers(seed, rows, tokens, inputs, outputs, zero_x, zero_y):
    x, y = ops.Quantisation(0.02, zero_x), ops.Quantisation(0.05, zero_y)
    op = ops.Quantised(ops.Linear(inputs, outputs), x, y)
    weight, scale, bias = weights_of(op, seed)
    given = whole(seed + 2, rows, tokens, inputs)
    expected = np.zeros((rows, tokens, outputs))
    for row, token, o in np.ndindex(*expected.shape):
        products = (int((given[row, token, i] - zero_x) * weight[o, i]) for i in range(inputs))
        expected[row, token, o] = requantised(int(bias[o]) + sum(products), x, scale[o], y)
    assert op.compute(given, weight, scale, bias).tolist() == expected.tolist()
    assert op.compute(given.astype(np.float32), weight, scale, bias).tolist() == expected.tolist()


@given(seeds, st.sampled_from([1, 2]), st.sampled_from([1, 2]), st.booleans(), st.integers(-128, 127))
def test_a_convolution_is_python_s_integers(seed, stride, dilation, depthwise, zero_point):
    x, y = ops.Quantisation(0.02, zero_point), ops.Quantisation(0.05, 4)
    conv = ops.Conv2d(4, 4, 3, stride, dilation, dilation, groups=4 if depthwise else 1)
    op = ops.Quantised(conv, x, y)
    weight, scale, bias = weights_of(op, seed)
    given = whole(seed + 2, 1, 4, 4, 5)
    result = op.compute(given, weight, scale, bias)
    for o, i, j in np.ndindex(*result.shape[1:]):
        total = int(bias[o])
        for c, u, v in np.ndindex(*weight.shape[1:]):
            row, column = stride * i + dilation * (u - 1), stride * j + dilation * (v - 1)
            if 0 <= row < 4 and 0 <= column < 5:
                total += (int(given[0, o if depthwise else c, row, column]) - zero_point) * int(weight[o, c, u, v])
        assert result[0, o, i, j] == requantised(total, x, scale[o], y)


@given(seeds, st.sampled_from(sorted(ops.ACTIVATION_FUNCTIONS)))
def test_an_activation_is_rounded_once(seed, function):
    op = ops.QuantisedActivation(function, X, Y)
    q = whole(seed, 3, 7)
    real = ops.Activation(function).compute(ops.Dequantise(X).compute(q))
    assert (op.compute(q) == Y.quantise(real)).all()
    assert (op.compute(q.astype(np.float32)) == op.compute(q)).all()


def test_one_s_own_function_is_taken():
    op = ops.QuantisedActivation(lambda x: x * 2, X, X)
    assert op.compute(np.array([-3.0, -2, 7])).tolist() == [-3, -1, 17]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("bias", "expected"), [(2**24 + 2**23 - 1, 1), (2**24 + 2**23, 2)])
def test_the_reference_runs_them_with_all_bits_of_a_bias(dtype, bias, expected):
    """The first bias is no number of float32, whose nearest is the second."""
    g = Graph()
    pixels = g.append(Node("pixel_values", ops.Input(), (), (), (1, 1)))
    one, wide = ops.Quantisation(1.0, 0), ops.Quantisation(2.0**24, 0)
    q = g.add("pixel_values.int8", ops.Quantise(one), pixels)
    g.outputs["logits"] = g.add("layer.int8", ops.Quantised(ops.Linear(1, 1), one, wide), q).name
    weights = {
        "layer.int8.weight": np.array([[1]], np.int8),
        "layer.int8.scale": np.float32([1]),
        "layer.int8.bias": np.array([bias], np.int32),
    }
    result = reference.run(g, weights, np.array([[0.0]]), dtype)["logits"]
    assert (result.dtype, result.tolist()) == (dtype, [[expected]])


def test_real_results_are_near():
    """A linear layer in int8 beside the same in float64."""
    x, weight, bias = normal(1, 50, 40), normal(2, 8, 40) / 6, normal(3, 8)
    scale = (np.abs(weight).max(1) / 127).astype(np.float32)
    op = ops.Quantised(ops.Linear(40, 8), ops.Quantisation(0.03125, 0), ops.Quantisation(0.0625, 0))
    q = op.compute(
        ops.Quantise(op.x).compute(x),
        np.rint(weight / scale[:, None]).astype(np.int8),
        scale,
        np.rint(bias / (0.03125 * scale)).astype(np.int32),
    )
    error = ops.Dequantise(op.y).compute(q) - (x @ weight.T + bias)
    assert np.sqrt((error**2).mean()) < 0.03  # a step of the output over sqrt(12) is 0.018
