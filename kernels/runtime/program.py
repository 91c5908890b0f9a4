"""A program: steps, each a kernel with its arrays, run one after the other in one compiled call. The engine records one
for a graph.

A step is `count` units of work of one kernel. The units are divided into one share for each thread, and each share into
chunks. No kernel's arithmetic depends on where a chunk begins, so the bits of a result do not depend on the number of
threads.

The public function of an op ends in `launch`. Inside `with recording() as program:`, `launch` appends the step to the
program; outside, it runs the step at once. So the checks of an op, and whatever else its Python does, are paid for
once. From one step to the next nothing returns to Python: for the 130 steps of a small network that cost more than a
millisecond.

Several threads enter one parallel region for a whole program, and meet between steps by counting. Each thread takes
chunks, first from its own share, whose inputs are likely in its cache, then from the shares of the others, until no
chunk is left; then it waits until every chunk that was taken is done. A parallel region for each step would put the
threads to sleep and wake them again every time. On a machine that is shared, where a thread may be slow to wake or to
work, all would then wait for the slowest. Here no thread waits for one that has not come: a single thread would do all
of the work.
"""

import contextlib
import platform
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

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

# The columns of a row, which is a step as compiled code reads it: the kernel's machine code, units of work, how many of
# them make a chunk at least, address and length of each array, the sizes.
_ADDRESS, _COUNT, _GRAIN, _ARRAYS = 0, 1, 2, 3
_SIZES = _ARRAYS + 2 * (INPUTS + 1)
_COLUMNS = _SIZES + 24

CHUNKS = 4  # a share has at most so many
LINE = 8  # int64 numbers in a cache line: two threads' counters in one would slow each other down
SPINS = 1000  # looks at a counter before a thread that waits offers its processor to others: about 50 microseconds


@dataclass(frozen=True)
class Step:
    """Units 0 to `count` of a kernel's work.

    inputs, out: float32 arrays, C-contiguous and writable (see `arguments.py`). sizes: the kernel's whole numbers.
    scratch: how many float32 each thread has to work in. grain: a thread takes about so many units at a time, or more.
    """

    kernel: Kernel
    count: int
    inputs: Sequence[np.ndarray]
    out: np.ndarray
    sizes: Sequence[int] = ()
    scratch: int = 0
    grain: int = 1

    def row(self) -> np.ndarray:
        """The step as compiled code reads it, which holds only addresses of the arrays. Compiles the kernel."""
        row = np.zeros(_COLUMNS, np.int64)
        row[_ADDRESS], row[_COUNT], row[_GRAIN] = self.kernel.address, self.count, self.grain
        arrays = [*self.inputs, *[EMPTY] * (INPUTS - len(self.inputs)), self.out]
        row[_ARRAYS:_SIZES] = [number for array in arrays for number in (array.ctypes.data, array.size)]
        row[_SIZES : _SIZES + len(self.sizes)] = self.sizes
        return row


class Program:
    """Steps and Python functions in the order in which they were recorded. Not to be run by two threads at once."""

    def __init__(self, parts: Iterable[Step | Callable[[], None]] = ()) -> None:
        self.parts = list(parts)
        self._prepared: list[np.ndarray | Callable[[], None]] | None = None
        self._scratch = np.empty((0, 0), np.float32)
        self._progress = np.empty((0, 0, 0, 0), np.int64)

    @property
    def scratch_bytes(self) -> int:
        """The memory that each thread works in, beside the arrays of the steps. Nothing is compiled to know it."""
        return 4 * max((part.scratch for part in self.parts if isinstance(part, Step)), default=0)

    def prepare(self) -> None:
        """Compile or load the kernels of all steps. The first run does that otherwise."""
        _ = self._runs

    @property
    def _runs(self) -> list[np.ndarray | Callable[[], None]]:
        """The parts, where the rows of steps that follow one another are one array."""
        if self._prepared is None:
            self._prepared = self._with_rows()
        return self._prepared

    def _with_rows(self) -> list[np.ndarray | Callable[[], None]]:
        runs: list[np.ndarray | Callable[[], None]] = []
        rows: list[np.ndarray] = []
        for part in self.parts:
            if isinstance(part, Step):
                rows.append(part.row())
            else:
                runs += [np.array(rows), part] if rows else [part]
                rows = []
        return [*runs, np.array(rows)] if rows else runs

    def run(self) -> None:
        """Run all of it, on as many threads as `get_num_threads` says now."""
        self.run_with([], get_num_threads())

    def run_with(self, others: Sequence["Program"], threads: int) -> None:
        """Run this program and others that record the same on other arrays, on `threads` threads, at least one each.

        Each program gets its share of the threads: so they wait less than if all worked on one program.
        """
        programs = [self, *others]
        if len(self._scratch) < threads:
            self._scratch = empty((threads, -(-self.scratch_bytes // 64) * 16))
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
def recording() -> Iterator[Program]:
    """A new program. Until the `with` ends, what this Python thread launches and calls is appended to it, not run."""
    _recorder.program = program = Program()
    try:
        yield program
    finally:
        del _recorder.program


def launch(step: Step) -> None:
    """Run a step, or append it to the program that this Python thread is recording."""
    program: Program | None = getattr(_recorder, "program", None)
    if program is not None:
        program.parts.append(step)
    else:
        Program([step]).run()


def call(function: Callable[[], None]) -> None:
    """Call a Python function between kernels, or append it to the program that this Python thread is recording."""
    program: Program | None = getattr(_recorder, "program", None)
    if program is not None:
        program.parts.append(function)
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
    """The flat float32 array of `size` numbers at `address`."""

    def codegen(context, builder, signature, args):
        array = context.make_array(FLOATS)(context, builder)
        data = builder.inttoptr(args[0], ir.FloatType().as_pointer())
        stride = context.get_constant(types.intp, FLOATS.dtype.bitwidth // 8)
        populate_array(array, data=data, shape=[args[1]], strides=[stride], itemsize=stride, meminfo=None)
        return array._getvalue()

    return FLOATS(types.int64, types.int64), codegen


@intrinsic
def _increment(typingctx, array, index):
    """Add 1 to array[index] in one instruction that all threads see; the result is the number before that."""

    def codegen(context, builder, signature, args):
        pointer = _pointer(context, builder, signature, args)
        return builder.atomic_rmw("add", pointer, ir.Constant(pointer.type.pointee, 1), "seq_cst")

    return types.int64(array, index), codegen


@intrinsic
def _look(typingctx, array, index):
    """The number array[index] as it is now. All that another thread wrote before it changed this number is seen after
    this, too."""

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
    """Tell the processor that this is a waiting loop, where it has an instruction for that."""

    def codegen(context, builder, signature, args):
        if platform.machine() in ("x86_64", "AMD64"):
            function_type = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, function_type, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), codegen


_yield = types.ExternalFunction("SwitchToThread" if sys.platform == "win32" else "sched_yield", types.int32())


@jit
def _run_units(step, scratch, first, last):
    """Units `first` to `last` of a step, a row."""
    a, b = _array(step[_ARRAYS], step[_ARRAYS + 1]), _array(step[_ARRAYS + 2], step[_ARRAYS + 3])
    c, d = _array(step[_ARRAYS + 4], step[_ARRAYS + 5]), _array(step[_ARRAYS + 6], step[_ARRAYS + 7])
    arrays = (a, b, c, d, _array(step[_ARRAYS + 8], step[_ARRAYS + 9]), scratch)
    _call(step[_ADDRESS], arrays, step[_SIZES:], first, last)


@jit
def _run_chunks(step, scratch, progress, thread, threads):
    """One thread's part in a step. `progress` counts the chunks that are taken of each share, and in its last row those
    that are done, of all shares."""
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
    """Run several programs at once, each by a team of threads: `steps` is (programs, steps, columns)."""
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
