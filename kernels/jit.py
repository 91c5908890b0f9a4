"""How the kernels are compiled: the options, the one signature, the cache. `program.py` runs them.

Three decorators. `jit` marks a helper that compiled code calls (Python may call it too, uncompiled), `inline` one that
is always inlined. `kernel` marks what a program runs: a function

    def kernel(arrays, sizes, first, last)

where `arrays` are four inputs, the output and working memory, flat float32 (an input that a kernel does not have is
`EMPTY`), `sizes` are its whole numbers, and [first, last) is its share of the work, counted in units that the kernel
chooses. One signature for all has three uses: each kernel is compiled exactly once; one parallel function, itself
compiled once, splits the work of them all (a `parallel=True` twin of every kernel would double the compile time of the
first run); and a whole list of them runs without returning to Python.

A kernel allocates nothing and raises nothing: what it needs to work in is handed to it, and `border.py` checks before.
Helpers count no references to arrays, which is faster; so a helper must not return an array, nor a part of one.

Nothing is compiled on import. A kernel is compiled, or loaded from Numba's cache, when it is first used. Numba's
cache watches only the file a function stands in, so a change in a helper elsewhere would go unseen: here the key is a
hash of every file of this folder.
"""

import contextlib
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core.typing import Signature
from numba.extending import register_jitable

# No `fastmath`: it would reorder sums and assume NaN away. `error_model="numpy"`: x / 0 is inf, not an exception.
# No wrapper for callers in C: there are none, and each takes time to compile.
OPTIONS = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}

FLOATS = types.Array(types.float32, 1, "C")
INTEGERS = types.Array(types.int64, 1, "C")
INPUTS = 4
SIGNATURE = types.void(types.UniTuple(FLOATS, INPUTS + 2), INTEGERS, types.int64, types.int64)
EMPTY = np.empty(0, np.float32)

HELPERS: list[Callable] = []


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


class Kernel:
    """A function compiled for one signature when it is first needed."""

    def __init__(self, function: Callable, signature: Signature, parallel: bool = False) -> None:
        self.name = function.__name__.lstrip("_")
        self._signature = signature
        self._dispatcher = numba.njit(parallel=parallel, **OPTIONS)(function)
        with contextlib.suppress(RuntimeError):  # no folder to cache in can be written: compile in every process
            self._dispatcher.enable_caching()
            self._dispatcher._cache._cache_file._source_stamp = _source_stamp()

    @functools.cached_property
    def run(self) -> Any:
        """The compiled function."""
        try:
            self._dispatcher.compile(self._signature)
        except Exception:  # a damaged cache file or a full disk must not stop the work; an error in the code recurs
            with contextlib.suppress(Exception):
                self._dispatcher._cache.flush()
            self._dispatcher._cache.disable()
            self._dispatcher.compile(self._signature)
        return self._dispatcher

    @functools.cached_property
    def address(self) -> int:
        """Where the machine code of `run` begins."""
        result = self.run.overloads[self._signature.args]
        return result.library.get_pointer_to_function(result.fndesc.llvm_func_name)

    @property
    def cache_folder(self) -> Path | None:
        """Where its machine code is kept; None if no folder could be written."""
        path = self._dispatcher._cache.cache_path
        return None if path is None else Path(path)

    def is_ready(self) -> bool:
        """Whether `run` will return at once or after a read from the cache."""
        if self._dispatcher.overloads:
            return True
        with contextlib.suppress(Exception):  # no cache, or one that cannot be read
            cache = self._dispatcher._cache
            key = cache._index_key(self._signature, self._dispatcher.targetctx.codegen())
            return key in cache._cache_file._load_index()
        return False


KERNELS: list[Kernel] = []


def kernel(function: Callable) -> Kernel:
    KERNELS.append(Kernel(function, SIGNATURE))
    return KERNELS[-1]


@functools.cache
def _source_stamp() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
