"""A port for inference: normalisations are folded into the convolutions when it is loaded, activations work in place,
and the dump is sorted by name, not in the order of computation."""

from foreign_ports import STAGES, called, conv, layer_norm, linear, nn, record, torch
from foreign_ports.sequential import Attention, Pool, Skip

SPATIAL = "mobilevit.encoder.layer.1.layer.0.conv_3x3"
WRONG = {
    "folded with another epsilon": tuple(f"{SPATIAL}.{part}" for part in ("convolution", "normalization")),
    "a row too far": tuple(f"mobilevit.encoder.layer.3.conv_kxk.{part}" for part in ("convolution", "normalization")),
    "two: layer norm and classifier": ("mobilevit.encoder.layer.2.transformer.layer.0.layernorm_after", "classifier"),
}


def folded(w, path, act=True, eps=1e-5, **options):
    """A convolution with the normalisation behind it folded in."""
    layer = conv(w, f"{path}.convolution", **options)
    gain, shift, mean, variance = (
        w[f"{path}.normalization.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
    )
    gain = gain / (variance + eps).sqrt()
    layer.weight.data = layer.weight.data * gain.view(-1, 1, 1, 1)
    layer.bias = nn.Parameter(shift - mean * gain)
    called(layer, f"{path}.normalization")
    return nn.Sequential(layer, called(nn.SiLU(), f"{path}.activation")) if act else layer


class Shift(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x.roll(1, 2))


def bottleneck(w, path, stride, eps):
    wide = len(w[f"{path}.conv_3x3.normalization.weight"])
    layers = [
        folded(w, f"{path}.expand_1x1"),
        folded(w, f"{path}.conv_3x3", stride=stride, groups=wide, eps=eps),
        folded(w, f"{path}.reduce_1x1", act=False),
    ]
    same = layers[0][0].in_channels == layers[2].out_channels and stride == 1
    return called(Skip(*layers), path) if same else nn.Sequential(*layers)


class Layer(nn.Module):
    def __init__(self, w, path, wrong):
        super().__init__()
        self.first = layer_norm(w, f"{path}.layernorm_before")
        self.mix = Attention(w, f"{path}.attention", False)
        self.second = layer_norm(w, f"{path}.layernorm_after")
        if "two: layer norm and classifier" in wrong and path.endswith("2.transformer.layer.0"):
            self.second.weight.data = self.second.weight.data.roll(1)
        self.hidden = linear(w, f"{path}.intermediate.dense")
        self.out = linear(w, f"{path}.output.dense")

    def forward(self, x):
        x = x + self.mix(self.first(x))
        return x + self.out(nn.functional.silu(self.hidden(self.second(x))))


class Block(nn.Module):
    def __init__(self, w, path, depth, wrong):
        super().__init__()
        self.a = folded(w, f"{path}.conv_kxk")
        if "a row too far" in wrong and path.endswith("3"):
            self.a = Shift(self.a)
        self.b = conv(w, f"{path}.conv_1x1.convolution")
        self.c = nn.ModuleList([Layer(w, f"{path}.transformer.layer.{i}", wrong) for i in range(depth)])
        self.d = layer_norm(w, f"{path}.layernorm")
        self.e = folded(w, f"{path}.conv_projection")
        self.f = folded(w, f"{path}.fusion")

    def forward(self, x):
        y = self.b(self.a(x))
        parts = [y[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]  # (B, D, y, x) for each position
        z = torch.stack([part.flatten(2).transpose(1, 2) for part in parts], 1)  # (B, P, N, D)
        for layer in self.c:
            z = layer(z)
        back = torch.empty_like(y)
        for position, part in enumerate(self.d(z).unbind(1)):
            at = back[:, :, position // 2 :: 2, position % 2 :: 2]
            at.copy_(part.transpose(1, 2).unflatten(2, at.shape[2:]))
        return self.f(torch.cat([x, self.e(back)], 1))


def build(w, wrong=()):
    base = "mobilevit.encoder.layer"
    eps = 1e-1 if "folded with another epsilon" in wrong else 1e-5
    layers = [folded(w, "mobilevit.conv_stem", stride=2), bottleneck(w, f"{base}.0.layer.0", 1, 1e-5)]
    layers += [bottleneck(w, f"{base}.1.layer.{i}", 1 + (i == 0), 1e-5 if i else eps) for i in range(3)]
    for s, depth in enumerate(STAGES, 2):
        layers += [bottleneck(w, f"{base}.{s}.downsampling_layer", 2, 1e-5), Block(w, f"{base}.{s}", depth, wrong)]
    last = linear(w, "classifier")
    if "two: layer norm and classifier" in wrong:
        last.bias.data = last.bias.data.flip(0)
    pool = called(Pool(False), "mobilevit.pooler_output")
    return nn.Sequential(nn.Sequential(*layers), folded(w, "mobilevit.conv_1x1_exp"), pool, last)


def run(weights, pixels, wrong=()):
    return dict(sorted(record(build(weights, wrong), pixels).items()))


def names(weights):
    """A convolution with a normalisation in it is called a convolution, as in a checkpoint."""
    found = {name: module.ours for name, module in build(weights).named_modules() if hasattr(module, "ours")}
    return {"input": "pixel_values"} | {
        name: node.replace("normalization", "convolution") for name, node in found.items()
    }
