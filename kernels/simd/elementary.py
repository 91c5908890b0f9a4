"""exp, tanh and the normal distribution's tail on vectors, from polynomials of our own. Activations build on them.

Not the C library's, whose bits differ between systems. The coefficients are minimax fits of the relative error
(Lawson's iteration), rounded to float32. Errors are the largest found over a sweep of the float32 numbers, in units
in the last place (ULP) of the exact result, where that is not subnormal.
"""

from ..runtime.jit import inline
from .instructions import POWER_OF_ONE, fma, magnitude, maximum, minimum, power_of_two, where_less, with_sign


def _make_factors(sign):
    low, high = (-88.0, 88.5) if sign > 0 else (-88.5, 88.0)  # n from -127 to 128

    @inline
    def factors(x):
        x = minimum(high, maximum(low, x))
        shifted = fma(x, sign * 1.4426950408889634, POWER_OF_ONE)  # rounds to a whole number n, in the low bits
        n = shifted - POWER_OF_ONE
        r = fma(n, sign * -0.693147182464599609375, x)  # ln 2 rounded to float32,
        r = fma(n, sign * 1.904654323148236017e-9, r)  # and what that rounding left
        p = fma(0.0013814540579915047, r, sign * 0.00836874544620514)
        p = fma(p, r, 0.04166838899254799)
        p = fma(p, r, sign * 0.1666652113199234)
        p = fma(p, r, 0.4999999403953552)
        return fma(fma(p, r, sign), r, 1.0), power_of_two(shifted)

    return factors


# Two factors of e^x and of e^-x: x = n ln 2 + r with |r| <= ln 2 / 2, then e^r by a polynomial of degree 6, and 2^n.
_factors, _factors_of_negative = _make_factors(1.0), _make_factors(-1.0)


@inline
def exp(x):
    """Largest error 0.90 ULP. 0 below -87.68, where the exact result is subnormal, and inf above 88.37, where it is
    more than 2.4e38: so 2^n is one float32, whose bits are written down, and the ends need no more than two clamps."""
    p, power = _factors(x)
    return p * power


@inline
def one_plus_exp_of_negative(x):
    """1 + e^-x, product and sum in one instruction. Largest error 1 ULP."""
    p, power = _factors_of_negative(x)
    return fma(p, power, 1.0)


@inline
def tanh(x):
    """A polynomial below 0.625, where 1 - 2 / (e^2x + 1) would cancel. Largest error 1.4 ULP."""
    size = magnitude(x)
    square = size * size
    p = fma(-0.005704985465854406, square, 0.02063908614218235)
    p = fma(p, square, -0.05373971536755562)
    p = fma(p, square, 0.13331441581249237)
    p = fma(p, square, -0.3333328068256378)
    small = fma(p * square, size, size)
    large = 1.0 - 2.0 / (exp(size + size) + 1.0)
    return with_sign(where_less(size, 0.625, small, large), x)


@inline
def normal_tail(t):
    """Q(t) = (1 - erf(t / sqrt 2)) / 2 for t >= 0: the chance that a standard normal variable exceeds t.

    Q(t) = e^(-t^2 / 2) R(t), where R falls slowly from 1/2, and is a polynomial of degree 10 in (t - 4) / (t + 4). The
    rounding error of t^2 counts as much as t^2 is large, so it is computed and put back. 0 beyond 15, where Q is
    below the least float32. Largest error 5.6 ULP.
    """
    t = minimum(15.0, t)
    u = (t - 4.0) / (t + 4.0)
    r = fma(1.139061259891605e-05, u, -4.8127680202014744e-05)
    r = fma(r, u, -0.00017350628331769258)
    r = fma(r, u, 0.0006426863255910575)
    r = fma(r, u, 0.0005030641332268715)
    r = fma(r, u, -0.00849324744194746)
    r = fma(r, u, 0.030865484848618507)
    r = fma(r, u, -0.07170730084180832)
    r = fma(r, u, 0.1243792176246643)
    r = fma(r, u, -0.17039772868156433)
    r = fma(r, u, 0.09441064298152924)
    square = t * t
    rounding = fma(t, t, -square)
    gauss = exp(-0.5 * square)
    return r * fma(gauss, -0.5 * rounding, gauss)
