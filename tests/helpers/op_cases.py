"""What the tests of the ops share: numbers for their inputs and weights, and the comparison with PyTorch."""

import numpy as np
from hypothesis import strategies as st

from oracle import KERNEL_FLOAT32, REFERENCE_FLOAT64, assert_same

sizes = st.integers(1, 9)
seeds = st.integers(0, 2**32 - 1)


def normal(seed, *shape):
    """Normal numbers in float64, rounded to float32, so that both formats start from the same."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32).astype(np.float64)


def whole(seed, *shape, largest=127):
    """Random whole numbers from -largest to largest, in float64."""
    return np.random.default_rng(seed).integers(-largest, largest + 1, shape).astype(np.float64)


def weights_of(op, seed):
    """Weights of an op's shapes; a variance is positive, those of int8 ops are whole numbers, their scales positive."""
    shapes = op.weight_shapes()
    if op.in_integers and shapes:
        scale = np.random.default_rng(seed).uniform(0.001, 0.01, shapes["scale"]).astype(np.float32)
        return [whole(seed, *shapes["weight"]), scale, whole(seed + 1, *shapes["bias"], largest=10000)]
    drawn = {role: normal(seed + i, *shape) for i, (role, shape) in enumerate(shapes.items())}
    return [value**2 + 0.25 if role == "running_var" else value for role, value in drawn.items()]


def check(op, expected, *inputs, weights=()):
    """The op's float64 and float32 against PyTorch's float64 result."""
    for dtype, tolerance in ((np.float64, REFERENCE_FLOAT64), (np.float32, KERNEL_FLOAT32)):
        actual = op.compute(*(np.asarray(v).astype(dtype) for v in (*inputs, *weights)))
        assert_same(actual, expected, tolerance, type(op).__name__, dtype)
        assert actual.shape == op.output_shape(*(np.shape(v) for v in inputs))
