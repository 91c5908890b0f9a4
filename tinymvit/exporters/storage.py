"""Weights as a file stores them: in float16, or in int8 with a scale for each output channel."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from tinymvit.errors import TinyMViTError
from tinymvit.numerics import Array

LARGEST_FLOAT16 = float(np.finfo(np.float16).max)


def as_float16(weight: Array, name: str) -> Array:
    """A weight of any shape in float16. Raises TinyMViTError, which calls it `name`, if it is too large for that."""
    largest = float(np.abs(weight).max(initial=0))
    if largest >= 65520:  # what is nearer to infinity than to the largest number
        raise TinyMViTError(f"{name}: {largest:g}, expected at most {LARGEST_FLOAT16:g} for float16; float32 holds it")
    return weight.astype(np.float16)


def as_int8(weight: Array, axis: int = 0) -> tuple[Array, Array]:
    """A weight as whole multiples, -127 to 127, of a scale for each place along `axis`: int8 of its shape, and float32
    (channels,). A scale is the largest magnitude there over 127; where all is zero it is 1.

    The multiples of a channel have the rounded sum of the weights', for what a channel adds up is mostly of one sign
    behind an activation: those that were nearest to being rounded the other way are, until the sum is right. None is
    then off by more than one.
    """
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = (np.abs(weight).max(others, initial=0) / np.float32(127)).astype(np.float32)
    scale[scale < np.finfo(np.float32).tiny] = 1
    multiples = np.moveaxis(weight / np.expand_dims(scale, others), axis, 0)
    rows = np.clip(multiples.reshape(len(scale), -1).astype(np.float64), -127, 127)
    nearest = np.round(rows)
    rest = np.round((rows - nearest) * 2.0**40).astype(np.int64)  # whole numbers, so that no order of a sum matters
    missing = np.round(rest.sum(1, keepdims=True) / 2.0**40)
    order = np.argsort(-rest * np.sign(missing).astype(np.int64), axis=1, kind="stable")
    places = np.argsort(order, axis=1, kind="stable")
    nearest += np.where(places < np.abs(missing), np.sign(missing), 0)
    return np.moveaxis(nearest.reshape(multiples.shape), 0, axis).astype(np.int8), scale


def in_json(facts: Mapping[str, Any]) -> str:
    """What a file says of itself, as text: the same for the same facts."""
    return json.dumps(facts, sort_keys=True, ensure_ascii=False)
