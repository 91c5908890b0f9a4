"""How a foreign dump may lay a tensor out, and the way back to our shape.

A layout is an *order* of elementary axes, written `"B H W C"`. Axes of size 1 may be added or dropped and neighbours in
the order may be merged into one, so the one order `B P N D` covers (B P, N, D), (B, P, N, D), (B, P N, D) and a flat
list of numbers. A letter is merged as a whole: a tensor that is cut inside N, to join the rest with D, has the right
shape by chance, and was reshaped by mistake. Where a shape allows only one order, the tensor has that one; which of
several is right is left to `reading`, which has the values.

Legend as in `graph`, and for tokens the parts of an axis: P = i j (row and column inside a patch), N = y x (row and
column of the patch), D = h e (head, width of a head). K stands for the keys: the N patches once more, as attention
looks at them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tinymvit.graph import Graph, Node
from tinymvit.ops import Scores, Shape, Softmax, Unfold

PARTS = {"P": "i j", "N": "y x", "D": "h e", "yi": "y i", "xj": "x j"}

MAP = ("B C H W", "B H W C")
NOT_UNFOLDED = ("B D y i x j", "B y i x j D")  # still a map, whose height is y i and whose width is x j
HEADS = ("B P h N e", "h B P N e", "B h P N e")
TOKENS = (
    *("B P N D", "P B N D", "B N P D", "N B P D"),
    *("B P D N", "B D P N", "B D N P"),  # channels before the tokens
    *NOT_UNFOLDED,
    *(*HEADS, "B P h e N"),  # the last is a transposed key
)
SCORES = ("B P h N K", "P B h N K", "h B P N K", "B h P N K", "B P N K h", "B N P h K")
VECTOR = ("B C",)


@dataclass(frozen=True)
class Axes:
    """What is known of a node's tensor before its values are looked at.

    shape: ours. sizes: its elementary axes and their sizes, in our order. orders: those that theirs may have.
    reordered: whether an order of tokens that a mistake gives too is a layout here. There are two such: (B N, P, D),
    which tokens have if attention runs inside patches, and a map of as many rows as a patch has pixels, which can be
    read as (B, P, N, D) without a transpose.
    """

    shape: Shape
    sizes: tuple[tuple[str, int], ...]
    orders: tuple[str, ...]
    reordered: bool = False


@dataclass(frozen=True)
class Arrangement:
    """One way to read a foreign tensor as ours."""

    order: str
    axes: Axes

    def undo(self, theirs: np.ndarray) -> np.ndarray:
        """The tensor in our shape; a view where possible."""
        sizes = dict(self.axes.sizes)
        order = [axis for letter in _letters(self.order) for axis in letter]
        apart = theirs.reshape([sizes[axis] for axis in order])
        return apart.transpose([order.index(axis) for axis in sizes]).reshape(self.axes.shape)


def node_axes(graph: Graph) -> dict[str, Axes]:
    """The axes of each node of a graph by its name."""
    unfolds: dict[str, Node] = {}  # of each node between an unfold and its fold: the unfold's input
    axes = {}
    for node in graph:
        if isinstance(node.op, Unfold):
            unfolds[node.name] = node
        elif node.inputs and node.inputs[0] in unfolds:
            unfolds[node.name] = unfolds[node.inputs[0]]
        axes[node.name] = _axes_of(graph, node, unfolds.get(node.name))
    return axes


def _axes_of(graph: Graph, node: Node, unfold: Node | None) -> Axes:
    shape = node.shape
    if len(shape) == 2:
        return Axes(shape, tuple(zip("BC", shape, strict=True)), VECTOR)
    if unfold is None or (len(shape) == 4 and not isinstance(node.op, Scores | Softmax)):
        return Axes(shape, tuple(zip("BCHW", shape, strict=True)), MAP)
    assert isinstance(unfold.op, Unfold)
    batch, _, height, width = graph.nodes[unfold.inputs[0]].shape
    i, j = unfold.op.patch_height, unfold.op.patch_width
    place = (("B", batch), ("i", i), ("j", j))
    patches = (("y", height // i), ("x", width // j))
    if isinstance(node.op, Scores | Softmax):
        return Axes(shape, (*place, ("h", shape[1]), *patches, ("K", shape[3])), SCORES)
    heads = next((other.op.heads for other in graph if isinstance(other.op, Scores)), 1)
    heads = heads if shape[2] % heads == 0 else 1
    return Axes(shape, (*place, *patches, ("h", heads), ("e", shape[2] // heads)), TOKENS)


def shape_axes(shape: Shape) -> Axes:
    """The axes of a tensor of which nothing but our shape is known."""
    if len(shape) == 4:
        return Axes(shape, tuple(zip("BCHW", shape, strict=True)), MAP)
    if len(shape) == 3:
        return Axes(shape, tuple(zip("BTe", shape, strict=True)), ("B T e", "B e T", "T B e"))  # T tokens
    if len(shape) == 2:
        return Axes(shape, tuple(zip("BC", shape, strict=True)), VECTOR)
    axes = tuple((f"a{i}", size) for i, size in enumerate(shape))
    return Axes(shape, axes, (" ".join(axis for axis, _ in axes),))


@lru_cache(maxsize=65536)
def arrangements(shape: Shape, axes: Axes, layout: str = "auto") -> tuple[Arrangement, ...]:
    """The ways in which a foreign tensor of this shape can be ours; of several that give the same array only the first.

    layout: maps may only have channels first ("nchw"), channels last ("nhwc") or be flat, (B, H W, C) ("tokens").
    """
    found: dict[tuple[str, ...], Arrangement] = {}
    sizes = dict(axes.sizes)
    for order in axes.orders:
        if not _allowed(order, shape, axes, layout):
            continue
        long = [[axis for axis in letter if sizes[axis] != 1] for letter in _letters(order)]
        letters = [[sizes[axis] for axis in letter] for letter in long if letter]
        if _merges(letters, squeezed(shape)):
            found.setdefault(tuple(axis for letter in long for axis in letter), Arrangement(order, axes))
    return tuple(found.values())


def _letters(order: str) -> list[list[str]]:
    """The elementary axes of each letter of an order. The height and the width of a map count as letters."""
    return [PARTS.get(letter, letter).split() for letter in order.replace("y i x j", "yi xj").split()]


def _allowed(order: str, shape: Shape, axes: Axes, layout: str) -> bool:
    """Whether an order of axes may be taken for this shape.

    The user may say which layout maps have. Some orders of tokens are refused, because a wrong tensor may have their
    shape: (B N, P, D) if attention runs inside patches, (B P, N, D) or (B, P, N, D) if a map is reshaped, and
    (B P, h, N e) if heads are joined without a transpose.
    """
    sizes = dict(axes.sizes)
    if order in MAP:
        if layout == "nchw":
            return order == "B C H W"
        if layout == "nhwc":
            return order == "B H W C"
        if layout == "tokens":
            return order == "B H W C" and (len(shape) < 4 or 1 in (sizes["H"], sizes["W"]))
    if order in ("B N P D", "N B P D", *NOT_UNFOLDED) and not axes.reordered:
        batch, places, patches, width = sizes["B"], sizes["i"] * sizes["j"], sizes["y"] * sizes["x"], axes.shape[-1]
        if order not in NOT_UNFOLDED:
            return shape != (batch * patches, places, width)
        return squeezed(shape) not in (squeezed(axes.shape), squeezed((batch, places, patches, width)))
    if order in HEADS:
        return len(shape) < 2 or shape[-1] == sizes["e"]
    return True


def squeezed(shape: Shape) -> list[int]:
    """The shape without axes of size 1."""
    return [size for size in shape if size != 1]


def _merges(letters: list[list[int]], shape: list[int]) -> bool:
    """Whether `shape` has the letters' sizes, where a letter may be taken apart and neighbours multiplied. No size is
    1."""
    letters, shape = list(letters), list(shape)
    while letters and shape:
        letter = letters.pop(0)
        if shape[: len(letter)] == letter:
            del shape[: len(letter)]
            continue
        product, length = math.prod(letter), shape.pop(0)
        while product < length and letters:
            product *= math.prod(letters.pop(0))
        if product != length:
            return False
    return not letters and not shape
