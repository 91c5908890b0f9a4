"""A port held against the reference: which tensor of its dump is the first to be wrong, and why.

In here: the comparison with a model (`against_model`) and with a dump of ours (`two_dumps`), and their stages, each of
which takes the frozen result of the one before: `pairing` tensors with nodes (by `names`, those of other `families`,
and `guessing`), `reading` their layouts, `judging` them by what rounding costs, `explaining` what is wrong by known
mistakes, `report`. Left to others: making dumps and reading them (`inspection.dump`), computing the right values
(`reference`), the names of other libraries (`weights.families`). A new known mistake is a row in `mistakes`, a new
layout a word in `layouts`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinymvit.comparison.against_model import compare_with_model as compare_with_model
    from tinymvit.comparison.entry import compare as compare
    from tinymvit.comparison.settings import ComparisonSettings as ComparisonSettings
    from tinymvit.comparison.two_dumps import compare_dumps as compare_dumps
    from tinymvit.comparison.verdict import Comparison as Comparison
    from tinymvit.comparison.verdict import Verdict as Verdict

_HOMES = {  # each is imported when it is first used: a stage or the settings need not load all the others
    "compare": "entry",
    "compare_dumps": "two_dumps",
    "compare_with_model": "against_model",
    "Comparison": "verdict",
    "ComparisonSettings": "settings",
    "Verdict": "verdict",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tinymvit.comparison' has no attribute {name!r}")
    return getattr(import_module(f"tinymvit.comparison.{_HOMES[name]}"), name)
