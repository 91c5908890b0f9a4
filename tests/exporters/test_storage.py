"""Weights in shorter formats: what each number is, and what cannot be stored."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpoints import complaint
from tinymvit.errors import TinyMViTError
from tinymvit.exporters.storage import as_float16, as_int8


def test_int8_by_hand():
    """Both lie at 0.4 of a step above a multiple: one of them goes up, so that their sum is nearly right."""
    multiples, scale = as_int8(np.array([[127, 10.4, 20.4], [0, 0, 0]], np.float32))
    assert scale.tolist() == [1, 1]
    assert sorted(multiples[0].tolist()) in ([10, 21, 127], [11, 20, 127])
    assert multiples[1].tolist() == [0, 0, 0]


@given(st.integers(0, 3), st.lists(st.integers(1, 6), min_size=4, max_size=4), st.integers(0, 2**32 - 1))
def test_int8_is_near_and_its_sums_are_right(axis, shape, seed):
    weight = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    multiples, scale = as_int8(weight, axis)
    assert (multiples.dtype, multiples.shape) == (np.int8, weight.shape)
    assert (scale.dtype, scale.shape) == (np.float32, (shape[axis],))
    others = tuple(i for i in range(4) if i != axis)
    off = multiples - weight / np.expand_dims(scale, others)
    assert np.abs(off).max() < 1
    assert np.abs(off.sum(others)).max() < 0.5 + 1e-4
    assert (np.abs(multiples.astype(int)).max(others) == 127).all()


def test_int8_of_a_channel_without_weights():
    multiples, scale = as_int8(np.zeros((3, 0), np.float32))
    assert multiples.shape == (3, 0)
    assert scale.tolist() == [1, 1, 1]


@pytest.mark.parametrize("largest", [65504, 65519.9])
def test_float16_as_far_as_it_goes(largest):
    assert as_float16(np.array([largest], np.float32), "weight").tolist() == [65504]


def test_float16_beyond():
    with complaint(TinyMViTError, "weight: 65520, expected at most 65504 for float16; float32 holds it"):
        as_float16(np.array([1, -65520], np.float32), "weight")
