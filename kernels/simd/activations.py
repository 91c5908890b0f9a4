"""Activation functions on vectors, for the kernels that end in one and for `activate`, which applies one to an array.

silu takes about 20 instructions, a division among them, for 16 values.

A NaN stays a NaN, and infinities give what PyTorch gives, so silu(-inf), both gelu(-inf) and hardswish(-inf), which
are -inf * 0, are NaN. (In float32 PyTorch's gelu(inf) is NaN too, in float64 inf; here it is inf.)
"""

from ..runtime.arguments import short
from ..runtime.jit import inline, jit
from .elementary import normal_tail, one_plus_exp_of_negative, tanh
from .instructions import LANES, load, magnitude, maximum, minimum, store, where_less

ACTIVATIONS = (
    "identity",
    "silu",
    "relu",
    "relu6",
    "gelu",
    "gelu_tanh",
    "hardswish",
    "leaky_relu",
    "sigmoid",
    "tanh",
)
IDENTITY, _SILU, _RELU, _RELU6, _GELU, _GELU_TANH, _HARDSWISH, _LEAKY_RELU, _SIGMOID, _TANH = range(len(ACTIVATIONS))


def activation_code(name: str, op: str) -> int:
    """The number by which kernels know an activation."""
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ValueError(f"{op}: activation must be one of {', '.join(ACTIVATIONS)}, not {short(name)}")
    return ACTIVATIONS.index(name)


@jit
def finish(out, rows, columns, residual, code):
    """The end of a convolution or linear layer, in place while its values are in cache: activation(out) + residual.

    `out` is a `Matrix`, and `residual` a flat array of the same layout.
    """
    array = out.array
    apply_activation(array, out, rows, columns, code)
    if residual.size:
        for row in range(rows):
            for i in range(0, columns, LANES):
                lanes, place = columns - i, out.at + row * out.row + i
                store(array, place, lanes, load(array, place, lanes, 0.0) + load(residual, place, lanes, 0.0))


@jit
def apply_activation(x, out, rows, columns, code):
    """out = the activation of x, unless it is the identity.

    A loop for each keeps its constants in registers; one loop with the choice inside took three times as long.
    """
    if code == _SILU:
        _apply_silu(x, out, rows, columns)
    elif code == _RELU:
        _apply_relu(x, out, rows, columns)
    elif code == _RELU6:
        _apply_relu6(x, out, rows, columns)
    elif code == _GELU:
        _apply_gelu(x, out, rows, columns)
    elif code == _GELU_TANH:
        _apply_gelu_tanh(x, out, rows, columns)
    elif code == _HARDSWISH:
        _apply_hardswish(x, out, rows, columns)
    elif code == _LEAKY_RELU:
        _apply_leaky_relu(x, out, rows, columns)
    elif code == _SIGMOID:
        _apply_sigmoid(x, out, rows, columns)
    elif code == _TANH:
        _apply_tanh(x, out, rows, columns)


def _make_apply(function):
    @jit
    def apply(x, out, rows, columns):
        for row in range(rows):
            for i in range(0, columns, LANES):
                lanes, place = columns - i, out.at + row * out.row + i
                store(out.array, place, lanes, function(load(x, place, lanes, 0.0)))

    return apply


@inline
def _silu(x):
    """Largest error 2.4 ULP; 0 below -88.37, where the exact result is below 4e-37."""
    return x / one_plus_exp_of_negative(x)


@jit
def _apply_silu(x, out, rows, columns):
    """The network's own activation: two vectors at a time, because each instruction of one waits for the one before,
    and only the last of a row with a mask."""
    array = out.array
    for row in range(rows):
        place, end = out.at + row * out.row, out.at + row * out.row + columns
        while place + 2 * LANES <= end:
            a, b = _silu(load(x, place, LANES, 0.0)), _silu(load(x, place + LANES, LANES, 0.0))
            store(array, place, LANES, a)
            store(array, place + LANES, LANES, b)
            place += 2 * LANES
        while place < end:
            store(array, place, end - place, _silu(load(x, place, end - place, 0.0)))
            place += LANES


@inline
def _relu(x):
    return maximum(0.0, x)


@inline
def _relu6(x):
    return minimum(6.0, maximum(0.0, x))


@inline
def _gelu(x):
    """x times the chance that a standard normal variable is below x. Largest error 10 ULP; 1 + erf would cancel."""
    tail = normal_tail(magnitude(x))
    return x * where_less(x, 0.0, tail, 1.0 - tail)


@inline
def _gelu_tanh(x):
    """x (1 + tanh u) / 2, with (1 + tanh u) / 2 = 1 / (1 + e^-2u), which does not cancel.

    Largest error 5 ULP for x > -1; below, the rounding of u counts: 40 ULP near -5, 190 ULP near -9.
    """
    u = 0.7978845608028654 * (x + 0.044715 * (x * x * x))
    return x / one_plus_exp_of_negative(u + u)


@inline
def _hardswish(x):
    """Largest error 1.9 ULP."""
    return x * (_relu6(x + 3.0) / 6.0)


@inline
def _leaky_relu(x):
    return where_less(x, 0.0, 0.01 * x, x)


@inline
def _sigmoid(x):
    """Largest error 2.5 ULP; 0 below -88.37, where the exact result is subnormal."""
    return 1.0 / one_plus_exp_of_negative(x)


_apply_relu, _apply_relu6 = _make_apply(_relu), _make_apply(_relu6)
_apply_gelu, _apply_gelu_tanh, _apply_tanh = _make_apply(_gelu), _make_apply(_gelu_tanh), _make_apply(tanh)
_apply_hardswish, _apply_leaky_relu = _make_apply(_hardswish), _make_apply(_leaky_relu)
_apply_sigmoid = _make_apply(_sigmoid)
