"""The library's own errors, and the ways it warns and tells.

Each error is a `ValueError`, so callers who catch that need not know them; the command line turns each into one line on
stderr and exit code 2. A message names the file, tensor or option, what was found and what was expected, and is one
line of bounded length, whatever the names in it (`text.one_line`).
"""

import logging
import sys
import warnings
from functools import cache

from tinymvit.text import one_line

LOG = logging.getLogger("tinymvit")


class TinyMViTError(ValueError):
    """Something the caller gave cannot be used; the base of the errors below."""

    def __str__(self) -> str:
        return one_line(super().__str__())


class ConfigError(TinyMViTError):
    """A configuration (`config.json`, `preprocessor_config.json` or keyword arguments) is not valid."""


class CheckpointError(TinyMViTError):
    """A checkpoint cannot be found, read, or does not fit the model."""


class DumpError(TinyMViTError):
    """A dump of tensors cannot be found or read, or does not hold what is asked of it."""


class ImageError(TinyMViTError):
    """An image or array of pixels cannot be used."""


class OutputError(TinyMViTError):
    """A result cannot be written where it was asked for."""


class ContestantError(TinyMViTError):
    """A contestant of a benchmark cannot be loaded, fails, or gives another answer than the rest."""


def warn(message: str) -> None:
    """Give a UserWarning that points at the line outside of this package from which it was called."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in ("tinymvit", "functools"):
        level, frame = level + 1, frame.f_back
    warnings.warn(one_line(message), UserWarning, stacklevel=level)


@cache
def tell(message: str) -> None:
    """Say what was done or chosen for the user, once in a process. Without any settings Python prints it on stderr;
    `logging.getLogger("tinymvit")` has them."""
    LOG.warning("%s", one_line(message))
