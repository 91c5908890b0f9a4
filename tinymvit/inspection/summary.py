"""The table of a network's layers, from the graph alone: no weights are read and nothing is computed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from tinymvit.graph import Graph, parameters
from tinymvit.ops import Activation, Conv2d, Op, Quantised, QuantisedActivation, Shape
from tinymvit.text import align


@dataclass(frozen=True)
class NodeSummary:
    """A node's line of the table. `multiply_adds` counts those of its products, at these shapes."""

    name: str
    op: str
    output: Shape
    parameters: int
    multiply_adds: int


def rows(graph: Graph) -> Iterator[NodeSummary]:
    """One line for each node, in the order in which they run."""
    for node in graph:
        yield NodeSummary(node.name, describe(node.op), node.shape, parameters(node), graph.multiply_adds(node))


def describe(op: Op) -> str:
    """An op's name with the attributes that neither the shapes nor the defaults tell."""
    name = type(op).__name__
    if isinstance(op, Conv2d):
        parts = [f"{op.kernel_size}x{op.kernel_size}"]
        parts += [f"/{op.stride}"] if op.stride > 1 else []
        parts += ["depthwise"] if op.depthwise else []
        parts += [f"dilation {op.dilation}"] if op.dilation > 1 else []
        return f"{name} {' '.join(parts)}"
    if isinstance(op, Activation):
        return op.function if isinstance(op.function, str) else getattr(op.function, "__name__", repr(op.function))
    if isinstance(op, Quantised):
        return f"{name} {describe(op.op)}"
    if isinstance(op, QuantisedActivation):
        return f"{name} {describe(Activation(op.function))}"
    attributes = {field.name: getattr(op, field.name) for field in fields(op)}
    return f"{name} {attributes['heads']} heads" if "heads" in attributes else name


def totals(graph: Graph) -> dict[str, int]:
    """Parameters (as PyTorch counts them) and multiply-adds of the whole graph."""
    table = list(rows(graph))
    return {
        "parameters": sum(row.parameters for row in table),
        "multiply_adds": sum(row.multiply_adds for row in table),
    }


def to_text(graph: Graph) -> str:
    """The table as aligned text, with a head and the totals."""
    lines = [("name", "op", "output", "parameters", "multiply-adds")]
    lines += [
        (row.name, row.op, "x".join(map(str, row.output)), f"{row.parameters:,}", f"{row.multiply_adds:,}")
        for row in rows(graph)
    ]
    sums = totals(graph)
    lines.append((f"total of {len(graph)}", "", "", f"{sums['parameters']:,}", f"{sums['multiply_adds']:,}"))
    text = align(lines, left=(0, 1, 2))
    rule = "-" * len(text[0])
    return "\n".join([text[0], rule, *text[1:-1], rule, text[-1]])
