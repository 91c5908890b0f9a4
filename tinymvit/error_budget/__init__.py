"""The error budget: what rounding costs, node by node, in float32 and in the shorter formats that a port may choose.

In here: `measure` (the network computed in several ways side by side), `int8` (in integers, and what to leave in
float), `report` (the tables and the plot). Left to others: the formulas (`reference`), the engine's numbers (`engine`),
rounding to a number format (`numerics`), the network in int8 (`quantisation`). A new way of computing goes into
`measure.py`.
"""

from tinymvit.error_budget.int8 import Int8Budget, NodeInt8, Trial, int8_errors
from tinymvit.error_budget.measure import ErrorBudget, NodeErrors, ResultErrors, rounding_errors

__all__ = [
    "ErrorBudget",
    "Int8Budget",
    "NodeErrors",
    "NodeInt8",
    "ResultErrors",
    "Trial",
    "int8_errors",
    "rounding_errors",
]
