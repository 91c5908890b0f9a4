"""The rules of any setting: each takes a setting's name and the value given for it, and returns the value to keep.

They raise ConfigError, which names the setting, its value and what was expected. Which setting follows which rule, and
the rules of one setting alone, are left to `config` and `images.processor`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any

from tinymvit.errors import ConfigError
from tinymvit.text import did_you_mean, short

LARGEST = 10**6  # of every number in a model's configuration: beyond it is a mistake, caught before it fills the memory


def known(name: str, names: Iterable[str]) -> None:
    """Refuse a setting that does not exist."""
    names = list(names)
    if name not in names:
        raise ConfigError(f"{name}: no such option{did_you_mean(name, names)}")


def integer(name: str, value: Any, low: int = -LARGEST) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or not low <= int(value) <= LARGEST:
        raise ConfigError(f"{name}: {short(value)}, expected an integer from {low} to {LARGEST}")
    return int(value)


def positive_integer(name: str, value: Any) -> int:
    return integer(name, value, low=1)


def odd_integer(name: str, value: Any) -> int:
    if positive_integer(name, value) % 2 == 0:
        raise ConfigError(f"{name}: {value}, expected an odd integer")
    return int(value)


def side_or_sides(name: str, value: Any) -> int | tuple[int, ...]:
    if isinstance(value, (list, tuple)):
        if len(value) != 2:
            raise ConfigError(f"{name}: {short(value)}, expected one side or (height, width)")
        return tuple(positive_integer(name, side) for side in value)
    return positive_integer(name, value)


def positive_integers(count: int) -> Callable[[str, Any], tuple[int, ...]]:
    def rule(name: str, value: Any) -> tuple[int, ...]:
        if not isinstance(value, (list, tuple)) or len(value) != count:
            raise ConfigError(f"{name}: {short(value)}, expected a list of {count} integers")
        return tuple(positive_integer(name, item) for item in value)

    return rule


def is_positive_integer(value: Any) -> bool:
    """Whether a value can count something or be the side of an image: an integer of at least 1."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) > 0


def number(name: str, value: Any, low: float = 0.0, high: float = LARGEST) -> float:
    given: Any = value if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if not low <= given <= high:  # which NaN is not
        raise ConfigError(f"{name}: {short(value)}, expected a number from {low:g} to {high:g}")
    return float(given)


def positive_number(name: str, value: Any) -> float:
    if number(name, value) == 0.0:
        raise ConfigError(f"{name}: 0, expected a positive number")
    return float(value)


def factor(name: str, value: Any) -> float:
    """A positive number of any size."""
    given: Any = value if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if not 0 < given <= sys.float_info.max:
        raise ConfigError(f"{name}: {short(value)}, expected a positive number")
    return float(given)


def probability(name: str, value: Any) -> float:
    return number(name, value, high=1.0)


def boolean(name: str, value: Any) -> bool:
    if not isinstance(value, bool) and type(value).__name__ != "bool":  # NumPy's, which is not loaded for this
        raise ConfigError(f"{name}: {short(value)}, expected true or false")
    return bool(value)


def boolean_or_none(name: str, value: Any) -> bool | None:
    return None if value is None else boolean(name, value)


def is_one_of(value: Any, choices: Iterable[Any]) -> bool:
    """Whether a value is among these; an array, whose comparison is another, is not."""
    return isinstance(value, str | int) and value in choices
