"""What the user says of the port that is compared."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import TypeVar

from tinymvit.checks import is_one_of
from tinymvit.errors import DumpError
from tinymvit.text import short

Item = TypeVar("Item")

AUTO, FLOAT32, INT8 = PRECISIONS = ("auto", "float32", "int8")
LAYOUTS = ("auto", "nchw", "nhwc", "tokens")


@dataclass(frozen=True)
class ComparisonSettings:
    """What the user says of the port that is compared. Raises DumpError for another layout or tolerance, TypeError
    for names that are no mapping.

    names: their names of tensors to our names of nodes, where these differ. layout: how their maps lie in memory,
    "nchw", "nhwc" or flat as "tokens"; with "auto" the values decide. tolerance: what an error may be relative to the
    node's rms and largest magnitude; with "auto" it is a multiple of what rounding costs there. precision: of the
    port's arithmetic, "float32" or "int8"; with "auto" it is int8 if most of its tensors have no more than 256
    different numbers, evenly spaced. progress: whether a bar is shown on stderr if that is a terminal.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    layout: str = "auto"
    tolerance: str | float = "auto"
    progress: bool = False
    precision: str = AUTO

    def __post_init__(self) -> None:
        if not isinstance(self.names, Mapping):
            raise TypeError(f"names: {type(self.names).__name__}, expected a mapping of their names to ours")
        for pair in self.names.items():
            if not all(isinstance(name, str) for name in pair):
                raise TypeError(f"names: {short(pair)}, expected a name of theirs and one of ours")
        if not is_one_of(self.layout, LAYOUTS):
            raise DumpError(f"layout {short(self.layout)}, expected one of {', '.join(LAYOUTS)}")
        if not is_one_of(self.precision, PRECISIONS):
            raise DumpError(f"precision {short(self.precision)}, expected one of {', '.join(PRECISIONS)}")
        number = isinstance(self.tolerance, Real) and 0 < self.tolerance <= sys.float_info.max
        if not number and not is_one_of(self.tolerance, ["auto"]):
            raise DumpError(f'tolerance {short(self.tolerance)}, expected "auto" or a number above 0')

    @property
    def relative_tolerance(self) -> float | None:
        """The user's own tolerance; None if it is to be measured."""
        return None if self.tolerance == "auto" else float(self.tolerance)

    def bar(self, items: Iterable[Item], count: int) -> Iterable[Item]:
        """The items, with a bar that shows how many are done."""
        if not self.progress:
            return items
        from tqdm import tqdm

        return tqdm(items, total=count, unit="node", disable=None, leave=False)  # None: shown only on a terminal
