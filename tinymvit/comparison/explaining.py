"""Fourth stage: why a tensor of theirs is not right. It may come of a conversion, which is no mistake, or of a mistake.

`conversions` tells the conversions, `hints` finds the known mistakes.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinymvit.comparison.conversions import node_held, node_held_wrongly, scale_and_shift_behind
from tinymvit.comparison.hints import Made, find_mistakes
from tinymvit.comparison.isolation import Expected, follows
from tinymvit.comparison.mistakes import SCALE_AND_SHIFT
from tinymvit.comparison.port import Port
from tinymvit.comparison.reference_run import ReferenceRun
from tinymvit.comparison.verdict import Hint, Judgement
from tinymvit.graph import Node
from tinymvit.ops import LayerNorm


@dataclass(frozen=True, eq=False)
class Explanation:
    """What a judgement comes from.

    port: what is known of the port now. hints: the known mistakes that explain the tensor. holds: the later node whose
    value the tensor holds, because a converter folded ops; it is judged as that node's. unscaled: whether the tensor is
    a layer norm's value before scale and shift, which a converter folded into the ops that read it; it is judged
    together with those.
    """

    port: Port
    hints: tuple[Hint, ...] = ()
    holds: Node | None = None
    unscaled: bool = False
    notes: tuple[str, ...] = ()


def explain(
    run: ReferenceRun, port: Port, expected: Expected, judgement: Judgement, *, isolate: bool, search: bool
) -> Explanation:
    """Explain the judgement of a node's tensor. Mistakes are looked for only if `search`."""
    node = expected.node
    if judgement.ok:
        return Explanation(port)
    held = node_held(run, port, expected)
    if held is not None:
        return Explanation(port.with_tensor_moved(node, held), holds=held)
    if not search:
        return Explanation(port)
    found = find_mistakes(run, port, node)
    if found:
        return _by_mistake(run, _knowing(port, found), node, found)
    folded = node_held_wrongly(run, port, node)
    if folded is not None:
        held, found = folded
        return Explanation(_knowing(port.with_tensor_moved(node, held), found), holds=held)
    return Explanation(port.after_a_search_in_vain(), notes=() if isolate else _came_before(run, port, node))


def _by_mistake(run: ReferenceRun, port: Port, node: Node, found: tuple[Made, ...]) -> Explanation:
    """These mistakes explain the tensor, unless what seems to be one is a conversion."""
    if isinstance(node.op, LayerNorm) and any(made.is_only(SCALE_AND_SHIFT, node) for made in found):
        behind = scale_and_shift_behind(run, port, node)
        if behind is not None:
            return Explanation(_knowing(port.without(node), behind), unscaled=True)
    return Explanation(port, tuple(made.hint for made in found))


def _knowing(port: Port, found: tuple[Made, ...]) -> Port:
    return port.with_mistake(found[0].mistake) if found else port


def _came_before(run: ReferenceRun, port: Port, node: Node) -> tuple[str, ...]:
    if not follows(run, port, node):
        return ()
    return (
        f"{node.name} is right on their own inputs: the difference came in before it, "
        "each step within tolerance; --isolate judges each op alone",
    )
