import numpy as np

from op_cases import check, normal
from tinymvit import ops

EXAMPLES = [(ops.Add(), (1, 3, 2, 5), (1, 3, 2, 5)), (ops.Add(), (4, 3, 6), (4, 3, 6))]


def test_by_hand():
    assert ops.Add().compute(np.array([1.0, 2.0]), np.array([10.0, 20.0])).tolist() == [11, 22]


def test_both_formats():
    a, b = normal(0, 2, 3, 4, 5), normal(1, 2, 3, 4, 5)
    check(ops.Add(), a + b, a, b)
