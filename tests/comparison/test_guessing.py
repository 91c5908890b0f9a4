"""Tensors whose names mean nothing: what is recognised, what is left out, and what a guess may accuse."""

import dataclasses
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_port import ATTENTION, BLOCK, LAYER, STEM, model, pixels, run
from tinymvit import compare, reference
from tinymvit.comparison import ComparisonSettings, Verdict, guessing
from tinymvit.comparison.inputs import open_tensors
from tinymvit.comparison.layouts import node_axes
from tinymvit.comparison.names import Match, Names
from tinymvit.comparison.port import Port
from tinymvit.comparison.reading import first_attended
from tinymvit.comparison.reference_run import ReferenceRun
from tinymvit.comparison.report import to_html, to_json, to_text
from tinymvit.ops import BatchNorm, Scores

STEM_OUTPUT = "mobilevit.conv_stem.activation"


@cache
def graph():
    return model().graph((1, 3, 64, 96))


@cache
def values_with(*wrong):
    """Every node's value in a port in which these ops give what no known mistake does, nor a norm behind it undoes."""

    def off(op, inputs, weights):
        x = reference.compute(op, inputs, weights)
        return np.where(x > 0, np.float32(0.7) * x, x + np.float32(0.01))

    return run(model(), pixels(1, 64, 96), dict.fromkeys(wrong, off))


def nameless(values, order=None):
    """A dump of these arrays without their names."""
    names = list(values)
    order = range(len(names)) if order is None else order
    return {f"x{number:04}": values[names[number]] for number in order}


def accused(comparison):
    """The ops of which one must be wrong, for each judgement that says so; in whole of the first."""
    rows = comparison.wrong if comparison.isolated else comparison.wrong[:1]
    return [{row.wrong_op, *row.together} for row in rows]


def laid_out(x, kind):
    if kind == "last" and x.ndim == 4:
        return x.transpose(0, 2, 3, 1)
    if kind == "apart" and x.ndim == 3:
        return x.reshape(1, 4, *x.shape[1:])  # (B, P, N, D)
    if kind == "before" and x.ndim == 3:
        return x.swapaxes(1, 2)  # (B P, D, N)
    return x


@pytest.mark.parametrize("isolate", [False, True])
def test_a_word_that_is_ours_by_chance_means_nothing_among_names_that_are_not(isolate):
    values = nameless(values_with())
    stem, block = values_with()[STEM], values_with()[f"{BLOCK}.layernorm"]
    comparison = compare(model(), values | {"conv_stem": stem, "encoder": block}, isolate=isolate)
    assert comparison.agrees
    assert compare(model(), values_with() | {"encoder": block}, isolate=isolate).first == "mobilevit.encoder"


@pytest.mark.parametrize("isolate", [False, True])
def test_scores_that_are_scaled_later_are_no_wrong_scores(isolate):
    """Our graph lacks them; that attention weighs by columns is the one mistake."""
    probabilities = f"{ATTENTION}.probabilities"

    def over_queries(op, inputs, weights):
        return np.ascontiguousarray(reference.compute(op, [inputs[0].swapaxes(2, 3)], weights).swapaxes(2, 3))

    values = run(model(), pixels(1, 64, 96), wrong={probabilities: over_queries})
    scores = values.pop(f"{ATTENTION}.scores")
    values = dict(sorted(nameless(values | {"unscaled": scores * np.float32(2.0)}).items(), reverse=True))
    comparison = compare(model(), values, isolate=isolate)
    assert comparison.first == probabilities
    assert {probabilities} <= set(comparison.divergence.together) <= {probabilities, f"{ATTENTION}.scores"}
    assert any("1 of their" in note and "not recognised" in note for note in comparison.notes)


@pytest.mark.parametrize("isolate", [False, True])
def test_what_has_a_name_behind_a_place_without_a_tensor_shows_that_it_is_right(isolate):
    """So the map of what was recognised gives the same verdict: scores that are scaled later are no wrong scores."""
    values = values_with()
    scores = {"unscaled": values[f"{ATTENTION}.scores"] * np.float32(2.0)}
    found = {name: x for name, x in values.items() if name != f"{ATTENTION}.scores"} | scores
    assert compare(model(), found, isolate=isolate).agrees
    first = compare(model(), nameless(found), isolate=isolate)
    assert first.agrees
    assert compare(model(), nameless(found), names=first.names, isolate=isolate).agrees


@pytest.mark.parametrize("isolate", [False, True])
def test_an_answer_that_is_probabilities_accuses_nobody(isolate):
    values = values_with()
    logits = np.exp(values["classifier"])
    found = {**values, "classifier": logits / logits.sum(1, keepdims=True)}
    comparison = compare(model(), nameless(found), isolate=isolate)
    assert comparison.agrees
    assert "our last node, classifier, was not compared" in comparison.caveats[0]


@pytest.mark.parametrize("isolate", [False, True])
def test_a_right_dump_that_ends_before_the_answer_agrees(isolate):
    values = {name: x for name, x in values_with().items() if "layer.4" not in name and "mobilevit.enc" in name}
    noise = {"n": np.random.default_rng(0).standard_normal(values_with()[f"{LAYER}.output"].shape, np.float32)}
    comparison = compare(model(), nameless({"p": pixels(1, 64, 96)} | values | noise), isolate=isolate)
    assert comparison.agrees
    assert len(comparison.rows) > len(values) - 3


def test_tensors_that_nothing_explains_are_counted():
    noise = {f"n{i}": np.random.default_rng(i).standard_normal((1, 8, 8, 12), np.float32) for i in range(4)}
    comparison = compare(model(), nameless(values_with()) | noise)
    total = len(graph())
    assert comparison.agrees
    assert (
        comparison.basis
        == f"{total} of {total} tensors of the graph recognised, by value; 4 of theirs were not, see the notes"
    )
    assert f"4 of their {total + 4} tensors not recognised: n0, n1, n2 and 1 more" in comparison.notes


@pytest.mark.parametrize("isolate", [False, True])
def test_a_copy_of_what_a_name_says_is_recognised(isolate):
    copy = {"x": values_with()[f"{LAYER}.output"]}
    comparison = compare(model(), values_with() | copy, isolate=isolate)
    assert comparison.agrees
    assert not any("not recognised" in note for note in comparison.notes)
    assert comparison.basis == ""


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("isolate", [False, True])
def test_another_format_is_recognised(dtype, isolate):
    values = {name: x.astype(dtype) for name, x in values_with().items()}
    comparison = compare(model(), nameless(values | {"pixel_values": pixels(1, 64, 96)}), isolate=isolate)
    assert len(comparison.rows) == len(graph())
    assert comparison.agrees


@pytest.mark.parametrize("isolate", [False, True])
@pytest.mark.parametrize("kept", [("",), ("normalization",), ("normalization", "activation", "dense", "classifier")])
def test_a_known_mistake_that_is_made_everywhere_is_found_everywhere(kept, isolate):
    """No tensor behind it is right, so that only the mistake itself says which tensor is which."""

    def other_epsilon(op, inputs, weights):
        return reference.compute(dataclasses.replace(op, eps=1e-3), inputs, weights)

    norms = [node.name for node in graph() if isinstance(node.op, BatchNorm)]
    values = run(model(), pixels(1, 64, 96), wrong=dict.fromkeys(norms, other_epsilon))
    found = {name: x for name, x in values.items() if name == "pixel_values" or name.endswith(kept)}
    comparison = compare(model(), dict(sorted(nameless(found).items(), reverse=True)), isolate=isolate)
    assert comparison.divergence.node == norms[0]
    assert all(ops & set(norms) for ops in accused(comparison))
    if isolate:
        assert sum(not row.ok for row in comparison.rows) >= 8  # though some share ops with the one before


def test_a_search_that_costs_too_much_says_that_it_was_given_up(monkeypatch):
    values = nameless(values_with(f"{LAYER}.intermediate.dense"))
    said = "guess: the search for wrong operations ended before all was tried, for it cost too much; a map helps it"
    assert said not in compare(model(), values).notes
    monkeypatch.setattr(guessing, "EFFORT", 0)
    monkeypatch.setattr(guessing, "LEAST_EFFORT", 0)
    assert said in compare(model(), values).notes


def nearly_right(x):
    """Wrong by so little that what is computed from it is right, where that is rounded to float16."""
    return x * np.where(np.arange(x.shape[-1]) == 0, np.float32(1.02), np.float32(1))


@pytest.mark.parametrize("isolate", [False, True])
def test_a_tensor_that_is_nearly_right_is_no_agreement_where_rounding_hides_it_behind(isolate):
    """It is not accused either, for nothing but its likeness says that it is that node's."""
    values = nameless({**values_with(), ATTENTION: nearly_right(values_with()[ATTENTION])})
    comparison = compare(model(), {name: x.astype(np.float32) for name, x in values.items()}, isolate=isolate)
    theirs = f"x{list(values_with()).index(ATTENTION):04}"
    assert comparison.first is None
    assert not comparison.agrees
    assert comparison.unsettled == {ATTENTION: theirs}
    text = to_text(comparison)
    assert text.startswith("no difference found; ")
    assert f"  their {theirs} is not recognised: it is similar to {ATTENTION}, which has no tensor" in text
    assert to_json(comparison)["first"] == "no difference found"
    assert "<h1>no difference found; " in to_html(comparison)


@pytest.mark.parametrize("isolate", [False, True])
def test_what_a_layer_norm_makes_of_a_tensor_does_not_prove_whose_it_is(isolate):
    """It would make the same of it without its mean, and that is no value of ours."""
    residual = f"{LAYER}.attention_residual"
    values = values_with(residual)
    centred = values[residual] - values[residual].mean(-1, keepdims=True)
    values = nameless({name: x for name, x in values.items() if name != residual} | {"centred": centred})
    comparison = compare(model(), values, isolate=isolate)
    assert list(values)[-1] not in comparison.names
    assert residual in comparison.divergence.together


@pytest.mark.parametrize("isolate", [False, True])
def test_a_wrong_tensor_is_read_in_the_layout_that_its_guess_rests_on(isolate):
    values = dict(values_with(ATTENTION))
    heads = next(node.op.heads for node in graph() if isinstance(node.op, Scores))
    joined = values[ATTENTION]
    values[ATTENTION] = joined.reshape(1, *joined.shape[:2], heads, -1).swapaxes(2, 3)
    comparison = compare(model(), nameless(values), isolate=isolate)
    assert comparison.first == ATTENTION
    assert comparison.divergence.verdict is Verdict.DIFFERS
    assert comparison.divergence.layout == "B P h N e"


@pytest.mark.parametrize("wrong", [STEM_OUTPUT, f"{LAYER}.intermediate.dense", ATTENTION])
def test_a_guess_in_float16_proves_itself_within_what_storing_costs(wrong):
    values = {name: x.astype(np.float16) for name, x in nameless(values_with(wrong)).items()}
    values["pixel_values"] = pixels(1, 64, 96)
    comparison = compare(model(), values, isolate=True)
    assert comparison.first == wrong
    assert len(comparison.wrong) == 1


def test_tokens_of_the_last_layer_are_not_those_that_the_next_block_attends_to():
    run = ReferenceRun(graph(), model().weights, pixels(1, 64, 96))
    dump = open_tensors(values_with())
    matches = {name: Match(name, "name") for name in graph().nodes}
    port = Port(dump, ComparisonSettings(), Names({}), node_axes(graph()), matches)
    *_, last = (node for node in graph() if node.name.startswith(f"{BLOCK}.transformer"))
    assert first_attended(run, port, graph().nodes[f"{LAYER}.layernorm_before"]).name == ATTENTION
    assert first_attended(run, port, last) is None


def test_of_two_images_the_first_is_taken_and_the_other_named():
    values = values_with()
    dump = {"a": values["pixel_values"], "b": values["pixel_values"][:, ::-1]} | nameless(values)
    comparison = compare(model(), dump)
    assert comparison.agrees
    note = "guess: their a is the pixel_values: the first tensor of 3 channels; b may be them too, a map says"
    assert note in comparison.notes


@st.composite
def ports(draw):
    """Which ops are wrong, the share of the tensors that is dumped, by which chance, in which layout and order."""
    wrong = draw(st.lists(st.sampled_from(list(graph().nodes)[1:]), max_size=2, unique=True))
    share = draw(st.sampled_from([1.0, 0.6, 0.3, 0.1]))
    layout = draw(st.sampled_from(["ours", "last", "apart", "before"]))
    return wrong, share, draw(st.integers(0, 2**16)), layout, draw(st.booleans())


@settings(max_examples=60, deadline=None)
@given(ports(), st.booleans())
def test_any_tensors_in_any_order_accuse_no_right_op(port, isolate):
    wrong, share, seed, layout, shuffled = port
    values, nodes, chance = values_with(*wrong), list(graph().nodes), np.random.default_rng(seed)
    kept = [name for name in nodes if name in (nodes[0], nodes[-1]) or chance.random() < share]
    maps = ("scores", "probabilities")
    found = {name: values[name] if name.endswith(maps) else laid_out(values[name], layout) for name in kept}
    comparison = compare(model(), nameless(found, chance.permutation(len(kept)) if shuffled else None), isolate=isolate)
    assert bool(comparison.wrong) == bool(wrong)
    for ops in accused(comparison):
        assert ops & set(wrong)
