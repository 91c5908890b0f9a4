"""A program: kernels with their arrays, one after the other, run as one compiled call. The engine records one a graph.

A step is `count` units of work of one kernel, cut into a share of units for each thread, and each share into chunks. No
kernel's arithmetic depends on where a chunk begins, so the bits of a result do not depend on the number of threads.

Every op ends in `launch`. Between `with recording() as program:` and its end, `launch` appends to the program what
otherwise it would run at once; so the checks of an op, and whatever else its Python does, are paid for once. From one
step to the next nothing returns to Python: for the 130 steps of a small network that cost more than a millisecond.

Several threads enter one parallel region for a program and meet between steps by counting: each takes chunks, first of
its own share, whose inputs are likely in its cache, then of the others', until none is left, and waits until all that
were taken are done. A region for each step would put the others to sleep and wake them up again every time, and where
they are slow to wake, or to work, because the machine is shared, all would wait for the slowest. None waits for a
thread that has not come: one alone would do it all.
"""

import contextlib
import platform
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from .arguments import empty
from .jit import EMPTY, FLOATS, INPUTS, SIGNATURE, Kernel, jit
from .threads import get_num_threads, parallel_region

_recorder = threading.local()

# The columns of a step: the kernel's machine code, units of work, how many of them make a chunk at least, address and
# length of each array, the sizes.
_ADDRESS, _COUNT, _GRAIN, _ARRAYS = 0, 1, 2, 3
_SIZES = _ARRAYS + 2 * (INPUTS + 1)
_COLUMNS = _SIZES + 24

CHUNKS = 4  # a share has at most so many
LINE = 8  # int64 numbers in a cache line: two threads' counters in one would slow each other down
SPINS = 1000  # looks at a counter before a thread that waits offers its processor to others: about 50 microseconds


class Program:
    """Steps and Python functions in the order in which they were recorded. Not to be run by two threads at once."""

    def __init__(self) -> None:
        self._parts: list[list[np.ndarray] | Callable[[], None]] = []
        self._runs: list[np.ndarray | Callable[[], None]] = []
        self._arrays: list[np.ndarray] = []  # kept alive: the steps hold only addresses
        self._scratch = np.empty((0, 0), np.float32)
        self._scratch_size = 0
        self._progress = np.empty((0, 0, 0, 0), np.int64)

    def launch(
        self,
        kernel: Kernel,
        count: int,
        inputs: Sequence[np.ndarray],
        out: np.ndarray,
        sizes: Sequence[int],
        scratch: int,
        grain: int,
    ) -> None:
        """Append a step; see the function `launch`."""
        arrays = [*inputs, *[EMPTY] * (INPUTS - len(inputs)), out]
        self._arrays += arrays
        self._scratch_size = max(self._scratch_size, scratch)
        step = np.zeros(_COLUMNS, np.int64)
        step[_ADDRESS], step[_COUNT], step[_GRAIN] = kernel.address, count, grain
        step[_ARRAYS:_SIZES] = [number for array in arrays for number in (array.ctypes.data, array.size)]
        step[_SIZES : _SIZES + len(sizes)] = sizes
        if self._parts and isinstance(self._parts[-1], list):
            self._parts[-1].append(step)
        else:
            self._parts.append([step])

    def call(self, function: Callable[[], None]) -> None:
        """Append a Python function."""
        self._parts.append(function)

    def finish(self) -> None:
        """End the recording."""
        self._runs = [part if callable(part) else np.array(part) for part in self._parts]

    def run(self) -> None:
        """Run all of it, on as many threads as `get_num_threads` says now."""
        self.run_with([], get_num_threads())

    def run_with(self, others: Sequence["Program"], threads: int) -> None:
        """Run it and others that record the same on other arrays, on `threads` threads, at least one for each.

        The threads are shared out among them: there is less to wait for than with all threads on one of them.
        """
        programs = [self, *others]
        if len(self._scratch) < threads:
            self._scratch = empty((threads, -(-self._scratch_size // 16) * 16))
        for parts in zip(*[program._runs for program in programs], strict=True):
            if callable(parts[0]):
                for part in parts:
                    part()
            elif threads == 1:
                run_steps.run(parts[0], self._scratch)
            else:
                steps = np.stack(parts) if others else parts[0][np.newaxis]
                team = threads // len(programs)
                shape = (*steps.shape[:2], team + 1, LINE)
                if self._progress.shape != shape:
                    self._progress = np.empty(shape, np.int64)
                self._progress.fill(0)
                with parallel_region(team * len(programs)):
                    run_steps_in_parallel.run(steps, self._scratch, self._progress)


@contextlib.contextmanager
def recording(program: Program | None = None) -> Iterator[Program]:
    """Until it ends, what this Python thread launches is recorded in `program`, by default a new one, not run."""
    _recorder.program = program = program or Program()
    try:
        yield program
    finally:
        del _recorder.program
    program.finish()


def launch(
    kernel: Kernel,
    count: int,
    inputs: Sequence[np.ndarray],
    out: np.ndarray,
    sizes: Sequence[int] = (),
    scratch: int = 0,
    grain: int = 1,
) -> None:
    """Run units 0 to `count` of a kernel, or record that. Arrays are float32, C-contiguous and writable (see
    `arguments.py`); each thread has `scratch` float32 to work in, and takes about `grain` units at a time, or more."""
    program = getattr(_recorder, "program", None)
    if program is not None:
        program.launch(kernel, count, inputs, out, sizes, scratch, grain)
    else:
        alone = Program()
        alone.launch(kernel, count, inputs, out, sizes, scratch, grain)
        alone.finish()
        alone.run()


def call(function: Callable[[], None]) -> None:
    """Call a Python function between kernels, or record that."""
    program = getattr(_recorder, "program", None)
    if program is not None:
        program.call(function)
    else:
        function()


# ---- compiled ----


@intrinsic
def _call(typingctx, address, arrays, sizes, first, last):
    """Call the kernel whose machine code is at `address`."""

    def codegen(context, builder, signature, args):
        function_type = context.call_conv.get_function_type(types.none, SIGNATURE.args)
        function = builder.inttoptr(args[0], function_type.as_pointer())
        context.call_conv.call_function(builder, function, types.none, SIGNATURE.args, args[1:])
        return context.get_dummy_value()

    return types.void(types.int64, *SIGNATURE.args), codegen


@intrinsic
def _array(typingctx, address, size):
    """The flat float32 array that lies there."""

    def codegen(context, builder, signature, args):
        array = context.make_array(FLOATS)(context, builder)
        data = builder.inttoptr(args[0], ir.FloatType().as_pointer())
        stride = context.get_constant(types.intp, FLOATS.dtype.bitwidth // 8)
        populate_array(array, data=data, shape=[args[1]], strides=[stride], itemsize=stride, meminfo=None)
        return array._getvalue()

    return FLOATS(types.int64, types.int64), codegen


@intrinsic
def _increment(typingctx, array, index):
    """array[index] += 1 and the number before that, in one, for all threads to see."""

    def codegen(context, builder, signature, args):
        pointer = _pointer(context, builder, signature, args)
        return builder.atomic_rmw("add", pointer, ir.Constant(pointer.type.pointee, 1), "seq_cst")

    return types.int64(array, index), codegen


@intrinsic
def _look(typingctx, array, index):
    """array[index] as it is now, and what other threads did before it became so."""

    def codegen(context, builder, signature, args):
        return builder.load_atomic(_pointer(context, builder, signature, args), "seq_cst", 8)

    return types.int64(array, index), codegen


def _pointer(context, builder, signature, args):
    array_type, index_type = signature.args
    array = context.make_array(array_type)(context, builder, args[0])
    index = cgutils.unpack_tuple(builder, args[1], index_type.count)
    return cgutils.get_item_pointer(context, builder, array_type, array, index)


@intrinsic
def _relax(typingctx):
    """Tell the processor that this is a waiting loop, if it has a word for that."""

    def codegen(context, builder, signature, args):
        if platform.machine() in ("x86_64", "AMD64"):
            function_type = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, function_type, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), codegen


_yield = types.ExternalFunction("SwitchToThread" if sys.platform == "win32" else "sched_yield", types.int32())


@jit
def _run_units(step, scratch, first, last):
    """Some units of a step."""
    a, b = _array(step[_ARRAYS], step[_ARRAYS + 1]), _array(step[_ARRAYS + 2], step[_ARRAYS + 3])
    c, d = _array(step[_ARRAYS + 4], step[_ARRAYS + 5]), _array(step[_ARRAYS + 6], step[_ARRAYS + 7])
    arrays = (a, b, c, d, _array(step[_ARRAYS + 8], step[_ARRAYS + 9]), scratch)
    _call(step[_ADDRESS], arrays, step[_SIZES:], first, last)


@jit
def _run_chunks(step, scratch, progress, thread, threads):
    """One thread's part in a step. `progress` counts the chunks taken of each share, and last those that are done."""
    count = step[_COUNT]
    chunks = max(1, min(CHUNKS, count // (threads * step[_GRAIN]))) if threads > 1 else 1
    for distance in range(threads):
        share = (thread + distance) % threads
        first, last = count * share // threads, count * (share + 1) // threads
        chunk = _increment(progress, (share, 0))
        while chunk < chunks:
            begin, end = first + (last - first) * chunk // chunks, first + (last - first) * (chunk + 1) // chunks
            _run_units(step, scratch, begin, end)
            _increment(progress, (threads, 0))
            chunk = _increment(progress, (share, 0))
    spins = 0
    while _look(progress, (threads, 0)) < threads * chunks:
        _relax()
        spins += 1
        if spins > SPINS:
            _yield()


def _run_steps(steps, scratch):
    for index in range(len(steps)):
        _run_units(steps[index], scratch[0], 0, steps[index, _COUNT])


def _run_steps_in_parallel(steps, scratch, progress):
    """Some programs at once: `steps` (programs, steps, columns)."""
    team = progress.shape[2] - 1
    for number in numba.prange(len(steps) * team):
        thread = np.int64(number)  # Numba counts without a sign
        program, member = thread // team, thread % team
        for index in range(steps.shape[1]):
            _run_chunks(steps[program, index], scratch[thread], progress[program, index], member, team)


_STEPS, _SCRATCH = types.Array(types.int64, 2, "C"), types.Array(types.float32, 2, "C")
run_steps = Kernel(_run_steps, types.void(_STEPS, _SCRATCH))
_PROGRAMS, _PROGRESS = types.Array(types.int64, 3, "C"), types.Array(types.int64, 4, "C")
run_steps_in_parallel = Kernel(_run_steps_in_parallel, types.void(_PROGRAMS, _SCRATCH, _PROGRESS), parallel=True)
