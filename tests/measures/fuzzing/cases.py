"""What a case is, how one is run, and how its outcome is judged by the `rules`."""

import contextlib
import dis
import io
import logging
import os
import random
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import tinymvit
from tinymvit import cli, errors, kernels, weights
from tinymvit.errors import TinyMViTError

from . import rules
from .sandbox import files_below, largest_resident

_PACKAGES = (*tinymvit.__path__, *kernels.__path__, *weights.__path__)  # in a clone they lie side by side
_HOMES = tuple(f"{os.path.realpath(home)}/" for home in _PACKAGES)
_OPCODES = {dis.opmap["RAISE_VARARGS"], dis.opmap["RERAISE"]}


@dataclass
class Case:
    """One case. call: what is run. told: what it is, for the report.

    outputs: names below the case's folder that it may write. kept: names below these that it must not. agrees: given
    the answer, or the error where it is refused, says what an independent reader sees otherwise, or None. seconds: how
    long it may take. starts_processes: whether it may; what these do is judged by what they leave.
    """

    call: Callable[[], Any]
    told: str
    outputs: Collection[str] = ()
    kept: Collection[str] = ()
    agrees: Callable[[Any, Exception | None], str | None] | None = None
    seconds: float = rules.SECONDS
    starts_processes: bool = False


@dataclass
class Outcome:
    """How a case ended.

    ending: "accepted", "refused", "found" or "unmade". signature: by which findings of one cause are grouped. detail:
    the rest of what there is to say. worn: whether the process should not run another case.
    """

    ending: str
    signature: str = ""
    detail: str = ""
    worn: bool = False


@dataclass
class Printed:
    """What a command has printed, and its exit code."""

    code: int
    out: str
    err: str


class _Hang(BaseException):
    """A case takes too long."""


def command(arguments):
    """The call of a command in this process."""

    def call():
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace") for _ in range(2))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = cli.main(list(arguments))
            except SystemExit as stop:
                code = stop.code
        texts = []
        for stream in (out, err):
            stream.flush()
            texts.append(stream.buffer.getvalue().decode("utf-8", "surrogateescape"))
        return Printed(code, *texts)

    return call


def run(make, target, seed, number, sandbox, baseline):
    """Make, run and judge the case of this number. baseline: bytes that the process held before all cases."""
    rng = random.Random(f"{target}:{seed}:{number}")
    for folder in (sandbox.case, sandbox.outside):  # nothing of an earlier case may matter
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    os.chdir(sandbox.case)
    try:
        case = make(rng, sandbox)
    except Exception:  # a mistake of ours, which no finding may hide behind
        return Outcome("unmade", f"{target}: no case could be made", traceback.format_exc()[-700:])
    before = {folder: files_below(folder) for folder in (sandbox.case, sandbox.outside)}
    problems = []
    answer, error = _called(case, sandbox, problems)
    worn = largest_resident() > baseline + rules.MEMORY
    if worn:
        problems.append(("memory", f"{(largest_resident() - baseline) / 2**20:.0f} MiB more than before"))
    problems += _judged_files(case, before, sandbox)
    if error is not None:
        problems += _judged_error(error)
    elif isinstance(answer, Printed):
        problems += _judged_printed(answer)
    if not problems and case.agrees is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            difference = case.agrees(answer, error)
        sandbox.printed()
        worn = worn or largest_resident() > baseline + rules.MEMORY
        if difference:
            problems.append(("another answer", difference))
    refused = error is not None or (isinstance(answer, Printed) and answer.code == 2)
    if not problems:
        return Outcome("refused" if refused else "accepted", worn=worn)
    kind, what, *_ = problems[0]
    where = f" in {_where(error)}" if error is not None else ""
    name = f"{target}: {kind}{f': {what}' if kind in _BY_WORDS else ''}{where}"
    rest = "; ".join(dict.fromkeys(": ".join(problem) for problem in problems))
    return Outcome("found", name, f"{_told(case)} -> {rest}", worn)


_BY_WORDS = ("forbidden", "another answer", "warning", "exit code", "files", "text")  # whose words tell causes apart


def _told(case):
    return ascii(case.told)[1:-1][:1500]


def _called(case, sandbox, problems):
    """The answer or the error of a case. What it did that it must not is added to `problems`."""
    state = _State()
    answer = error = None
    sandbox.printed()
    sandbox.trouble.clear()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        old = signal.signal(signal.SIGALRM, _stop)
        signal.setitimer(signal.ITIMER_REAL, case.seconds)
        sandbox.listening = not case.starts_processes
        try:
            answer = case.call()
        except _Hang as hang:
            problems.append(("hang", f"more than {case.seconds:g} s, at {_where(hang)}"))
            error = hang
        except Exception as raised:
            error = raised
        finally:
            sandbox.listening = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)
    state.restore()
    problems += [("forbidden", what, on) for what, on in dict.fromkeys(sandbox.trouble)]
    for warning in warned:
        problems += _judged_warning(warning)
    if text := sandbox.printed():
        problems.append(("printed", ascii(text.decode("utf-8", "backslashreplace"))[:120]))
    return answer, error


def _stop(*_):
    raise _Hang


class _State:
    """What belongs to the whole process and a case may have changed."""

    def __init__(self):
        self.pixels, self.threads, self.numpy = Image.MAX_IMAGE_PIXELS, kernels.get_num_threads(), np.geterr()
        self.term, self.folder = signal.getsignal(signal.SIGTERM), os.getcwd()  # noqa: PTH109

    def restore(self):
        Image.MAX_IMAGE_PIXELS = self.pixels
        kernels.set_num_threads(self.threads)
        np.seterr(**self.numpy)
        signal.signal(signal.SIGTERM, self.term)
        os.chdir(self.folder)


# ---- judging ----


def _judged_error(error):
    """What is wrong with an error that a case was refused by."""
    if isinstance(error, _Hang):
        return []
    if not isinstance(error, TinyMViTError) and type(error) not in rules.ERRORS:
        last = traceback.format_exception_only(error)[-1].strip()
        return [(type(error).__name__, ascii(last)[:300])]
    problems = _judged_text(str(error)) if rules.PRINTABLE_ERRORS else []
    if not _is_deliberate(error):
        problems.append((f"{type(error).__name__} from the depths", ascii(str(error))[:300]))
    return problems


def _is_deliberate(error):
    """Whether a `raise` of ours raised it."""
    last = list(traceback.walk_tb(error.__traceback__))[-1][0]
    at = error.__traceback__
    while at.tb_next is not None:
        at = at.tb_next
    return _is_ours(last) and last.f_code.co_code[at.tb_lasti] in _OPCODES


def _is_ours(frame):
    return frame.f_code.co_filename.startswith(_HOMES)


def _where(error):
    """The innermost function of ours on the way to an error."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if _is_ours(frame)]
    if not frames:
        return "outside of the library"
    code = frames[-1].f_code
    return f"{'/'.join(Path(code.co_filename).parts[-2:])}:{code.co_name}"


def _judged_text(text):
    """What is wrong with one line for a terminal."""
    if not text.isprintable():
        return [("text", "not printable")]
    if len(text) > rules.LONGEST_TEXT:
        return [("text", "too long")]
    return [] if text.strip() else [("text", "empty")]


def _judged_warning(warning):
    path = warning.filename
    ours = issubclass(warning.category, rules.WARNINGS) and not ("site-packages" in path and "tinymvit" not in path)
    if ours:
        return _judged_text(str(warning.message)) if rules.PRINTABLE_ERRORS else []
    return [("warning", f"{warning.category.__name__} at {'/'.join(Path(path).parts[-2:])}:{warning.lineno}")]


def _judged_printed(printed):
    """What is wrong with what a command printed."""
    problems = []
    if printed.code not in rules.EXIT_CODES:
        problems.append(("exit code", str(printed.code)))
    for line in printed.err.split("\n")[:-1]:
        if line.startswith(("usage: tinymvit", "  ")) and line.isprintable():
            continue  # argparse says how a command is used, in several lines
        if not line.startswith("tinymvit"):
            problems.append(("text", "a line on stderr that does not begin with the program's name"))
        problems += [(kind, f"{what}: a line on stderr") for kind, what in _judged_text(line)]
    if printed.code == 2 and not printed.err:
        problems.append(("text", "none on stderr with exit code 2"))
    for line in printed.out.split("\n"):
        if not line.isprintable():
            problems.append(("text", "not printable: a line on stdout"))
            break
    return problems


def _judged_files(case, before, sandbox):
    """What changed below the case's folder and beside it."""
    problems = []
    if files_below(sandbox.outside) != before[sandbox.outside]:
        problems.append(("files", "outside of the folder were changed"))
    left, after = before[sandbox.case], files_below(sandbox.case)
    for name, about in left.items():
        if about != after.get(name) and not _is_output(name, case):
            problems.append(("files", "of the input were changed"))
            break
    for name, about in after.items():
        if name in left or about == "folder":
            continue
        if Path(name).suffix in rules.UNFINISHED:
            problems.append(("files", "were left behind unfinished"))
        elif not _is_output(name, case):
            problems.append(("files", "were written that nobody asked for"))
    if any(sandbox.temporary.iterdir()):
        problems.append(("files", "were left among the temporary ones"))
        shutil.rmtree(sandbox.temporary, ignore_errors=True)
        sandbox.temporary.mkdir()
    return problems


def _is_output(name, case):
    may = any(name == output or name.startswith(f"{output}/") for output in case.outputs)
    return may and name not in case.kept


def prepare():
    """Make this process ready for cases: kernels loaded, one thread, no hub."""
    kernels.set_num_threads(1)
    list(kernels.warm_up())
    kernels.set_num_threads(1)
    sys.setrecursionlimit(1000)
    errors.LOG.addHandler(logging.NullHandler())  # what is told to users is not what a C library prints
