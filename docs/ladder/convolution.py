"""A 1x1 convolution, from a naive loop to register tiles and packed weights: the code of docs/kernels.md.

    out[r, o] = bias[o] + sum over i of x[r, i] * weight[o, i]          for R pixels, I input and O output channels

Written to be read: I and O are whole vectors and panels, and nothing is checked. `kernels.linear` does the rest.
"""

import numba
import numpy as np

from tinymvit.kernels.runtime.jit import OPTIONS
from tinymvit.kernels.simd.elementary import one_plus_exp_of_negative
from tinymvit.kernels.simd.instructions import LANES, fma, load, store, tile_instructions
from tinymvit.kernels.simd.product import TILE_ROWS

compiled = numba.njit(**OPTIONS)


def loop(x, weight, bias, out):
    """x (I, R) and out (O, R) are channels first, weight is (O, I), as PyTorch has them."""
    inputs, pixels = x.shape
    for o in range(len(weight)):
        for p in range(pixels):
            total = bias[o]
            for i in range(inputs):
                total += x[i, p] * weight[o, i]
            out[o, p] = total


compiled_loop = compiled(loop)


@compiled
def channels_last(x, weight, bias, out):
    """x is (R, I) and out (R, O): the inner loop goes along a row of x and a row of the weight."""
    pixels, inputs = x.shape
    for p in range(pixels):
        for o in range(len(weight)):
            total = bias[o]
            for i in range(inputs):
                total += x[p, i] * weight[o, i]
            out[p, o] = total


channels_last_fastmath = numba.njit(**OPTIONS, fastmath=True)(channels_last.py_func)


@compiled
def outputs_innermost(x, weight, bias, out):
    """weight is (I, O): neighbours in the inner loop are different sums, so none is reordered."""
    pixels, inputs = x.shape
    outputs = len(bias)
    for p in range(pixels):
        for o in range(outputs):
            out[p, o] = bias[o]
        for i in range(inputs):
            for o in range(outputs):
                out[p, o] += x[p, i] * weight[i, o]


@compiled
def one_vector(x, weight, bias, out, shape):
    """From here on arrays are flat: x (R, I), weight (I, O), out (R, O). One accumulator, in a register."""
    pixels, inputs, outputs = shape
    for p in range(pixels):
        for o in range(0, outputs, LANES):
            total = load(bias, o, LANES, 0.0)
            for i in range(inputs):
                total = fma(x[p * inputs + i], load(weight, i * outputs + o, LANES, 0.0), total)
            store(out, p * outputs + o, LANES, total)


def make_tile(rows, vectors):
    """A tile of rows x vectors accumulators."""
    _, tile_load, tile_step, _, tile_store = tile_instructions(rows, vectors)
    width = vectors * LANES

    @compiled
    def tile(x, weight, bias, out, shape):
        pixels, inputs, outputs = shape
        for o in range(0, outputs, width):
            for p in range(0, pixels, rows):
                used = min(rows, pixels - p)
                totals = tile_load(bias, o, 0, used, width)
                for i in range(inputs):
                    totals = tile_step(totals, x, p * inputs + i, inputs, used, weight, i * outputs + o)
                tile_store(totals, out, p * outputs + o, outputs, used, width)

    return tile


small_tile = make_tile(4, 1)

ROWS, VECTORS = TILE_ROWS[-1], len(TILE_ROWS)  # 8 and 3 with AVX-512, 6 and 1 elsewhere
WIDTH = VECTORS * LANES
tile = make_tile(ROWS, VECTORS)
_, tile_load, tile_step, _, tile_store = tile_instructions(ROWS, VECTORS)


@compiled
def packed(x, panels, bias, out, shape):
    """Panels are WIDTH columns of the weight each: a step of i is WIDTH numbers further, wherever it is."""
    pixels, inputs, outputs = shape
    for o in range(0, outputs, WIDTH):
        for p in range(0, pixels, ROWS):
            used = min(ROWS, pixels - p)
            totals = tile_load(bias, o, 0, used, WIDTH)
            for i in range(inputs):
                totals = tile_step(totals, x, p * inputs + i, inputs, used, panels, o * inputs + i * WIDTH)
            tile_store(totals, out, p * outputs + o, outputs, used, WIDTH)


@compiled
def silu_after_all(x, panels, bias, out, shape):
    packed(x, panels, bias, out, shape)
    for at in range(0, out.size, LANES):
        value = load(out, at, LANES, 0.0)
        store(out, at, LANES, value / one_plus_exp_of_negative(value))


@compiled
def silu_after_each_tile(x, panels, bias, out, shape):
    pixels, inputs, outputs = shape
    for o in range(0, outputs, WIDTH):
        for p in range(0, pixels, ROWS):
            used = min(ROWS, pixels - p)
            totals = tile_load(bias, o, 0, used, WIDTH)
            for i in range(inputs):
                totals = tile_step(totals, x, p * inputs + i, inputs, used, panels, o * inputs + i * WIDTH)
            tile_store(totals, out, p * outputs + o, outputs, used, WIDTH)
            for row in range(p, p + used):
                for column in range(o, o + WIDTH, LANES):
                    value = load(out, row * outputs + column, LANES, 0.0)
                    store(out, row * outputs + column, LANES, value / one_plus_exp_of_negative(value))


def blas(x, weight, bias, out):
    """weight is (I, O), the transpose of the array as it lies."""
    np.matmul(x, weight, out=out)
    np.add(out, bias, out=out)
