"""The network as a TensorFlow Lite file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from tinymvit.exporters.network import FLOAT16, FLOAT32, INT8, Network
from tinymvit.numerics import Array

NAME, WORD, SUFFIX = "tflite", "TensorFlow Lite", ".tflite"
PRECISIONS = (FLOAT32, FLOAT16, INT8)
MODULES: tuple[str, ...] = ("ai_edge_litert", "flatbuffers")
EXTRA: str | None = "tflite"
RUNTIME, RUNTIME_MODULES = "LiteRT", ("ai_edge_litert",)


def files(network: Network, name: str) -> dict[str, Callable[[BinaryIO], object]]:
    raise NotImplementedError


def load(path: Path, threads: int) -> Callable[[Array], Mapping[str, Array]]:
    raise NotImplementedError
