"""int8: real numbers as whole ones, and the ops that compute with these. docs/quantisation.md says why they are so.

In a reference run int8 values are carried as whole numbers of the run's dtype, float64 or float32, which hold them
exactly. Weights keep their own dtypes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tinymvit.ops.activation import Activation
from tinymvit.ops.conv2d import Conv2d
from tinymvit.ops.linear import Linear
from tinymvit.ops.op import Array, Op, Shape

LOWEST, HIGHEST = -128, 127  # of int8; weights begin at -127, so that each has its opposite


@dataclass(frozen=True)
class Quantisation:
    """What the int8 numbers q of a tensor stand for: real = (q - zero_point) * scale.

    `scale` is positive and a number of float32, since files store it so; `zero_point` is from -128 to 127, so that 0 is
    always one of the 256 real numbers.
    """

    scale: float
    zero_point: int

    def quantise(self, x: Array) -> Array:
        """x, real and of any shape -> the same shape and dtype: min(max(round(x / scale) + zero_point, -128), 127). The
        division is x's dtype's, and a half is rounded to the even neighbour. NaN becomes the zero point."""
        multiples = np.rint(x / x.dtype.type(self.scale))
        return np.clip(np.where(np.isnan(multiples), 0, multiples) + self.zero_point, LOWEST, HIGHEST).astype(x.dtype)

    def dequantise(self, q: Array) -> Array:
        """q, whole numbers of any shape in a float dtype -> (q - zero_point) * scale, of the same shape and dtype."""
        return (q - q.dtype.type(self.zero_point)) * q.dtype.type(self.scale)


@dataclass(frozen=True)
class Quantise(Op):
    """Real numbers become int8.

        q = min(max(round(x / scale) + zero_point, -128), 127)

    `scale` and `zero_point` are those of `by`. x is first rounded to float32, in which the division is too. A half is
    rounded to the even neighbour. The shape stays.
    """

    in_integers: ClassVar[bool] = True

    by: Quantisation

    def compute(self, x: Array) -> Array:
        """x of any shape -> whole numbers from -128 to 127, of the same shape and dtype."""
        return self.by.quantise(x.astype(np.float32)).astype(x.dtype)


@dataclass(frozen=True)
class Dequantise(Op):
    """int8 numbers become the real ones that they stand for.

        x = (q - zero_point) scale

    `scale` and `zero_point` are those of `by`. The shape stays.
    """

    by: Quantisation

    def compute(self, x: Array) -> Array:
        """x, whole numbers of any shape -> real numbers of the same shape and dtype."""
        return self.by.dequantise(x)


@dataclass(frozen=True)
class Quantised(Op):
    """A `Conv2d` or `Linear` (`op`) in integers: from int8 numbers to int8 numbers.

        a = bias[o] + sum over the same products as in `op` of (x - x.zero_point) weight
        y = min(max(floor((a m[o] + 2^(n[o] - 1)) / 2^n[o]) + y.zero_point, -128), 127)

    `weight` is int8, of the shape of `op`'s, from -127 to 127; `scale`, float32 `(O,)`, says for each output channel
    what its weights stand for: real = weight scale[o]. `bias` is int32 `(O,)`: real = bias x.scale scale[o]. It is
    always there, zero where `op` has none. Where a convolution reads outside the map it reads the zero point, whose
    product is 0. a is an int32: |bias| plus 255 x 127 times the products of a sum must stay below 2^31.

    m and n replace the division of two scales. With the float64 number r = x.scale scale[o] / y.scale, product first,
    and e such that 2^(e - 1) <= r < 2^e,

        m = floor(r 2^(31 - e) + 1/2),  n = 31 - e;  if m is 2^31: m = 2^30, n one less;  if n exceeds 62: m = 0, n = 62

    so 2^30 <= m < 2^31, and r must be below 2^30. a m is an int64. It is rounded once, a half upwards: the floor of a
    division by 2^n is what an arithmetic shift to the right gives.
    """

    in_integers: ClassVar[bool] = True

    op: Conv2d | Linear
    x: Quantisation
    y: Quantisation

    def output_shape(self, *inputs: Shape) -> Shape:
        return self.op.output_shape(*inputs)

    def weight_shapes(self) -> dict[str, Shape]:
        weight = self.op.weight_shapes()["weight"]
        return {"weight": weight, "scale": weight[:1], "bias": weight[:1]}

    def multiply_adds(self, output: Shape, *inputs: Shape) -> int:
        return self.op.multiply_adds(output, *inputs)

    def compute(self, x: Array, weight: Array, scale: Array, bias: Array) -> Array:
        """x, whole numbers of the shape that `op` takes, weight int8, scale float32 (O,), bias int32 (O,) -> whole
        numbers from -128 to 127, of the shape that `op` gives and x's dtype.

        The sums are taken in float64, which has all whole numbers below 2^53: they are exact in any order.
        """
        shifted = x.astype(np.float64) - self.x.zero_point
        sums = self.op.compute(shifted, weight.astype(np.float64), bias.astype(np.float64)).astype(np.int64)
        multipliers, shifts = self.multipliers(scale)
        by_channel = (slice(None), None, None) if isinstance(self.op, Conv2d) else (slice(None),)
        m, n = multipliers.astype(np.int64)[by_channel], shifts.astype(np.int64)[by_channel]
        y = ((sums * m + (1 << (n - 1))) >> n) + self.y.zero_point
        return np.clip(y, LOWEST, HIGHEST).astype(x.dtype)

    def multipliers(self, scale: Array) -> tuple[Array, Array]:
        """m and n of each output channel, int32 (O,) each, for weights of these scales, (O,). Raises ValueError for a
        quotient of scales of 2^30 or more."""
        pairs = [multiplier(self.x.scale * float(s) / self.y.scale) for s in scale]
        m, n = np.array(pairs, np.int32).reshape(-1, 2).T
        return m, n


def multiplier(r: float) -> tuple[int, int]:
    """The m and n of `Quantised` for a positive float64 number r: m / 2^n is r, to 31 bits. Raises ValueError for r of
    2^30 or more."""
    fraction, exponent = math.frexp(r)
    m, n = math.floor(fraction * 2.0**31 + 0.5), 31 - exponent
    if m == 2**31:
        m, n = 2**30, n - 1
    if n < 1:
        raise ValueError(f"a quotient of scales of {r:g}, expected one below 2^30")
    return (m, n) if n <= 62 else (0, 62)


@dataclass(frozen=True)
class QuantisedActivation(Op):
    """An activation from int8 numbers to int8 numbers: one number of a table for each of the 256.

        table[q] = y.quantise(function(x.dequantise(q))),  y = table[x]

    The table is made in float64, so each of its numbers is rounded once. The shape stays. `function` is as in
    `Activation`.
    """

    in_integers: ClassVar[bool] = True

    function: str | Callable[[Array], Array]
    x: Quantisation
    y: Quantisation

    def compute(self, x: Array) -> Array:
        """x, whole numbers from -128 to 127 of any shape -> the same shape and dtype."""
        return self.table()[x.astype(np.int64) - LOWEST].astype(x.dtype)

    def table(self) -> Array:
        """What becomes of -128 to 127, in this order: int8 (256,)."""
        numbers = np.arange(LOWEST, HIGHEST + 1, dtype=np.float64)
        with np.errstate(all="ignore"):
            values = Activation(self.function).compute(self.x.dequantise(numbers))
        return self.y.quantise(values).astype(np.int8)
