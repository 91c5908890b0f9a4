"""A dump against a model: the first divergence, ops judged alone, what is said beside the answer, any dump at all."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiny_port import ATTENTION, STEM, channels_swapped, doubled, dump, model, pixels, right
from tinymvit import compare, compare_with_model
from tinymvit.comparison import Comparison, ComparisonSettings
from tinymvit.comparison.report import headline, to_html, to_json, to_text
from tinymvit.comparison.settings import LAYOUTS
from tinymvit.errors import TinyMViTError


def test_a_right_port_agrees_at_every_node():
    for isolate in (False, True):
        comparison = compare_with_model(model(), right(), isolate=isolate)
        assert comparison.agrees
        assert comparison.first is comparison.divergence is None
        assert len(comparison.rows) == len(model().graph(pixels().shape))


def test_settings_are_those_of_the_shorter_way():
    settings = ComparisonSettings({"x": STEM}, layout="nchw", tolerance=1e-3)
    found = {"pixel_values": pixels(), "x": right()[STEM]}
    assert compare_with_model(model(), found, settings) == compare(
        model(), found, names={"x": STEM}, layout="nchw", tolerance=1e-3
    )


def test_what_is_no_model_and_what_are_no_names_are_one_line():
    with pytest.raises(TypeError, match="model: str, expected one of the MobileViT models; compare takes names too"):
        compare_with_model("digits", right())
    with pytest.raises(TypeError, match="names: int, expected a mapping of their names to ours"):
        ComparisonSettings(names=5)


def test_isolation_tells_the_wrong_ops_from_what_follows():
    scores = f"{ATTENTION}.scores"
    found = dump(model(), pixels(), wrong={STEM: channels_swapped, scores: scaled_without_heads})
    whole, alone = compare(model(), found), compare(model(), found, isolate=True)
    assert whole.first == STEM
    assert len(whole.wrong) > 100
    assert [row.wrong_op for row in alone.wrong] == [STEM, scores]


def scaled_without_heads(op, inputs, weights):
    """Divided by sqrt(D), not sqrt(D / h)."""
    query, key = (np.stack(np.split(x, op.heads, -1), 1) for x in inputs)  # (B P, h, N, D / h)
    return query @ key.swapaxes(2, 3) / np.float32(inputs[0].shape[-1] ** 0.5)


def test_an_error_below_tolerance_where_it_arises_is_told_from_a_wrong_op():
    name = "mobilevit.conv_1x1_exp"
    found = right()
    found[f"{name}.activation"] = found[name] = found[name] * np.float32(1 + 4e-5)
    alone = compare(model(), found, isolate=True)
    assert alone.first == f"{name}.activation"
    assert next(row for row in alone.rows if row.node == f"{name}.normalization").ok


def test_a_few_tensors_are_enough():
    few = {name: right()[name] for name in ("pixel_values", "mobilevit.encoder.layer.1", "logits")}
    comparison = compare(model(), few, isolate=True)
    assert [row.node for row in comparison.rows] == ["pixel_values", "mobilevit.encoder.layer.1.layer.2", "classifier"]
    assert comparison.agrees
    assert len(comparison.rows[2].together) > 150
    comparison = compare(model(), doubled(few, "logits"), isolate=True)
    (line,) = (line for line in to_text(comparison).splitlines() if "ops, between which" in line)
    assert re.search(
        r"one of \d+ ops, between which the dump has no tensor: mobilevit\.\S+, \S+, \S+ and \d+ more$", line
    )


def test_one_node_behind_the_first_is_one_node():
    names = ("mobilevit.conv_stem", "mobilevit.conv_stem.activation", "classifier", "logits")
    comparison = compare(model(), doubled(right(), *names))
    assert "  1 node behind it differs too" in to_text(comparison).splitlines()


def test_an_agreement_without_the_answer_says_so():
    renamed = {{"classifier": "head", "logits": "answer"}.get(name, name): x for name, x in right().items()}
    renamed = doubled(doubled(renamed, "head", "answer"), "answer")  # two values, either of which may be the result
    comparison = compare(model(), renamed)
    caveat = "  our last node, classifier, was not compared, and 2 tensors of theirs not recognised: "
    assert to_text(comparison).splitlines()[1].startswith(caveat)
    assert to_json(comparison)["caveats"]
    assert "2 tensors of theirs not recognised" in compare(right(), renamed).caveats[0]
    assert not compare(model(), right()).caveats


# ---- what nobody should have written ----


SMALL = dump(model(), pixels(1, 32, 32))
NAMES = st.sampled_from([*list(SMALL)[::9], "", "x", "mobilevit.", "hidden_states.2", "conv_stem.convolution", "ß/é"])
SHAPES = st.one_of(
    st.lists(st.integers(0, 5), max_size=6).map(tuple),
    st.sampled_from(sorted({x.shape for x in SMALL.values()})),
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


@pytest.mark.slow
@given(foreign(), st.booleans(), st.booleans(), st.booleans(), st.sampled_from(LAYOUTS))
def test_compare_never_crashes(found, whole, with_pixels, isolate, layout):
    base = SMALL if whole else {}
    if with_pixels:
        base = {"pixel_values": pixels(1, 16, 24)} | base
    for ours, options in ((model(), {"isolate": isolate}), (SMALL, {})):
        comparison, message = compared(ours, base | found, layout=layout, **options)
        assert "\n" not in message
        if comparison is None:
            continue
        assert isinstance(comparison, Comparison)
        assert to_text(comparison).splitlines()[0] == headline(comparison)
        json.dumps(to_json(comparison), allow_nan=False)
        assert to_html(comparison).endswith("</html>\n")
