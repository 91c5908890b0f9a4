"""The graph: a model as named operations in the order they run.

An *op* (`ops`) says what is computed. A *node* is an op in its place: its name, the names of its inputs and of its
weight tensors, its output shape. `networks` writes graphs down; `reference`, `engine` and `inspection` read them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tinymvit import ops
from tinymvit.ops import BUFFERS, Op, Shape


@dataclass(frozen=True)
class Node:
    """An op in its place. `name` is the PyTorch path of the module whose output this is, where there is one."""

    name: str
    op: Op
    inputs: tuple[str, ...]
    weights: tuple[str, ...]  # names of the tensors, in the order of op.weight_shapes()
    shape: Shape


@dataclass
class Graph:
    """Nodes in the order they run.

    `modules` names, for each PyTorch module that is not itself a node (a block, a dropout), the node whose output is
    the module's output. `outputs` maps a result's public name ("logits", "hidden_states.0") to its node.
    """

    nodes: dict[str, Node] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, op: Op, *inputs: Node) -> Node:
        """Append an op whose weights are named after the node, and return its node."""
        shape = op.output_shape(*(node.shape for node in inputs))
        weights = tuple(f"{name}.{role}" for role in op.weight_shapes())
        return self.append(Node(name, op, tuple(node.name for node in inputs), weights, shape))

    def append(self, node: Node) -> Node:
        """Append a finished node; its name must be new and its inputs known."""
        if node.name in self.nodes:
            raise ValueError(f"two nodes are named {node.name}")
        for name in node.inputs:
            if name not in self.nodes:
                raise ValueError(f"node {node.name} reads {name}, which no node before it makes")
        self.nodes[node.name] = node
        return node

    def module(self, path: str, node: Node) -> Node:
        """Record that `node`'s output is that of the PyTorch module at `path`."""
        if path != node.name:
            self.modules[path] = node.name
        return node

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def __len__(self) -> int:
        return len(self.nodes)

    def __getitem__(self, name: str) -> Node:
        """The node of this name, or the node whose output is that of the module of this name."""
        return self.nodes[self.modules.get(name, name)]

    def inputs_of(self, node: Node) -> list[Node]:
        return [self.nodes[name] for name in node.inputs]

    def multiply_adds(self, node: Node) -> int:
        """Multiply-adds of one node at its shapes."""
        return node.op.multiply_adds(node.shape, *(source.shape for source in self.inputs_of(node)))

    def weight_shapes(self) -> dict[str, Shape]:
        """Every weight tensor's name and shape, in the order of use: what a checkpoint must hold."""
        return {
            name: shape
            for node in self
            for name, shape in zip(node.weights, node.op.weight_shapes().values(), strict=True)
        }

    def select(self, outputs: Iterable[str]) -> Graph:
        """The part of the graph that these outputs need."""
        wanted = {name: self.outputs[name] for name in outputs}
        needed = set(wanted.values())
        for node in reversed(self.nodes.values()):
            if node.name in needed:
                needed.update(node.inputs)
        nodes = {name: node for name, node in self.nodes.items() if name in needed}
        return Graph(nodes, {path: name for path, name in self.modules.items() if name in needed}, wanted)


def parameters(node: Node) -> int:
    """The number of a node's parameters as PyTorch counts them: running statistics are none."""
    return sum(math.prod(shape) for role, shape in node.op.weight_shapes().items() if role not in BUFFERS)


def last_use(graph: Graph) -> Mapping[str, int]:
    """For each node, the position of the last node that reads it; an output is read at the end."""
    position = {name: index for index, name in enumerate(graph.nodes)}
    for index, node in enumerate(graph):
        for name in node.inputs:
            position[name] = index
    return position | dict.fromkeys(graph.outputs.values(), len(graph))


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Version 0.1 had the ops in this module, and they are still found here."""
        try:
            return getattr(ops, name)
        except AttributeError:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
