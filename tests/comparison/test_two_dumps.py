"""A dump against a dump of ours: nothing is computed."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from tiny_port import STEM, model, pixels, right, run
from tinymvit import compare, compare_dumps
from tinymvit.comparison import ComparisonSettings, Verdict
from tinymvit.comparison.report import to_text
from tinymvit.errors import DumpError
from tinymvit.inspection.dump import Dump


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda x: x[:, ::-1], "channels are swapped"),
        (lambda x: x * 255, "not divided by 255"),
        (lambda x: x * 2 - 1, "run from -1 to 1"),
        (lambda x: x[:, ::-1] * 255, "channels are swapped (RGB for BGR) and pixels are not divided by 255"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_pixels_are_explained(change, sentence):
    comparison = compare(right(), {"pixel_values": np.ascontiguousarray(change(pixels()))})
    assert comparison.first == "pixel_values"
    assert sentence in str(comparison.divergence.hints[0])


@pytest.mark.parametrize(
    ("factor", "sentence"), [(255, "not divided by 255"), (1 / 255, "divided by 255 once more"), (2, "times ours")]
)
def test_a_factor_is_told(factor, sentence):
    comparison = compare(right(), {STEM: right()[STEM] * np.float32(factor)})
    assert comparison.first == STEM
    assert comparison.divergence.hints[0].mistake.startswith(f"it is {factor:.6g} times ours")
    assert sentence in comparison.divergence.hints[0].mistake


def test_a_dump_on_disk_and_another_layout(tmp_path):
    save_file(right(), tmp_path / "ours.safetensors")
    theirs = {"pixel_values": pixels().transpose(0, 2, 3, 1)}
    assert compare(tmp_path / "ours.safetensors", theirs).agrees
    assert compare_dumps(tmp_path / "ours.safetensors", theirs, ComparisonSettings(layout="nhwc")).agrees


def test_what_two_dumps_cannot_be_asked():
    with pytest.raises(DumpError, match="to isolate ops a model is needed"):
        compare(right(), right(), isolate=True)
    with pytest.raises(DumpError, match="their 1 tensor could not be matched with ours, neither by name"):
        compare(right(), {"x": np.zeros((5, 5, 5, 5, 5), np.float32)})


def test_two_dumps_are_read_a_few_times_each(monkeypatch):
    """Matching holds each tensor of one against each of the other, by statistics that are computed once."""
    reads = []
    get = Dump.__getitem__
    monkeypatch.setattr(Dump, "__getitem__", lambda self, name: reads.append(name) or get(self, name))
    found = run(model(), pixels())
    comparison = compare(found, {f"t{i:04}": x for i, x in enumerate(found.values())})
    assert comparison.agrees
    assert len(comparison.rows) == len(found) > 150
    assert len(reads) <= 4 * len(found)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_on_the_right_side(value):
    stem = right()[STEM].copy()
    stem[1, 2, 3, 4] = value
    bad = right() | {STEM: stem}
    held = f"{STEM} holds NaN or infinity, first at [1, 2, 3, 4]"
    for ours, theirs, verdict, text in (
        (bad, right(), Verdict.OURS_NOT_FINITE, f"our {held}, their {STEM} a number"),
        (right(), bad, Verdict.NOT_FINITE, f"their {held}"),
    ):
        comparison = compare(ours, theirs)
        assert comparison.divergence.verdict is verdict
        assert text in to_text(comparison)
    assert compare(bad, bad).agrees


@pytest.mark.parametrize("shape", [(), (0, 3), (2, 0, 4, 4), (2, 0, 3), (1, 2, 3, 4, 5)])
def test_two_dumps_of_any_shape(shape):
    found = {"a": np.full(shape, 1.5, np.float32)}
    assert compare(found, found).agrees
    assert compare(found, {"a": found["a"] * 2}).agrees is (found["a"].size == 0)


def test_numbers_too_far_apart_for_a_difference_are_numbers():
    comparison = compare({"a": np.full(4, 1e308)}, {"a": np.full(4, -1e308)})
    assert comparison.divergence.verdict is Verdict.DIFFERS


def test_the_first_line_says_how_many_of_our_tensors_were_compared():
    found = run(model(), pixels())
    half = dict(list(found.items())[::2])
    assert compare(found, found).basis == ""
    assert compare(found, half).basis == f"{len(half)} of our {len(found)} tensors compared"
    unnamed = {f"t{i:04}": x for i, x in enumerate(half.values())}
    expected = f"{len(half)} of our {len(found)} tensors compared, {len(half)} of them recognised by value"
    assert compare(found, unnamed).basis == expected


def test_one_tensor_is_no_tensors():
    image = {"pixel_values": pixels()}
    assert "1 of 1 tensor compared" in compare(image, image).notes
