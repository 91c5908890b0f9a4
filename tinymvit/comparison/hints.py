"""Which known mistakes explain a tensor: each is made in place of the right op, and its result is held against theirs.

The mistakes themselves are in `mistakes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from tinymvit.comparison.isolation import inputs_of, ops_between
from tinymvit.comparison.layouts import squeezed
from tinymvit.comparison.mistakes import SCALE_AND_SHIFT, Mistake, mistakes
from tinymvit.comparison.port import Port
from tinymvit.comparison.reference_run import ReferenceRun
from tinymvit.comparison.verdict import Hint
from tinymvit.graph import Node
from tinymvit.inspection.summary import describe
from tinymvit.numerics import Array, difference, rms

HINTED_OPS = 16  # ops judged together, at most, for a hint to be looked for: unfold and a whole transformer layer
IN_VAIN = 10  # tensors, at most, that are searched for all mistakes without finding one
HINTS = 3  # hints on a tensor, at most
NEAR, NEAR_IN_INT8 = 0.01, 0.3  # relative errors beyond which a mistake is not even tried in float32, and in int8
CLOSER = 4.0  # times closer than the right value a mistake must be: what is about as far explains nothing


@dataclass(frozen=True, eq=False)
class Made:
    """A known mistake where it is made: at one op, or at all the ops of a kind that were judged together."""

    mistake: Mistake
    nodes: tuple[Node, ...]

    @property
    def hint(self) -> Hint:
        first = self.nodes[0]
        everywhere = f" (at every {describe(first.op)} of these)" if len(self.nodes) > 1 else ""
        return Hint(first.name, self.mistake.sentence + everywhere)

    def is_only(self, mistake: Mistake, node: Node) -> bool:
        """Whether it is this mistake, made at this node alone."""
        return self.mistake == mistake and self.nodes == (node,)


def find_mistakes(run: ReferenceRun, port: Port, target: Node) -> tuple[Made, ...]:
    """The known mistakes each of which explains their tensor for a node, as well as rounding lets one tell.

    A mistake at a single op comes before one at all the ops of a kind, then the closer one comes first. Mistakes that
    explained another tensor are tried first, because a port that makes a mistake makes it everywhere. Only if none of
    them explains this tensor all the others are tried. That takes long, so it is not done any more after IN_VAIN
    searches in vain.
    """
    nodes = ops_between(run, port, target)
    x = port.numbers(target.name)
    if len(nodes) > HINTED_OPS or x is None:
        return ()
    trial = _Trial(run, port, target, nodes, inputs_of(port, nodes), x)
    from_right = trial.distance_from_right()
    known = port.mistakes | {SCALE_AND_SHIFT}  # not to be missed: where a converter left them out it is no mistake
    suspects = list(suspects_of(nodes))
    found = trial.explaining([made for made in suspects if made.mistake in known], from_right)
    if not found and port.searches_in_vain < IN_VAIN:
        found = trial.explaining([made for made in suspects if made.mistake not in known], from_right)
    return tuple(found[:HINTS])


@dataclass(frozen=True, eq=False)
class _Trial:
    """The ops in which mistakes are made for trial, and what the result is held against.

    nodes: the ops, the last of which is `target`. inputs: what they read. x: their tensor for the target as it lies.
    """

    run: ReferenceRun
    port: Port
    target: Node
    nodes: list[Node]
    inputs: Mapping[str, Array]
    x: Array

    def explaining(self, suspects: list[Made], from_right: float) -> list[Made]:
        """Those of the suspects that explain their tensor, the best first."""
        found = []
        for made in suspects:
            error = self.error({node.name: made.mistake for node in made.nodes}, from_right)
            if error is not None:
                found.append((len(made.nodes) > 1, error, made))
        return [made for *_, made in sorted(found, key=lambda entry: entry[:2])]

    def error(self, made: Mapping[str, Mistake], from_right: float) -> float | None:
        """How far theirs is from what these mistakes give, relative to the rms of that.

        None if theirs is further from it than rounding explains, or hardly closer to it than to the right value, from
        which theirs is `from_right` away.
        """
        try:
            wrong = self.run.compute_wrongly(self.nodes, self.inputs, np.float64, made)
        except (ValueError, IndexError):  # arrays of a shape that the next op cannot take
            return None
        if wrong is None:
            return None
        for value in self._readings_as(wrong):
            distance = rms(difference(value, wrong))
            error = distance / (rms(wrong) or 1)
            if not error < (NEAR if self.run.rounding is None else NEAR_IN_INT8) or CLOSER * distance > from_right:
                continue
            rounded = self.run.compute_wrongly(self.nodes, self.inputs, np.float32, made)
            if rounded is not None and self.port.tolerance(self.target.name, wrong, rounded).allows(value, wrong):
                return error
        return None

    def distance_from_right(self) -> float:
        """The rms of the difference between theirs and the right value; infinite if no layout fits."""
        truth = self.run.compute(self.nodes, self.inputs, np.float64)
        options = self.port.arrangements(self.target.name, self.x)
        return min((rms(difference(option.undo(self.x), truth)) for option in options), default=np.inf)

    def _readings_as(self, wrong: Array) -> list[Array]:
        """Theirs in the layouts that it may have, in the shape of a wrong value, which a mistake may have changed."""
        if wrong.shape == self.target.shape:
            options = self.port.arrangements(self.target.name, self.x)
            if options:
                return [option.undo(self.x) for option in options]
        return [self.x.reshape(wrong.shape)] if squeezed(self.x.shape) == squeezed(wrong.shape) else []


def suspects_of(nodes: list[Node]) -> Iterator[Made]:
    """Every mistake at each of these ops, then at all the ops of a kind."""
    kinds: dict[type, list[Node]] = {}
    for node in nodes:
        kinds.setdefault(type(node.op), []).append(node)
        yield from (Made(mistake, (node,)) for mistake in mistakes(node.op))
    for alike in kinds.values():
        if len(alike) > 1:
            yield from (Made(mistake, tuple(alike)) for mistake in mistakes(alike[0].op))
