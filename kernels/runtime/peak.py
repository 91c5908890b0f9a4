"""What the machine can do at most: multiply-adds a second from registers, bytes a second from memory.

Two kernels measure it, on the threads that all kernels use, for `tinymvit bench`. They are compiled when they are asked
for, not with the others.
"""

import time
from collections.abc import Callable

import numpy as np
from numba import types

from ..simd.instructions import LANES, copy, fma, instruction, load, tile_instructions, vector
from ..simd.product import TILE_ROWS
from .arguments import empty
from .jit import SIGNATURE, Kernel
from .program import Step, launch
from .threads import get_num_threads

TRIALS = 8  # the best counts: whatever disturbs a trial makes it slower
STEPS = 1_000_000  # multiply-adds of each accumulator in a trial: some milliseconds
COPIED = 64 * 2**20  # bytes: beyond the caches of most machines
BLOCK = 4096  # bytes a unit of the copy

ROWS, VECTORS = TILE_ROWS[-1], len(TILE_ROWS)
TILE = ROWS * VECTORS  # accumulators: as many as the matrix products keep


def multiply_adds_a_second() -> float:
    """Float32 fused multiply-adds a second when nothing waits for memory; each is two operations."""
    threads = get_num_threads()
    starts = np.arange(TILE * LANES, dtype=np.float32)
    out = empty((threads * TILE * LANES,))
    seconds = _best(lambda: launch(Step(_multiply_add, threads, [starts], out, [STEPS])))
    return threads * STEPS * TILE * LANES / seconds


def bytes_a_second() -> float:
    """Bytes read and written a second by a copy of a large array: half of them are read, half written."""
    source, target = np.ones(COPIED // 4, np.float32), empty((COPIED // 4,))
    seconds = _best(lambda: launch(Step(_copy, COPIED // BLOCK, [source], target)))
    return 2 * COPIED / seconds


def _best(work: Callable[[], object]) -> float:
    """Seconds of the fastest of a few trials; the first, which compiles and touches memory, is not one of them."""
    work()
    times = []
    for _ in range(TRIALS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


_, _load, _, _, _store = tile_instructions(ROWS, VECTORS)
_tile = types.UniTuple(vector, TILE)


@instruction(_tile, vector, vector, returns=_tile)
def _step(builder, sums, a, b):
    """One step: a * b is added to each of the sums, none of which waits for another."""
    return [fma(builder, a, b, each) for each in sums]


def _multiply_add_loop(arrays, sizes, first, last):
    """A unit of work is some steps of the whole tile. The sums start apart, or they would be computed as one."""
    starts, _, _, _, out, _ = arrays
    width = VECTORS * LANES
    factor = load(starts, 0, LANES, 0.0)  # read, not written here: a known factor would be worked into the code
    for unit in range(first, last):
        sums = _load(starts, 0, width, ROWS, width)
        for _ in range(sizes[0]):
            sums = _step(sums, factor, factor)
        _store(sums, out, unit * ROWS * width, width, ROWS, width)


def _copy_loop(arrays, sizes, first, last):
    """A unit of work is BLOCK bytes."""
    source, _, _, _, out, _ = arrays
    floats = BLOCK // 4
    copy(source, first * floats, out, first * floats, (last - first) * floats)


_multiply_add = Kernel(_multiply_add_loop, SIGNATURE)
_copy = Kernel(_copy_loop, SIGNATURE)
