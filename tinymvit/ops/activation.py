"""Activations: functions of each number by itself, those of the configuration's names or a user's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tinymvit.ops import elementary
from tinymvit.ops.op import Array, Op


@dataclass(frozen=True)
class Activation(Op):
    """A function of each number by itself.

        y = function(x)

    The shape stays. `function` is a name of `ACTIVATION_FUNCTIONS`, or a function of one's own, given to the
    configuration in Python, that takes an array and gives one of the same shape.
    """

    function: str | Callable[[Array], Array]

    def compute(self, x: Array) -> Array:
        """x of any shape -> the same shape and dtype. Raises KeyError for a name that is not known, ValueError for a
        callable that gives another shape."""
        if isinstance(self.function, str):
            return ACTIVATION_FUNCTIONS[self.function](x)
        y = np.asarray(self.function(x))
        if y.shape != x.shape:
            raise ValueError(f"hidden_act {self.function!r} gave shape {y.shape} for an input of shape {x.shape}")
        return y.astype(x.dtype, copy=False)

    def compute_in_order(self, x: Array) -> Array:
        """x float32 of any shape -> the same shape and dtype, by the functions of `elementary`. What a callable does is
        its own affair. Raises as `compute` does."""
        if isinstance(self.function, str) and self.function in IN_ORDER:
            return IN_ORDER[self.function](x)
        return self.compute(x)


# ---- by their names; each takes an array of any shape and gives one of the same shape and dtype ----


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x), with e^-|x| so that nothing overflows."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def silu(x: Array) -> Array:
    """x / (1 + e^-x)"""
    return x * sigmoid(x)


def relu(x: Array) -> Array:
    """max(x, 0)"""
    return np.maximum(x, 0)


def relu6(x: Array) -> Array:
    """min(max(x, 0), 6)"""
    return np.clip(x, 0, 6)


def leaky_relu(x: Array) -> Array:
    """x if x >= 0, else 0.01 x"""
    return np.where(x >= 0, x, x * x.dtype.type(0.01))


def hardswish(x: Array) -> Array:
    """x min(max(x + 3, 0), 6) / 6"""
    return x * np.clip(x + 3, 0, 6) / 6


def gelu(x: Array) -> Array:
    """x times the normal distribution's cumulative probability at x: x / 2 (1 + erf(x / sqrt(2)))"""
    return (x * _erfc(-x / math.sqrt(2)) / 2).astype(x.dtype)


def gelu_tanh(x: Array) -> Array:
    """x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))"""
    return x * (1 + np.tanh(x.dtype.type(math.sqrt(2 / math.pi)) * (x + x.dtype.type(0.044715) * x**3))) / 2


_erfc = np.vectorize(math.erfc, otypes=[np.float64])  # NumPy has no error function

ACTIVATION_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "identity": lambda x: x,
    "silu": silu,
    "relu": relu,
    "relu6": relu6,
    "leaky_relu": leaky_relu,
    "hardswish": hardswish,
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
}

# ---- those of them in float32 whose bits depend on no library; the others consist of single steps ----


def gelu_in_order(x: Array) -> Array:
    """x times the probability that a normal variable is below x: the tail beyond |x|, or what is left of 1"""
    tail = elementary.normal_tail(np.abs(x))
    return x * np.where(x < 0, tail, 1 - tail)


def gelu_tanh_in_order(x: Array) -> Array:
    """x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)), which is the same and does not cancel"""
    return x * elementary.sigmoid(np.float32(math.sqrt(8 / math.pi)) * (x + np.float32(0.044715) * x * x * x))


IN_ORDER: dict[str, Callable[[Array], Array]] = {
    "silu": lambda x: x * elementary.sigmoid(x),
    "relu": lambda x: np.where(x < 0, np.float32(0), x),  # of -0 and 0 NumPy's maximum takes now one, now the other
    "relu6": lambda x: np.where(x < 0, np.float32(0), np.where(x > 6, np.float32(6), x)),
    "sigmoid": elementary.sigmoid,
    "tanh": elementary.tanh,
    "gelu": gelu_in_order,
    "gelu_tanh": gelu_tanh_in_order,
}
