"""Where the time of a call goes: each node of the engine's compiled graph, against what the machine could do.

A node needs at least the time of its multiply-adds at the peak rate of registers, and the time of its bytes at the peak
rate of memory; the larger of the two is its limit in the table. Both peaks are measured in the same run
(`kernels/runtime/peak.py`).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from tinymvit.engine.engine import Engine
from tinymvit.graph import Graph, Node
from tinymvit.inspection.summary import describe
from tinymvit.numerics import Array
from tinymvit.ops import Fused, InvertedResidual, Op
from tinymvit.text import align

PASSES = 20  # over the graph; the median of each node's times counts


@dataclass(frozen=True)
class Peak:
    """The most that the machine does in a second: float32 multiply-adds from registers, bytes to and from memory."""

    multiply_adds: float
    bytes: float


@dataclass(frozen=True)
class LayerTime:
    """A node's median seconds, its multiply-adds, and the bytes of its inputs, weights and output in float32."""

    name: str
    op: str
    seconds: float
    multiply_adds: int
    bytes: int

    def bounds(self, peak: Peak) -> dict[str, float]:
        """The least seconds that arithmetic and memory allow."""
        return {"arithmetic": self.multiply_adds / peak.multiply_adds, "memory": self.bytes / peak.bytes}


@dataclass(frozen=True)
class LayerTimes:
    """layers: slowest first. whole: the median seconds of a call, the copy of its outputs included."""

    layers: list[LayerTime]
    whole: float
    peak: Peak


def time_layers(engine: Engine, pixel_values: Array) -> LayerTimes:
    """Time every node, and whole calls in between, on the threads that the kernels use. pixel_values: (B, C, H, W)
    float32, of the engine's own B."""
    from tinymvit.kernels.runtime.peak import bytes_a_second, multiply_adds_a_second

    engine.run(pixel_values)
    times: dict[str, list[float]] = {node.name: [] for node in engine.graph}
    whole: list[float] = []
    for _ in range(PASSES):
        for node, seconds in engine.profile(pixel_values):
            times[node.name].append(seconds)
        start = time.perf_counter()
        engine.run(pixel_values)
        whole.append(time.perf_counter() - start)
    layers = [
        LayerTime(
            node.name,
            describe_fused(node.op, engine.method(node)),
            float(np.median(times[node.name])),
            engine.multiply_adds(node),
            moved_bytes(engine.graph, node),
        )
        for node in engine.graph
    ]
    layers.sort(key=lambda layer: -layer.seconds)
    return LayerTimes(layers, float(np.median(whole)), Peak(multiply_adds_a_second(), bytes_a_second()))


def moved_bytes(graph: Graph, node: Node) -> int:
    """Bytes of a node's inputs, weights and output, each counted once, in float32."""
    shapes = [node.shape, *(source.shape for source in graph.inputs_of(node)), *node.op.weight_shapes().values()]
    return 4 * sum(math.prod(shape) for shape in shapes)


def describe_fused(op: Op, method: str = "") -> str:
    """The op in a few words, as `inspection.summary.describe` has them, with what is fused to it. method: what to call
    the op, if not by its name."""
    if isinstance(op, InvertedResidual):
        layers = ", ".join(map(describe, (op.expand, op.depthwise, op.reduce)))
        return f"{describe(op)}: {layers}" + (" + add" if op.residual else "")
    fused = op if isinstance(op, Fused) else None
    layer = fused.op if fused else op
    words = [method + describe(layer).removeprefix(type(layer).__name__) if method else describe(layer)]
    if fused:
        words += [fused.activation] if fused.activation != "identity" else []
        words += ["add"] if fused.residual else []
    return " + ".join(words)


def format_layer_times(result: LayerTimes) -> str:
    """The table of layers, slowest first, with the machine's peak above and the sums below."""
    summed = sum(layer.seconds for layer in result.layers)
    rows: list[tuple[str, ...]] = [
        ("time", "share", "multiply-adds", "rate", "moved", "of limit", "limit", "op", "node"),
        ("us", "%", "million", "GFLOP/s", "MB", "%", "", "", ""),
    ]
    for layer in result.layers:
        bounds = layer.bounds(result.peak)
        limit = max(bounds, key=bounds.__getitem__)
        cells = _cells(layer.seconds, summed, layer.multiply_adds, layer.bytes, bounds[limit])
        rows.append((*cells, limit, layer.op, layer.name))
    multiply_adds = sum(layer.multiply_adds for layer in result.layers)
    moved = sum(layer.bytes for layer in result.layers)
    least = sum(max(layer.bounds(result.peak).values()) for layer in result.layers)
    rows.append((*_cells(summed, summed, multiply_adds, moved, least), "", "", f"sum of {len(result.layers)} nodes"))
    rows.append((*_cells(result.whole, summed, multiply_adds, moved, least), "", "", "the whole call"))
    lines = align(rows, left=(6, 7, 8))
    rule = "-" * max(map(len, lines))
    limits = (
        f"limits measured: {2e-9 * result.peak.multiply_adds:.0f} GFLOP/s from registers, "
        f"{1e-9 * result.peak.bytes:.1f} GB/s to and from memory"
    )
    return "\n".join([limits, "", *lines[:2], rule, *lines[2:-2], rule, *lines[-2:]])


def _cells(seconds: float, summed: float, multiply_adds: int, moved: int, least: float) -> tuple[str, ...]:
    return (
        f"{1e6 * seconds:.0f}",
        f"{100 * seconds / summed:.1f}",
        f"{1e-6 * multiply_adds:.2f}" if multiply_adds else "-",
        f"{2e-9 * multiply_adds / seconds:.1f}" if multiply_adds else "-",
        f"{1e-6 * moved:.2f}",
        f"{100 * least / seconds:.0f}",
    )
