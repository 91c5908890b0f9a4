"""Comparing dumps: names, layouts, tolerance, foreign runtimes, the command, files that no one should have written."""

import copy
import errno
import json
import logging
import re
import warnings
from contextlib import contextmanager
from functools import cache
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file

import tinymvit
from command_line import run
from oracle import assert_same
from ports import (
    MISTAKES,
    SCRIPTS,
    attention_with,
    channels_swapped,
    dump,
    other_epsilon,
    pair,
    script,
    weight_transposed,
)
from tinymvit import files, reference
from tinymvit.commands import compare as commands
from tinymvit.comparison import isolation, layouts
from tinymvit.comparison.against_model import Comparison, compare
from tinymvit.comparison.hints import IN_VAIN
from tinymvit.comparison.layouts import arrangements, node_axes
from tinymvit.comparison.mistakes import case_of
from tinymvit.comparison.report import to_html, to_json, to_text
from tinymvit.comparison.tolerance import FACTORS
from tinymvit.errors import DumpError, TinyMViTError
from tinymvit.graph import Context, Fold, Scores, Unfold
from tinymvit.inspection.dump import Dump
from tinymvit.modeling import load_model
from tinymvit.vectors import noise
from tinymvit.weights import resolve
from torch_models import TINY

STEM = "mobilevit.conv_stem.convolution"
BLOCK = "mobilevit.encoder.layer.2.transformer.layer.0"
QUERY = f"{BLOCK}.attention.attention.query"


@cache
def port():
    """transformers' model and ours with the same weights, pixels (2, 3, 64, 96), and the dump of a right port."""
    theirs, ours = pair("MobileViTForImageClassification", TINY)
    pixels = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(3))
    return theirs, ours, pixels, {name: tensor.numpy() for name, tensor in dump(theirs, pixels).items()}


def ours():
    return port()[1]


def tensors(**changes):
    """The dump of a right port, some tensors replaced or, with None, left out."""
    changed = port()[3] | {name.replace("__", "."): value for name, value in changes.items()}
    return {name: value for name, value in changed.items() if value is not None}


def wrong(mistake):
    theirs = copy.deepcopy(port()[0])
    node, _ = mistake(theirs)
    return {name: tensor.numpy() for name, tensor in dump(theirs, port()[2]).items()}, node


# ---- layouts ----


@cache
def axes():
    graph = ours().graph((2, 3, 64, 96))
    return graph, node_axes(graph)


def layouts_of(node, x):
    """The same tensor as others may keep it."""
    graph = axes()[0]
    if isinstance(graph[node].op, Scores):
        tokens = x.reshape(2, 4, *x.shape[1:])
        return [x, tokens, x.reshape(-1, *x.shape[2:]), tokens.transpose(2, 0, 1, 3, 4)]
    if x.ndim == 4:
        last = x.transpose(0, 2, 3, 1)
        return [x, last, last.reshape(len(x), -1, x.shape[1]), x.reshape(len(x), x.shape[1], -1), x.reshape(-1)]
    if x.ndim == 3:
        apart = x.reshape(2, 4, *x.shape[1:])  # (B, P, N, D)
        y, width = 4, x.shape[2]
        image = apart.reshape(2, 2, 2, y, 6, width).transpose(0, 5, 3, 1, 4, 2)  # (B, D, y, i, x, j)
        return [
            apart,
            apart.reshape(2, -1, width),  # (B, P N, D)
            apart.swapaxes(1, 2),  # (B, N, P, D)
            apart.swapaxes(1, 2).reshape(2, -1, width),  # (B, N P, D)
            apart.swapaxes(0, 1).reshape(x.shape),  # (P B, N, D)
            x.reshape(8, -1, 2, width // 2).swapaxes(1, 2),  # (B P, h, N, D / h)
            x.swapaxes(1, 2),  # (B P, D, N)
            image.reshape(2, width, 2 * y, 12),  # (B, D, H, W)
            image.transpose(0, 2, 3, 4, 5, 1),  # (B, y, i, x, j, D)
            image.reshape(2, width, -1).swapaxes(1, 2),  # (B, H W, D)
            apart.reshape(2, 4, y, 6, width),  # (B, P, y, x, D)
            x.reshape(8, -1, 2, width // 2).transpose(2, 0, 1, 3).reshape(16, -1, width // 2),  # (h B P, N, D / h)
            x.reshape(8, -1, 2, width // 2).transpose(0, 2, 3, 1),  # (B P, h, D / h, N), a key
        ]
    return [x, x[:, :, None, None], x[:, None, None, :]]


@pytest.mark.parametrize("node", [STEM, QUERY, f"{QUERY[:-6]}.scores".replace("..", "."), "mobilevit.pooler_output"])
def test_every_layout_can_be_undone(node):
    graph, by_node = axes()
    x = np.random.default_rng(0).standard_normal(graph[node].shape)
    for theirs in layouts_of(node, x):
        readings = [option.undo(theirs) for option in arrangements(theirs.shape, by_node[node])]
        assert any(np.array_equal(reading, x) for reading in readings), theirs.shape


def test_tokens_grouped_by_patch_are_no_layout():
    _, by_node = axes()
    assert not arrangements((), by_node["mobilevit.encoder.layer.2.unfolding"])
    assert not arrangements((2 * 24, 4, 8), by_node["mobilevit.encoder.layer.2.unfolding"])


@pytest.mark.parametrize("size", [64, 128, 256])
def test_a_reshape_without_a_transpose_is_no_layout(size):
    """At these sizes the numbers of patches, positions and heads divide each other."""
    graph = load_model("digits").graph((1, 3, size, size))
    by_node = node_axes(graph)
    for node in graph:
        if isinstance(node.op, Context) and node.shape[1] > 1:
            x = np.arange(float(np.prod(node.shape))).reshape(node.shape)
            heads = x.reshape(*node.shape[:2], graph.inputs_of(node)[0].shape[1], -1).swapaxes(1, 2)
            mistakes = [heads.reshape(node.shape)]
        elif isinstance(node.op, Unfold) and node.shape[1] > 1:
            image = np.arange(float(np.prod(node.shape))).reshape(graph.inputs_of(node)[0].shape)
            x = reference.compute(node.op, [image], [])
            mistakes = [image.reshape(node.shape), image.transpose(0, 2, 3, 1).reshape(node.shape)]
        else:
            continue
        for theirs in mistakes:
            readings = [option.undo(theirs) for option in arrangements(theirs.shape, by_node[node.name])]
            assert readings
            assert not any(np.array_equal(reading, x) for reading in readings), node.name


def test_a_reshape_without_a_transpose_is_found():
    model = load_model("digits")
    right = model.trace(noise((1, 3, 128, 128)), dtype="float32")
    context = "mobilevit.encoder.layer.3.transformer.layer.0.attention.attention"
    tokens = right[context]
    joined = tokens.reshape(4, 16, 4, -1).swapaxes(1, 2).reshape(tokens.shape)
    unfolding = "mobilevit.encoder.layer.3.unfolding"
    image = right["mobilevit.encoder.layer.3.conv_1x1.convolution"]
    reshaped = image.transpose(0, 2, 3, 1).reshape(right[unfolding].shape)
    for node, wrong in ((context, joined), (unfolding, reshaped)):
        comparison = compare(model, right | {node: wrong}, isolate=True)
        assert comparison.first == node
        assert comparison.divergence.hints


FOUR_ROWS = "mobilevit.encoder.layer.4"  # for 128 pixels


def in_four_rows(found, graph, nodes):
    """These tokens as maps of four rows, (1, 4, W, D), not unfolded."""
    other = dict(found)
    for name in nodes:
        unfold = next(node for node in graph if isinstance(node.op, Unfold) and node.name.startswith(FOUR_ROWS))
        height, width = graph.inputs_of(unfold)[0].shape[2:]
        fold = next(node.op for node in graph if isinstance(node.op, Fold) and node.name.startswith(FOUR_ROWS))
        assert height == 4
        other[name] = reference.compute(fold, [found[name]], []).transpose(0, 2, 3, 1).reshape(1, 4, width, -1)
    return other


@pytest.mark.parametrize("isolate", [False, True])
def test_a_map_of_four_rows_is_a_layout_only_if_attention_sees_right_tokens(isolate):
    """Reshaped to (B, P, N, D) without a transpose it has a layout's shape and numbers; LayerNorm and matrices cannot
    tell, attention can."""
    model = load_model("digits")
    found = dict(model.trace(noise((1, 3, 128, 128)), dtype="float32"))
    graph = model.graph((1, 3, 128, 128))
    inner = f"{FOUR_ROWS}.transformer.layer.0"
    before = [
        f"{FOUR_ROWS}.unfolding",
        f"{inner}.layernorm_before",
        *(f"{inner}.attention.attention.{x}" for x in ("query", "key", "value")),
    ]
    comparison = compare(model, in_four_rows(found, graph, before), isolate=isolate)
    assert comparison.first == "agree"
    assert [row.layout for row in comparison.rows if row.node in before] == ["B y i x j D"] * 5

    unfolding = graph[before[0]]
    wrong = {unfolding.name: found[unfolding.inputs[0]].transpose(0, 2, 3, 1).reshape(unfolding.shape)}
    nodes = list(graph)
    for node in nodes[nodes.index(unfolding) + 1 :]:
        values = [wrong.get(name, found[name]) for name in node.inputs]
        wrong[node.name] = reference.compute(node.op, values, [model.weights[name] for name in node.weights])
    wrong[unfolding.name] = wrong[unfolding.name][None]
    comparison = compare(model, found | wrong, isolate=isolate)
    assert comparison.first == unfolding.name
    assert comparison.divergence.hints[0].mistake == "unfold order: (B, H, W, D) is reshaped without transposes"
    assert not isolate or len(comparison.wrong) == 1


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("isolate", [False, True])
def test_tokens_before_the_batch(batch, isolate):
    """(N, B P, D), as PyTorch's own attention has it by default; of one image also the shape of patches swapped with
    positions, which is told apart by what attention made of them."""
    pixels = port()[2][:batch]
    found = {name: tensor.numpy() for name, tensor in dump(port()[0], pixels).items()}
    count = sum(x.ndim == 3 for x in found.values())
    first = {name: np.ascontiguousarray(x.swapaxes(0, 1)) if x.ndim == 3 else x for name, x in found.items()}
    comparison = compare(ours(), first, isolate=isolate)
    assert comparison.first == "agree"
    rows = [row for row in comparison.rows if row.layout in ("B N P D", "N B P D")]
    assert count > len(rows) > 60
    changed = first | {f"{BLOCK}.layernorm_after": first[f"{BLOCK}.layernorm_after"] * 2}
    assert compare(ours(), changed, isolate=isolate).first == f"{BLOCK}.layernorm_after"


def test_layout_restricts_maps():
    assert commands.LAYOUTS == layouts.LAYOUTS
    _, by_node = axes()
    square = (2, 4, 32, 48)
    assert len(arrangements(square, by_node[STEM], "nchw")) == 1
    assert arrangements(square, by_node[STEM], "nhwc") == ()
    assert arrangements((2, 32 * 48, 4), by_node[STEM], "tokens")[0].order == "B H W C"
    assert arrangements((2, 32, 48, 4), by_node[STEM], "tokens") == ()


@pytest.mark.parametrize("isolate", [False, True])
def test_a_port_in_another_layout_agrees_and_the_layout_is_said(isolate):
    other = {
        name: x.transpose(0, 2, 3, 1) if x.ndim == 4 and "dropout" not in name else x.reshape(2, -1, x.shape[-1])
        if x.ndim == 3 else x
        for name, x in port()[3].items()
    }  # fmt: skip
    comparison = compare(ours(), other, isolate=isolate)
    assert comparison.first == "agree"
    layouts = next(note for note in comparison.notes if note.startswith("layouts undone: "))
    assert "B H W C" in layouts
    assert len(comparison.rows) == len(compare(ours(), tensors()).rows)


def test_an_ambiguous_square_is_decided_by_the_values_and_said():
    theirs, ours = pair("MobileViTForImageClassification", TINY)
    pixels = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(39))
    found = {name: tensor.numpy() for name, tensor in dump(theirs, pixels).items()}
    name = "mobilevit.encoder.layer.0.layer.0.expand_1x1.convolution"
    assert found[name].shape == (1, 8, 8, 8)
    found[name] = found[name].transpose(0, 2, 3, 1)
    comparison = compare(ours, found)
    assert comparison.agrees
    assert next(row for row in comparison.rows if row.node == name).layout == "B H W C"
    assert any(note.startswith("several layouts fit") for note in comparison.notes)
    assert f"right in another layout than most maps, B C H W: {name}; is a transpose missing?" in comparison.notes


# ---- names ----


def test_names_with_and_without_the_prefix_and_behind_a_wrapper():
    for rename in (lambda n: n.removeprefix("mobilevit."), lambda n: f"model.{n}" if n.startswith("mobilevit.") else n):
        renamed = {rename(name): x for name, x in tensors().items()}
        assert len(compare(ours(), renamed).rows) == len(compare(ours(), tensors()).rows)


def test_a_bare_model_is_compared_with_a_dump_of_a_model_with_a_head():
    bare = tinymvit.MobileViTModel(ours().config)
    bare._set_weights(
        {k.removeprefix("mobilevit."): v for k, v in ours().weights.items() if k.startswith("mobilevit.")}
    )
    comparison = compare(bare, tensors())
    assert comparison.agrees
    assert comparison.rows[1].node == "conv_stem.convolution"


def test_a_map_of_names():
    theirs = {"pixel_values": tensors()["pixel_values"], "a": tensors()[STEM], "b": tensors()["classifier"]}
    comparison = compare(ours(), theirs, names={"a": STEM, "b": "logits"})
    assert [(row.node, row.theirs, row.matched) for row in comparison.rows[1:]] == [
        (STEM, "a", "map"),
        ("classifier", "b", "map"),
    ]


def test_names_that_mean_nothing_are_guessed_and_the_guess_is_printed():
    nodes = [row.node for row in compare(ours(), tensors()).rows]
    theirs = {f"tensor_{i}": tensors()[row.theirs] for i, row in enumerate(compare(ours(), tensors()).rows)}
    comparison = compare(ours(), theirs)
    assert comparison.agrees
    assert [row.node for row in comparison.rows] == nodes
    assert f"guess: their tensor_1 is {STEM}" in comparison.notes
    assert comparison.notes[0].startswith("guess: their tensor_0 is the pixel_values")


@pytest.mark.parametrize("isolate", [False, True])
def test_the_outputs_of_all_modules_without_names(isolate):
    """Many tensors come several times, and at this size layer.4's folded map has the shape of its tokens."""
    theirs, ours = pair("MobileViTForImageClassification", TINY)
    pixels = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(3))
    found = dump(theirs, pixels).values()
    comparison = compare(ours, {f"t{i:04}": x.numpy() for i, x in enumerate(found)}, isolate=isolate)
    assert comparison.first == "agree"
    assert len(comparison.rows) > 150


def test_a_guess_survives_a_wrong_op_and_tensors_that_are_nothing():
    found, node = wrong(weight_transposed)
    theirs = {}
    for i, row in enumerate(compare(ours(), tensors()).rows):
        theirs[f"tensor_{i}"] = found[row.theirs]
        theirs[f"noise_{i}"] = np.zeros((7, 11), np.float32)
    assert compare(ours(), theirs).first == node


def test_a_few_tensors_are_enough():
    few = {name: tensors()[name] for name in ("pixel_values", "mobilevit.encoder.layer.1", "logits")}
    comparison = compare(ours(), few, isolate=True)
    assert [row.node for row in comparison.rows] == ["pixel_values", "mobilevit.encoder.layer.1.layer.2", "classifier"]
    assert comparison.agrees
    assert len(comparison.rows[2].together) > 150
    comparison = compare(ours(), few | {"logits": few["logits"] * 2}, isolate=True)
    (line,) = (line for line in to_text(comparison).splitlines() if "ops, between which" in line)
    assert re.search(
        r"one of \d+ ops, between which the dump has no tensor: mobilevit\.\S+, \S+, \S+ and \d+ more$", line
    )


# ---- judgement ----


def test_isolation_tells_the_wrong_ops_from_what_follows():
    theirs = copy.deepcopy(port()[0])
    first, _ = channels_swapped(theirs)
    second, _ = attention_with("scores", "scale", scale=np.sqrt)(theirs)
    found = {name: tensor.numpy() for name, tensor in dump(theirs, port()[2]).items()}
    whole, alone = compare(ours(), found), compare(ours(), found, isolate=True)
    assert whole.first == first
    assert len(whole.wrong) > 100
    assert [row.wrong_op for row in alone.wrong] == [first, second]


def test_an_error_below_tolerance_where_it_arises_is_told_from_a_wrong_op():
    theirs = tensors()
    name = "mobilevit.conv_1x1_exp.normalization"
    theirs["mobilevit.conv_1x1_exp.activation"] = theirs["mobilevit.conv_1x1_exp.activation"] * np.float32(1 + 4e-5)
    alone = compare(ours(), theirs, isolate=True)
    assert alone.first == "mobilevit.conv_1x1_exp.activation"
    assert next(row for row in alone.rows if row.node == name).ok


def test_one_wrong_element_is_seen_and_located():
    logits = tensors()["classifier"].copy()
    logits[1, 3] += 0.5
    row = compare(ours(), tensors(classifier=logits, logits=logits)).divergence
    assert row.node == "classifier"
    assert row.errors.worst == (1, 3)
    assert row.errors.absolute == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("isolate", [False, True])
def test_a_tensor_beside_the_one_that_is_read_for_its_node_is_judged_too(isolate):
    """A module's output is its last node's: hooks dump both. `logits` is the classifier's, a block its last op's."""
    logits, block = tensors()["logits"], "mobilevit.encoder.layer.2"
    for name, value, verdict in (
        ("logits", logits * 7, "differs"),
        ("logits", np.full_like(logits, np.nan), "not finite"),
        ("mobilevit.conv_stem", np.zeros((2, 3), np.float32), "shape"),
        (block, tensors()[block] + tensors()["mobilevit.encoder.layer.1"].mean(), "differs"),
    ):
        comparison = compare(ours(), tensors() | {name: value}, isolate=isolate)
        assert comparison.first == name
        assert [(row.node, row.verdict) for row in comparison.wrong] == [(name, verdict)]
        at = comparison.rows.index(comparison.divergence)
        read = comparison.rows[at - 1]
        assert read.ok
        assert f"their {name} and {read.theirs} should be the same: both are {read.node}" in comparison.notes
        assert len(comparison.rows) == len(compare(ours(), tensors()).rows) + 1
    last = {"logits": logits.astype(np.float64)[:, :, None], block: tensors()[block].transpose(0, 2, 3, 1)}
    assert compare(ours(), tensors() | last, isolate=isolate).agrees
    wrong_twice = {"classifier": logits * 2, "logits": logits[:, :, None] * 2}
    assert [row.node for row in compare(ours(), tensors() | wrong_twice, isolate=isolate).wrong] == ["classifier"]


def test_a_tensor_whose_name_the_map_gives_to_another_is_not_judged():
    found = tensors() | {"mine": tensors()["classifier"], "classifier": np.zeros((2, 5), np.float32)}
    assert compare(ours(), found, names={"mine": "classifier"}).agrees
    assert compare(ours(), found | {"logits": found["classifier"]}, names={"mine": "classifier"}).first == "logits"


def test_one_node_behind_the_first_is_one_node():
    names = ("mobilevit.conv_stem", "mobilevit.conv_stem.activation", "classifier", "logits")
    comparison = compare(ours(), tensors() | {name: 2 * tensors()[name] for name in names})
    assert "  1 node behind it differs too" in to_text(comparison).splitlines()


def test_the_numbers_of_a_row():
    logits = tensors()["classifier"]
    row = compare(ours(), tensors(classifier=2 * logits, logits=None)).divergence
    assert row.errors.relative == pytest.approx(1, rel=1e-4)
    assert row.errors.snr == pytest.approx(0, abs=1e-2)
    assert row.errors.cosine == pytest.approx(1, rel=1e-6)
    assert row.errors.rms == pytest.approx(float(np.sqrt((logits.astype(float) ** 2).mean())), rel=1e-4)


def test_right_ports_use_less_than_half_of_the_tolerance():
    for isolate in (False, True):
        rows = compare(ours(), tensors(), isolate=isolate).rows
        assert max(row.errors.rms / row.limit.rms for row in rows if row.limit and row.limit.rms) < 0.5
    assert FACTORS == (8.0, 16.0)


def test_a_tolerance_of_ones_own():
    found, node = wrong(MISTAKES[0])
    assert compare(ours(), found, tolerance=1e9).agrees
    assert compare(ours(), found, tolerance=1e-3).first == node
    assert not compare(ours(), tensors(), tolerance=1e-9).agrees


def test_float16_and_float64_dumps():
    assert compare(ours(), {k: v.astype(np.float64) for k, v in tensors().items()}).agrees
    half = {k: v.astype(np.float16) if k != "pixel_values" else v for k, v in tensors().items()}
    for isolate in (False, True):
        assert compare(ours(), half, isolate=isolate).agrees


def test_a_bfloat16_dump(tmp_path):
    """Stored with 8 significant bits, a right tensor may be half a unit in the last of them away, a wrong one more."""
    half = {name: torch.from_numpy(x).bfloat16() for name, x in tensors().items()}
    half["pixel_values"] = torch.from_numpy(tensors()["pixel_values"])
    save_torch_file(half, tmp_path / "half.safetensors")
    for isolate in (False, True):
        assert compare(ours(), tmp_path / "half.safetensors", isolate=isolate).agrees
    half[STEM] = half[STEM] * 1.05
    save_torch_file(half, tmp_path / "half.safetensors")
    for isolate in (False, True):
        assert compare(ours(), tmp_path / "half.safetensors", isolate=isolate).first == STEM


def folded(found):
    """The dump of a port whose normalisations are folded into the convolutions before them."""
    return {
        name.replace("normalization", "convolution"): x
        for name, x in found.items()
        if not name.endswith("convolution") or name.replace("convolution", "normalization") not in found
    }


def test_a_folded_normalisation_is_recognised_right_and_wrong():
    comparison = compare(ours(), folded(tensors()), isolate=True)
    assert comparison.agrees
    assert any("with the value behind a folded op" in note for note in comparison.notes)
    found, node = wrong(channels_swapped)
    comparison = compare(ours(), folded(found), isolate=True)
    assert comparison.first == node
    assert "RGB" in comparison.divergence.hints[0].mistake


@pytest.mark.parametrize("isolate", [False, True])
@pytest.mark.parametrize("count", [1, 99])
def test_another_epsilon_in_folded_normalisations_accuses_no_convolution(count, isolate):
    """In one of them, or in all: more than are searched in vain."""
    theirs = copy.deepcopy(port()[0])
    norms = [name for name, module in theirs.named_modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for name in norms[3:][:count]:
        theirs.get_submodule(name).eps = 1e-3
    found = {name: tensor.numpy() for name, tensor in dump(theirs, port()[2]).items()}
    comparison = compare(ours(), folded(found), isolate=isolate)
    assert comparison.first == norms[3]
    named = [row.wrong_op for row in comparison.wrong] if isolate else [comparison.divergence.wrong_op]
    assert set(named) <= set(norms)
    assert not isolate or len(named) > 0.9 * min(count, len(norms) - 3)  # where the variance is large it does no harm
    for row in comparison.wrong if isolate else [comparison.divergence]:
        assert row.hints[0].mistake == "epsilon is 0.001"


def test_the_same_mistake_at_every_op_is_named_as_such():
    theirs = copy.deepcopy(port()[0])
    for module in theirs.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-2
    block = "mobilevit.encoder.layer.2"
    names = ("pixel_values", f"{block}.conv_1x1.convolution", f"{block}.transformer.layer.0")
    found = {name: tensor.numpy() for name, tensor in dump(theirs, port()[2]).items() if name in names}
    comparison = compare(ours(), found, isolate=True)
    assert comparison.first == f"{block}.transformer.layer.0.layernorm_before"
    assert len(comparison.divergence.together) == 15
    assert comparison.divergence.hints[0].mistake == "epsilon is 0.01 (at every LayerNorm of these)"


def test_a_search_in_vain_ends(monkeypatch):
    """Of a port where all is wrong in no known way, only the first tensors are tried with every mistake."""
    tried = []
    monkeypatch.setattr(isolation, "case_of", lambda node, *rest: tried.append(node) or case_of(node, *rest))
    rng = np.random.default_rng(0)
    found = {
        name: x if name == "pixel_values" else rng.permutation(x.ravel()).reshape(x.shape)
        for name, x in tensors().items()
    }
    comparison = compare(ours(), found, isolate=True)
    assert len(comparison.wrong) > 100
    assert IN_VAIN * 10 < len(tried) < IN_VAIN * 60


# ---- dumps against dumps ----


def test_two_dumps_pixels_first(tmp_path):
    pixels = tensors()["pixel_values"]
    for change, sentence in (
        (lambda x: x[:, ::-1], "channels are swapped"),
        (lambda x: x * 255, "not divided by 255"),
        (lambda x: x * 2 - 1, "run from -1 to 1"),
        (lambda x: x[:, ::-1] * 255, "channels are swapped (RGB for BGR) and pixels are not divided by 255"),
    ):
        comparison = compare(tensors(), {"pixel_values": np.ascontiguousarray(change(pixels))})
        assert comparison.first == "pixel_values"
        assert sentence in str(comparison.divergence.hints[0])
    for factor, sentence in ((255, "not divided by 255"), (1 / 255, "divided by 255 once more"), (2, "times ours")):
        comparison = compare(tensors(), {STEM: tensors()[STEM] * np.float32(factor)})
        assert comparison.first == STEM
        assert comparison.divergence.hints[0].mistake.startswith(f"it is {factor:.6g} times ours")
        assert sentence in comparison.divergence.hints[0].mistake
    save_file(tensors(), tmp_path / "ours.safetensors")
    comparison = compare(tmp_path / "ours.safetensors", {"pixel_values": pixels.transpose(0, 2, 3, 1)})
    assert comparison.agrees
    with pytest.raises(DumpError, match="to isolate ops a model is needed"):
        compare(tensors(), tensors(), isolate=True)
    with pytest.raises(DumpError, match="their 1 tensor could not be matched with ours, neither by name"):
        compare(tensors(), {"x": np.zeros((5, 5, 5, 5, 5), np.float32)})


def test_two_dumps_are_read_a_few_times_each(monkeypatch):
    """Matching holds each tensor of one against each of the other, by statistics that are computed once."""
    reads = []
    get = Dump.__getitem__
    monkeypatch.setattr(Dump, "__getitem__", lambda self, name: reads.append(name) or get(self, name))
    found = {row.node: tensors()[row.theirs] for row in compare(ours(), tensors()).rows}
    reads.clear()
    comparison = compare(found, {f"t{i:04}": x for i, x in enumerate(found.values())})
    assert comparison.agrees
    assert len(comparison.rows) == len(found) > 150
    assert len(reads) <= 4 * len(found)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_on_the_right_side(value):
    bad = tensors()[STEM].copy()
    bad[1, 2, 3, 4] = value
    mine, theirs = (tensors() | {STEM: bad}, tensors()), (tensors(), tensors() | {STEM: bad})
    for (first, second), verdict, text in (
        (mine, "ours not finite", f"our {STEM} holds NaN or infinity, first at [1, 2, 3, 4], their {STEM} a number"),
        (theirs, "not finite", f"their {STEM} holds NaN or infinity, first at [1, 2, 3, 4]"),
    ):
        comparison = compare(first, second)
        assert comparison.divergence.verdict == verdict
        assert text in to_text(comparison)
    assert compare(mine[0], theirs[1]).agrees


@pytest.mark.parametrize("shape", [(), (0, 3), (2, 0, 4, 4), (2, 0, 3), (1, 2, 3, 4, 5)])
def test_two_dumps_of_any_shape(shape):
    found = {"a": np.full(shape, 1.5, np.float32)}
    assert compare(found, found).agrees
    assert compare(found, {"a": found["a"] * 2}).agrees is (found["a"].size == 0)


def test_numbers_too_far_apart_for_a_difference_are_numbers():
    assert compare({"a": np.full(4, 1e308)}, {"a": np.full(4, -1e308)}).divergence.verdict == "differs"


def test_one_tensor_is_no_tensors():
    pixels = {"pixel_values": tensors()["pixel_values"]}
    assert "1 of 1 tensor compared" in compare(pixels, pixels).notes
    found = tensors(mobilevit__conv_stem__convolution=tensors()["mobilevit.conv_stem.normalization"])
    del found["mobilevit.conv_stem.normalization"]
    del found["mobilevit.conv_stem"]
    (note,) = (note for note in compare(ours(), found).notes if "folded" in note)
    assert note.startswith("1 tensor with the value behind a folded op: ")


# ---- the command ----


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    ours().save_pretrained(folder)
    return folder


def test_the_command_agrees_or_names_the_op(capsys, tmp_path, model_folder):
    save_file(tensors(), tmp_path / "good.safetensors")
    code, out, err = run(capsys, "compare", model_folder, tmp_path / "good.safetensors")
    assert (code, out.splitlines()[0], err) == (0, "agree", "")
    found, node = wrong(other_epsilon)
    folder = tmp_path / "bad"
    for name, x in found.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{name}.npy", x)
    page, data = tmp_path / "page.html", tmp_path / "out.json"
    code, out, err = run(capsys, "compare", model_folder, folder, "--isolate", "--html", page, "--json", data)
    assert (code, out.splitlines()[0], err) == (1, node, "")
    assert f"hint: {node}: epsilon is 0.001" in out
    assert any(line.startswith(node) and line.endswith("differs") for line in out.splitlines()[1:])
    found = json.loads(data.read_text())
    assert found["first"] == node
    assert found["rows"][0]["node"] == "pixel_values"
    text = page.read_text()
    assert text.count("<tr") == 1 + len(found["rows"])
    assert "http" not in text  # one file, nothing from elsewhere
    assert f"<code>{node}</code>" in text


class Page(HTMLParser):
    """Whether the tags of a page are balanced, and whether it takes anything from elsewhere."""

    def __init__(self, text):
        super().__init__()
        self.open, self.cells, self.faults = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag != "meta":
            self.open.append(tag)
        if tag in ("script", "link", "img", "iframe") or {"src", "href"} & {name for name, _ in attributes}:
            self.faults.append(tag)

    def handle_endtag(self, tag):
        if self.open.pop() != tag:
            self.faults.append(f"/{tag}")

    def handle_data(self, data):
        if self.open[-1:] in (["li"], ["td"]):
            self.cells.append(data)


def test_names_of_others_cannot_spoil_the_answer(capsys, tmp_path, model_folder):
    bad = "a\nb\x1b[31m<td>&\u2028é"
    found = {"pixel_values": tensors()["pixel_values"], STEM: tensors()[STEM] * 2, bad: np.zeros((7, 11), np.float32)}
    save_file(found, tmp_path / "a.safetensors")
    page = tmp_path / "page.html"
    code, out, err = run(capsys, "compare", model_folder, tmp_path / "a.safetensors", "--html", page)
    assert (code, err) == (1, "")
    shown = "1 of their 3 tensors not recognised: a\\nb\\x1b[31m<td>&\\u2028é"
    assert out.split("\n")[-2:] == [shown, ""]
    html = Page(page.read_text("utf-8"))
    assert (html.open, html.faults) == ([], [])
    assert shown in html.cells
    save_file({bad: found[bad]}, tmp_path / "a.safetensors")
    code, out, err = run(capsys, "compare", tmp_path / "a.safetensors", tmp_path / "a.safetensors", "--map", page)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    (tmp_path / "names.json").write_text(json.dumps({"c\nd": STEM}))
    code, out, err = run(capsys, "compare", model_folder, tmp_path / "a.safetensors", "--map", tmp_path / "names.json")
    assert (code, out, len(err.splitlines())) == (2, "", 1)


def test_an_output_that_cannot_be_written_does_not_cost_the_answer(capsys, monkeypatch, tmp_path, model_folder):
    def full(file):
        raise OSError(errno.ENOSPC, "disk full")

    save_file(tensors(), tmp_path / "a.safetensors")
    monkeypatch.setattr(files.os, "fsync", full)
    target = tmp_path / "found.json"
    code, out, err = run(capsys, "compare", model_folder, tmp_path / "a.safetensors", "--json", target)
    assert (code, out.splitlines()[0]) == (2, "agree")
    assert err == f"tinymvit: {target}: cannot be written: disk full\n"


def test_a_map_file(capsys, tmp_path, model_folder):
    save_file({"x": tensors()["pixel_values"], "y": tensors()[STEM]}, tmp_path / "a.safetensors")
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"x": "pixel_values", "y": STEM}))
    arguments = ("compare", model_folder, tmp_path / "a.safetensors", "--map", names)
    assert run(capsys, *arguments)[0] == 0
    for content, message in (
        ({"z": STEM}, "the map names the tensor 'z', which their dump lacks"),
        ({STEM: "y"}, "the map goes from their names to ours"),
        ({"y": f"{STEM}s"}, f"did you mean '{STEM}'"),
        ({"y": 3}, "expected the name of a node of ours"),
        ([], "expected an object"),
        ({"x": STEM, "y": STEM}, f"two tensors mean {STEM}: 'x' and 'y'"),
        ({"x": "mobilevit.conv_stem.activation", "y": "mobilevit.conv_stem"}, "two tensors mean mobilevit.conv_stem."),
    ):
        names.write_text(json.dumps(content))
        code, out, err = run(capsys, *arguments)
        assert (code, out) == (2, "")
        assert message in err
        assert len(err.splitlines()) == 1
    names.write_text(f'{{"y": "{QUERY}", "x": "pixel_values", "y": "{STEM}"}}')
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.endswith("names.json: not valid JSON: the name 'y' stands twice in an object\n")
    assert len(err.splitlines()) == 1


BAD = [
    ({"pixel_values": None}, "no pixel_values, which are needed"),
    ({"pixel_values": np.zeros((2, 5, 64, 96), np.float32)}, "expected images of 3 channels"),
    ({"pixel_values": np.zeros((2, 3, 64, 96), np.uint8)}, "dtype uint8; expected the floats"),
    ({"pixel_values": np.full((1, 3, 64, 64), np.nan, np.float32)}, "holds nan at [0, 0, 0, 0]"),
    ({"conv_stem__convolution": np.zeros((2, 4, 32, 48), np.float32)}, "two tensors mean"),
    ({"mobilevit__conv_stem__activation": None, "conv_stem": np.zeros((2, 4, 32, 48))}, "two tensors mean"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=lambda value: value if isinstance(value, str) else "")
def test_a_dump_that_cannot_be_compared_gets_one_clear_line(changes, message):
    found = tensors(**changes) if "pixel_values" not in changes else {STEM: tensors()[STEM]} | {
        name: x for name, x in changes.items() if x is not None
    }  # fmt: skip
    with pytest.raises(DumpError) as caught:
        compare(ours(), found)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_that_are_not():
    for options, message in (
        ({"layout": "nwhc"}, "layout 'nwhc', expected one of"),
        ({"tolerance": 0.0}, 'expected "auto" or a number above 0'),
        ({"tolerance": "tight"}, 'expected "auto" or a number above 0'),
    ):
        with pytest.raises(DumpError, match=message):
            compare(ours(), tensors(), **options)
    with pytest.raises(DumpError, match="holds no tensors"):
        compare(ours(), {})
    with pytest.raises(DumpError, match="their dump holds only pixel_values, the pixels; expected what is computed"):
        compare(ours(), {"pixel_values": tensors()["pixel_values"]})
    with pytest.raises(DumpError, match="of their 2 tensors none but the pixels could be matched with a node"):
        compare(ours(), {"pixel_values": tensors()["pixel_values"], "q": np.zeros((3, 3, 3, 3, 3, 3))})
    with pytest.raises(TypeError, match="ours: a int, expected a model"):
        compare(3, tensors())
    with pytest.raises(DumpError, match="expected images of 3 channels, last as layout nhwc says"):
        compare(ours(), tensors(), layout="nhwc")


def test_a_tensor_that_cannot_be_compared_is_a_row():
    classifier = tensors()["classifier"].copy()
    classifier[0, 1] = np.inf
    for value, verdict, text in (
        (classifier, "not finite", "NaN or infinity, first at [0, 1]"),
        (np.zeros((3, 5), np.float32), "shape", "has shape [3, 5]"),
        (np.zeros((2, 5), np.complex64), "not numbers", "does not hold real numbers"),
        (np.array("x"), "not numbers", "does not hold real numbers"),
    ):
        for isolate in (False, True):
            comparison = compare(ours(), tensors(classifier=value, logits=None), isolate=isolate)
            assert comparison.divergence.verdict == verdict
            assert text in to_text(comparison)
            json.dumps(to_json(comparison), allow_nan=False)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_in_one_tensor_accuses_no_other_op(value):
    """The op that reads it is judged where its value is finite, and may be wrong there."""
    bad, reader = tensors()[f"{BLOCK}.layernorm_before"].copy(), f"{BLOCK}.attention.attention.query"
    bad[1, 2, 3] = value
    found = tensors() | {f"{BLOCK}.layernorm_before": bad}
    comparison = compare(ours(), found, isolate=True)
    assert [(row.node, row.verdict) for row in comparison.wrong] == [(f"{BLOCK}.layernorm_before", "not finite")]
    assert f"{reader}: its input is not finite, so it is judged only where its value is" in comparison.notes
    json.dumps(to_json(comparison), allow_nan=False)
    wrong = found[reader].copy()
    wrong[0] *= 2
    comparison = compare(ours(), found | {reader: wrong}, isolate=True)
    assert [row.node for row in comparison.wrong][:2] == [f"{BLOCK}.layernorm_before", reader]
    assert next(row for row in comparison.rows if row.node == reader).errors.worst[0] == 0


def test_a_truncated_file_is_one_line(capsys, tmp_path, model_folder):
    save_file(tensors(), tmp_path / "whole.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((tmp_path / "whole.safetensors").read_bytes()[:-100])
    code, out, err = run(capsys, "compare", model_folder, cut)
    assert (code, out) == (2, "")
    assert "truncated" in err
    assert len(err.splitlines()) == 1


# ---- what nobody should have written ----

NAMES = st.sampled_from(
    [*list(port()[3])[::9], "", "x", "mobilevit.", "hidden_states.2", "conv_stem.convolution", "ß/é"]
)
SHAPES = st.one_of(
    st.lists(st.integers(0, 5), max_size=6).map(tuple),
    st.sampled_from(sorted({x.shape for x in port()[3].values() if x.size < 1e5})),
)
DTYPES = st.sampled_from(["float16", "float32", "float64", "int8", "uint8", "int64", "bool", "complex64", "U3"])
VALUES = st.sampled_from([0.0, 1.0, -3e38, 1e308, np.nan, np.inf, -np.inf, 1e-320])


@st.composite
def foreign(draw):
    found = {}
    for _ in range(draw(st.integers(0, 6))):
        shape, dtype = draw(SHAPES), draw(DTYPES)
        x = np.random.default_rng(draw(st.integers(0, 9))).standard_normal(shape)
        with np.errstate(all="ignore"):
            x = np.asarray(x * 10 if draw(st.booleans()) else np.where(x > 1, draw(VALUES), x))
            found[draw(NAMES)] = (np.nan_to_num(x) if dtype[0] in "iu" else x).astype(dtype)
    return found


def compared(*arguments, **options):
    """The comparison and no message, or none and the one line that says why not."""
    try:
        return compare(*arguments, **options), ""
    except TinyMViTError as error:
        return None, str(error)


@given(foreign(), st.booleans(), st.booleans(), st.booleans(), st.sampled_from(["auto", "nchw", "nhwc", "tokens"]))
def test_compare_never_crashes(found, whole, pixels, isolate, layout):
    base = tensors() if whole else {}
    if pixels:
        base = {"pixel_values": np.random.default_rng(0).random((1, 3, 16, 24), np.float32)} | base
    for first, options in ((ours(), {"isolate": isolate}), (tensors(), {})):
        comparison, message = compared(first, base | found, layout=layout, **options)
        assert "\n" not in message
        if comparison is None:
            continue
        assert isinstance(comparison, Comparison)
        assert to_text(comparison).splitlines()[0] == comparison.first
        json.dumps(to_json(comparison), allow_nan=False)
        assert to_html(comparison).endswith("</html>\n")


# ---- foreign runtimes ----


@pytest.fixture(scope="module")
def mistaken():
    """A right port and one that applies attention's scale wrongly, with what compare should find."""
    theirs = copy.deepcopy(port()[0])
    node, sentence = attention_with("scores", "the scale is 1/sqrt(D)", scale=np.sqrt)(theirs)
    return [(port()[0], "agree", ""), (theirs, node, sentence)]


def test_the_script_for_pytorch(capsys, tmp_path):
    script("dump_pytorch").main(
        str(resolve("digits")), str(SCRIPTS.parent / "images" / "digit-7.png"), str(tmp_path / "port.safetensors")
    )
    capsys.readouterr()
    code, out, _ = run(capsys, "compare", "digits", tmp_path / "port.safetensors", "--isolate")
    assert (code, out.splitlines()[0]) == (0, "agree")


@pytest.mark.parametrize("folded", [False, True])
def test_onnx_runtime(tmp_path, mistaken, folded):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    pixels = port()[2]
    for theirs, node, sentence in mistaken if folded else mistaken[:1]:  # the newer exporter takes its time
        path = tmp_path / "model.onnx"
        export(theirs, pixels, path, folded)
        found = script("dump_onnxruntime").dump(onnx.load(path), pixels.numpy())
        comparison = compare(ours(), found, isolate=True)
        assert comparison.first == node
        assert len(comparison.rows) > 150
        if sentence:
            assert sentence in str(comparison.divergence.hints[0])


def export(model, pixels, path, folded):
    """PyTorch's two exporters: the older folds the normalisations into the convolutions."""
    options = {"input_names": ["pixel_values"], "output_names": ["logits"], "verbose": False}
    options |= {"dynamo": False} if folded else {"dynamo": True, "optimize": False}
    with of_others():
        torch.onnx.export(model, (pixels,), str(path), **options)


@contextmanager
def of_others():
    """Silence for converters, whose warnings are not ours to mend."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def test_litert_names():
    pytest.importorskip("ai_edge_litert")
    module_of = script("dump_litert").module_of
    prefix = "a.B/c.MobileViTModel_mobilevit/c.MobileViTEncoder_encoder/c.MobileViTLayer_3"
    assert module_of(f"{prefix}/torch.nn.Conv2d_conv_1x1;1") == "mobilevit.encoder.layer.3.conv_1x1"
    assert module_of(f"{prefix}/x.LayerNorm_layernorm;7;{prefix}/x.Linear_query;1", "Linear").endswith("layer.3.query")
    assert module_of("a.B/h.MobileViTASPP_aspp/h.MobileViTConvLayer_2") == "aspp.convs.2"
    assert module_of("serving_default_args_0:0") is None


def test_litert(tmp_path):
    pytest.importorskip("ai_edge_litert")
    with of_others():
        litert_torch = pytest.importorskip("litert_torch")

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = port()[0]

        def forward(self, pixels):
            return self.model(pixels).logits

    pixels = port()[2][:1]
    with of_others():
        litert_torch.convert(Logits().eval(), (pixels,)).export(str(tmp_path / "model.tflite"))
        found = script("dump_litert").dump(tmp_path / "model.tflite", pixels.numpy())
    for isolate in (False, True):
        comparison = compare(ours(), found, isolate=isolate)
        assert comparison.first == "agree"
        assert len(comparison.rows) > 150


def test_undone_layouts_are_the_reference(tmp_path):
    """A dump of our own trace agrees to the last bit with the reference of the same precision."""
    from tinymvit import reference

    graph = ours().graph((1, 3, 32, 32))
    x = np.random.default_rng(0).random((1, 3, 32, 32), np.float32)
    values = {node.name: value for node, value in reference.steps(graph, ours().weights, x, np.float64)}
    comparison = compare(ours(), values)
    assert comparison.agrees
    assert len(comparison.rows) == len(graph)
    assert all(row.errors.absolute == 0 for row in comparison.rows)
    assert_same(values["pixel_values"], x.astype(np.float64))


# ---- what must be known to read the answer ----


def with_prefix(found, prefix):
    return {name if name == "pixel_values" else prefix + name: x for name, x in found.items()}


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.module."])
def test_a_wrapped_model_is_compared_to_the_end(prefix):
    right = with_prefix(tensors(), prefix)
    assert compare(ours(), right).first == "agree"
    wrong = right | {f"{prefix}{name}": right[f"{prefix}{name}"] + 1 for name in ("classifier", "logits")}
    for isolate in (False, True):
        assert compare(ours(), wrong, isolate=isolate).first == "classifier"
    assert compare(tensors(), wrong).first in ("classifier", "logits")


def test_an_agreement_without_the_answer_says_so():
    renamed = {{"classifier": "head", "logits": "answer"}.get(name, name): x for name, x in tensors().items()}
    renamed |= {name: renamed[name] + 1 for name in ("head", "answer")}
    caveat = "  our last node, classifier, was not compared, and 2 tensors of theirs not recognised: "
    comparison = compare(ours(), renamed)
    assert to_text(comparison).splitlines()[:2][1].startswith(caveat)
    assert to_json(comparison)["caveats"]
    assert "2 tensors of theirs not recognised" in compare(tensors(), renamed).caveats[0]
    assert not compare(ours(), tensors()).caveats


def test_nan_behind_an_op_names_the_op():
    name = "mobilevit.encoder.layer.1.layer.1.conv_3x3.convolution"
    found = tensors()
    nodes = list(ours().graph(found["pixel_values"].shape).nodes)
    later = set(nodes[nodes.index(name) :])
    found = {key: np.full_like(x, np.nan) if key in later else x for key, x in found.items()}
    for isolate in (False, True):
        comparison = compare(ours(), found, isolate=isolate)
        assert comparison.first == name
        assert not any("folded" in note for note in comparison.notes)
    assert not compare(tensors(), found).divergence.hints


def test_a_tensor_of_our_shape_is_read_so_however_wrong_it_is():
    found = tensors()
    for name in [name for name in found if name.endswith(".query")]:
        for seed in range(4):
            noise = np.random.default_rng(seed).standard_normal(found[name].shape).astype(np.float32)
            assert compare(ours(), {**found, name: noise}).divergence.verdict == "differs"


def test_the_error_that_is_too_large_is_the_one_that_is_said():
    found = tensors()
    found["mobilevit.conv_stem.convolution"] = found["mobilevit.conv_stem.convolution"].copy()
    found["mobilevit.conv_stem.convolution"][0, 0, 0, 0] += 1e-5
    assert "differs: largest error 1.0" in to_text(compare(ours(), found))


def test_shorter_formats_are_allowed_for_on_both_sides():
    short = {name: x.astype(np.float16) for name, x in tensors().items()}
    assert compare(short, tensors(), tolerance=1e-5).first == "agree"
    assert compare(tensors(), short, tolerance=1e-5).first == "agree"


def test_numbers_of_a_shorter_format_are_told():
    short = {name: x.astype(np.float16).astype(np.float32) for name, x in tensors().items()}
    assert "are all float16 numbers" in compare(ours(), short).caveats[0]
