"""What tests of kernels draw from, with Hypothesis, and how the same is said in PyTorch, in float64."""

import math

import numpy as np
from hypothesis import strategies as st

from every_op import normal
from frameworks import F, torch
from tinymvit import kernels

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 9)
batches = st.integers(1, 3)
channel_counts = st.one_of(st.integers(1, 9), st.integers(10, 70))  # below, at and beyond one vector and one panel
kernel_sizes = st.sampled_from([(1, 1), (3, 3), (2, 2), (1, 3), (5, 2)])
activations = st.sampled_from(kernels.ACTIVATIONS)
layouts = st.sampled_from(["plain", "read-only", "sliced", "reversed", "column-major", "misaligned"])


@st.composite
def arrays(draw, *shape, mean=0, scale=1):
    """Normal float32 numbers of this shape, which lie in memory in one of the ways that callers bring them."""
    return laid_out(normal(draw(seeds), *shape) * np.float32(scale) + np.float32(mean), draw(layouts))


def weights(*shape):
    """The weight (O, ...) of a layer, so small that its sums are about as large as its inputs. tanh of large sums would
    be 1, and the rounding of the sums large beside that."""
    return arrays(*shape, scale=math.prod(shape[1:]) ** -0.5)


@st.composite
def maps(draw, channels, height=sizes, width=sizes):
    """(B, H, W, C)"""
    return draw(arrays(draw(batches), draw(height), draw(width), channels))


def perhaps(strategy):
    return st.none() | strategy


def laid_out(array, layout):
    """The same values, otherwise in memory."""
    if layout == "sliced":
        array = np.repeat(array, 2, axis=-1)[..., ::2]
    elif layout == "reversed":
        array = np.ascontiguousarray(array[::-1])[::-1]
    elif layout == "column-major":
        array = np.asfortranarray(array)
    elif layout == "misaligned":
        array = np.frombuffer(b"?" + array.tobytes(), np.float32, offset=1).reshape(array.shape)
    elif layout == "read-only":
        array.flags.writeable = False
    return array


# ---- in PyTorch ----


def double(array):
    """The tensor in float64; None stays None."""
    return None if array is None else torch.tensor(array.astype(np.float64))


def channels_first(array):
    return double(array).permute(0, 3, 1, 2)


def channels_last(tensor):
    return tensor.permute(0, 2, 3, 1).numpy()


def activated(name, x):
    """The activation of a tensor."""
    match name:
        case "identity":
            return x
        case "gelu":
            return x * torch.special.erfc(-x / 2**0.5) / 2  # PyTorch's own 1 + erf cancels for x < 0
        case "gelu_tanh":
            return x * torch.sigmoid(2 * (2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))
        case "sigmoid" | "tanh":
            return getattr(torch, name)(x)
    return getattr(F, name)(x)


def finished(expected, activation, residual):
    """How a convolution or a linear layer ends, from arrays."""
    expected = activated(activation, torch.from_numpy(expected)).numpy()
    return expected if residual is None else expected + residual


def attended(query, key, value, heads):
    """Attention, from arrays (S, N, D)."""
    query, key, value = (double(a).unflatten(-1, (heads, -1)).transpose(1, 2) for a in (query, key, value))
    weights = torch.softmax(query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5, -1)
    return (weights @ value).transpose(1, 2).flatten(2).numpy()
