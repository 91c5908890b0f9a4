"""What the name of a tensor of theirs means: a node of ours, whatever wrappers put before it.

A name may be a node's, a module's whose output a node makes, or a result's. The nearer kind comes first: a tensor that
has a node's own name is taken for it before one that has the name of a module.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

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


def match_by_name(known: Kinds, theirs: Iterable[str], given: Mapping[str, str]) -> dict[str, Match]:
    """Nodes to tensors of theirs: for each node the tensor whose name is of the nearest kind. `given` maps names of
    theirs to ours and comes before all else. Raises DumpError if two tensors have the same claim to a node."""
    claims: dict[str, _Claim] = {}
    for tensor in theirs:
        claim = _claim(tensor, known, given)
        if claim is None:
            continue
        earlier = claims.get(claim.node)
        if earlier is None or claim.rank < earlier.rank:
            claims[claim.node] = claim
        elif claim.rank == earlier.rank and claim.name == earlier.name:
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


def _claim(tensor: str, known: Kinds, given: Mapping[str, str]) -> _Claim | None:
    """What a tensor means by the map or else by its name; None if that is nothing."""
    name, by_map = given.get(tensor, tensor), tensor in given
    meaning = _meaning(name, known)
    if meaning is None:
        return None
    kind, node = meaning
    return _Claim(tensor, node, canonical(name), by_map, (not by_map, kind))


def namesakes(
    known: Kinds, theirs: Iterable[str], given: Mapping[str, str], matches: Mapping[str, Match]
) -> dict[str, list[str]]:
    """For each node the other tensors whose names mean it too.

    A tensor is left out if the map says that another tensor is what its own name means. The tensor named after the
    whole backbone is left out too, because the backbone has several results.
    """
    found: dict[str, list[str]] = {}
    left_out = {BACKBONE.rstrip("."), *map(canonical, given.values())}
    for tensor in theirs:
        if tensor not in given and canonical(tensor) in left_out:
            continue
        meaning = _meaning(given.get(tensor, tensor), known)
        if meaning is not None and matches[meaning[1]].theirs != tensor:
            found.setdefault(meaning[1], []).append(tensor)
    return found


def means_something(tensor: str, known: Kinds, given: Mapping[str, str]) -> bool:
    """Whether the name of this tensor of theirs means a node, or the map says which."""
    return tensor in given or _meaning(tensor, known) is not None


def _meaning(name: str, known: Kinds) -> tuple[int, str] | None:
    """Of which kind a name is, and the node that it means; None if it means nothing."""
    for kind, nodes in enumerate(known):
        if canonical(name) in nodes:
            return kind, nodes[canonical(name)]
    return None


def _near(name: str, names: Sequence[str]) -> str:
    near = nearest(name, names, cutoff=0.5)
    return "" if near is None else f"; did you mean {near!r}?"
