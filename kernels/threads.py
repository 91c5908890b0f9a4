"""How many threads work, and how the work of a kernel is split among them.

A launch is `count` units of work, cut into one run of units for each thread. No kernel's arithmetic depends on where
a run begins, so the bits of a result do not depend on the number of threads.

Three facts shape this file. Numba's fallback threading layer, workqueue, aborts the process when two Python threads
enter it at once; and OpenMP would give each of them a full set of threads. So one parallel region runs at a time. GNU
OpenMP does not survive `fork`: a forked child works on one thread. With one thread nothing parallel is even loaded,
so such a process may fork, or call kernels from as many Python threads as it likes.
"""

import functools
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .jit import EMPTY, INPUTS, SIGNATURE, Kernel

_region = threading.Lock()
_forked = False
_threads: int | None = None  # None: not asked for yet


def get_num_threads() -> int:
    """The number of threads that kernels use: at first, the physical cores that this process may run on."""
    global _threads
    if _threads is None:
        _threads = min(_physical_cores(), max_num_threads())
    return _threads


def set_num_threads(threads: int) -> None:
    """Let kernels use `threads` threads, 1 to `max_num_threads()`.

    Raises TypeError if `threads` is not an integer and ValueError if it is out of range.
    """
    global _threads
    if isinstance(threads, bool) or not isinstance(threads, (int, np.integer)):
        raise TypeError(f"threads must be an integer, not {threads!r}")
    most = max_num_threads()
    if not 1 <= threads <= most:
        why = "a forked process cannot use more" if _forked else "the processors this process may use"
        raise ValueError(f"threads must be from 1 to {most} ({why}), not {threads}")
    _threads = int(threads)


def max_num_threads() -> int:
    """The most threads `set_num_threads` takes: what Numba started with, `NUMBA_NUM_THREADS` or all processors."""
    return 1 if _forked else int(numba.config.NUMBA_NUM_THREADS)


def launch(
    kernel: Kernel, count: int, inputs: Sequence[np.ndarray], out: np.ndarray, sizes: Sequence[int] = ()
) -> None:
    """Run units 0 to `count` of a kernel. Arrays are float32, C-contiguous and writable (see `border.py`)."""
    flat = [array.reshape(-1) for array in inputs]
    arrays = (*flat, *[EMPTY] * (INPUTS - len(flat)), out.reshape(-1))
    numbers = np.array(sizes, np.int64)
    threads = min(get_num_threads(), count)
    if threads == 1:
        kernel.run(arrays, numbers, 0, count)
    else:
        start_threads()
        with _region:
            callers = numba.get_num_threads()  # Numba's own setting belongs to the caller's other code
            numba.set_num_threads(threads)
            try:
                failures = split_work.run(kernel.address, arrays, numbers, count, threads)
            finally:
                numba.set_num_threads(callers)
        if failures:
            raise MemoryError(f"{kernel.name}: not enough memory for working arrays")


@functools.cache
def start_threads() -> None:
    """Start Numba's threads, and let GNU OpenMP, if that is what they are, wait politely.

    By default a thread that waits for the others spins for many milliseconds. Where another process wants the core,
    the one that is waited for does not get it meanwhile, and every region lasts a time slice: with one busy neighbour
    on two cores, an XXS image took 254 ms, against 27 ms with 100 to 1,000 spins, which cost an idle machine nothing
    that could be measured. The library reads the setting once, when it is loaded; a user's own is left alone.
    """
    given = os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}
    if not given:
        os.environ["GOMP_SPINCOUNT"] = "1000"
    numba.get_num_threads()
    if not given:
        del os.environ["GOMP_SPINCOUNT"]


@intrinsic
def _call(typingctx, address, arrays, sizes, first, last):
    """Call the kernel whose machine code is at `address`; returns 1 if it failed, else 0."""

    def codegen(context, builder, signature, args):
        function_type = context.call_conv.get_function_type(types.none, SIGNATURE.args)
        function = builder.inttoptr(args[0], function_type.as_pointer())
        status, _ = context.call_conv.call_function(builder, function, types.none, SIGNATURE.args, args[1:])
        return builder.zext(status.is_error, ir.IntType(64))

    return types.int64(types.int64, *SIGNATURE.args), codegen


def _split_work(address, arrays, sizes, count, threads):
    failures = 0  # all that can fail is an allocation; an exception would be lost in a parallel region
    for part in numba.prange(threads):
        failures += _call(address, arrays, sizes, count * part // threads, count * (part + 1) // threads)
    return failures


split_work = Kernel(_split_work, types.int64(types.int64, *SIGNATURE.args), parallel=True)


def _physical_cores() -> int:
    """Two hyperthreads of a core share its arithmetic, so the second one gains nothing here."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    processors = os.sched_getaffinity(0)
    topology = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    try:
        return len({Path(topology.format(processor)).read_text() for processor in processors})
    except OSError:
        return len(processors)


def _after_fork_in_child() -> None:
    global _forked, _threads
    _forked, _threads = True, 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
