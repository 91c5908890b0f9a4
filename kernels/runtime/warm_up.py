"""The first run on a machine compiles the kernels, which takes some seconds. This file says whether that is still to
do, and does it step by step, so that progress can be shown.

Later runs load the kernels from the cache. No caller has to come here first: a kernel that is not ready is compiled
when it is used.

Two processes compile, since Numba lets only one thread of a process compile at a time. This process begins with the
first kernel, a second one with the last; what one of them has put into the cache, the other loads.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .cache import remove_temporaries
from .jit import KERNELS, Kernel
from .program import run_steps, run_steps_in_parallel
from .threads import get_num_threads, max_num_threads, start_threads


def is_cached() -> bool:
    """Whether all kernels are compiled, in this process or in the cache. Takes a few milliseconds."""
    return all(kernel.is_ready() for kernel in _needed())


def warm_up() -> Iterator[tuple[int, int, str]]:
    """Compile or load every kernel; yields (number, of how many, name) before each, for a line of progress."""
    kernels = _needed()
    if run_steps_in_parallel in kernels:
        start_threads()
    with contextlib.nullcontext() if is_cached() else _second_process():
        for number, kernel in enumerate(kernels, 1):
            yield number, len(kernels), kernel.name
            _ = kernel.address


def cache_folder() -> Path | None:
    """Where the compiled kernels are kept for later processes; None if no folder can be written."""
    file = KERNELS[0].file
    return None if file is None else file.parent


def _needed() -> list[Kernel]:
    """All kernels, and the one that runs them. For one thread that is `run_steps`, which does not load OpenMP."""
    return [run_steps if get_num_threads() == 1 else run_steps_in_parallel, *KERNELS]


@contextlib.contextmanager
def _second_process() -> Iterator[None]:
    """Until the `with` ends, `compile_backwards` runs in another process, which hands its work over by the cache.

    Without a second processor, a cache or a Python to start, this process compiles alone.
    """
    folder = cache_folder()
    helps = max_num_threads() > 1 and not getattr(sys, "frozen", False)
    program = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import compile_backwards; compile_backwards()"
    nothing = subprocess.DEVNULL
    with contextlib.ExitStack() as stack:
        if helps and folder is not None and sys.executable:
            with contextlib.suppress(OSError):
                command = [sys.executable, "-c", program]
                process = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing)
                stack.callback(remove_temporaries, folder, process.pid)
                stack.callback(process.wait)
                stack.callback(process.kill)
        yield


def compile_backwards() -> None:
    """Compile all kernels, the last first: the work of the second process."""
    for kernel in reversed(KERNELS):
        if not kernel.is_ready():
            _ = kernel.run
