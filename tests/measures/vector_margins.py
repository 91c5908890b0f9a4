"""How much of the test vectors' tolerance a right port needs: `python tests/measures/vector_margins.py` prints the
vectors of the published shapes that need the most, in units of which 8 are allowed.

Two ports: PyTorch in float32, every op; and one running sum in float32, as a plain C loop has, for convolutions and
linear layers.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

import tinymvit
from tinymvit import ops
from tinymvit.config import MobileViTConfig
from tinymvit.text import align
from tinymvit.vectors.make import FACTOR, distinct, model_graph, op_vector

sys.path.append(str(Path(__file__).parent.parent / "helpers"))  # where pytest's settings do not say so
from torch_ops import port

SHAPES = ("small", "x-small", "xx-small", "deeplabv3-xx-small")


def needed(vector, output):
    """The largest error over what is allowed, times 8."""
    expected = vector.outputs["output"]
    allowed = expected.absolute + expected.relative * np.abs(expected.value.astype(np.float64))
    error = np.abs(np.asarray(output, np.float64) - expected.value)
    return FACTOR * float(np.divide(error, allowed, out=np.zeros_like(error), where=allowed > 0).max())


def running_sum(op, inputs, weights):
    """A convolution or linear layer, its products added one by one."""
    [x] = inputs.values()
    weight, *bias = weights.values()
    if isinstance(op, ops.Linear):
        columns, rows = np.moveaxis(x, -1, 0), weight.T  # (K, B, N), (K, O)
        total = np.zeros((*x.shape[:-1], len(weight)), np.float32)
        for column, row in zip(columns, rows, strict=True):
            total += column[..., None] * row
        return total + (bias[0] if bias else 0)
    options = {"dilation": op.dilation, "padding": op.padding, "stride": op.stride}
    columns = F.unfold(torch.tensor(x), op.kernel_size, **options).unflatten(1, (op.groups, -1)).numpy()  # (B, g, K, N)
    rows = weight.reshape(op.groups, -1, columns.shape[2])  # (g, O / g, K)
    total = np.zeros((len(x), op.groups, rows.shape[1], columns.shape[3]), np.float32)
    for k in range(columns.shape[2]):
        total += rows[:, :, k, None] * columns[:, :, None, k]
    total = total.reshape(len(x), op.out_channels, *op.output_shape(x.shape)[2:])
    return total + (bias[0][:, None, None] if bias else 0)


def margins():
    """For each port, what each vector needs, by its name."""
    found = {"PyTorch in float32": {}, "one running sum": {}}
    for shape in SHAPES:
        segments = shape.startswith("deeplabv3-")
        kind = tinymvit.MobileViTForSemanticSegmentation if segments else tinymvit.MobileViTForImageClassification
        graph = model_graph(kind(MobileViTConfig.preset(shape)), None)
        for (op, shapes), (name, nodes) in distinct(graph, shrink=True).items():
            vector = op_vector(name, op, shapes, tuple(nodes))
            given = op, vector.inputs, vector.weights
            found["PyTorch in float32"][name] = needed(vector, port(*given, torch.float32))
            if isinstance(op, ops.Conv2d | ops.Linear):
                found["one running sum"][name] = needed(vector, running_sum(*given))
    return found


if __name__ == "__main__":
    for name, by_vector in margins().items():
        worst = sorted(by_vector.items(), key=lambda entry: -entry[1])
        print(f"{name}: {len(by_vector)} vectors")
        print("\n".join(align([(vector, f"{value:.1f}") for vector, value in worst[:5]])))
