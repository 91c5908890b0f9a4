"""The most memory that one call takes because a file or an argument says so, and the refusal of more.

A header of a few bytes may promise any number of pixels, and two integers any size. Who makes something as large as he
is told asks `check` before the work. The limit is 1 GiB, unless the environment variable TINYMVIT_MAX_MEMORY or
`set_max_memory` says otherwise. What is counted is left to those who ask; an array that is in memory, and a file whose
every byte is there, are no promises.
"""

from __future__ import annotations

import os
import re
from numbers import Integral

from tinymvit.errors import TinyMViTError

VARIABLE = "TINYMVIT_MAX_MEMORY"
DEFAULT = 2**30
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}

_chosen: int | None = None


def get_max_memory() -> int:
    """The limit in bytes. Raises ValueError if the environment variable TINYMVIT_MAX_MEMORY is no size."""
    if _chosen is not None:
        return _chosen
    text = os.environ.get(VARIABLE, "")
    if not text:
        return DEFAULT
    size = re.fullmatch(r"([0-9]{1,18})([KMGT]?)(?:i?B)?", text, re.IGNORECASE | re.ASCII)
    if size is None or int(size[1]) == 0:
        raise ValueError(f"{VARIABLE} is {text[:40]!r}; expected a number of bytes, such as 500M or 4G")
    return int(size[1]) * UNITS[size[2].upper()]


def set_max_memory(size: int | None) -> None:
    """Change the limit of this process to so many bytes, or with None to what TINYMVIT_MAX_MEMORY says, else to 1 GiB.

    One call takes no more memory than that because a file or an argument says so: beyond it there is a ValueError
    before the work. Raises TypeError or ValueError for what is no number of bytes.
    """
    global _chosen
    if size is not None and (isinstance(size, bool) or not isinstance(size, Integral)):
        raise TypeError(f"max_memory is a {type(size).__name__}; expected a whole number of bytes, or None")
    if size is not None and size < 1:
        raise ValueError("max_memory is below 1; expected a number of bytes")
    _chosen = None if size is None else int(size)


def check(size: int, what: str, error: type[TinyMViTError] = TinyMViTError) -> None:
    """Raise `error` if `size` bytes are more than the limit. `what` begins the line, and names what takes them."""
    limit = get_max_memory()
    if size > limit:
        raises = f"{VARIABLE} raises it" if _chosen is None else "set_max_memory raises it"
        raise error(f"{what}: {in_words(size)} of memory, expected at most {in_words(limit)} ({raises})")


def in_words(size: int) -> str:
    """A number of bytes as people read it: 1.50 GiB."""
    for unit in ("T", "G", "M"):
        if size >= UNITS[unit]:
            return f"{size // UNITS[unit]}.{size % UNITS[unit] * 100 // UNITS[unit]:02} {unit}iB"
    return f"{size} bytes"
