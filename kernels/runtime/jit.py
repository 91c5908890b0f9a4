"""How the kernels are compiled: the options, the one signature. `cache.py` keeps them, `program.py` runs them.

Three decorators. `jit` marks a helper that compiled code calls (Python may call it too, uncompiled), `inline` one that
is always inlined. `kernel` marks what a program runs: a function

    def kernel(arrays, sizes, first, last)

where `arrays` are four inputs, the output and working memory, flat float32 (an input that a kernel does not have is
`EMPTY`), `sizes` are its whole numbers, and [first, last) is its share of the work, counted in units that the kernel
chooses. Each kernel names its numbers, and orders them, in one named tuple: the public function fills it in, and
`unpack` at the head of the kernel makes it again of `sizes`.

One signature for all has three uses: each kernel is compiled exactly once; one parallel function, itself compiled once,
splits the work of them all (a `parallel=True` twin of every kernel would double the compile time of the first run); and
a whole list of them runs without returning to Python.

A kernel allocates nothing and raises nothing: what it needs to work in is handed to it, and `arguments.py` checks
before. Helpers count no references to arrays, which is faster; so a helper must not return an array, nor a part of one.

Nothing is compiled on import. A kernel is compiled, or loaded from the cache, when it is first used.
"""

import functools
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core.typing import Signature
from numba.extending import intrinsic, register_jitable

from .cache import KernelCache

# No `fastmath`: it would reorder sums and assume NaN away. `error_model="numpy"`: x / 0 is inf, not an exception.
# No wrapper for callers in C: there are none, and each takes time to compile.
OPTIONS = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}

FLOATS = types.Array(types.float32, 1, "C")
INTEGERS = types.Array(types.int64, 1, "C")
INPUTS = 4
SIGNATURE = types.void(types.UniTuple(FLOATS, INPUTS + 2), INTEGERS, types.int64, types.int64)
EMPTY = np.empty(0, np.float32)

HELPERS: list[Callable] = []

# One thread compiles at a time, as Numba has it anyway. A process that forks waits for that, since a child would wait
# for ever for Numba's and LLVM's locks, if they were held by a thread that it does not have.
_compiling = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_compiling.acquire, after_in_parent=_compiling.release, after_in_child=_compiling.release
    )


def jit(function: Callable) -> Callable:
    return _helper(function)


def inline(function: Callable) -> Callable:
    return _helper(function, forceinline=True)  # a constant argument is a constant in the callee


def _helper(function: Callable, **options: bool) -> Callable:
    """Numba names machine code after the function and a number that counts functions, and what is loaded from the cache
    keeps its name; so two functions of one name, such as a factory makes, could in another process get each other's.
    Names that tell them apart make that impossible."""
    made_of = [cell.cell_contents for cell in function.__closure__ or ()]
    if made_of:
        function.__qualname__ += f"[{', '.join(getattr(each, '__qualname__', repr(each)) for each in made_of)}]"
    HELPERS.append(function)
    return register_jitable(_nrt=False, **OPTIONS, **options)(function)


@intrinsic
def unpack(typingctx, sizes, kind):
    """The first numbers of `sizes` as `kind`, a class of named tuples of int."""
    names = kind.instance_class._fields
    result = types.NamedUniTuple(types.int64, len(names), kind.instance_class)

    def codegen(context, builder, signature, args):
        first = context.make_array(INTEGERS)(context, builder, args[0]).data
        numbers = [builder.load(builder.gep(first, [ir.Constant(ir.IntType(64), i)])) for i in range(len(names))]
        return context.make_tuple(builder, result, numbers)

    return result(INTEGERS, kind), codegen


@functools.cache
def check_features(asked: str | None) -> None:
    """Raises ValueError if NUMBA_CPU_FEATURES is no list of features, at which LLVM ends the process, or if it has one
    that this processor is known to lack, whose first instruction would."""
    for feature in filter(None, (asked or "").split(",")):
        if not re.fullmatch(r"[+-][\w.-]+", feature):
            raise ValueError(
                f"NUMBA_CPU_FEATURES must be +feature and -feature, separated by commas, but has {feature!r}"
            )
        if feature[0] == "+" and binding.get_host_cpu_features().get(feature[1:]) is False:
            raise ValueError(f"NUMBA_CPU_FEATURES has {feature}; expected only what this processor has")


class Kernel:
    """A function compiled for one signature when it is first needed."""

    def __init__(self, function: Callable, signature: Signature, parallel: bool = False) -> None:
        self.name = function.__name__.lstrip("_")
        self._signature = signature
        check_features(numba.config.CPU_FEATURES)
        self._run: Callable | None = None
        self._address: int | None = None
        self._compiler = numba.njit(parallel=parallel, **OPTIONS)(function)
        self._compiler._cache = self._cache = KernelCache(function, signature, self._target)

    @property
    def _dispatcher(self) -> Any:
        """What Numba makes of the function. Raises ValueError if Numba was told to make nothing of it."""
        if numba.config.DISABLE_JIT:
            raise ValueError("NUMBA_DISABLE_JIT is set; the kernels need Numba's compiler: expected it unset, or 0")
        return self._compiler

    @property
    def run(self) -> Callable:
        """The compiled function, to be called with exactly the types of the signature.

        Numba's dispatcher is left out: it would look at the types of the arguments, and import much to do so.
        """
        if self._run is None:
            with _compiling:
                self._run = self._dispatcher.compile(self._signature)
        return self._run

    @property
    def address(self) -> int:
        """Where the machine code of `run` begins."""
        if self._address is None:
            with _compiling:
                _ = self.run
                result = self._dispatcher.overloads[self._signature.args]
                self._address = result.library.get_pointer_to_function(result.fndesc.llvm_func_name)
        return self._address

    @property
    def file(self) -> Path | None:
        """Where the compiled function is kept, or would be; None if there is no such place."""
        with _compiling:
            return self._cache.file

    def is_ready(self) -> bool:
        """Whether `run` will return at once or after a read from the cache."""
        if self._dispatcher.overloads:
            return True
        with _compiling:
            return self._cache.is_there()

    def _target(self) -> tuple:
        """What the machine code depends on, beside the sources and the versions: triple, name and features of the
        processor, then what Numba was told."""
        told = int(numba.config.OPT), numba.config.BOUNDSCHECK, numba.config.DEBUGINFO_DEFAULT
        return *self._dispatcher.targetctx.codegen().magic_tuple(), *told


KERNELS: list[Kernel] = []


def kernel(function: Callable) -> Kernel:
    KERNELS.append(Kernel(function, SIGNATURE))
    return KERNELS[-1]
