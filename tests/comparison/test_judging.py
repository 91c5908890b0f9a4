"""The verdict on a tensor and its errors; tensors beside the one that is read for their node."""

import json

import numpy as np
import pytest

from tiny_port import ATTENTION, BLOCK, LAYER, STEM, doubled, model, right, without
from tinymvit import compare
from tinymvit.comparison.report import to_json, to_text
from tinymvit.comparison.verdict import Comparison, Hint, Judgement, Verdict


def with_classifier(value):
    return without(right(), "logits") | {"classifier": value}


def test_one_wrong_element_is_seen_and_located():
    logits = right()["classifier"].copy()
    logits[1, 3] += 0.5
    row = compare(model(), with_classifier(logits)).divergence
    assert row.node == "classifier"
    assert row.errors.worst == (1, 3)
    assert row.errors.absolute == pytest.approx(0.5, rel=1e-3)


def test_ops_among_which_an_unexplained_one_is_wrong_are_not_named_once_more():
    def row(*together, hints=()):
        return Judgement(together[-1], "", (), "", "guess", (), "", Verdict.DIFFERS, together=together, hints=hints)

    rows = (row("a", "b"), row("a", "c"), row("c", "d"))
    assert Comparison(rows, (), isolated=True).wrong == [rows[0], rows[2]]
    explained = (row("a", "b", hints=(Hint("b", "is wrong"),)), *rows[1:])
    assert Comparison(explained, (), isolated=True).wrong == [*explained[:2]]
    assert Comparison(rows, (), isolated=False).wrong == [*rows]


def test_the_numbers_of_a_row():
    logits = right()["classifier"]
    row = compare(model(), with_classifier(2 * logits)).divergence
    assert row.errors.relative == pytest.approx(1, rel=1e-4)
    assert row.errors.snr == pytest.approx(0, abs=1e-2)
    assert row.errors.cosine == pytest.approx(1, rel=1e-6)
    assert row.errors.rms == pytest.approx(float(np.sqrt((logits.astype(float) ** 2).mean())), rel=1e-4)


def test_the_error_that_is_too_large_is_the_one_that_is_said():
    stem = right()[STEM].copy()
    stem[0, 0, 0, 0] += 1e-5
    assert "differs: largest error 1.0" in to_text(compare(model(), right() | {STEM: stem}))


@pytest.mark.parametrize("isolate", [False, True])
@pytest.mark.parametrize(
    ("value", "verdict", "text"),
    [
        (np.full((2, 5), np.inf, np.float32), Verdict.NOT_FINITE, "NaN or infinity, first at [0, 0]"),
        (np.zeros((3, 5), np.float32), Verdict.SHAPE, "has shape [3, 5]"),
        (np.zeros((2, 5), np.complex64), Verdict.NOT_NUMBERS, "does not hold real numbers"),
        (np.array("x"), Verdict.NOT_NUMBERS, "does not hold real numbers"),
    ],
    ids=["infinity", "shape", "complex", "text"],
)
def test_a_tensor_that_cannot_be_compared_is_a_row(value, verdict, text, isolate):
    comparison = compare(model(), with_classifier(value), isolate=isolate)
    assert comparison.divergence.verdict is verdict
    assert text in to_text(comparison)
    json.dumps(to_json(comparison), allow_nan=False)


def test_infinity_in_one_element_is_located():
    logits = right()["classifier"].copy()
    logits[0, 1] = np.inf
    assert "NaN or infinity, first at [0, 1]" in to_text(compare(model(), with_classifier(logits)))


def test_nan_behind_an_op_names_the_op():
    first = "mobilevit.encoder.layer.1.layer.1.conv_3x3.convolution"
    graph = model().graph(right()["pixel_values"].shape)
    nodes = list(graph.nodes)
    behind = set(nodes[nodes.index(first) :])
    behind |= {name for name, node in (graph.modules | graph.outputs).items() if node in behind}
    found = {name: np.full_like(x, np.nan) if name in behind else x for name, x in right().items()}
    for isolate in (False, True):
        comparison = compare(model(), found, isolate=isolate)
        assert comparison.first == first
        assert not any("folded" in note for note in comparison.notes)
    assert not compare(right(), found).divergence.hints


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_in_one_tensor_accuses_no_other_op(value):
    """The op that reads it is judged where its value is finite, and may be wrong there."""
    norm, reader = f"{LAYER}.layernorm_before", f"{ATTENTION}.query"
    bad = right()[norm].copy()
    bad[1, 2, 3] = value
    found = right() | {norm: bad}
    comparison = compare(model(), found, isolate=True)
    assert [(row.node, row.verdict) for row in comparison.wrong] == [(norm, Verdict.NOT_FINITE)]
    assert f"{reader}: its input is not finite, so it is judged only where its value is" in comparison.notes
    json.dumps(to_json(comparison), allow_nan=False)
    wrong = found[reader].copy()
    wrong[0] *= 2
    comparison = compare(model(), found | {reader: wrong}, isolate=True)
    assert [row.node for row in comparison.wrong][:2] == [norm, reader]
    assert next(row for row in comparison.rows if row.node == reader).errors.worst[0] == 0


# ---- tensors that mean one node ----


@pytest.mark.parametrize("isolate", [False, True])
@pytest.mark.parametrize(
    ("name", "change", "verdict"),
    [
        ("logits", lambda x: x * 7, Verdict.DIFFERS),
        ("logits", lambda x: np.full_like(x, np.nan), Verdict.NOT_FINITE),
        ("mobilevit.conv_stem", lambda x: np.zeros((2, 3), np.float32), Verdict.SHAPE),
        (BLOCK, lambda x: x + x.mean(), Verdict.DIFFERS),
    ],
    ids=["logits", "NaN", "shape", "block"],
)
def test_a_tensor_beside_the_one_that_is_read_for_its_node_is_judged_too(name, change, verdict, isolate):
    """A module's output is its last node's: hooks dump both. `logits` is the classifier's, a block its last op's."""
    comparison = compare(model(), right() | {name: change(right()[name])}, isolate=isolate)
    assert comparison.first == name
    assert [(row.node, row.verdict) for row in comparison.wrong] == [(name, verdict)]
    read = comparison.rows[comparison.rows.index(comparison.divergence) - 1]
    assert read.ok
    assert f"their {name} and {read.theirs} should be the same: both are {read.node}" in comparison.notes
    assert len(comparison.rows) == len(compare(model(), right()).rows) + 1


@pytest.mark.parametrize("isolate", [False, True])
def test_a_tensor_that_holds_the_same_in_another_dtype_or_layout_is_not_judged(isolate):
    other = {"logits": right()["logits"].astype(np.float64)[:, :, None], BLOCK: right()[BLOCK].transpose(0, 2, 3, 1)}
    assert compare(model(), right() | other, isolate=isolate).agrees


@pytest.mark.parametrize("isolate", [False, True])
def test_two_tensors_that_are_wrong_alike_are_one_row(isolate):
    found = doubled(right(), "classifier", "logits")
    found["logits"] = found["logits"][:, :, None]
    assert [row.node for row in compare(model(), found, isolate=isolate).wrong] == ["classifier"]
