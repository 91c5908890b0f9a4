"""A race between this library and its peers: the same weights, the same input, turn by turn.

Runtimes disturb one another: in one process they share allocators and threads, and after a run some keep their
threads spinning for a while, which takes the core from whoever comes next. So each contestant has a process of its own
(`contestant`), and all but one are blocked at any time. They take turns in short rounds, so that whatever changes on
the machine meanwhile changes for all of them. A peer whose answer differs from ours is not timed.

How a peer is loaded and run is in `peers`; what is said about a race is in `report`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from tinymvit.bench.contestant import PIXELS, answer_file
from tinymvit.bench.peers import OURS, PEERS, missing
from tinymvit.errors import ContestantError
from tinymvit.files import one_line_for
from tinymvit.numerics import Array, relative_error

PROGRAM = (sys.executable, "-P", "-m", "tinymvit.bench.contestant")  # -P: the installed package, wherever we stand
TOLERANCE = 1e-4  # relative rms from our answer; float32 in another order makes 1e-6, bfloat16 arithmetic 1e-2
WARM = 2  # runs at the start of each round that are not counted: caches and clock settle
PAUSE = 0.1  # seconds before each round, in which the threads of the one before stop spinning


@dataclass(frozen=True)
class Times:
    """A summary of the seconds of all runs. spread: the distance of the quartiles, relative to the median."""

    minimum: float
    median: float
    p90: float
    spread: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Self:
        quarter, median, three_quarters, p90 = np.quantile(seconds, (0.25, 0.5, 0.75, 0.9)).tolist()
        return cls(min(seconds), median, p90, (three_quarters - quarter) / median)


@dataclass(frozen=True)
class Agreement:
    """How far a peer's logits are from ours: the root mean square of the differences over that of ours, and the largest
    difference over our largest logit."""

    relative_rms: float
    largest: float

    @classmethod
    def between(cls, theirs: Array, ours: Array) -> Self:
        theirs, ours = theirs.astype(np.float64), ours.astype(np.float64)
        return cls(relative_error(theirs, ours), float(np.abs(theirs - ours).max() / np.abs(ours).max()))


@dataclass
class Result:
    """What a contestant did, in seconds. started: from the start of its process to its first answer, of which
    importing, loading and the first call are parts. rounds: the timed runs, round by round. peak_bytes: the most memory
    that its process ever held."""

    name: str
    version: str
    started: float
    imported: float
    loaded: float
    first: float
    agreement: Agreement
    rounds: list[list[float]] = field(default_factory=list)
    peak_bytes: int | None = None

    @property
    def times(self) -> Times:
        return Times.of([seconds for each in self.rounds for seconds in each])


@dataclass(frozen=True)
class Race:
    """results: ours first, then the peers in the order asked for. absent: why, for each peer that was not timed."""

    results: list[Result]
    absent: dict[str, str]

    def ratios(self, result: Result) -> tuple[float, float]:
        """A contestant's time over ours, twice: the median over the rounds of the ratio of their medians, and the
        ratio of the least times of all rounds."""
        ours = self.results[0]
        pairs = zip(result.rounds, ours.rounds, strict=True)
        by_round = [np.median(theirs) / np.median(our) for theirs, our in pairs]
        return float(np.median(by_round)), result.times.minimum / ours.times.minimum

    def best(self) -> tuple[tuple[float, str], tuple[float, str]]:
        """The least ratio that a peer has, with the peer's name: first of the medians, then of the least times."""
        ratios = [(*self.ratios(peer), peer.name) for peer in self.results[1:]]
        return min((median, name) for median, _, name in ratios), min((minimum, name) for _, minimum, name in ratios)


# ---- the race ----


def race(folder: Path, pixel_values: Array, peers: Iterable[str], threads: int, rounds: int, runs: int) -> Race:
    """Time this library and `peers` (names in PEERS) on the checkpoint in `folder`, which gets their files too.

    pixel_values (B, C, H, W) float32. Each contestant does `rounds` rounds of `runs` timed runs on `threads` threads.
    Shows a progress bar if stderr is a terminal. Raises ContestantError if this library itself fails.
    """
    from tqdm import tqdm

    names = [OURS, *peers]
    with one_line_for(folder / PIXELS):
        np.save(folder / PIXELS, pixel_values)
    absent: dict[str, str] = {}
    with ExitStack() as stack, tqdm(total=len(names) * (1 + rounds), disable=None, leave=False) as bar:
        contestants: dict[str, Contestant] = {}

        def attempt(name: str, does: str, work: Callable[[str], None]) -> None:
            """Let one contestant work; a peer that fails is out of the race, and the others go on."""
            bar.set_description(f"{does} {name}")
            try:
                work(name)
            except ContestantError as error:
                if name == OURS:
                    raise
                contestants.pop(name, None)
                absent[name] = str(error)
            bar.update()

        def enter(name: str) -> None:
            prepare(name, folder)
            contestants[name] = stack.enter_context(Contestant(name, folder, threads))
            contestants[name].load()

        for name in names:
            attempt(name, "load", enter)
        for turn in range(rounds):
            order = list(contestants)
            for name in order if turn % 2 == 0 else order[::-1]:  # so that nobody always follows the same one
                attempt(name, "time", lambda name: contestants[name].round(runs))
        return Race([contestant.result for contestant in contestants.values()], absent)


def prepare(name: str, folder: Path) -> None:
    """Make the file that a peer reads, unless another has made it. Raises ContestantError."""
    peer = PEERS[name]
    module = missing(peer)
    if module is not None:
        raise ContestantError(f"{name}: {module} is not installed: pip install 'tinymvit[{peer.extra}]'")
    if peer.file is None or (folder / peer.file).exists():
        return
    command = [*PROGRAM, "export", peer.file, str(folder)]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if result.returncode:
        raise ContestantError(f"{name}: making {peer.file} failed: {_end(result.returncode, result.stderr)}")


class Contestant:
    """A peer in a process of its own, which works only while a method here waits for it. A context manager.

    The methods raise ContestantError if the process ends, `load` also if its first answer is not ours.
    """

    result: Result

    def __init__(self, name: str, folder: Path, threads: int) -> None:
        self.name = name
        self._folder = folder
        self._errors = folder / f"errors-{name}.txt"
        self._start = time.perf_counter()
        settings = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
        with one_line_for(self._errors), self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                [*PROGRAM, "race", name, str(folder), str(threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | settings,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def load(self) -> None:
        """Wait until it has loaded the model and run it once, and compare its answer with ours."""
        facts = self._answer()
        started = time.perf_counter() - self._start
        self.result = Result(self.name, started=started, agreement=self._agreement(), **facts)

    def round(self, runs: int) -> None:
        """A few runs to warm up, then `runs` that are timed."""
        time.sleep(PAUSE)
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended: `_answer` says so
            print(WARM, runs, file=self._process.stdin, flush=True)
        facts = self._answer()
        self.result.rounds.append(facts["seconds"])
        self.result.peak_bytes = facts["peak_bytes"]

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        code = self._process.wait()
        errors = self._errors.read_text(errors="replace")
        raise ContestantError(f"{self.name}: its process ended: {_end(code, errors)}")

    def _agreement(self) -> Agreement:
        theirs, ours = (np.load(answer_file(self._folder, name)) for name in (self.name, OURS))
        if theirs.shape != ours.shape:
            raise ContestantError(f"{self.name}: not timed: its logits have shape {theirs.shape}, ours {ours.shape}")
        agreement = Agreement.between(theirs, ours)
        if not agreement.relative_rms <= TOLERANCE:  # so that NaN does not pass
            rms = f"relative rms {agreement.relative_rms:.1e}, at most {TOLERANCE:.0e} is taken for rounding"
            raise ContestantError(f"{self.name}: not timed: its answer differs from ours ({rms})")
        return agreement


def _end(code: int, errors: str) -> str:
    """Why a process ended: the last line it wrote, or its exit code or signal."""
    lines = errors.strip().splitlines()
    if code > 0 and lines:
        return lines[-1]
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
