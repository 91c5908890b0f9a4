"""Ports in structures, names and layouts of their own: right ones agree, of wrong ones the wrong op is named and no
other, whether names mean something or not."""

import hashlib
from functools import cache

import pytest

from foreign_ports import PORTS, STAGES, model_and_weights, port
from frameworks import torch
from tinymvit import compare

pytestmark = pytest.mark.torch
WRONG = [(name, wrong) for name in PORTS if torch is not None for wrong in port(name).WRONG]


@cache
def dumped(name, wrong):
    pixels = torch.rand(1, 3, 64, 128, generator=torch.manual_seed(7))
    return port(name).run(model_and_weights()[1], pixels, (wrong,) if wrong else ())


def with_own_names(name, found):
    return found, None


def with_a_map(name, found):
    return found, port(name).names(model_and_weights()[1])


def numbered(name, found):
    """The input is the first of a dump in order."""
    return {f"t{i:04}": x for i, x in enumerate(found.values())}, None


def shuffled(name, found):
    hashed = {hashlib.sha256(own.encode()).hexdigest()[:8]: x for own, x in found.items()}
    return dict(sorted(hashed.items())), None


NAMINGS = {"a map": with_a_map, "their own names": with_own_names, "numbers": numbered, "in disorder": shuffled}


def accused(comparison):
    """The ops of which one must be wrong, for each judgement that says so; in whole of the first."""
    rows = comparison.wrong if comparison.isolated else comparison.wrong[:1]
    return [{row.wrong_op, *row.together} for row in rows]


def judged(name, wrong, naming, isolate):
    found, names = NAMINGS[naming](name, dumped(name, wrong))
    if names is not None:
        names = {own: node for own, node in names.items() if own in found}
    return compare(model_and_weights()[0], found, names=names, isolate=isolate)


@pytest.mark.parametrize("isolate", [False, True])
@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("name", PORTS)
def test_a_right_port_agrees_whatever_its_names_are(name, naming, isolate):
    comparison = judged(name, "", naming, isolate)
    assert comparison.agrees
    assert len(comparison.rows) >= (10 if name == "stages_alone" else 100)
    assert naming == "a map" or "by value" in comparison.basis or "their names are those of" in comparison.basis


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize(("name", "wrong"), WRONG)
def test_of_a_wrong_port_the_wrong_op_is_named_and_no_other(name, wrong, naming):
    turn = WRONG.index((name, wrong)) + list(NAMINGS).index(naming)  # in whole and isolated by turns, to save time
    comparison = judged(name, wrong, naming, isolate=turn % 2 == 0)
    assert comparison.wrong
    for ops in accused(comparison):
        assert ops & set(port(name).WRONG[wrong])


@pytest.mark.parametrize(("name", "family"), [("timm_like", "timm"), ("cvnets_like", "ml-cvnets")])
def test_names_of_another_family_need_no_map(name, family):
    """Normalisations that activate, one product for query, key and value: each is the node that it is."""
    comparison = judged(name, "", "their own names", False)
    assert comparison.basis == f"their names are those of {family}"
    assert {row.matched for row in comparison.rows[1:]} == {"name"}
    unfused = [row for row in comparison.rows if row.node.endswith((".query", ".key", ".value"))]
    assert len(unfused) == 3 * sum(STAGES)
    assert unfused[0].theirs.endswith("qkv[query]" if family == "timm" else "qkv_proj[query]")
    for isolate in (False, True):
        wrong = judged(name, next(iter(port(name).WRONG)), "their own names", isolate)
        assert wrong.divergence.hints


def test_a_product_that_is_no_three_parts_and_a_map_go_before_the_family():
    found = dict(dumped("timm_like", ""))
    product = "stages.2.1.transformer.0.attn.qkv"
    found[product] = found[product][..., 1:]
    ours, _ = model_and_weights()
    comparison = compare(ours, found)
    assert comparison.agrees
    assert any(product in note and "not recognised" in note for note in comparison.notes)
    norms = {
        f"stages.2.1.transformer.{i}.norm1": f"mobilevit.encoder.layer.2.transformer.layer.{1 - i}.layernorm_before"
        for i in (0, 1)
    }
    assert compare(ours, found, names=norms, isolate=True).first in norms.values()


def test_the_channel_order_of_another_family_is_hinted():
    """timm's own stem reads RGB: our BGR model on their pixels differs there, and nowhere else."""
    comparison = judged("timm_like", "flipped pixels and twice the logits", "their own names", True)
    assert str(comparison.divergence.hints[0]) == (
        "mobilevit.conv_stem.convolution: channels are swapped (RGB for BGR) before it"
    )
    assert len(comparison.wrong) == 1
