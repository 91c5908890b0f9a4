"""Each op in PyTorch, from its dataclass: what vectors and measures are held against."""

import math

from frameworks import F, torch
from tinymvit import ops


def port(op, inputs, weights, dtype):
    """The op in PyTorch."""
    x, *others = (torch.tensor(v).to(dtype) for v in inputs.values())
    w = [torch.tensor(v).to(dtype) for v in weights.values()]
    match op:
        case ops.Conv2d():
            bias = w[1] if op.bias else None
            return F.conv2d(x, w[0], bias, op.stride, op.padding, op.dilation, op.groups)
        case ops.BatchNorm():
            return F.batch_norm(x, w[2], w[3], w[0], w[1], eps=op.eps)
        case ops.Activation():
            return {"silu": F.silu, "relu": F.relu}[op.function](x)
        case ops.Add():
            return x + others[0]
        case ops.Concat():
            return torch.cat([x, *others], 1)
        case ops.Resize():
            return F.interpolate(x, size=(op.height, op.width), mode="bilinear", align_corners=False)
        case ops.LayerNorm():
            return F.layer_norm(x, (op.width,), *w, eps=op.eps)
        case ops.Linear():
            return F.linear(x, *w)
        case ops.Scores():
            query, key = (v.unflatten(2, (op.heads, -1)).transpose(1, 2) for v in (x, others[0]))
            return query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
        case ops.Softmax():
            return x.softmax(-1)
        case ops.Context():
            value = others[0].unflatten(2, (x.shape[1], -1)).transpose(1, 2)
            return (x @ value).transpose(1, 2).flatten(2)
        case ops.MeanPool():
            return x.mean((2, 3), keepdim=op.keep_dims)
        case ops.Unfold():
            ph, pw = op.patch_height, op.patch_width
            return x.unfold(2, ph, ph).unfold(3, pw, pw).permute(0, 4, 5, 2, 3, 1).flatten(3, 4).flatten(0, 2)
        case ops.Fold():
            ph, pw = op.patch_height, op.patch_width
            columns = x.unflatten(0, (-1, ph * pw)).permute(0, 3, 1, 2).flatten(1, 2)
            return F.fold(columns, (op.height, op.width), (ph, pw), stride=(ph, pw))
    raise AssertionError(op)
