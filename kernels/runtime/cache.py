"""Where compiled kernels are kept from one process to the next: a file for each, whose name says what it was made of.

Numba has a cache of its own, but it watches only the file that a function stands in, not the helpers that it calls
elsewhere; and it reads no folder that it cannot write, so kernels that were compiled ahead, into an image or by an
installer, would be compiled again by every user. Here the name of a file holds a hash of every file of `kernels/`, and
one of the kernel, the processor, Python, Numba and LLVM. So a file that is found fits, wherever it is found; one that
is missing can be put into the first folder that can be written.

A file begins with a checksum of its name and of all the rest, since the rest is machine code that will run: a file
that was cut short, has a changed bit or another file's name is refused. Nothing here is an error: a file that is
damaged is a file that is missing, and without any folder each process compiles for itself.
"""

import contextlib
import functools
import hashlib
import os
import pickle
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps
from numba.core.typing import Signature
from numba.misc.appdirs import AppDirs

HOUR = 3600  # seconds; no process takes so long to write a file, so one that is older was left by one that was killed
KERNELS = Path(__file__).parent.parent  # the folder of all that compiled code is made of


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


# Made on import, before the other files of the folder are read: else a file that is edited while a process runs could
# give the code of the old one the stamp of the new one.
SOURCES = digest(*[path.read_bytes() for path in sorted(KERNELS.rglob("*.py"))])


class KernelCache(NullCache):
    """The cache that Numba asks before it compiles a function for a signature, and to which it gives the result."""

    def __init__(self, function: Callable, signature: Signature, target: Callable[[], tuple]) -> None:
        """`target` returns what describes the processor."""
        self._function, self._signature, self._target = function, signature, target

    @functools.cached_property
    def file(self) -> Path | None:
        """Where the compiled function is, or else where it can be put; None if there is no such place."""
        names = self._function.__module__, self._function.__qualname__
        made_of = (*names, self._signature, self._target(), sys.version, numba.__version__, llvmlite.__version__)
        name = f"{self._function.__name__.strip('_')}.{digest(repr(made_of).encode())}.{SOURCES}.pickle"
        for folder in _folders():
            if _is_file(folder / name) or _is_writable(folder):
                return folder / name
        return None

    def is_there(self) -> bool:
        return self.file is not None and _is_file(self.file)

    def load_overload(self, _: Signature, context: Any) -> CompileResult | None:
        try:
            content = self.file.read_bytes() if self.file is not None else b""
            if self.file is None or content[:16].decode() != _checksum(self.file, content[16:]):
                return None
            context.refresh()  # Numba is made ready for compiled code when it is first needed
            return CompileResult._rebuild(context, *pickle.loads(content[16:]))
        except Exception:  # missing, damaged or not to be read: compile it
            return None

    def save_overload(self, _: Signature, result: CompileResult) -> None:
        if self.file is None or result.library.has_dynamic_globals:  # it holds addresses of this process
            return
        content = dumps(result._reduce())
        temporary = self.file.with_suffix(f".{os.getpid()}.{os.urandom(4).hex()}.tmp")
        with contextlib.suppress(OSError):
            try:
                temporary.write_bytes(_checksum(self.file, content).encode() + content)
                temporary.replace(self.file)
            finally:
                temporary.unlink(missing_ok=True)
            name, made_of, *_rest = self.file.name.split(".")
            for old in self.file.parent.glob(f"{name}.{made_of}.*.pickle"):
                if old != self.file:
                    old.unlink(missing_ok=True)
            for left in self.file.parent.glob("*.tmp"):
                if left.stat().st_mtime < time.time() - HOUR:
                    left.unlink(missing_ok=True)


def remove_temporaries(folder: Path, process: int) -> None:
    """Remove what a process that was killed had begun to write."""
    with contextlib.suppress(OSError):
        for left in folder.glob(f"*.{process}.*.tmp"):
            left.unlink(missing_ok=True)


def _checksum(file: Path, content: bytes) -> str:
    return digest(file.name.encode(), content)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # in a folder that may not be looked into
        return False


def _folders() -> Iterator[Path]:
    """The folders in which compiled kernels may be, the best first: the one that the user names, the one beside the
    sources, one in the user's cache, and a temporary one.

    The folder beside the sources serves one installation only. In the other places each installation has a folder of
    its own.
    """
    own = f"kernels-{digest(os.fsencode(KERNELS))}"
    if numba.config.CACHE_DIR:  # NUMBA_CACHE_DIR
        yield Path(numba.config.CACHE_DIR) / own
    yield KERNELS / "__pycache__"
    user = Path(AppDirs("tinymvit", appauthor=False).user_cache_dir)
    if user.is_absolute():  # it begins with ~ where there is no home
        yield user / own
    temporary = _private_temporary_folder()
    if temporary is not None:
        yield temporary / own


@functools.cache
def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def _private_temporary_folder() -> Path | None:
    """A folder among all users' temporary files that is this user's alone: what lies in it will be executed."""
    if not hasattr(os, "getuid"):  # Windows, where each user has temporary files of his own and a folder for caches
        return None
    try:
        folder = Path(tempfile.gettempdir()) / f"tinymvit-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not stat.S_IMODE(found.st_mode) & 0o077
    return folder if ours else None
