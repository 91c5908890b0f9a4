"""Every intermediate of a model by its name: each node of the graph with its value, one at a time, in order.

The values are the NumPy reference's, in float32 or float64, or in float32 with each sum in a fixed order, or those of
the engine. What a value means stands in the graph; files of values are left to `dump_writer`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from tinymvit import reference
from tinymvit.engine.engine import Engine
from tinymvit.errors import TinyMViTError
from tinymvit.graph import Graph, Node
from tinymvit.inspection.dump_writer import Spec
from tinymvit.numerics import Array, as_array
from tinymvit.ops import Op, Quantisation
from tinymvit.passes.fold import fold_batch_norm, kind_of
from tinymvit.text import short

DTYPES = ("float32", "float64")
SOURCES = ("reference", "ordered", "engine")


class Trace:
    """The values of a graph for one input. Iterating computes them: each name with its array, in the graph's order.

    `nodes` has the node of each name that is traced, and `graph` has all that are computed; both are there before
    anything is. A value that nothing needs any more is let go, so a loop that keeps none of them holds no more than a
    run of the model does.
    """

    def __init__(
        self,
        graph: Graph,
        weights: Mapping[str, Array],
        pixel_values: Array,
        names: str | Sequence[str] | None = None,
        dtype: str = "float32",
        source: str = "reference",
        progress: bool = False,
    ) -> None:
        """pixel_values: floats of the graph's input shape. names: see `select_nodes`; by default every node.
        dtype: "float32" or "float64". source: "reference"; "ordered", the same in float32, each sum in a fixed order,
        the normalisations folded into the convolutions: the bits of the exported C; or "engine", which computes in
        float32 and merges nodes: a merged node has the name of the last of them, and the values inside it do not
        exist. progress: show a bar while it computes, if stderr is a terminal.

        Raises ValueError for a name that is not there and for pixels of another shape, another dtype or source.
        """
        _check_settings(dtype, source)
        pixel_values = as_array(pixel_values, "pixel_values", "f")
        if pixel_values.shape != (expected := graph["pixel_values"].shape):
            raise ValueError(f"pixel_values have shape {pixel_values.shape}; the graph is for {expected}")
        self.dtype = dtype
        self.progress = progress
        self.pixel_values = pixel_values
        self.weights = weights
        self.engine: Engine | None = None
        self.nodes = select_nodes(graph, names)  # a name that no graph has is another mistake than one that is merged
        if source == "engine":
            self.engine = _engine(graph, weights)
            outputs = {public: name for public, name in graph.outputs.items() if name in self.engine.graph.nodes}
            graph = replace(self.engine.graph, outputs=outputs)
            self.nodes = select_nodes(graph, names, "; the engine merges this node into another, the reference has it")
        elif source == "ordered":
            graph, self.weights = fold_batch_norm(graph, weights, {x.weights: kind_of(x, weights) for x in graph})
            self.nodes = select_nodes(graph, names, "; it is folded into the node behind it, the reference has it")
        self.in_order = source == "ordered"
        self.graph = replace(graph, outputs={})  # outputs would be kept to the end
        if self.engine is None and self.nodes:
            wanted = {node.name for node in self.nodes.values()}
            last = [name for name in self.graph.nodes if name in wanted][-1]
            reference.check_memory(self.graph, np.dtype(dtype).type, last)

    def __iter__(self) -> Iterator[tuple[str, Array]]:
        names: dict[str, list[str]] = {}
        for name, node in self.nodes.items():
            names.setdefault(node.name, []).append(name)
        steps = self._steps()
        if self.progress:
            from tqdm import tqdm

            last = max((index for index, node in enumerate(self.graph, 1) if node.name in names), default=0)
            steps = tqdm(steps, total=last, unit="node", disable=None, leave=False)
        for node, value in steps:
            for name in names.pop(node.name, ()):
                yield name, value
            if not names:
                return

    def __len__(self) -> int:
        return len(self.nodes)

    def specs(self) -> list[Spec]:
        """What `dump_writer.write_dump` needs to know of each value beforehand."""
        return [Spec(name, node.shape, self.dtype, facts(name, node)) for name, node in self.nodes.items()]

    def _steps(self) -> Iterator[tuple[Node, Array]]:
        if self.engine is not None:
            return self.engine.trace(self.pixel_values)
        return reference.steps(self.graph, self.weights, self.pixel_values, np.dtype(self.dtype).type, self.in_order)


def _check_settings(dtype: str, source: str) -> None:
    if not isinstance(source, str) or source not in SOURCES:
        raise ValueError(f"source {short(source)}: expected one of {', '.join(SOURCES)}")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"dtype {short(dtype)}: expected {' or '.join(DTYPES)}")
    if source != "reference" and dtype != "float32":
        who = "the engine computes" if source == "engine" else "ordered values are"
        raise ValueError(f"dtype {dtype!r}: {who} in float32; expected float32, or the reference")


def _engine(graph: Graph, weights: Mapping[str, Array]) -> Engine:
    """An engine that merges as in a usual call of the model: no node is kept apart for the hidden states."""
    return Engine(graph.select([name for name in graph.outputs if not name.startswith("hidden_states.")]), weights)


def select_nodes(graph: Graph, patterns: str | Sequence[str] | None, otherwise: str = "") -> dict[str, Node]:
    """The nodes that `patterns` name, by the names that matched, in the graph's order; None means every node.

    A pattern is a node's name, that of a PyTorch module, whose output is a node's value, or that of a result ("logits",
    "hidden_states.0"); `*`, `?` and `[...]` stand for any characters, a character, one of a few. Raises ValueError for
    a pattern that matches nothing: it says which names come near, or `otherwise`.
    """
    if patterns is None:
        return dict(graph.nodes)
    if not isinstance(patterns, Iterable):
        raise TypeError(f"names: {short(patterns)}; expected names of nodes or patterns")
    known = dict(graph.nodes)
    known |= {alias: graph.nodes[name] for alias, name in (graph.modules | graph.outputs).items()}
    wanted: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"names: a {type(pattern).__name__} among them; expected names of nodes or patterns")
        found = [name for name in known if fnmatchcase(name, pattern)]
        if not found:
            raise TinyMViTError(
                f"{pattern}: no node, module or result has this name{otherwise or _near(pattern, list(known))}"
            )
        wanted.update(found)
    position = {name: index for index, name in enumerate(graph.nodes)}
    ordered = sorted(wanted, key=lambda name: (position[known[name].name], name != known[name].name))
    return {name: known[name] for name in ordered}


def _near(pattern: str, known: list[str]) -> str:
    """The end of a message about a pattern that matches nothing: the names that have it inside them, else those that
    resemble it, else those whose last part resembles its last part."""
    tails = {name.rpartition(".")[2]: name for name in reversed(known)}
    near = [name for name in known if fnmatchcase(name, f"*{pattern}*")]
    near = near or difflib.get_close_matches(pattern, known)
    near = near or [tails[tail] for tail in difflib.get_close_matches(pattern.rpartition(".")[2], tails)]
    return f"; near it: {', '.join(near[:3])}" if near else "; `tinymvit summary` lists the nodes"


def facts(name: str, node: Node) -> dict[str, Any]:
    """What a manifest says of a value beside its numbers: op, attributes, inputs and weights, by their names."""
    known: dict[str, Any] = {
        "op": type(node.op).__name__,
        "attributes": attributes(node.op),
        "inputs": list(node.inputs),
        "weights": list(node.weights),
    }
    return known if name == node.name else {"node": node.name} | known


def attributes(op: Op) -> dict[str, Any]:
    """An op's fields, as JSON can hold them."""
    return {field.name: _as_json(getattr(op, field.name)) for field in fields(op)}


def _as_json(value: Any) -> Any:
    if isinstance(value, Op):  # the op inside a fused one
        return {"op": type(value).__name__} | attributes(value)
    if isinstance(value, Quantisation):
        return asdict(value)
    return getattr(value, "__name__", type(value).__name__) if callable(value) else value
