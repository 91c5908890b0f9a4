import numpy as np
import pytest

from frameworks import torch
from op_cases import check, normal
from tinymvit import ops

EXAMPLES = [(ops.Concat(), (1, 3, 2, 5), (1, 4, 2, 5), (1, 1, 2, 5))]


def test_by_hand():
    a, b = np.array([[[[1.0, 2.0]]]]), np.array([[[[3.0, 4.0]]]])
    assert ops.Concat().compute(a, b).tolist() == [[[[1, 2]], [[3, 4]]]]


def test_maps_of_other_sizes_are_refused():
    with pytest.raises(ValueError, match="dimension"):
        ops.Concat().compute(np.zeros((1, 1, 2, 2)), np.zeros((1, 1, 2, 3)))


@pytest.mark.torch
def test_as_pytorch():
    a, b = normal(0, 2, 3, 4, 5), normal(1, 2, 1, 4, 5)
    check(ops.Concat(), torch.cat([torch.tensor(a), torch.tensor(b)], 1), a, b)
