"""Dumps under the names of other families of checkpoints: which family it is, and what its names mean."""

import numpy as np
import pytest

from tiny_port import BLOCK, LAYER, STEM, doubled, model, right
from tinymvit import compare
from tinymvit.comparison.families import translate
from tinymvit.comparison.names import node_names
from tinymvit.inspection.dump import Dump
from tinymvit.weights.families import cvnets, timm

KNOWN = node_names(model().graph((2, 3, 64, 96)))
FAMILIES = {"timm": timm.V1, "ml-cvnets": cvnets.V1}


def in_words_of(family, prefix=""):
    """The right port's tensors under a family's names: those of modules, query, key and value in one."""
    graph = model().graph((2, 3, 64, 96))
    found = {"pixel_values": right()["pixel_values"]}
    for name in (*FAMILIES[family].outputs, *FAMILIES[family].modules):
        meant = [
            next((each for each in (f"mobilevit.{ours}", ours) if each in (*graph.nodes, *graph.modules)), None)
            for ours in FAMILIES[family].output(name)
        ]
        if None not in meant:
            found[prefix + name] = np.concatenate([right()[ours] for ours in meant], -1)
    return found


@pytest.mark.parametrize("isolate", [False, True])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_right_dump_agrees_without_a_map(family, prefix, isolate):
    comparison = compare(model(), in_words_of(family, prefix), isolate=isolate)
    assert comparison.agrees
    assert comparison.basis == f"their names are those of {family}"
    assert f"their names are those of {family}" in comparison.notes
    assert {row.matched for row in comparison.rows} == {"name"}
    assert len(comparison.rows) > 150
    assert not any("not recognised" in note for note in comparison.notes)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_map_of_such_a_dump_can_be_given_back(family):
    found = in_words_of(family)
    comparison = compare(model(), found, names=compare(model(), found).names)
    assert comparison.agrees
    assert {row.matched for row in comparison.rows} == {"map"}


@pytest.mark.parametrize("isolate", [False, True])
def test_a_part_of_a_fused_tensor_is_judged_alone(isolate):
    found = in_words_of("timm")
    product = found["stages.2.1.transformer.0.attn.qkv"].copy()
    width = product.shape[-1] // 3
    product[..., width : 2 * width] += 1
    comparison = compare(model(), found | {"stages.2.1.transformer.0.attn.qkv": product}, isolate=isolate)
    assert comparison.first == f"{LAYER}.attention.attention.key"
    assert comparison.divergence.theirs == "stages.2.1.transformer.0.attn.qkv[key]"


@pytest.mark.parametrize("isolate", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_normalisations_folded_into_convolutions(family, isolate):
    found = in_words_of(family)
    norms = {name for name in found if name.endswith((".bn.drop", ".block.norm"))}
    for name in norms:
        convolution = name.replace(".bn.drop", ".conv").replace(".block.norm", ".block.conv")
        found[convolution] = found.pop(name)
    comparison = compare(model(), found, isolate=isolate)
    assert comparison.agrees
    assert any("with the value behind a folded op" in note for note in comparison.notes)


def test_paths_of_tensorflow_are_our_names():
    found = {f"tf_mobile_vi_t/{name.replace('.', '/')}:0": x for name, x in right().items() if name != "pixel_values"}
    comparison = compare(model(), found | {"pixel_values": right()["pixel_values"]})
    assert comparison.agrees
    assert comparison.basis == "their names are those of TensorFlow"
    assert len(comparison.rows) == len(compare(model(), right()).rows)


def test_our_own_names_and_nobodys_are_of_no_family():
    for names in (right(), {f"t{i}": x for i, x in enumerate(right().values())}, {"stages.2": right()[BLOCK]}):
        dump = names | {f"own.{i}": right()[STEM] for i in range(2 * ("stages.2" in names))}
        assert translate(Dump.of(dump), KNOWN, {}).family is None


def test_two_dumps_one_of_them_in_words_of_timm():
    comparison = compare(right(), in_words_of("timm"))
    assert comparison.agrees
    assert len(comparison.rows) > 150
    wrong = doubled(in_words_of("timm"), "stages.2.1.norm")
    assert compare(right(), wrong).first == f"{BLOCK}.layernorm"


def test_a_dump_is_split_along_the_last_axis():
    dump = Dump.of({"a": np.arange(12.0).reshape(2, 6), "b": np.zeros(3)}).split({"a": ("x", "y", "z")})
    assert list(dump) == ["x", "y", "z", "b"]
    assert dump.shape("y") == dump["y"].shape == (2, 2)
    assert dump["y"].tolist() == [[2, 3], [8, 9]]
    assert dump.dtype("z") == np.float64
