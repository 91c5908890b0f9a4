"""What a command shows of its work on stderr: bars, the first run's compiling, the one line that says what is wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from tinymvit.text import printable

Result = TypeVar("Result")


def each(paths: list[Path], work: Callable[[Path], Result]) -> Iterator[tuple[Path, Result | Exception]]:
    """Each path with work(path), or with the error if it cannot be used, which is also reported on stderr. Many paths
    show a progress bar if stderr is a terminal."""
    from tqdm import tqdm

    hidden = True if len(paths) <= 2 else None  # None: unless stderr is a terminal
    with tqdm(paths, unit="image", disable=hidden, leave=False) as bar:
        for path in bar:
            result: Result | Exception
            try:
                result = work(path)
            except (ValueError, TypeError) as error:
                result = error
                bar.clear()
                report(error)
            else:
                bar.clear()
            yield path, result


def report(error: object) -> None:
    """The one line on stderr that says what is wrong."""
    with suppress(OSError):  # where even that cannot be written, the exit code tells
        print(f"tinymvit: {printable(str(error))}", file=sys.stderr)


def warm_up() -> None:
    """Compile the kernels if this is the first run, and say so: a line, and a bar if stderr is a terminal."""
    from tinymvit import kernels

    if not kernels.is_cached():
        once = "first run here: compiling the kernels, once"
        each_time = (
            "compiling the kernels, as each time: no folder to keep them in can be written (see tinymvit warmup)"
        )
        print("tinymvit:", each_time if kernels.cache_folder() is None else once, file=sys.stderr)
        compile_kernels()


def compile_kernels() -> None:
    """Compile or load all kernels, with a bar if stderr is a terminal."""
    from tqdm import tqdm

    from tinymvit import kernels

    with tqdm(unit="kernel", disable=None, leave=False) as bar:
        for number, count, name in kernels.warm_up():
            bar.total, bar.n = count, number - 1
            bar.set_description(name)
