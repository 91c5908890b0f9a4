"""Which tensor of theirs is which node of ours: by name, by a map, by shape and order; and the pixels."""

import numpy as np
import pytest

import tinymvit
from tiny_port import BLOCK, STEM, doubled, dump, model, pixels, right, run, without
from tinymvit import compare
from tinymvit.errors import DumpError

# ---- names ----


def number_of_rows():
    return len(compare(model(), right()).rows)


def test_names_with_and_without_the_prefix():
    bare = {name.removeprefix("mobilevit."): x for name, x in right().items()}
    assert len(compare(model(), bare).rows) == number_of_rows()


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.module."])
def test_a_wrapped_model_is_compared_to_the_end(prefix):
    wrapped = {name if name == "pixel_values" else prefix + name: x for name, x in right().items()}
    comparison = compare(model(), wrapped)
    assert comparison.agrees
    assert len(comparison.rows) == number_of_rows()
    wrong = doubled(wrapped, f"{prefix}classifier", f"{prefix}logits")
    for isolate in (False, True):
        assert compare(model(), wrong, isolate=isolate).first == "classifier"
    assert compare(right(), wrong).first in ("classifier", "logits")


def test_only_the_backbone_of_a_wrapped_model():
    wrapped = {f"model.{name}" if name.startswith("mobilevit.") else name: x for name, x in right().items()}
    assert len(compare(model(), wrapped).rows) == number_of_rows()


def test_a_bare_model_is_compared_with_a_dump_of_a_model_with_a_head():
    bare = tinymvit.MobileViTModel.from_tensors(model().config, model().weights)
    comparison = compare(bare, right())
    assert comparison.agrees
    assert comparison.rows[1].node == "conv_stem.convolution"


def test_a_map_of_names():
    theirs = {"pixel_values": pixels(), "a": right()[STEM], "b": right()["classifier"]}
    comparison = compare(model(), theirs, names={"a": STEM, "b": "logits"})
    assert [(row.node, row.theirs, row.matched) for row in comparison.rows[1:]] == [
        (STEM, "a", "map"),
        ("classifier", "b", "map"),
    ]


def test_a_tensor_whose_name_the_map_gives_to_another_is_not_judged():
    found = right() | {"mine": right()["classifier"], "classifier": np.zeros((2, 5), np.float32)}
    assert compare(model(), found, names={"mine": "classifier"}).agrees
    wrong = found | {"logits": found["classifier"]}
    assert compare(model(), wrong, names={"mine": "classifier"}).first == "logits"


def test_a_map_may_name_a_block_and_its_last_operation():
    last = f"{BLOCK}.fusion.activation"
    found = {"pixel_values": pixels(), "a": right()[last], "b": right()[last]}
    names = {"a": BLOCK, "b": last}
    comparison = compare(model(), found, names=names)
    assert comparison.agrees
    assert comparison.names == {"pixel_values": "pixel_values", "b": last}
    assert compare(model(), doubled(found, "a"), names=names).first == BLOCK


# ---- guesses ----


def test_names_that_mean_nothing_are_guessed_and_the_guess_is_printed():
    values = run(model(), pixels())
    comparison = compare(model(), {f"tensor_{i}": x for i, x in enumerate(values.values())})
    assert comparison.agrees
    assert [row.node for row in comparison.rows] == list(values)
    assert f"guess: their tensor_1 is {STEM}" in comparison.notes
    assert comparison.notes[0].startswith("guess: their tensor_0 is the pixel_values")


def test_a_guess_survives_a_wrong_op_and_tensors_that_are_nothing():
    wrong = f"{BLOCK}.transformer.layer.1.attention.output.dense"

    def weight_transposed(op, inputs, weights):
        return inputs[0] @ weights[0] + weights[1]  # right is x @ weight.T

    theirs = {}
    for i, x in enumerate(run(model(), pixels(), wrong={wrong: weight_transposed}).values()):
        theirs[f"tensor_{i}"] = x
        theirs[f"noise_{i}"] = np.zeros((7, 11), np.float32)
    assert compare(model(), theirs).first == wrong


@pytest.mark.parametrize("isolate", [False, True])
def test_tensors_without_names_that_come_several_times(isolate):
    """At this size the folded map of the last block has the shape of its tokens."""
    graph = model().graph((1, 3, 128, 128))
    found = []
    for name, x in run(model(), pixels(1, 128, 128)).items():
        modules = [path for path, node in graph.modules.items() if node == name]
        found += [x] * (1 + len(modules))
    comparison = compare(model(), {f"t{i:04}": x for i, x in enumerate(found)}, isolate=isolate)
    assert comparison.agrees
    assert len(comparison.rows) > 150


# ---- what cannot be paired ----


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({}, "no pixel_values, which are needed"),
        ({"pixel_values": np.zeros((2, 5, 64, 96), np.float32)}, "expected images of 3 channels"),
        ({"pixel_values": np.zeros((2, 3, 64, 96), np.uint8)}, "dtype uint8; expected the floats"),
        ({"pixel_values": np.full((1, 3, 64, 64), np.nan, np.float32)}, "holds nan at [0, 0, 0, 0]"),
    ],
    ids=["none", "five channels", "bytes", "NaN"],
)
def test_pixels_that_no_model_can_be_run_on(found, message):
    assert_one_line(message, {STEM: right()[STEM]} | found)


def test_two_tensors_with_the_same_claim_to_a_node():
    assert_one_line("two tensors mean", right() | {"conv_stem.convolution": right()[STEM]})
    modules = without(right(), "mobilevit.conv_stem.activation") | {"conv_stem": np.zeros((2, 4, 32, 48))}
    assert_one_line("two tensors mean", modules)


def test_a_dump_of_pixels_alone_and_of_nothing_that_fits():
    image = {"pixel_values": pixels()}
    assert_one_line("their dump holds only pixel_values, the pixels; expected what is computed", image)
    nothing = image | {"q": np.zeros((3, 3, 3, 3, 3, 3))}
    assert_one_line("of their 2 tensors none but the pixels could be matched with a node", nothing)


def test_pixels_in_another_layout_than_the_user_says():
    assert_one_line("expected images of 3 channels, last as layout nhwc says", right(), layout="nhwc")


def assert_one_line(message, found, **options):
    with pytest.raises(DumpError) as caught:
        compare(model(), found, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pixels_are_guessed_from_a_dump_of_one_image():
    found = dump(model(), pixels(1))
    image = {"input": found["pixel_values"][0]} | without(found, "pixel_values")
    with pytest.raises(DumpError, match="their dump has no pixel_values"):
        compare(model(), image)
    comparison = compare(model(), image, names={"input": "pixel_values"})
    assert comparison.agrees
    assert comparison.rows[0].matched == "map"
