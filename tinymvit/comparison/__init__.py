"""A port held against the reference: which tensor of its dump is the first to be wrong, and why.

In here: pairing tensors with nodes, reading their layouts, judging them by what rounding costs, explaining what is
wrong by known mistakes, and the report. Left to others: making dumps and reading them (`inspection.dump`), computing
the right values (`reference`). A new known mistake is a row in `mistakes.py`.
"""

from tinymvit.comparison.against_model import compare
from tinymvit.comparison.verdict import Comparison

__all__ = ["Comparison", "compare"]
