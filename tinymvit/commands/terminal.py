"""How a command speaks: its answer on stdout, as lines or as JSON, and on stderr the one line that says what is wrong.

No command prints by itself: what is printed here holds names that are not ours, and no line of it can be broken.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import suppress
from typing import Any, NoReturn

from tinymvit.errors import OutputError
from tinymvit.text import one_line


def say(*lines: str) -> None:
    """Each of the lines on stdout, of any length, as `text.one_line` has it."""
    _write(*(one_line(line, None) for line in lines))


def say_text(text: str) -> None:
    """As `say`, the lines of a text of ours."""
    say(*text.split("\n"))


def say_json(value: Any) -> None:
    """One line of JSON on stdout. It is ASCII, and tells every name exactly: what JSON escapes breaks no line."""
    _write(json.dumps(value))


def _write(*lines: str) -> None:
    """The lines on stdout, now: who waits for them sees each answer when it is there. Raises OutputError, and
    BrokenPipeError if the reader of our output, `head` perhaps, has seen enough."""
    try:
        print(*lines, sep="\n", flush=True)
    except OSError as failure:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tries again when it ends
        if isinstance(failure, BrokenPipeError):
            raise
        raise OutputError(f"the answer cannot be written: {failure.strerror}") from None


def report(error: object) -> None:
    """The one line on stderr that says what is wrong."""
    with suppress(OSError):  # where even that cannot be written, the exit code tells
        print(f"tinymvit: {one_line(str(error))}", file=sys.stderr)


class ArgumentParser(argparse.ArgumentParser):
    """Says in one line what is wrong with an argument, whatever the argument, and prints as the commands do."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {one_line(message)}\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is sys.stdout:
            _write(message.rstrip("\n"))
        else:
            super()._print_message(message, file)
