"""The error budget: what rounding costs, node by node, in float32 and in the shorter formats that a port may choose.

In here: `measure` (the network computed in several ways side by side), `report` (the table and the plot). Left to
others: the formulas (`reference`), the engine's numbers (`engine`), rounding to a number format (`numerics`). A new way
of computing goes into `measure.py`.
"""

from tinymvit.error_budget.measure import ErrorBudget, NodeErrors, ResultErrors, rounding_errors

__all__ = ["ErrorBudget", "NodeErrors", "ResultErrors", "rounding_errors"]
