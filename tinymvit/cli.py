"""The command line: `tinymvit COMMAND`. The commands themselves are in `commands/`, one a file.

Exit codes: 0; 1 where the answer is no; 2 for bad use or bad input, with one line on stderr; 130 after Ctrl-C, 143
after SIGTERM and 129 after SIGHUP, with one line and nothing unfinished left behind.
"""

from __future__ import annotations

import argparse
import io
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from contextlib import ExitStack

from tinymvit.commands import (
    attention,
    bench,
    calibrate,
    classify,
    compare,
    convert,
    error,
    export,
    features,
    models,
    segment,
    summary,
    terminal,
    trace,
    vectors,
    warmup,
)
from tinymvit.version import __version__

# The signals that end a command, with all cleaned up, and what is said then. A terminal that is closed sends the last.
STOPS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
if hasattr(signal, "SIGHUP"):
    STOPS[signal.SIGHUP] = "the terminal was closed"

# In the order in which --help lists them.
COMMANDS = (
    classify,
    segment,
    summary,
    bench,
    trace,
    attention,
    features,
    compare,
    vectors,
    error,
    export,
    calibrate,
    convert,
    models,
    warmup,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (by default the process's own) name, and return the exit code."""
    with ExitStack() as handlers:
        if threading.current_thread() is threading.main_thread():  # no other may say what a signal does
            for number in STOPS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):  # ignored, as `nohup` has it: let it be
                    handlers.callback(signal.signal, number, signal.signal(number, _stop))
        try:
            return _run(arguments)
        except KeyboardInterrupt as stop:
            number = stop.args[0] if stop.args else signal.SIGINT
            _clean_up()
            terminal.report(STOPS[number])
            return 128 + number


def _stop(number: int, _: object) -> None:
    """What a signal does: an exception, so that all is cleaned up."""
    raise KeyboardInterrupt(number)


def _clean_up() -> None:
    """Remove what a second signal, while the first one was obeyed, has left. A third one is not heard."""
    from tinymvit.files import remove_unfinished

    if threading.current_thread() is threading.main_thread():
        for number in STOPS:
            signal.signal(number, signal.SIG_IGN)
    remove_unfinished()


def _run(arguments: Sequence[str] | None) -> int:
    warnings.showwarning = lambda message, *_: terminal.report(f"warning: {message}")
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that it cannot encode must not cost the answer
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        options = build_parser().parse_args(arguments)
        return options.run(options)
    except BrokenPipeError:  # of our output: see `terminal`
        return 0
    except (ValueError, TypeError) as error:
        terminal.report(error)
        return 2
    except OSError as error:  # of the system, where no part that knows more of the file has said it: a full /tmp
        place = f"{error.filename}: " if error.filename else ""
        terminal.report(f"{place}{error.strerror or error}")
        return 2
    except MemoryError:
        terminal.report("out of memory; expected a smaller --size, batch or image")
        return 2


def build_parser() -> argparse.ArgumentParser:
    parser = terminal.ArgumentParser(
        prog="tinymvit",
        description="MobileViT on NumPy and Numba: classify and segment images without a framework.",
        epilog="example: tinymvit classify docs/images/digit-7.png",
    )
    parser.add_argument("--version", action="version", version=f"tinymvit {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
