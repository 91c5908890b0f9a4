"""Which known mistake explains a tensor: each is tried in place of the right op, and what it gives held against theirs.

The mistakes themselves are in `mistakes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from tinymvit.comparison.isolation import Isolation
from tinymvit.comparison.layouts import squeezed
from tinymvit.comparison.mistakes import SCALE_AND_SHIFT, Mistake, mistakes
from tinymvit.comparison.tolerance import difference, rms
from tinymvit.comparison.verdict import Hint
from tinymvit.graph import Node
from tinymvit.inspection.summary import describe

Array = np.ndarray

HINTED_OPS = 16  # ops judged together, at most, for a hint to be looked for: unfold and a whole transformer layer
IN_VAIN = 10  # tensors, at most, that are searched for all mistakes without finding one
HINTS = 3  # of a row, at most
NEAR = 0.01  # relative error beyond which a mistake is not even tried in float32
CLOSER = 4.0  # times closer than the right value a mistake must be: what is about as far explains nothing


class Search:
    """Looks for the mistakes that explain tensors: first those that explained others, since who makes a mistake makes
    it everywhere; then all, which takes long and so stops when it was IN_VAIN too often."""

    def __init__(self, alone: Isolation) -> None:
        self.alone, self.port = alone, alone.port
        self.known = {SCALE_AND_SHIFT}  # not to be missed: where a converter left them out it is no mistake
        self.left = IN_VAIN

    def hints(self, target: Node) -> tuple[Hint, ...]:
        """The known mistakes that explain their tensor for this node to tolerance: an op's alone before all alike, the
        closest first."""
        nodes = self.alone.together(target)
        x = self.port.numbers(target.name)
        if len(nodes) > HINTED_OPS or x is None:
            return ()
        inputs = self.alone.inputs(nodes)
        away = self._from_right(nodes, inputs, target, x)
        for tried_before in (True, False) if self.left > 0 else (True,):
            found = []
            for where, sentence in _suspects(nodes):
                if (sentence in self.known) is tried_before:
                    wrong = {node.name: mistakes(node.op)[sentence] for node in where}
                    error = self._error(nodes, inputs, wrong, target, x, away)
                    if error is not None:
                        every = f" (at every {describe(where[0].op)} of these)" if len(where) > 1 else ""
                        found.append((len(where) > 1, error, sentence, Hint(where[0].name, sentence + every)))
            if found:
                found.sort(key=lambda entry: entry[:2])
                self.known.add(found[0][2])
                return tuple(hint for *_, hint in found)
        return ()

    def _error(
        self,
        nodes: list[Node],
        inputs: Mapping[str, Array],
        wrong: Mapping[str, Mistake],
        target: Node,
        x: Array,
        away: float,
    ) -> float | None:
        """How far theirs is from what these mistakes give, relative to its rms; None if further than rounding, or
        hardly closer than the right value, which it is `away` from."""
        try:
            truth = self.alone.run(nodes, inputs, np.float64, wrong)
        except (ValueError, IndexError):  # arrays of a shape that the next op cannot take
            return None
        if truth is None:
            return None
        readings = (
            [option.undo(x) for option in self.port.readings(target.name, x)] if truth.shape == target.shape else []
        )
        if not readings and squeezed(x.shape) == squeezed(truth.shape):
            readings = [x.reshape(truth.shape)]
        for value in readings:
            distance = rms(difference(value, truth))
            error = distance / (rms(truth) or 1)
            if not error < NEAR or CLOSER * distance > away:
                continue
            rounded = self.alone.run(nodes, inputs, np.float32, wrong)
            if rounded is not None and self.port.limit(target.name, truth, rounded).allows(value, truth):
                return error
        return None

    def _from_right(self, nodes: list[Node], inputs: Mapping[str, Array], target: Node, x: Array) -> float:
        """The rms of what theirs differs by from the right value; infinite if it cannot be read as one."""
        truth = self.alone.value(nodes, inputs, np.float64)
        readings = self.port.readings(target.name, x)
        return min((rms(difference(option.undo(x), truth)) for option in readings), default=np.inf)


def _suspects(nodes: list[Node]) -> Iterator[tuple[list[Node], str]]:
    """Every mistake at each of these ops, then at all the ops of a kind."""
    kinds: dict[type, list[Node]] = {}
    for node in nodes:
        kinds.setdefault(type(node.op), []).append(node)
        yield from (([node], sentence) for sentence in mistakes(node.op))
    for alike in kinds.values():
        if len(alike) > 1:
            yield from ((alike, sentence) for sentence in mistakes(alike[0].op))
