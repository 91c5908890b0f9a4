"""Quantisation: which numbers a network meets, so that int8 can stand for them.

In here: `calibration` (the ranges of a network's values over pictures), `ranges` (what was found, as JSON, and the
network in int8 by it). Left to others: what int8 ops compute (`ops.quantised`), the pass that puts them in place
(`passes.quantise`), files for other runtimes (`exporters`), what int8 costs at each node (`error_budget`). A new way to
choose a range is a method of `calibration.py`.
"""

from tinymvit.quantisation.calibration import calibrate, ranges_of
from tinymvit.quantisation.ranges import Ranges

__all__ = ["Ranges", "calibrate", "ranges_of"]
