"""Plain functions on dictionaries; tokens are (B, N, P, D), and the dump has what our graph has not: scores before they
are scaled, sigmoids, query, key and value in one."""

from foreign_ports import HEADS, STAGES, torch

F = torch.nn.functional
WRONG = {
    "swish with another slope": ("mobilevit.encoder.layer.0.layer.0.expand_1x1.activation",),
    "heads joined without a transpose": ("mobilevit.encoder.layer.2.transformer.layer.0.attention.attention",),
    "order of the concatenation": ("mobilevit.encoder.layer.4.concat",),
}


def conv_norm(out, name, x, w, path, act=True, slope=1.0, **options):
    kernel = w[f"{path}.convolution.weight"]
    x = out[f"{name}/conv"] = F.conv2d(x, kernel, padding=kernel.shape[-1] // 2, **options)
    moments = (w[f"{path}.normalization.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    x = out[f"{name}/bn"] = F.batch_norm(x, *moments)
    if not act:
        return x
    gate = out[f"{name}/gate"] = torch.sigmoid(slope * x)
    out[f"{name}/out"] = x * gate
    return out[f"{name}/out"]


def bottleneck(out, name, x, w, path, stride, wrong=()):
    slope = 1.2 if "swish with another slope" in wrong and path == "mobilevit.encoder.layer.0.layer.0" else 1.0
    y = conv_norm(out, f"{name}/expand", x, w, f"{path}.expand_1x1", slope=slope)
    y = conv_norm(out, f"{name}/depthwise", y, w, f"{path}.conv_3x3", stride=stride, groups=y.shape[1])
    y = conv_norm(out, f"{name}/project", y, w, f"{path}.reduce_1x1", act=False)
    if x.shape == y.shape:
        y = out[f"{name}/sum"] = x + y
    return y


def norm(out, name, x, w, path):
    out[name] = F.layer_norm(x, x.shape[-1:], w[f"{path}.weight"], w[f"{path}.bias"])
    return out[name]


def dense(out, name, x, w, path):
    out[name] = F.linear(x, w[f"{path}.weight"], w[f"{path}.bias"])
    return out[name]


def attention(out, name, x, w, path, wrong):
    """x: (B, N, P, D); each of the P positions is a sequence."""
    parts = [
        F.linear(x, w[f"{path}.attention.{p}.weight"], w[f"{path}.attention.{p}.bias"])
        for p in ("query", "key", "value")
    ]
    out[f"{name}/qkv"] = torch.cat(parts, -1)
    q, k, v = (part.unflatten(-1, (HEADS, -1)).permute(0, 2, 3, 1, 4) for part in parts)  # (B, P, h, N, e)
    raw = out[f"{name}/dot"] = q @ k.transpose(-1, -2)
    soft = out[f"{name}/soft"] = (raw / q.shape[-1] ** 0.5).softmax(-1)
    y = soft @ v
    if (
        "heads joined without a transpose" in wrong
        and path == "mobilevit.encoder.layer.2.transformer.layer.0.attention"
    ):
        y = y.reshape(*y.shape[:2], y.shape[3], -1).transpose(1, 2)
    else:
        y = y.permute(0, 3, 1, 2, 4).flatten(3)
    out[f"{name}/mixed"] = y
    return dense(out, f"{name}/out", y, w, f"{path}.output.dense")


def block(out, name, x, w, path, depth, wrong):
    y = conv_norm(out, f"{name}/near", x, w, f"{path}.conv_kxk")
    y = out[f"{name}/embed"] = F.conv2d(y, w[f"{path}.conv_1x1.convolution.weight"])
    batch, width, height, columns = y.shape
    y = F.unfold(y, 2, stride=2).view(batch, width, 4, -1).permute(0, 3, 2, 1)  # (B, N, P, D)
    out[f"{name}/patches"] = y
    for layer in range(depth):
        at, to = f"{name}/{layer}", f"{path}.transformer.layer.{layer}"
        z = norm(out, f"{at}/norm1", y, w, f"{to}.layernorm_before")
        y = out[f"{at}/sum1"] = y + attention(out, f"{at}/attn", z, w, f"{to}.attention", wrong)
        z = dense(
            out, f"{at}/up", norm(out, f"{at}/norm2", y, w, f"{to}.layernorm_after"), w, f"{to}.intermediate.dense"
        )
        z = out[f"{at}/act"] = F.silu(z)
        y = out[f"{at}/sum2"] = y + dense(out, f"{at}/down", z, w, f"{to}.output.dense")
    y = norm(out, f"{name}/norm", y, w, f"{path}.layernorm").permute(0, 3, 2, 1).reshape(batch, width * 4, -1)
    y = out[f"{name}/map"] = F.fold(y, (height, columns), 2, stride=2)
    y = conv_norm(out, f"{name}/back", y, w, f"{path}.conv_projection")
    both = (y, x) if "order of the concatenation" in wrong and path.endswith("layer.4") else (x, y)
    return conv_norm(out, f"{name}/fuse", torch.cat(both, 1), w, f"{path}.fusion")


@torch.no_grad()
def run(w, pixels, wrong=()):
    out, base = {"x": pixels}, "mobilevit.encoder.layer"
    x = conv_norm(out, "stem", pixels, w, "mobilevit.conv_stem", stride=2)
    x = bottleneck(out, "a", x, w, f"{base}.0.layer.0", 1, wrong)
    for i in range(3):
        x = bottleneck(out, f"b{i}", x, w, f"{base}.1.layer.{i}", 2 if i == 0 else 1)
    for stage, depth in enumerate(STAGES, 2):
        x = bottleneck(out, f"down{stage}", x, w, f"{base}.{stage}.downsampling_layer", 2)
        x = block(out, f"vit{stage}", x, w, f"{base}.{stage}", depth, wrong)
    x = conv_norm(out, "last", x, w, "mobilevit.conv_1x1_exp")
    x = out["mean"] = x.mean((2, 3))
    dense(out, "scores", x, w, "classifier")
    return {name: value.numpy() for name, value in out.items()}


PARTS = {
    "conv": "convolution",
    "bn": "normalization",
    "out": "activation",
    "expand": "expand_1x1",
    "depthwise": "conv_3x3",
    "project": "reduce_1x1",
    "near": "conv_kxk",
    "back": "conv_projection",
    "fuse": "fusion",
    "norm1": "layernorm_before",
    "sum1": "attention_residual",
    "norm2": "layernorm_after",
    "up": "intermediate.dense",
    "act": "intermediate.intermediate_act_fn",
    "down": "output.dense",
    "sum2": "output",
    "embed": "conv_1x1.convolution",
    "patches": "unfolding",
    "norm": "layernorm",
    "map": "folding",
}
PLACES = {"stem": "mobilevit.conv_stem", "a": "mobilevit.encoder.layer.0.layer.0", "last": "mobilevit.conv_1x1_exp"}
PLACES |= {f"b{i}": f"mobilevit.encoder.layer.1.layer.{i}" for i in range(3)}
PLACES |= {f"down{s}": f"mobilevit.encoder.layer.{s}.downsampling_layer" for s in (2, 3, 4)}
PLACES |= {f"vit{s}": f"mobilevit.encoder.layer.{s}" for s in (2, 3, 4)}
ATTENTION = {
    "soft": "attention.attention.probabilities",
    "mixed": "attention.attention",
    "out": "attention.output.dense",
}


def _name(own):
    place, *rest = own.split("/")
    if rest and rest[-1] in ("gate", "qkv", "dot"):
        return None
    ours = [PLACES[place]]
    for part in rest:
        if part.isdigit():
            ours.append(f"transformer.layer.{part}")
        elif part not in ("attn", "sum"):
            ours.append((ATTENTION if "attn" in rest else PARTS)[part])
    return ".".join(ours)


def names(weights):
    whole = {"x": "pixel_values", "mean": "mobilevit.pooler_output", "scores": "classifier"}
    own = [name for name in run(weights, torch.zeros(1, 3, 64, 128)) if name not in whole]
    return whole | {name: _name(name) for name in own if _name(name)}
