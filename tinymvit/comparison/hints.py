"""Which known mistake explains a tensor: each is made in place of the right op, and what it gives held against theirs.

The mistakes themselves are in `mistakes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from tinymvit.comparison.isolation import inputs_of, ops_between
from tinymvit.comparison.layouts import squeezed
from tinymvit.comparison.mistakes import SCALE_AND_SHIFT, Mistake, mistakes
from tinymvit.comparison.network import Network
from tinymvit.comparison.port import Port
from tinymvit.comparison.verdict import Hint
from tinymvit.graph import Node
from tinymvit.inspection.summary import describe
from tinymvit.numerics import Array, difference, rms

HINTED_OPS = 16  # ops judged together, at most, for a hint to be looked for: unfold and a whole transformer layer
IN_VAIN = 10  # tensors, at most, that are searched for all mistakes without finding one
HINTS = 3  # hints on a tensor, at most
NEAR = 0.01  # relative error beyond which a mistake is not even tried in float32
CLOSER = 4.0  # times closer than the right value a mistake must be: what is about as far explains nothing


@dataclass(frozen=True)
class Found:
    """The hints on a tensor, the best first; and the sentence of the best one's mistake, None if there are none."""

    hints: tuple[Hint, ...] = ()
    mistake: str | None = None


def find_mistakes(network: Network, port: Port, target: Node) -> Found:
    """The known mistakes that explain their tensor for a node to tolerance: one at a single op before one at all ops
    alike, and the closest first.

    Those that explained another tensor are tried first, since who makes a mistake makes it everywhere. If they do not,
    all others are; that takes long, and so it ends when it was in vain IN_VAIN times.
    """
    nodes = ops_between(network, port, target)
    x = port.numbers(target.name)
    if len(nodes) > HINTED_OPS or x is None:
        return Found()
    trial = _Trial(network, port, target, nodes, inputs_of(port, nodes), x)
    from_right = trial.distance_from_right()
    likely = port.mistakes | {SCALE_AND_SHIFT}  # not to be missed: where a converter left them out it is no mistake
    for tried in (True, False) if port.searches_in_vain < IN_VAIN else (True,):
        found = []
        for where, sentence in _suspects(nodes):
            if (sentence in likely) is tried:
                error = trial.error({node.name: mistakes(node.op)[sentence] for node in where}, from_right)
                if error is not None:
                    everywhere = f" (at every {describe(where[0].op)} of these)" if len(where) > 1 else ""
                    found.append((len(where) > 1, error, sentence, Hint(where[0].name, sentence + everywhere)))
        if found:
            found.sort(key=lambda entry: entry[:2])
            return Found(tuple(hint for *_, hint in found)[:HINTS], found[0][2])
    return Found()


@dataclass(frozen=True, eq=False)
class _Trial:
    """Mistakes are made in `nodes`, which read `inputs`; what the last of them, `target`, then gives is held against x,
    their tensor for it as it lies."""

    network: Network
    port: Port
    target: Node
    nodes: list[Node]
    inputs: Mapping[str, Array]
    x: Array

    def error(self, made: Mapping[str, Mistake], from_right: float) -> float | None:
        """How far theirs is from what these mistakes give, relative to its rms. None if that is further than rounding,
        or hardly closer than the right value, from which theirs is `from_right` away."""
        try:
            wrong = self.network.compute_wrongly(self.nodes, self.inputs, np.float64, made)
        except (ValueError, IndexError):  # arrays of a shape that the next op cannot take
            return None
        if wrong is None:
            return None
        for value in self._readings_as(wrong):
            distance = rms(difference(value, wrong))
            error = distance / (rms(wrong) or 1)
            if not error < NEAR or CLOSER * distance > from_right:
                continue
            rounded = self.network.compute_wrongly(self.nodes, self.inputs, np.float32, made)
            if rounded is not None and self.port.tolerance(self.target.name, wrong, rounded).allows(value, wrong):
                return error
        return None

    def distance_from_right(self) -> float:
        """The rms of what theirs differs by from the right value; infinite if it cannot be read as one."""
        truth = self.network.compute(self.nodes, self.inputs, np.float64)
        options = self.port.arrangements(self.target.name, self.x)
        return min((rms(difference(option.undo(self.x), truth)) for option in options), default=np.inf)

    def _readings_as(self, wrong: Array) -> list[Array]:
        """Theirs in the layouts that it may have, in the shape of a wrong value, which a mistake may have changed."""
        if wrong.shape == self.target.shape:
            options = self.port.arrangements(self.target.name, self.x)
            if options:
                return [option.undo(self.x) for option in options]
        return [self.x.reshape(wrong.shape)] if squeezed(self.x.shape) == squeezed(wrong.shape) else []


def _suspects(nodes: list[Node]) -> Iterator[tuple[list[Node], str]]:
    """Every mistake at each of these ops, then at all the ops of a kind."""
    kinds: dict[type, list[Node]] = {}
    for node in nodes:
        kinds.setdefault(type(node.op), []).append(node)
        yield from (([node], sentence) for sentence in mistakes(node.op))
    for alike in kinds.values():
        if len(alike) > 1:
            yield from ((alike, sentence) for sentence in mistakes(alike[0].op))
