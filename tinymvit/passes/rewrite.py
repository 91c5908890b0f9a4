"""How a pass rewrites a graph: what all passes share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tinymvit.graph import Graph, Node
from tinymvit.ops import Array

Weights = Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class Deferred(Mapping[str, Array]):
    """Weights of which some are computed, each time that they are asked for. So nothing is computed for an engine whose
    weights are packed already, or to plan its memory."""

    given: Weights
    computed: Mapping[str, Callable[[], Array]]

    def __getitem__(self, name: str) -> Array:
        return self.computed[name]() if name in self.computed else self.given[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self.given, **self.computed})

    def __len__(self) -> int:
        return len({**self.given, **self.computed})


def rewrite(
    graph: Graph, merge: Callable[[Node, Callable[[str], Node | None]], tuple[Node, list[Node]] | None]
) -> Graph:
    """The graph with each node replaced by what `merge(node, single)` gives: the merged node and those it absorbs.

    `single(name)` is the node of that name if only one node reads it and it is no output, else None.
    """
    reads = Counter(name for node in graph for name in node.inputs)
    reads.update(graph.outputs.values())
    nodes: dict[str, Node] = {}

    def single(name: str) -> Node | None:
        return nodes[name] if reads[name] == 1 and name not in outputs else None

    outputs = set(graph.outputs.values())
    for node in graph:
        merged = merge(node, single)
        if merged is None:
            nodes[node.name] = node
        else:
            new, absorbed = merged
            for old in absorbed:
                del nodes[old.name]
            nodes[new.name] = new
    modules = {path: name for path, name in graph.modules.items() if name in nodes}
    return Graph(nodes, modules, dict(graph.outputs))
