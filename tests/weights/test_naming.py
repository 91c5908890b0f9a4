"""The tables of names: each is complete, and read there and back it changes nothing."""

import numpy as np
import pytest

from checkpoints import TINY
from oracle import assert_same
from tinymvit import modeling
from tinymvit.config import MobileViTConfig
from tinymvit.weights.families import FAMILIES, cvnets, naming_of, tensorflow, timm, transformers
from tinymvit.weights.families.naming import with_batch_counts
from tinymvit.weights.stored import StoredTensor

KINDS = {
    "classify": modeling.MobileViTForImageClassification,
    "segment": modeling.MobileViTForSemanticSegmentation,
    "features": modeling.MobileViTModel,
}
TABLES = [(family, task) for family in FAMILIES for task in KINDS if (family, task) != (timm, "segment")]


def weights_of(task):
    return KINDS[task](MobileViTConfig(**TINY)).weights


def stored(tensors):
    return {name: StoredTensor(x.shape, x.dtype.name, lambda x=x: x) for name, x in tensors.items()}


def in_a_file(family, tensors):
    """Tensors under the names that a file of the family has for them, which for TensorFlow are paths."""
    if family is tensorflow:
        return {f"tf_model/{name.replace('.', '/')}:0": tensor for name, tensor in tensors.items()}
    return tensors


@pytest.mark.parametrize(("family", "task"), TABLES, ids=lambda value: getattr(value, "WORD", value))
def test_there_and_back_nothing_changes(family, task):
    (naming,) = family.NAMINGS
    ours = weights_of(task)
    theirs = naming.to_theirs(ours)
    shapes = {name: tensor.shape for name, tensor in ours.items()}
    assert naming.shapes_to_theirs(shapes) == {name: tensor.shape for name, tensor in theirs.items()}
    assert [each for each in FAMILIES if naming_of(each, in_a_file(family, theirs))] == [family]
    back = naming.to_ours(stored(in_a_file(family, theirs)))
    assert back.keys() == ours.keys()
    for name, tensor in back.items():
        value = tensor.load()
        assert tensor.shape == value.shape
        assert_same(value, ours[name], name=name)


def test_fused_matrices_are_split_in_order():
    ours = {f"encoder.layer.2.transformer.layer.0.attention.attention.{part}.weight": np.full((2, 3), i, np.float32)
            for i, part in enumerate(("query", "key", "value"))}  # fmt: skip
    for family in (timm, cvnets):
        ((_, fused),) = family.V1.to_theirs(dict(reversed(ours.items()))).items()
        assert_same(fused, np.repeat(np.arange(3, dtype=np.float32), 2)[:, None] * np.ones((1, 3), np.float32))


def test_what_a_table_does_not_know_keeps_its_name():
    for family in FAMILIES:
        (naming,) = family.NAMINGS
        strange = in_a_file(family, {"stem.strange.weight": np.zeros(3, np.float32)})
        assert naming.to_ours(stored(strange)).keys() == {"stem.strange.weight"}
        assert naming.to_theirs({"stem.strange.weight": np.zeros(3)}).keys() == {"stem.strange.weight"}
    uneven = {"stages.2.1.transformer.0.attn.qkv.weight": np.zeros((8, 3), np.float32)}
    assert timm.V1.to_ours(stored(uneven)).keys() == uneven.keys()


def test_a_second_tensor_for_the_same_of_ours_is_a_stranger():
    """Whichever is right, one of them must not vanish without a word."""
    twice = (
        (cvnets, "conv_1.block.conv.weight", "encoder.conv_1.block.conv.weight"),
        (transformers, "conv_stem.convolution.weight", "mobilevit.conv_stem.convolution.weight"),
        (tensorflow, "a/mobilevit/conv_stem/convolution/kernel:0", "b/mobilevit/conv_stem/convolution/kernel:0"),
    )
    for family, first, second in twice:
        ours = family.V1.to_ours(stored({name: np.zeros((1, 1, 1, 1), np.float32) for name in (first, second)}))
        assert len(ours) == 2
        assert {first, second} & ours.keys()


def test_counts_of_batches_and_an_auxiliary_head_are_left_out():
    names = ["conv_1.block.norm.num_batches_tracked", "seg_head.aux_head.0.block.conv.weight"]
    assert cvnets.V1.to_ours(stored({name: np.zeros((), np.int64) for name in names})) == {}
    counted = with_batch_counts({"stem.bn.running_var": np.ones(3), "stem.conv.weight": np.ones(3)})
    assert counted["stem.bn.num_batches_tracked"].dtype == np.int64
    assert len(counted) == 3


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.WORD)
def test_names_in_a_dump_mean_nodes_and_modules_that_there_are(family):
    graphs = [KINDS[task](MobileViTConfig(**TINY)).graph() for task in ("classify", "segment")]
    known = {name.removeprefix("mobilevit.") for graph in graphs for name in (*graph.nodes, *graph.modules)}
    (naming,) = family.NAMINGS
    for name in (*naming.outputs, *naming.modules):
        assert naming.output(name)
        assert known.issuperset(naming.output(name)), name
    assert naming.output("strange") == ()
