"""The first run on a machine compiles the kernels, for some seconds: whether it will, and doing it with progress shown.

Later runs load them from Numba's cache. Nothing here is needed: a kernel that is not ready is compiled when it is used.
"""

from collections.abc import Iterator
from pathlib import Path

from .jit import KERNELS, Kernel
from .program import run_steps, run_steps_in_parallel
from .threads import get_num_threads, start_threads


def is_cached() -> bool:
    """Whether all kernels are compiled, in this process or in Numba's cache. Takes a few milliseconds."""
    return all(kernel.is_ready() for kernel in _needed())


def warm_up() -> Iterator[tuple[int, int, str]]:
    """Compile or load every kernel; yields (number, of how many, name) before each, for a line of progress."""
    kernels = _needed()
    if run_steps_in_parallel in kernels:
        start_threads()
    for number, kernel in enumerate(kernels, 1):
        yield number, len(kernels), kernel.name
        _ = kernel.address


def cache_folder() -> Path | None:
    """Where the compiled kernels are kept for later processes; None if no folder can be written."""
    return KERNELS[0].cache_folder


def _needed() -> list[Kernel]:
    """One thread never splits work, and must not load what starts OpenMP."""
    return [run_steps if get_num_threads() == 1 else run_steps_in_parallel, *KERNELS]
