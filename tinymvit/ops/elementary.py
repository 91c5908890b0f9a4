"""Elementary functions in float32 whose bits are the same on every machine: what `compute_in_order` is written with.

The C library of each system rounds e^x in its own way, and NumPy's takes another path on each processor. Here they are
sums, products and quotients of float32 alone, each rounded once, as IEEE 754 says, in the order that is written down;
`exporters/c_source` has the same lines in C. Each function takes an array of float32 of any shape and gives one of the
same shape. NaN stays NaN.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray

F = np.float32
LOWEST = F(-87)  # e to it is the last that is no denormal number
ROUND = F(12582912)  # 1.5 2^23: added to a number of less than 2^22, it leaves no digits behind the point
PER_LN2 = F(1.44269504)
LN2_HIGH, LN2_LOW = F(0.693359375), F(-2.12194440e-4)  # their sum is ln 2; so many times the first is exact
# (e^r - 1 - r) / r^2 for |r| <= ln 2 / 2, from the highest power down (Cephes, expf).
EXPONENTIAL = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
# (tanh x - x) / x^3 by powers of x^2, for |x| < 0.625 (Cephes, tanhf).
TANH = (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)
# The tail of the normal distribution times e^(x^2 / 2), by powers of 1 / (1 + 0.3125 x), x up to 14: to 1.2e-8 of it.
TAIL = (
    -0.01467377133667469,
    0.0664241760969162,
    -0.08821495622396469,
    -0.016556859016418457,
    0.0808187946677208,
    0.004904518369585276,
    0.11066702008247375,
    0.10637032985687256,
    0.12568098306655884,
    0.12457606196403503,
    3.6981789435230894e-06,
)


def exponential(x: Array) -> Array:
    """e^x of numbers that are at most 0; what is below -87 gives 0, and so no denormal number arises.

    e^x = 2^n e^r with n the whole number nearest to x / ln 2 and r = x - n ln 2. Adding `ROUND` leaves n in the last
    bits of a float32, from where it is shifted into the place of the exponent.
    """
    x = np.where(x < LOWEST, F(-88), x)  # for which n is -127, and 2^n in the bits of a float32 is 0
    shifted = x * PER_LN2 + ROUND
    n = shifted - ROUND
    r = x - n * LN2_HIGH
    r = r - n * LN2_LOW
    y = r * r * polynomial(r, EXPONENTIAL) + r + F(1)
    power = (shifted.view(np.uint32) << np.uint32(23)) + np.uint32(0x3F800000)
    return y * power.view(np.float32)


def polynomial(x: Array, coefficients: tuple[float, ...]) -> Array:
    """By Horner's rule, the highest power first: (c0 x + c1) x + c2 ..."""
    y = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        y = y * x + F(coefficient)
    return y


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x), by e^-|x|."""
    e = exponential(-np.abs(x))
    return np.where(x >= 0, F(1), e) / (F(1) + e)


def tanh(x: Array) -> Array:
    """A polynomial for |x| < 0.625, where the quotient would cancel; else (1 - e) / (1 + e), e = e^(-2 |x|)."""
    size = np.abs(x)
    square = x * x
    near = polynomial(square, TANH) * square * x + x
    e = exponential(F(-2) * size)
    far = (F(1) - e) / (F(1) + e)
    return np.where(size < F(0.625), near, np.where(x < 0, -far, far))


def normal_tail(x: Array) -> Array:
    """The probability that a normal variable exceeds x, for x >= 0.

    It is e^(-x^2 / 2) times a smooth function. x^2 has more digits than a float32: high is x without its last twelve
    bits, whose square is exact, and x^2 = high^2 + (x - high) (x + high). From 14 on, where it is 0, all is as at 14.
    """
    x = np.minimum(x, F(14))
    high = (x.view(np.uint32) & np.uint32(0xFFFFF000)).view(np.float32)
    e = exponential(F(-0.5) * high * high) * exponential(F(-0.5) * (x - high) * (x + high))
    return e * polynomial(F(1) / (F(1) + F(0.3125) * x), TAIL)


def square_root(x: Array) -> Array:
    """The root of numbers that are at least 0, by Heron's rule, three times.

    Half of the bits of a float32, as a whole number, are those of a number 3.5 % from the root; each step squares the
    error.
    """
    y: Array = ((x.view(np.uint32) >> np.uint32(1)) + np.uint32(0x1FBD1DF5)).view(np.float32)
    for _ in range(3):
        y = F(0.5) * (y + x / y)
    return np.where(x > 0, y, x)
