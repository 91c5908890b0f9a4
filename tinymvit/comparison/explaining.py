"""Fourth stage: why a tensor of theirs is not right: a conversion that is no mistake, or a known mistake.

Conversions are told by `conversions`, mistakes found by `hints`.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinymvit.comparison.conversions import node_held, node_held_wrongly, scale_and_shift_behind
from tinymvit.comparison.hints import Found, find_mistakes
from tinymvit.comparison.isolation import Expected, follows
from tinymvit.comparison.mistakes import SCALE_AND_SHIFT
from tinymvit.comparison.network import Network
from tinymvit.comparison.port import Port
from tinymvit.comparison.verdict import Hint, Judgement
from tinymvit.graph import Node
from tinymvit.ops import LayerNorm


@dataclass(frozen=True, eq=False)
class Explanation:
    """What a judgement comes from.

    port: what is known of the port now. hints: the known mistakes that explain the tensor. holds: the later node whose
    value it holds, as converters fold ops; it is judged there. unscaled: whether it is a norm's without scale and
    shift, which were folded into what reads it; it is judged there.
    """

    port: Port
    hints: tuple[Hint, ...] = ()
    holds: Node | None = None
    unscaled: bool = False
    notes: tuple[str, ...] = ()


def explain(
    network: Network, port: Port, expected: Expected, judgement: Judgement, *, isolate: bool, search: bool
) -> Explanation:
    """Explain the judgement of a node's tensor. Mistakes are looked for only if `search`."""
    node = expected.node
    if judgement.ok:
        return Explanation(port)
    held = node_held(network, port, expected)
    if held is not None:
        return Explanation(port.with_tensor_moved(node, held), holds=held)
    if not search:
        return Explanation(port)
    found = find_mistakes(network, port, node)
    if found.hints:
        return _by_mistake(network, _knowing(port, found), node, found)
    folded = node_held_wrongly(network, port, node)
    if folded is not None:
        held, found = folded
        return Explanation(_knowing(port.with_tensor_moved(node, held), found), holds=held)
    return Explanation(port.after_a_search_in_vain(), notes=() if isolate else _came_before(network, port, node))


def _by_mistake(network: Network, port: Port, node: Node, found: Found) -> Explanation:
    """These mistakes explain the tensor, unless what seems to be one is a conversion."""
    if isinstance(node.op, LayerNorm) and Hint(node.name, SCALE_AND_SHIFT) in found.hints:
        behind = scale_and_shift_behind(network, port, node)
        if behind is not None:
            return Explanation(_knowing(port.without(node), behind), unscaled=True)
    return Explanation(port, found.hints)


def _knowing(port: Port, found: Found) -> Port:
    return port if found.mistake is None else port.with_mistake(found.mistake)


def _came_before(network: Network, port: Port, node: Node) -> tuple[str, ...]:
    if not follows(network, port, node):
        return ()
    return (
        f"{node.name} is right on their own inputs: the difference came in before it, "
        "each step within tolerance; --isolate judges each op alone",
    )
