"""How many threads work, and what they need from the threading library. `program.py` gives them their work.

Three facts shape this file. Numba's fallback threading layer, workqueue, aborts the process when two Python threads
enter it at once; and OpenMP would give each of them a full set of threads. So one parallel region runs at a time. GNU
OpenMP does not survive `fork`: a forked child works on one thread. With one thread nothing parallel is even loaded,
so such a process may fork, or run kernels from as many Python threads as it likes.
"""

import contextlib
import functools
import math
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numba
import numpy as np

from .arguments import short

ROOT = Path("/")  # where the system says what there is
_region = threading.Lock()
_forked = False
_threads: int | None = None  # None: not asked for yet


def get_num_threads() -> int:
    """The number of threads that kernels use: at first, the physical cores that this process may run on, or fewer where
    a cgroup gives it less processor time."""
    global _threads
    if _threads is None:
        _threads = min(_physical_cores(), _quota(), max_num_threads())
    return _threads


def set_num_threads(threads: int) -> None:
    """Let kernels use `threads` threads, 1 to `max_num_threads()`.

    Raises TypeError if `threads` is not an integer and ValueError if it is out of range.
    """
    global _threads
    if isinstance(threads, bool) or not isinstance(threads, (int, np.integer)):
        raise TypeError(f"threads must be an integer, not {short(threads)}")
    most = max_num_threads()
    if not 1 <= threads <= most:
        why = "a forked process cannot use more" if _forked else "the processors this process may use"
        raise ValueError(f"threads must be from 1 to {most} ({why}), not {threads}")
    _threads = int(threads)


def max_num_threads() -> int:
    """The most threads `set_num_threads` takes: what Numba started with, `NUMBA_NUM_THREADS` or all processors."""
    return 1 if _forked else int(numba.config.NUMBA_NUM_THREADS)


@contextlib.contextmanager
def parallel_region(threads: int) -> Iterator[None]:
    """Within it, parallel code may run on `threads` threads, and no other Python thread is in one."""
    with _region:
        _load_threads()
        callers = numba.get_num_threads()  # Numba's own setting belongs to the caller's other code
        numba.set_num_threads(threads)
        try:
            yield
        finally:
            numba.set_num_threads(callers)


def start_threads() -> None:
    """Start Numba's threads ahead of their first work."""
    with _region:
        _load_threads()


@functools.cache
def _load_threads() -> None:
    """Start Numba's threads, and let GNU OpenMP, if that is what they are, wait politely.

    By default a thread that waits for the others spins for many milliseconds. Where another process wants the core,
    the one that is waited for does not get it meanwhile, and every region lasts a time slice: with one busy neighbour
    on two cores, an XXS image took 254 ms, against 27 ms with 100 to 1,000 spins, which cost an idle machine nothing
    that could be measured. The library reads the setting once, when it is loaded; a user's own is left alone.
    """
    given = os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}
    if not given:
        os.environ["GOMP_SPINCOUNT"] = "1000"
    try:
        numba.get_num_threads()
    except ValueError as error:
        asked = f"the threading layer {numba.config.THREADING_LAYER!r} that Numba is to use cannot be loaded"
        raise ValueError(f"{asked}; expected NUMBA_THREADING_LAYER unset, or one thread") from error
    finally:
        if not given:
            del os.environ["GOMP_SPINCOUNT"]


def _physical_cores() -> int:
    """The cores that this process may use. Two hyperthreads of a core share its arithmetic: a second gains nothing."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    processors = os.sched_getaffinity(0)
    topology = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    try:
        return len({(ROOT / topology.format(processor)).read_text() for processor in processors})
    except OSError:
        return len(processors)


def _quota() -> int:
    """How many processors' time the control groups of this process give it, as containers have it, rounded up. More
    threads than that would be stopped, all at once, until the next period, and those that wait for them with them."""
    try:
        groups = (ROOT / "proc/self/cgroup").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return sys.maxsize
    quotas = []
    for number, controllers, name in (line.split(":", 2) for line in groups if line.count(":") >= 2):
        if number == "0":  # version 2, which has one tree for all
            trees = [ROOT / "sys/fs/cgroup", ROOT / "sys/fs/cgroup/unified"]
        elif "cpu" in controllers.split(","):
            trees = [ROOT / "sys/fs/cgroup" / controllers, ROOT / "sys/fs/cgroup/cpu"]
        else:
            continue
        for tree in trees:
            group = tree / name.lstrip("/")
            # A limit of a group above is a limit too. In a container the name may be that outside of it, which is not
            # there; the top of the tree then is the container's own group.
            quotas += [_quota_of(each) for each in (group, *group.parents) if each.is_relative_to(tree)]
    return max(1, math.ceil(min(quotas, default=sys.maxsize)))


def _quota_of(group: Path) -> float:
    """The processors' time that this control group limits itself to."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        processors = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # none: "max"
        return sys.maxsize
    return processors if processors > 0 else sys.maxsize  # none: -1


def _after_fork_in_child() -> None:
    global _forked, _region, _threads
    _forked, _region, _threads = True, threading.Lock(), 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
