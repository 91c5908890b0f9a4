"""The network as a program in C."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from tinymvit.exporters.network import FLOAT32, INT8, Network
from tinymvit.numerics import Array

NAME, WORD, SUFFIX = "c", "C", ""
PRECISIONS = (FLOAT32, INT8)
MODULES: tuple[str, ...] = ()
EXTRA: str | None = None
RUNTIME, RUNTIME_MODULES = "a C compiler", ()


def files(network: Network, name: str) -> dict[str, Callable[[BinaryIO], object]]:
    raise NotImplementedError


def load(path: Path, threads: int) -> Callable[[Array], Mapping[str, Array]]:
    raise NotImplementedError
