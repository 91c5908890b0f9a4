"""The network as an ONNX file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from tinymvit.exporters.network import FLOAT16, FLOAT32, INT8, Network
from tinymvit.numerics import Array

NAME, WORD, SUFFIX = "onnx", "ONNX", ".onnx"
PRECISIONS = (FLOAT32, FLOAT16, INT8)
MODULES: tuple[str, ...] = ("onnx",)
EXTRA: str | None = "onnx"
RUNTIME, RUNTIME_MODULES = "ONNX Runtime", ("onnxruntime",)


def files(network: Network, name: str) -> dict[str, Callable[[BinaryIO], object]]:
    raise NotImplementedError


def load(path: Path, threads: int) -> Callable[[Array], Mapping[str, Array]]:
    raise NotImplementedError
