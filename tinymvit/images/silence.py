"""What Pillow's decoders say by themselves is not said: our one line says what is wrong with a picture.

Python keeps its warning filters for the whole process. To change them while a picture is decoded, and back, would make
threads wait for one another, or undo what another thread had changed, and a signal in between would leave them changed.
So there are two filters that stay, and hold in a thread only while that thread is inside `bombs_only`.
"""

from __future__ import annotations

import ctypes
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from PIL import Image, _imaging

# Pillow logs some damages. A program that wants them has handlers of its own; without any, Python writes to stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())


class _Inside(threading.local):
    """Stands in a warning filter where the pattern of a module's name does, and fits any name in the threads that are
    inside."""

    depth = 0

    def match(self, _: str) -> bool:
        return self.depth > 0


_inside = _Inside()
_FILTERS: list[Any] = [
    ("error", None, Image.DecompressionBombWarning, _inside, 0),
    ("ignore", None, Warning, _inside, 0),
]


@contextmanager
def bombs_only() -> Iterator[None]:
    """Inside, Pillow's warnings are silent in this thread, but for the one about decompression bombs, which is
    raised."""
    if warnings.filters[:2] != _FILTERS:  # not yet, or other filters have been put before them
        warnings.filters[:] = _FILTERS + [each for each in warnings.filters if each not in _FILTERS]  # type: ignore[index]
    _inside.depth += 1
    try:
        yield
    finally:
        _inside.depth -= 1


@cache
def silence_libtiff() -> None:
    """From now on, libtiff writes nothing. Pillow reads compressed TIFF files by it, a damaged one is told on stderr,
    and Pillow has no way to turn that off. To point stderr elsewhere meanwhile would lose what other threads write; so
    Pillow's own copy of libtiff is told, by its own function, to tell nobody. Nothing happens where Pillow was built
    without libtiff, or with one whose functions cannot be reached from here, as on Windows."""
    try:
        set_handler = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
    except (OSError, AttributeError):
        return
    set_handler.restype = ctypes.c_void_p
    set_handler.argtypes = [ctypes.c_void_p]
    set_handler(None)
