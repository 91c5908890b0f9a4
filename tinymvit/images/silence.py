"""What Pillow's decoders say by themselves is not said: our one line says what is wrong with a picture.

Both of these silences are changes of the whole process. A lock around them would let only one thread decode at a time,
so they are made by the first thread that comes and undone by the last that goes.
"""

from __future__ import annotations

import ctypes
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from PIL import Image, _imaging

# Pillow logs some damages. A program that wants them has handlers of its own; without any, Python writes to stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())

Undo = Callable[[], object]


class Shared:
    """A change of the process that holds while any thread is inside `with shared():`. make: makes the change, and
    returns what undoes it."""

    def __init__(self, make: Callable[[], Undo]) -> None:
        self._make = make
        self._lock, self._inside = threading.Lock(), 0
        self._undo: Undo | None = None
        if hasattr(os, "register_at_fork"):
            release = self._lock.release
            os.register_at_fork(before=self._lock.acquire, after_in_parent=release, after_in_child=self._alone)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._inside == 0:
                self._undo = self._make()
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0 and self._undo is not None:
                    self._undo()

    def _alone(self) -> None:
        """In a forked process nobody is inside."""
        if self._inside and self._undo is not None:
            self._undo()
        self._inside = 0
        self._lock.release()


def _ignore_warnings() -> Undo:
    before = warnings.catch_warnings()
    before.__enter__()
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    return lambda: before.__exit__(None, None, None)


bombs_only = Shared(_ignore_warnings)
"""Inside, Pillow's warnings are silent, but for the one about decompression bombs, which is raised."""


def _turn_off_libtiff() -> Undo:
    """libtiff, by which Pillow reads compressed TIFF files, reports a damaged one on stderr, and Pillow has no way to
    turn that off. To point stderr elsewhere meanwhile would lose what other threads write; so libtiff itself is told,
    by its own function, to tell nobody."""
    tell = _libtiff_tells()
    if tell is None:
        return lambda: None
    before = tell(None)
    return lambda: tell(before)


silent_libtiff = Shared(_turn_off_libtiff)
"""Inside, libtiff writes nothing."""


@cache
def _libtiff_tells() -> Callable[[Any], Any] | None:
    """libtiff's function that takes who is to be told of errors (none: nobody) and returns who was. None where Pillow
    was built without libtiff, or with one whose functions cannot be reached from here, as on Windows."""
    try:
        function = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
    except (OSError, AttributeError):
        return None
    function.restype = ctypes.c_void_p
    function.argtypes = [ctypes.c_void_p]
    return function
