"""The program that `bench` starts once for each contestant, so that no runtime shares a process with another.

    python -m tinymvit.bench.contestant race NAME FOLDER THREADS   load, run once, then a round for each line on stdin
    python -m tinymvit.bench.contestant export FILE FOLDER         make FILE of the checkpoint in FOLDER

A racer answers in lines of JSON on stdout: first what loading and the first call took, then, for each line "WARM RUNS",
the seconds of that many timed runs. Between its rounds it waits and uses no processor. What goes wrong is one line on
stderr and exit code 1. What runs is in `peers`; who runs when is in `race`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from tinymvit.bench.peers import EXPORTS, PEERS

PIXELS = "pixel_values.npy"  # the input, in the folder


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments say (see above). The result is the exit code."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not come between the answers
    job, name, folder, *threads = arguments
    try:
        if job == "export":
            EXPORTS[name](Path(folder), np.load(Path(folder) / PIXELS))
        else:
            take_part(name, Path(folder), int(threads[0]), channel)
    except Exception as error:  # whatever a runtime raises, the parent wants it in one line
        message = str(error).strip().splitlines() or [""]
        print(f"{type(error).__name__}: {message[0]}", file=sys.stderr, flush=True)
        return 1
    return 0


def take_part(name: str, folder: Path, threads: int, channel: TextIO) -> None:
    """Load a peer and run it once, then a round for each line on stdin; answers go to `channel`."""
    peer = PEERS[name]()
    pixel_values = np.load(folder / PIXELS)
    marks = [time.perf_counter()]
    for module in peer.modules:
        import_module(module)
    marks.append(time.perf_counter())
    peer.load(folder, threads)
    marks.append(time.perf_counter())
    answer = peer.run(pixel_values)
    marks.append(time.perf_counter())
    np.save(answer_file(folder, name), answer)
    imported, loaded, first = np.diff(marks).tolist()
    _say(channel, version=version(peer.distribution), imported=imported, loaded=loaded, first=first)

    for line in sys.stdin:
        warm, runs = map(int, line.split())
        for _ in range(warm):
            peer.run(pixel_values)
        seconds = []
        for _ in range(runs):
            start = time.perf_counter()
            peer.run(pixel_values)
            seconds.append(time.perf_counter() - start)
        _say(channel, seconds=seconds, peak_bytes=peak_bytes())


def answer_file(folder: Path, name: str) -> Path:
    """Where a contestant leaves its logits."""
    return folder / f"answer-{name}.npy"


def peak_bytes() -> int | None:
    """The most memory that this process ever held, in bytes; None if the system does not tell.

    On Linux `ru_maxrss` is no answer, because it begins with what the parent held.
    """
    try:
        return 1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
    except (OSError, IndexError):
        if sys.platform != "darwin":
            return None
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _say(channel: TextIO, **facts: Any) -> None:
    print(json.dumps(facts), file=channel, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
