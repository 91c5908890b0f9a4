"""Why a tensor is wrong: what converters fold, mistakes that hints name, and a search that ends."""

from dataclasses import replace

import numpy as np
import pytest

from tiny_port import BLOCK, LAYER, STEM, channels_swapped, dump, folded, model, pixels, right, run
from tinymvit import compare, reference
from tinymvit.comparison import reference_run
from tinymvit.comparison.hints import IN_VAIN
from tinymvit.comparison.mistakes import op_call
from tinymvit.ops import BatchNorm, LayerNorm


def epsilon_of(eps):
    """A normalisation with another epsilon."""
    return lambda op, inputs, weights: reference.compute(replace(op, eps=eps), inputs, weights)


def nodes_of(kind):
    return [node.name for node in model().graph((2, 3, 64, 96)) if isinstance(node.op, kind)]


def test_a_folded_normalisation_is_recognised_right_and_wrong():
    comparison = compare(model(), folded(right()), isolate=True)
    assert comparison.agrees
    assert any("with the value behind a folded op" in note for note in comparison.notes)
    found = dump(model(), pixels(), wrong={STEM: channels_swapped})
    comparison = compare(model(), folded(found), isolate=True)
    assert comparison.first == STEM
    assert "RGB" in comparison.divergence.hints[0].mistake


def test_one_folded_tensor_is_one_tensor():
    values = run(model(), pixels())
    values[STEM] = values.pop("mobilevit.conv_stem.normalization")
    (note,) = (note for note in compare(model(), values).notes if "folded" in note)
    assert note == f"1 tensor with the value behind a folded op: {STEM} holds mobilevit.conv_stem.normalization"


@pytest.mark.parametrize("isolate", [False, True])
@pytest.mark.parametrize("count", [1, 99])
def test_another_epsilon_in_folded_normalisations_accuses_no_convolution(count, isolate):
    """In one of them, or in all: more than are searched in vain."""
    norms = nodes_of(BatchNorm)
    wrong = dict.fromkeys(norms[3:][:count], epsilon_of(1e-3))
    comparison = compare(model(), folded(dump(model(), pixels(), wrong)), isolate=isolate)
    assert comparison.first == norms[3]
    named = [row.wrong_op for row in comparison.wrong] if isolate else [comparison.divergence.wrong_op]
    assert set(named) <= set(norms)
    assert not isolate or len(named) > 0.9 * min(count, len(norms) - 3)  # where the variance is large it does no harm
    for row in comparison.wrong if isolate else [comparison.divergence]:
        assert row.hints[0].mistake == "epsilon is 0.001"


def test_the_same_mistake_at_every_op_is_named_as_such():
    found = run(model(), pixels(), dict.fromkeys(nodes_of(LayerNorm), epsilon_of(1e-2)))
    layer_norm = f"{LAYER}.layernorm_before"
    end = f"{LAYER}.output"  # of the layer; no tensor between, but for those of the block's two convolutions
    found = {name: found[name] for name in ("pixel_values", f"{BLOCK}.conv_1x1.convolution", end)}
    comparison = compare(model(), found, isolate=True)
    assert comparison.first == layer_norm
    assert len(comparison.divergence.together) == 15
    assert comparison.divergence.hints[0].mistake == "epsilon is 0.01 (at every LayerNorm of these)"


def test_a_search_in_vain_ends(monkeypatch):
    """Of a port where all is wrong in no known way, only the first tensors are tried with every mistake."""
    tried = []
    monkeypatch.setattr(reference_run, "op_call", lambda node, *rest: tried.append(node) or op_call(node, *rest))
    rng = np.random.default_rng(0)
    found = {
        name: x if name == "pixel_values" else rng.permutation(x.ravel()).reshape(x.shape)
        for name, x in right().items()
    }
    comparison = compare(model(), found, isolate=True)
    assert len(comparison.wrong) > 100
    assert IN_VAIN * 10 < len(tried) < IN_VAIN * 60
