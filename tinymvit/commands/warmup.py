"""`tinymvit warmup`: compile the kernels ahead, for an image of a machine or an installer."""

from __future__ import annotations

import argparse
from typing import Any

from tinymvit.commands import progress
from tinymvit.commands.options import add_command
from tinymvit.commands.terminal import say


def add(commands: Any) -> None:
    add_command(commands, "warmup", run, "compile the kernels now, so that no later run has to", "tinymvit warmup")


def run(options: argparse.Namespace) -> int:
    import time

    from tinymvit import kernels
    from tinymvit.errors import OutputError

    folder = kernels.cache_folder()
    if folder is None:
        raise OutputError(
            "no folder to keep the compiled kernels in can be written; name one in NUMBA_CACHE_DIR, "
            "or every process compiles them again"
        )
    start, compiled = time.perf_counter(), False
    for threads in sorted({1, kernels.max_num_threads()}):  # what runs them is another function for one thread
        kernels.set_num_threads(threads)
        if not kernels.is_cached():
            compiled = True
            progress.compile_kernels()
    took = f"compiled the kernels in {time.perf_counter() - start:.1f} s" if compiled else "all kernels are compiled"
    say(f"{took}: {folder}")
    return 0
