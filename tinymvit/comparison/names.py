"""What the name of a tensor of theirs means: a node of ours, whatever wrappers put before it.

A name may be a node's, a module's whose output a node makes, or a result's. The nearer kind comes first: a tensor that
has a node's own name is taken for it before one that has the name of a module.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field

from tinymvit.errors import DumpError
from tinymvit.graph import Graph
from tinymvit.text import nearest
from tinymvit.weights.families.naming import BACKBONE

WRAPPERS = re.compile(r"^(?:(?:module|model|net|network|_orig_mod)\.)+")  # data parallel, training, compiling

Kinds = Sequence[Mapping[str, str]]  # for each kind of name, the nearest first: canonical names to our own


@dataclass(frozen=True)
class Match:
    """A tensor of theirs and how it was found: by "name", "map" or "guess". order: the order of its axes that a guess
    rests on, None if it may be any."""

    theirs: str
    how: str
    order: str | None = None


def canonical(name: str) -> str:
    """A name without `mobilevit.` and what stands before it, since dumps come with and without it, and a head's name
    without that of the usual wrappers."""
    return WRAPPERS.sub("", name.rpartition(BACKBONE)[2])


def node_names(graph: Graph) -> Kinds:
    """The names that mean nodes: of the nodes, of the modules, of the results."""
    kinds = ({node.name: node.name for node in graph}, graph.modules, graph.outputs)
    return [{canonical(name): node for name, node in kind.items()} for kind in kinds]


def spelled_out(graph: Graph) -> dict[str, str]:
    """Canonical names to our names of nodes, modules and results, as we write them."""
    return {canonical(name): name for name in (*graph.outputs, *graph.modules, *graph.nodes)}


def check_map(given: Mapping[str, str], theirs: Iterable[str], known: Kinds) -> None:
    """Raise DumpError if the user's map names a tensor that the dump lacks or a node that we lack."""
    for tensor, node in given.items():
        if tensor not in theirs:
            hint = "; the map goes from their names to ours" if node in theirs else _near(tensor, list(theirs))
            raise DumpError(f"the map names the tensor {tensor!r}, which their dump lacks{hint}")
        if not any(canonical(node) in kind for kind in known):
            nodes = list(dict.fromkeys(node for kind in known for node in kind.values()))
            raise DumpError(f"the map names the node {node!r}, which is none of ours{_near(node, nodes)}")


def mostly(meant: Sized, dump: Sized) -> bool:
    """Whether so many names mean something that those of the whole dump are taken to be of that kind."""
    return 2 * len(meant) >= len(dump)


@dataclass(frozen=True)
class Names:
    """What the names of a dump are taken for. given: the user's map from their names to ours, which goes first. family:
    our names for those that another family of checkpoints has. by_chance: names that are ours by chance and mean
    nothing."""

    given: Mapping[str, str]
    family: Mapping[str, str] = field(default_factory=dict)
    by_chance: frozenset[str] = frozenset()

    def ours(self, tensor: str) -> str:
        """Our name for a tensor, by the map or the family; else its own."""
        return self.given.get(tensor) or self.family.get(tensor, tensor)

    def meaning(self, tensor: str, known: Kinds) -> tuple[int, str] | None:
        """Of which kind a tensor's name is, and the node that it means; None if it means nothing."""
        if tensor in self.by_chance:
            return None
        name = canonical(self.ours(tensor))
        return next(((kind, nodes[name]) for kind, nodes in enumerate(known) if name in nodes), None)


def match_by_name(known: Kinds, theirs: Iterable[str], names: Names) -> dict[str, Match]:
    """Nodes to tensors of theirs: for each node the tensor whose name is of the nearest kind, the user's map before all
    else. Raises DumpError if two tensors have the same claim to a node."""
    claims: dict[str, _Claim] = {}
    for tensor in theirs:
        claim = _claim(tensor, known, names)
        if claim is None:
            continue
        earlier = claims.get(claim.node)
        if earlier is None or claim.rank < earlier.rank:
            claims[claim.node] = claim
        elif claim.rank == earlier.rank and claim.name == earlier.name and tensor not in names.family:
            raise DumpError(f"two tensors mean {claim.node}: {earlier.tensor!r} and {tensor!r}; expected one")
    return {node: Match(claim.tensor, "map" if claim.by_map else "name") for node, claim in claims.items()}


@dataclass(frozen=True)
class _Claim:
    """A tensor of theirs that means a node. name: what it means, canonical. by_map: whether the map says so. rank: the
    claim of the least rank wins; the map goes first, then the nearer kind of name."""

    tensor: str
    node: str
    name: str
    by_map: bool
    rank: tuple[bool, int]


def _claim(tensor: str, known: Kinds, names: Names) -> _Claim | None:
    """What a tensor means by the map or else by its name; None if that is nothing."""
    meaning, by_map = names.meaning(tensor, known), tensor in names.given
    if meaning is None:
        return None
    kind, node = meaning
    return _Claim(tensor, node, canonical(names.ours(tensor)), by_map, (not by_map, kind))


def namesakes(known: Kinds, theirs: Iterable[str], names: Names, matches: Mapping[str, Match]) -> dict[str, list[str]]:
    """For each node the other tensors whose names mean it too.

    A tensor is left out if the map says that another tensor is what its own name means. The tensor named after the
    whole backbone is left out too, because the backbone has several results.
    """
    found: dict[str, list[str]] = {}
    left_out = {BACKBONE.rstrip("."), *map(canonical, names.given.values())}
    for tensor in theirs:
        if tensor not in names.given and canonical(names.ours(tensor)) in left_out:
            continue
        meaning = names.meaning(tensor, known)
        if meaning is not None and matches[meaning[1]].theirs != tensor:
            found.setdefault(meaning[1], []).append(tensor)
    return found


def _near(name: str, names: Sequence[str]) -> str:
    near = nearest(name, names, cutoff=0.5)
    return "" if near is None else f"; did you mean {near!r}?"
