"""How far from the truth a right tensor may be: measured, given by the user, and wider for shorter formats."""

import re
from pathlib import Path

import numpy as np
import pytest

from tiny_port import STEM, channels_swapped, dump, model, pixels, right
from tinymvit import compare
from tinymvit.comparison.tolerance import FACTORS, FEW

PAGE = Path(__file__).parent.parent.parent / "docs" / "porting.md"


def test_the_factors_are_those_of_the_page():
    """What right ports use of them is tested with these, in `test_foreign_runtimes`."""
    page = " ".join(PAGE.read_text("utf-8").split())
    [told] = re.findall(r"more than (\d+) times that in the rms, or more than (\d+) times that at the worst", page)
    assert tuple(map(float, told)) == FACTORS
    [few] = re.findall(r"a tensor of n numbers gets 1 \+ (\d+) / sqrt\(n\) times as much", page)
    assert float(few) == FEW


def test_a_tolerance_of_ones_own():
    found = dump(model(), pixels(), wrong={STEM: channels_swapped})
    assert compare(model(), found, tolerance=1e9).agrees
    assert compare(model(), found, tolerance=1e-3).first == STEM
    assert not compare(model(), right(), tolerance=1e-9).agrees


def in_float16(tensors):
    return {name: x.astype(np.float16) if name != "pixel_values" else x for name, x in tensors.items()}


def test_float16_and_float64_dumps():
    assert compare(model(), {name: x.astype(np.float64) for name, x in right().items()}).agrees
    for isolate in (False, True):
        assert compare(model(), in_float16(right()), isolate=isolate).agrees


@pytest.mark.torch
def test_a_bfloat16_dump(tmp_path):
    """Stored with 8 significant bits, a right tensor may be half a unit in the last of them away, a wrong one more."""
    from safetensors.torch import save_file

    from frameworks import torch
    from tinymvit import open_dump

    file = tmp_path / "half.safetensors"
    half = {name: torch.from_numpy(x).bfloat16() for name, x in right().items()}
    half["pixel_values"] = torch.from_numpy(pixels())
    save_file(half, file)
    for isolate in (False, True):
        assert compare(model(), file, isolate=isolate).agrees
        assert compare(model(), open_dump(file), isolate=isolate).agrees
    half[STEM] = half[STEM] * 1.05
    save_file(half, file)
    for isolate in (False, True):
        assert compare(model(), file, isolate=isolate).first == STEM


def test_shorter_formats_are_allowed_for_on_both_sides():
    assert compare(in_float16(right()), right(), tolerance=1e-5).agrees
    assert compare(right(), in_float16(right()), tolerance=1e-5).agrees


def test_numbers_of_a_shorter_format_are_told():
    short = {name: x.astype(np.float32) for name, x in in_float16(right()).items()}
    assert "are all float16 numbers" in compare(model(), short).caveats[0]
