"""The choices and defaults that commands repeat as text, so that `--help` imports nothing heavy: each is what its home
says."""

import argparse
import subprocess
import sys

import pytest

from tinymvit.bench import peers
from tinymvit.cli import build_parser
from tinymvit.comparison import settings
from tinymvit.exporters import export, network
from tinymvit.inspection import dump_writer, trace
from tinymvit.quantisation import ranges
from tinymvit.vectors import write
from tinymvit.weights.families import FAMILIES
from tinymvit.weights.given import CHANNEL_ORDERS

SAYS_OF_A_CHECKPOINT = ("classify", "segment", "trace", "attention", "features", "convert", "export", "calibrate")
CHOICES = {
    ("trace", "--format"): dump_writer.FORMATS,
    ("trace", "--dtype"): trace.DTYPES,
    ("trace", "--source"): trace.SOURCES,
    ("vectors", "--format"): write.FORMATS,
    ("vectors", "--precision"): write.PRECISIONS,
    ("compare", "--layout"): settings.LAYOUTS,
    ("compare", "--precision"): settings.PRECISIONS,
    ("export", "--to"): tuple(export.EXPORTERS),
    ("export", "--precision"): network.PRECISIONS,
    ("export", "--answer"): network.ANSWERS,
    ("calibrate", "--method"): ranges.METHODS,
    ("convert", "--to"): tuple(family.WORD for family in FAMILIES),
    **{(name, "--channel-order"): CHANNEL_ORDERS for name in SAYS_OF_A_CHECKPOINT},
}
DEFAULTS = {
    ("trace", "--dtype"): trace.DTYPES[0],
    ("trace", "--source"): trace.SOURCES[0],
    ("vectors", "--format"): write.FORMATS[0],
    ("vectors", "--precision"): write.PRECISIONS[0],
    ("compare", "--layout"): settings.LAYOUTS[0],
    ("compare", "--precision"): settings.PRECISIONS[0],
    ("export", "--precision"): network.PRECISIONS[0],
    ("bench", "--against"): ",".join(name for name in peers.PEERS if name != peers.OURS),
}
OWN = {("bench", "--task"), ("error", "--precision")}  # what the command itself gives a meaning


def options():
    """Every option of every command, by the names of both."""
    [commands] = [a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction)]
    for name, command in commands.choices.items():
        yield from (((name, option.option_strings[0]), option) for option in command._actions if option.option_strings)


@pytest.mark.parametrize("option", CHOICES, ids=" ".join)
def test_choices_are_those_of_the_part_that_takes_them(option):
    assert tuple(dict(options())[option].choices) == CHOICES[option]


@pytest.mark.parametrize("option", DEFAULTS, ids=" ".join)
def test_defaults_are_those_of_the_part_that_takes_them(option):
    assert dict(options())[option].default == DEFAULTS[option]


def test_no_option_repeats_choices_that_are_not_checked_here():
    assert {name for name, option in options() if option.choices} == CHOICES.keys() | OWN


def test_what_declares_the_options_imports_nothing_heavy():
    """Else there would be no reason to repeat anything."""
    heavy = {"numpy", "numba", "PIL", "dataclasses", "inspect", "tempfile", "tqdm"}
    parser = "import sys, argparse; argparse.ArgumentParser(); theirs = set(sys.modules)"  # more from Python to Python
    program = f"{parser}; import tinymvit.cli as c; c.build_parser(); print({heavy} & set(sys.modules) - theirs)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"
