"""Second stage: how a tensor of theirs lies in memory, and its value in our layout.

Where its shape fits several layouts the values decide: the one in which the tensor is right, else the one that was
right most often before. What "right" means is defined in `tolerance`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tinymvit.comparison.isolation import Expected, in_isolation, inputs_of, ops_between
from tinymvit.comparison.layouts import MAP, VECTOR, Arrangement, arrangements
from tinymvit.comparison.names import Match
from tinymvit.comparison.port import Port
from tinymvit.comparison.reference_run import ReferenceRun
from tinymvit.comparison.tolerance import Tolerance
from tinymvit.comparison.verdict import Verdict
from tinymvit.graph import Node
from tinymvit.inspection.summary import describe
from tinymvit.numerics import Array, difference, rms
from tinymvit.ops import Context, Fold, Shape


@dataclass(frozen=True, eq=False)
class Reading:
    """A tensor of theirs as the value of a node of ours.

    op, shape: the node's. their_shape: the tensor's own. together: as in `Expected`. truth: the right value. fault: why
    the tensor cannot be read, or None. value, arrangement, tolerance: the tensor in our layout, in float64, the layout
    that it had, and how far from the truth it may be. right: whether it is no further. other_orders: if it is right,
    the other orders of axes that its shape allows. tokens_reordered: whether it can be read only with orders of tokens
    that a mistake gives too.
    """

    node: str
    op: str
    shape: Shape
    match: Match
    their_shape: Shape
    together: tuple[str, ...]
    truth: Array
    fault: Verdict | None = None
    value: Array | None = None
    arrangement: Arrangement | None = None
    tolerance: Tolerance | None = None
    right: bool = False
    other_orders: tuple[str, ...] = ()
    tokens_reordered: bool = False
    notes: tuple[str, ...] = ()


def read(run: ReferenceRun, port: Port, expected: Expected, isolate: bool) -> Reading:
    """Their tensor for a node.

    If it is not right as it stands, it may be read in an order of tokens that a mistake gives too, provided that the
    tensors behind it show that this was no mistake. In isolation, if its inputs are not finite, only those of its
    values count for which the truth is finite.
    """
    reading = read_tensor(port, expected)
    if reading.right or reading.fault is Verdict.NOT_NUMBERS:
        return reading
    if _tokens_are_reordered(run, port, expected):
        port = port.with_tokens_reordered()
        reading = replace(read_tensor(port, expected), tokens_reordered=True)
    if reading.value is None or not isolate or np.isfinite(difference(reading.value, reading.truth)).all():
        return reading
    inputs = inputs_of(port, ops_between(run, port, expected.node))
    if all(np.isfinite(x).all() for x in inputs.values()):
        return reading
    note = f"{reading.node}: its input is not finite, so it is judged only where its value is"
    partly = read_tensor(port, expected, only_finite=True)
    return replace(partly, tokens_reordered=reading.tokens_reordered, notes=(note,))


def read_tensor(port: Port, expected: Expected, only_finite: bool = False) -> Reading:
    """Their tensor for a node as it stands. only_finite: whether to take it for right where the truth is not finite."""
    node, truth = expected.node, expected.truth
    match, x = port.matches[node.name], port.numbers(node.name)
    their_shape = port.dump.shape(match.theirs)
    reading = Reading(node.name, describe(node.op), node.shape, match, their_shape, expected.together, truth)
    if x is None:
        return replace(reading, fault=Verdict.NOT_NUMBERS)
    tolerance = port.tolerance(node.name, truth, expected.rounded)
    values = {option: option.undo(x) for option in port.arrangements(node.name, x)}
    if only_finite:
        values = {option: np.where(np.isfinite(truth), value, truth) for option, value in values.items()}
    right = [option for option, value in values.items() if tolerance.allows(value, truth)]
    believable = right or [option for option in values if match.order == option.order or _believable(port, option)]
    if not believable:
        return replace(reading, fault=Verdict.SHAPE)
    option = right[0] if right else _likeliest(port, believable, values, truth)
    return replace(
        reading,
        value=values[option],
        arrangement=option,
        tolerance=tolerance,
        right=bool(right),
        other_orders=tuple(other.order for other in values if other is not option) if right else (),
    )


def remember(port: Port, reading: Reading) -> Port:
    """What is known of the port after this reading."""
    if reading.tokens_reordered:
        port = port.with_tokens_reordered()
    if reading.arrangement is None:
        return port
    return port.after_reading(reading.node, reading.arrangement, reading.right)


def _believable(port: Port, option: Arrangement) -> bool:
    """Whether a wrong tensor may be read so. An order that is not ours, that no right tensor had and
    that no guess rests on fits by chance."""
    return option.order in (*MAP, *VECTOR, option.axes.orders[0]) or port.times_confirmed(option) > 0


def _likeliest(port: Port, options: list[Arrangement], values: dict[Arrangement, Array], truth: Array) -> Arrangement:
    """The likeliest of layouts in all of which the tensor is wrong: the one that was confirmed most often elsewhere, or
    of several such the one with the least error."""
    most = [option for option in options if port.times_confirmed(option) == port.times_confirmed(options[0])]
    return min(most, key=lambda option: rms(difference(values[option], truth)))


# ---- tokens in orders that a mistake gives too ----


def _tokens_are_reordered(run: ReferenceRun, port: Port, expected: Expected) -> bool:
    """Whether their tensor for a node is right in such an order and no mistake: the first tensor behind the next
    attention is right too, which it would not be if the attention had seen other tokens."""
    node = expected.node
    if len(node.shape) != 3 or port.axes[node.name].reordered or not _right_in_some_order(port, expected):
        return False
    attended = first_attended(run, port, node)
    return attended is not None and _right_in_some_order(port, in_isolation(run, port, attended))


def _right_in_some_order(port: Port, expected: Expected) -> bool:
    node = expected.node.name
    x, axes = port.numbers(node), replace(port.axes[node], reordered=True)
    if x is None:
        return False
    tolerance = port.tolerance(node, expected.truth, expected.rounded)
    options = arrangements(x.shape, axes, port.settings.layout)
    return any(tolerance.allows(option.undo(x), expected.truth) for option in options)


def first_attended(run: ReferenceRun, port: Port, node: Node) -> Node | None:
    """The first node with a tensor of theirs, this one or later in its block, whose tokens an attention made. Behind
    the block others are unfolded, of which these tell nothing."""
    nodes = list(run.graph)
    attended = False
    for later in nodes[nodes.index(node) :]:
        if isinstance(later.op, Fold):
            return None
        attended = attended or isinstance(later.op, Context)
        if attended and later.name in port.matches and len(later.shape) == 3:
            return later
    return None
