"""The command line: `tinymvit COMMAND`. The commands themselves are in `commands/`, one a file.

Exit codes: 0; 1 where the answer is no; 2 for bad use or bad input, with one line on stderr; 130 after Ctrl-C and 143
after SIGTERM, both with nothing unfinished left behind.
"""

from __future__ import annotations

import argparse
import io
import signal
import sys
import threading
import warnings
from collections.abc import Sequence

from tinymvit.commands import (
    attention,
    bench,
    classify,
    compare,
    error,
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

# In the order in which --help lists them.
COMMANDS = (classify, segment, summary, bench, trace, attention, features, compare, vectors, error, models, warmup)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (by default the process's own) name, and return the exit code."""
    options = build_parser().parse_args(arguments)
    if threading.current_thread() is threading.main_thread():  # no other may say what a signal does
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # as an exception, so all is cleaned up
    warnings.showwarning = lambda message, *_: terminal.report(f"warning: {message}")
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that it cannot encode must not cost the answer
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return options.run(options)
    except BrokenPipeError:  # of our output: see `terminal`
        return 0
    except KeyboardInterrupt:
        terminal.report("interrupted")
        return 130
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
