"""Which tensor of a foreign dump is which node of our graph: by name, by a user's map, by shape and order.

Names only and a few statistics: what the values say about right and wrong is left to `comparison`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tinymvit.errors import DumpError
from tinymvit.graph import Graph

PIXELS = "pixel_values"
PREFIX = "mobilevit."  # the attribute of a model with a head that holds the backbone; dumps come with and without it
WRAPPERS = re.compile(r"^(?:(?:module|model|net|network|_orig_mod)\.)+")  # data parallel, training, compiling
CLOSE = 1e-3  # of the rms: how close the statistics of a supported pair are


@dataclass(frozen=True)
class Match:
    """A tensor of theirs and how it was found: by "name", "map" or "guess"."""

    theirs: str
    how: str


@dataclass(frozen=True)
class Statistics:
    """Numbers that no change of layout changes."""

    mean: float
    rms: float
    low: float
    high: float

    @classmethod
    def of(cls, x: np.ndarray) -> Statistics:
        if x.size == 0:
            return cls(np.nan, np.nan, np.nan, np.nan)
        x = np.asarray(x, np.float64)
        return cls(float(x.mean()), float(np.sqrt((x * x).mean())), float(x.min()), float(x.max()))

    def close_to(self, other: Statistics) -> bool:
        """Whether they may describe one tensor computed twice. NaN is close to nothing."""
        here, there = (np.array([s.mean, s.rms, s.low, s.high]) for s in (self, other))
        return bool((np.abs(here - there) <= CLOSE * self.rms).all())


def canonical(name: str) -> str:
    """A name without what may stand around a backbone, `mobilevit.` and whatever a wrapper put before that, and of a
    head's name without the usual wrappers'."""
    return WRAPPERS.sub("", name.rpartition(PREFIX)[2])


def known_names(graph: Graph) -> list[dict[str, str]]:
    """Canonical names to nodes, the closest kind of name first: nodes, modules that pass a node on, outputs."""
    kinds = ({node.name: node.name for node in graph}, graph.modules, graph.outputs)
    return [{canonical(name): node for name, node in kind.items()} for kind in kinds]


def check_map(given: Mapping[str, str], names: Iterable[str], known: list[dict[str, str]]) -> None:
    """Raise DumpError if the user's map names a tensor that the dump lacks or a node that we lack."""
    for theirs, ours in given.items():
        if theirs not in names:
            hint = "; the map goes from their names to ours" if ours in names else _near(theirs, list(names))
            raise DumpError(f"the map names the tensor {theirs!r}, which their dump lacks{hint}")
        if not any(canonical(ours) in kind for kind in known):
            nodes = list(dict.fromkeys(node for kind in known for node in kind.values()))
            raise DumpError(f"the map names the node {ours!r}, which is none of ours{_near(ours, nodes)}")


def match_names(known: list[dict[str, str]], names: Iterable[str], given: Mapping[str, str]) -> dict[str, Match]:
    """Nodes to tensors of theirs, for each node the tensor whose name is closest. `given` maps names of theirs to
    names of ours and comes before all else. Raises DumpError if two tensors have the same claim to a node."""
    claims: dict[str, tuple[int, str]] = {}  # node -> how close the name is, the tensor
    for theirs in names:
        found = _meaning(given.get(theirs, theirs), known)
        if found is None:
            continue
        closeness, node = found
        claim = (-1 if theirs in given else closeness), theirs
        rival = claims.get(node, (len(known), ""))
        same = canonical(given.get(theirs, theirs)) == canonical(given.get(rival[1], rival[1]))
        if claim[0] == rival[0] and (same or theirs in given):
            raise DumpError(f"two tensors mean {node}: {rival[1]!r} and {theirs!r}; expected one")
        claims[node] = claim if claim[0] < rival[0] else rival
    return {node: Match(theirs, "map" if theirs in given else "name") for node, (_, theirs) in claims.items()}


def namesakes(
    known: list[dict[str, str]], names: Iterable[str], given: Mapping[str, str], matches: Mapping[str, Match]
) -> dict[str, list[str]]:
    """For each node the tensors that mean it too but are not the one that is read, be it that their names are less
    close. A tensor whose very name the map gives to another is left out, and so is the backbone's own, as it has
    several results."""
    found: dict[str, list[str]] = {}
    left_out = {PREFIX.rstrip("."), *map(canonical, given.values())}
    for theirs in names:
        meaning = None if theirs in given or canonical(theirs) in left_out else _meaning(theirs, known)
        if meaning is not None and matches[meaning[1]].theirs != theirs:
            found.setdefault(meaning[1], []).append(theirs)
    return found


def has_a_name(theirs: str, known: list[dict[str, str]], given: Mapping[str, str]) -> bool:
    """Whether a tensor of theirs has a name that means something, be it used or another of the same meaning."""
    return theirs in given or _meaning(theirs, known) is not None


def _meaning(name: str, known: list[dict[str, str]]) -> tuple[int, str] | None:
    """Of which kind a name is, and the node that it means; None if it means nothing."""
    kinds = ((closeness, kind.get(canonical(name))) for closeness, kind in enumerate(known))
    return next(((closeness, node) for closeness, node in kinds if node is not None), None)


def align(
    ours: Sequence[str],
    theirs: Sequence[str],
    fits: Callable[[str, str], bool],
    alike: Callable[[str, str], bool],
    by_shape_alone: bool,
) -> dict[str, str]:
    """Nodes to tensors, both in their order: the alignment with the most pairs whose statistics agree.

    If `by_shape_alone`, then behind the last of these that with the most pairs whose shapes agree: before it, what does
    not agree was hardly computed from what does.
    """
    fit, like = np.zeros((2, len(ours), len(theirs)), bool)
    for i, node in enumerate(ours):
        for j, name in enumerate(theirs):
            fit[i, j] = fits(node, name)
            like[i, j] = fit[i, j] and alike(node, name)
    pairs = _longest(like)
    if by_shape_alone:
        i, j = pairs[-1] if pairs else (-1, -1)
        pairs += [(i + 1 + k, j + 1 + m) for k, m in _longest(fit[i + 1 :, j + 1 :])]
    return {ours[i]: theirs[j] for i, j in pairs}


def _longest(may: np.ndarray) -> list[tuple[int, int]]:
    """The most pairs (i, j) with may[i, j], both rising; of several such the earliest i."""
    rows, columns = may.shape
    best = np.zeros((rows + 1, columns + 1), int)  # best[i, j]: pairs in may[i:, j:]
    for i in reversed(range(rows)):
        for j in reversed(range(columns)):
            best[i, j] = best[i + 1, j + 1] + 1 if may[i, j] else max(best[i + 1, j], best[i, j + 1])
    pairs = []
    i = j = 0
    while i < rows and j < columns:
        if may[i, j]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif best[i, j] == best[i, j + 1]:
            j += 1
        else:
            i += 1
    return pairs


def _near(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
