"""Batch normalisation that stands by itself: where it is not folded into the convolution before it.

    out[..., c] = (x[..., c] - mean[c]) * scale[c] + bias[c]      scale = weight / sqrt(variance + eps)

Cost for N values: 3 N operations; it reads 4 N bytes and writes 4 N. The mean is subtracted first: the difference of
numbers that are near each other is exact, and x scale - mean scale would round twice what then cancels.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .runtime import arguments
from .runtime.jit import kernel, unpack
from .runtime.program import Step, launch
from .simd.instructions import LANES, fma, load, store

LARGE = 2.0**64  # less than the last place of the largest float32


class Sizes(NamedTuple):
    channels: int


@dataclass(frozen=True)
class PackedBatchNorm:
    """Mean, scale and bias of a normalisation, (3, C)."""

    data: np.ndarray

    @classmethod
    def blank(cls, channels: int) -> "PackedBatchNorm":
        """A packed normalisation whose numbers are not set: to know the memory that it takes."""
        return cls(arguments.empty((3, channels)))


def pack_batch_norm(
    weight: np.ndarray, bias: np.ndarray, mean: np.ndarray, variance: np.ndarray, eps: float
) -> PackedBatchNorm:
    """Pack the four float32 vectors (C) of a normalisation for `batch_norm`. variance + eps is float32, as in PyTorch;
    where it is negative, the scale is NaN.

    Raises TypeError or ValueError, one line, for an argument of the wrong type or shape and for a negative eps.
    """
    weight = arguments.tensor(weight, "pack_batch_norm: weight", "(C)")
    others = {"bias": bias, "mean": mean, "variance": variance}
    bias, mean, variance = (
        arguments.channel_values(values, f"pack_batch_norm: {name}", len(weight)) for name, values in others.items()
    )
    eps = arguments.real_number(eps, "pack_batch_norm: eps", 0)
    with np.errstate(all="ignore"):
        scale = weight / np.sqrt(variance + np.float32(eps))
        shift = bias - mean * scale
    mean, bias = np.where(np.isfinite(shift) & (np.abs(mean) < LARGE), [mean, bias], [np.zeros_like(mean), shift])
    return PackedBatchNorm(arguments.aligned(np.stack([mean, scale, bias])))


def batch_norm(x: np.ndarray, norm: PackedBatchNorm, *, out: np.ndarray | None = None) -> np.ndarray:
    """As `torch.nn.functional.batch_norm` with the statistics of training: x (..., C) -> (..., C), float32.

    Raises TypeError or ValueError, one line, for an argument of the wrong type or shape.
    """
    x = arguments.tensor(x, "batch_norm: x", "(..., C)")
    arguments.packed(norm, "batch_norm: norm", PackedBatchNorm, "pack_batch_norm")
    channels = norm.data.shape[1]
    arguments.last_axis(x, "batch_norm: x", channels, "channels")
    out = arguments.output(out, "batch_norm: out", x.shape, [x])
    launch(Step(_batch_norm, x.size // channels, [x, norm.data], out, Sizes(channels)))
    return out


@kernel
def _batch_norm(arrays, sizes, first, last):
    """A unit of work is one pixel."""
    x, norm, _, _, out, _ = arrays
    channels = unpack(sizes, Sizes).channels
    for pixel in range(first, last):
        at = pixel * channels
        for i in range(0, channels, LANES):
            lanes = channels - i
            mean, scale = load(norm, i, lanes, 0.0), load(norm, channels + i, lanes, 0.0)
            bias = load(norm, 2 * channels + i, lanes, 0.0)
            store(out, at + i, lanes, fma(load(x, at + i, lanes, 0.0) - mean, scale, bias))
