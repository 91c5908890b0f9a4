"""What Pillow's decoders write to stderr by themselves is not written: our one line says what is wrong with a picture.

libtiff, by which Pillow reads compressed TIFF files, reports a damaged one on stderr, and Pillow has no way to turn
that off. To point stderr elsewhere meanwhile would take it from all threads and lose what they write; so libtiff itself
is told, by its own function, to tell nobody. Whoever else decodes a TIFF file by the same copy of libtiff in that
moment gets its errors as before, and no text of it.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from PIL import Image, _imaging

# Pillow logs some damages. A program that wants them has handlers of its own; without any, Python writes to stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())

_lock = threading.Lock()  # who is told is a matter of the process: two threads would restore each other's


@contextmanager
def silent_libtiff(image: Image.Image) -> Iterator[None]:
    """Inside, libtiff writes nothing, if `image` is a TIFF picture."""
    tell = _tell() if image.format == "TIFF" else None
    if tell is None:
        yield
        return
    with _lock:
        before = tell(None)
        try:
            yield
        finally:
            tell(before)


@cache
def _tell() -> Callable[[Any], Any] | None:
    """libtiff's function that takes who is to be told of errors (none: nobody) and returns who was. None where Pillow
    was built without libtiff, or with one whose functions cannot be reached from here, as on Windows."""
    try:
        function = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
    except (OSError, AttributeError):
        return None
    function.restype = ctypes.c_void_p
    function.argtypes = [ctypes.c_void_p]
    return function
