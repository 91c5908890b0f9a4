"""The orders of axes in which a tensor may lie, and the way back to our shape."""

from functools import cache

import numpy as np
import pytest

from tiny_port import ATTENTION, BLOCK, STEM, model
from tinymvit import reference
from tinymvit.comparison.layouts import arrangements, node_axes
from tinymvit.modeling import load_model
from tinymvit.ops import Context, Unfold


@cache
def graph_and_axes():
    graph = model().graph((2, 3, 64, 96))
    return graph, node_axes(graph)


def layouts_of_scores(x):
    """(B P, h, N, N), here of 2 images and 4 positions."""
    apart = x.reshape(2, 4, *x.shape[1:])  # (B, P, h, N, N)
    return [x, apart, x.reshape(-1, *x.shape[2:]), apart.transpose(2, 0, 1, 3, 4)]


def layouts_of_a_map(x):
    last = x.transpose(0, 2, 3, 1)
    return [x, last, last.reshape(len(x), -1, x.shape[1]), x.reshape(len(x), x.shape[1], -1), x.reshape(-1)]


def layouts_of_tokens(x):
    """(B P, N, D), here of 2 images, 4 positions in 4 x 6 patches, and 2 heads."""
    width, rows, columns = x.shape[2], 4, 6
    apart = x.reshape(2, 4, *x.shape[1:])  # (B, P, N, D)
    heads = x.reshape(8, -1, 2, width // 2)  # (B P, N, h, D / h)
    image = apart.reshape(2, 2, 2, rows, columns, width).transpose(0, 5, 3, 1, 4, 2)  # (B, D, y, i, x, j)
    return [
        apart,
        apart.reshape(2, -1, width),  # (B, P N, D)
        apart.swapaxes(1, 2),  # (B, N, P, D)
        apart.swapaxes(1, 2).reshape(2, -1, width),  # (B, N P, D)
        apart.swapaxes(0, 1).reshape(x.shape),  # (P B, N, D)
        x.swapaxes(1, 2),  # (B P, D, N)
        image.reshape(2, width, 2 * rows, 2 * columns),  # (B, D, H, W)
        image.transpose(0, 2, 3, 4, 5, 1),  # (B, y, i, x, j, D)
        image.reshape(2, width, -1).swapaxes(1, 2),  # (B, H W, D)
        apart.reshape(2, 4, rows, columns, width),  # (B, P, y, x, D)
        heads.swapaxes(1, 2),  # (B P, h, N, D / h)
        heads.transpose(2, 0, 1, 3).reshape(16, -1, width // 2),  # (h B P, N, D / h)
        heads.transpose(0, 2, 3, 1),  # (B P, h, D / h, N), a key
    ]


def layouts_of_a_vector(x):
    return [x, x[:, :, None, None], x[:, None, None, :]]


@pytest.mark.parametrize(
    ("node", "layouts_of"),
    [
        (STEM, layouts_of_a_map),
        (f"{ATTENTION}.query", layouts_of_tokens),
        (f"{ATTENTION}.scores", layouts_of_scores),
        ("mobilevit.pooler_output", layouts_of_a_vector),
    ],
)
def test_every_layout_can_be_undone(node, layouts_of):
    graph, axes = graph_and_axes()
    x = np.random.default_rng(0).standard_normal(graph[node].shape)
    for theirs in layouts_of(x):
        readings = [option.undo(theirs) for option in arrangements(theirs.shape, axes[node])]
        assert any(np.array_equal(reading, x) for reading in readings), theirs.shape


def test_tokens_grouped_by_patch_are_no_layout():
    _, axes = graph_and_axes()
    assert not arrangements((), axes[f"{BLOCK}.unfolding"])
    assert not arrangements((2 * 24, 4, 8), axes[f"{BLOCK}.unfolding"])


@pytest.mark.parametrize("size", [64, 128, 256])
def test_a_reshape_without_a_transpose_is_no_layout(size):
    """At these sizes the numbers of patches, positions and heads divide each other."""
    graph = load_model("digits").graph((1, 3, size, size))
    axes = node_axes(graph)
    for node in graph:
        if node.shape[1:2] == (1,) or not isinstance(node.op, Context | Unfold):
            continue
        right, mistakes = reshaped(graph, node)
        for theirs in mistakes:
            readings = [option.undo(theirs) for option in arrangements(theirs.shape, axes[node.name])]
            assert readings
            assert not any(np.array_equal(reading, right) for reading in readings), node.name


def reshaped(graph, node):
    """A value of a node, and what it would be were it made by a reshape without a transpose."""
    numbers = np.arange(float(np.prod(node.shape)))
    if isinstance(node.op, Unfold):
        image = numbers.reshape(graph.inputs_of(node)[0].shape)
        right = reference.compute(node.op, [image], [])
        return right, [image.reshape(node.shape), image.transpose(0, 2, 3, 1).reshape(node.shape)]
    right = numbers.reshape(node.shape)
    heads = graph.inputs_of(node)[0].shape[1]
    return right, [right.reshape(*node.shape[:2], heads, -1).swapaxes(1, 2).reshape(node.shape)]


def test_layout_restricts_maps():
    _, axes = graph_and_axes()
    square = (2, 4, 32, 48)
    assert len(arrangements(square, axes[STEM], "nchw")) == 1
    assert arrangements(square, axes[STEM], "nhwc") == ()
    assert arrangements((2, 32 * 48, 4), axes[STEM], "tokens")[0].order == "B H W C"
    assert arrangements((2, 32, 48, 4), axes[STEM], "tokens") == ()
