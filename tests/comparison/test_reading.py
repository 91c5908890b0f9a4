"""In which layout a tensor is read where several fit: the values decide."""

import numpy as np
import pytest

from tiny_port import LAYER, doubled, dump, model, pixels, right, run
from tinymvit import compare, reference
from tinymvit.modeling import load_model
from tinymvit.ops import Fold, Unfold
from tinymvit.vectors import noise


@pytest.mark.parametrize("isolate", [False, True])
def test_a_port_in_another_layout_agrees_and_the_layout_is_said(isolate):
    def channels_or_tokens_last(x):
        if x.ndim == 3:
            return x.reshape(2, -1, x.shape[-1])
        return x.transpose(0, 2, 3, 1) if x.ndim == 4 and x.shape[0] == 2 else x  # not of scores, of 8 sequences

    comparison = compare(model(), {name: channels_or_tokens_last(x) for name, x in right().items()}, isolate=isolate)
    assert comparison.agrees
    layouts = next(note for note in comparison.notes if note.startswith("layouts undone: "))
    assert "B H W C" in layouts
    assert len(comparison.rows) == len(compare(model(), right()).rows)


def test_an_ambiguous_square_is_decided_by_the_values_and_said():
    found = dump(model(), pixels(1, 16, 16))
    name = "mobilevit.encoder.layer.0.layer.0.expand_1x1.convolution"
    assert found[name].shape == (1, 8, 8, 8)
    found[name] = found[name].transpose(0, 2, 3, 1)
    comparison = compare(model(), found)
    assert comparison.agrees
    assert next(row for row in comparison.rows if row.node == name).layout == "B H W C"
    assert any(note.startswith("several layouts fit") for note in comparison.notes)
    assert f"right in another layout than most maps, B C H W: {name}; is a transpose missing?" in comparison.notes


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("isolate", [False, True])
def test_tokens_before_the_batch(batch, isolate):
    """(N, B P, D), as PyTorch's own attention has it by default; of one image also the shape of patches swapped with
    positions, which is told apart by what attention made of them."""
    found = dump(model(), pixels(batch))
    first = {name: np.ascontiguousarray(x.swapaxes(0, 1)) if x.ndim == 3 else x for name, x in found.items()}
    comparison = compare(model(), first, isolate=isolate)
    assert comparison.agrees
    rows = [row for row in comparison.rows if row.layout in ("B N P D", "N B P D")]
    assert sum(x.ndim == 3 for x in found.values()) > len(rows) > 60
    wrong = f"{LAYER}.layernorm_after"
    assert compare(model(), doubled(first, wrong), isolate=isolate).first == wrong


def test_a_reshape_without_a_transpose_is_found():
    digits = load_model("digits")
    found = digits.trace(noise((1, 3, 128, 128)), dtype="float32")
    context = "mobilevit.encoder.layer.3.transformer.layer.0.attention.attention"
    tokens = found[context]
    joined = tokens.reshape(4, 16, 4, -1).swapaxes(1, 2).reshape(tokens.shape)
    unfolding = "mobilevit.encoder.layer.3.unfolding"
    image = found["mobilevit.encoder.layer.3.conv_1x1.convolution"]
    reshaped = image.transpose(0, 2, 3, 1).reshape(found[unfolding].shape)
    for node, wrong in ((context, joined), (unfolding, reshaped)):
        comparison = compare(digits, found | {node: wrong}, isolate=True)
        assert comparison.first == node
        assert comparison.divergence.hints


FOUR_ROWS = "mobilevit.encoder.layer.4"  # has a map of four rows for 128 pixels


def as_a_map(graph, x):
    """Tokens of `FOUR_ROWS` as a map that is not unfolded, (1, 4, W, D)."""
    fold = next(node for node in graph if isinstance(node.op, Fold) and node.name.startswith(FOUR_ROWS))
    image = reference.compute(fold.op, [x], []).transpose(0, 2, 3, 1)
    assert image.shape[1] == 4
    return image


@pytest.mark.parametrize("isolate", [False, True])
def test_a_map_of_four_rows_is_a_layout_if_attention_sees_right_tokens(isolate):
    """Reshaped to (B, P, N, D) without a transpose it has a layout's shape and numbers; LayerNorm and matrices cannot
    tell, attention can."""
    digits = load_model("digits")
    found = digits.trace(noise((1, 3, 128, 128)), dtype="float32")
    graph = digits.graph((1, 3, 128, 128))
    layer = f"{FOUR_ROWS}.transformer.layer.0"
    before_attention = [
        f"{FOUR_ROWS}.unfolding",
        f"{layer}.layernorm_before",
        *(f"{layer}.attention.attention.{name}" for name in ("query", "key", "value")),
    ]
    maps = {name: as_a_map(graph, found[name]) for name in before_attention}
    comparison = compare(digits, found | maps, isolate=isolate)
    assert comparison.agrees
    assert [row.layout for row in comparison.rows if row.node in before_attention] == ["B y i x j D"] * 5


@pytest.mark.parametrize("isolate", [False, True])
def test_a_map_of_four_rows_is_a_mistake_if_attention_sees_wrong_tokens(isolate):
    digits, image = load_model("digits"), noise((1, 3, 128, 128))
    unfolding = f"{FOUR_ROWS}.unfolding"
    assert isinstance(digits.graph(image.shape)[unfolding].op, Unfold)

    def reshaped(op, inputs, weights):
        return inputs[0].transpose(0, 2, 3, 1).reshape(op.output_shape(inputs[0].shape))

    found = run(digits, image, wrong={unfolding: reshaped})
    comparison = compare(digits, found | {unfolding: found[unfolding][None]}, isolate=isolate)
    assert comparison.first == unfolding
    assert comparison.divergence.hints[0].mistake == "unfold order: (B, H, W, D) is reshaped without transposes"
    assert not isolate or len(comparison.wrong) == 1


def test_a_tensor_of_our_shape_is_read_so_however_wrong_it_is():
    found = right()
    for name in [name for name in found if name.endswith("transformer.layer.0.attention.attention.query")]:
        for seed in range(4):
            anything = np.random.default_rng(seed).standard_normal(found[name].shape).astype(np.float32)
            assert compare(model(), found | {name: anything}).divergence.verdict == "differs"


def test_our_own_float64_values_agree_to_the_last_bit():
    graph = model().graph((1, 3, 32, 32))
    x = np.random.default_rng(0).random((1, 3, 32, 32), np.float32)
    values = {node.name: value for node, value in reference.steps(graph, model().weights, x, np.float64)}
    comparison = compare(model(), values)
    assert comparison.agrees
    assert len(comparison.rows) == len(graph)
    assert all(row.errors.absolute == 0 for row in comparison.rows)
