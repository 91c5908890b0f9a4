"""PyTorch's own attention layer, whose parts nobody sees; convolutions as torchvision has them."""

from foreign_ports import HEADS, STAGES, batch_norm, called, conv, layer_norm, linear, names_of, nn, record, torch

WRONG = {
    "value and key exchanged": (
        "mobilevit.encoder.layer.4.transformer.layer.0.attention.attention.key",
        "mobilevit.encoder.layer.4.transformer.layer.0.attention.attention.value",
    ),
    "weight of a matrix scaled": ("mobilevit.encoder.layer.2.transformer.layer.0.output.dense",),
    "the last norm forgotten": ("mobilevit.encoder.layer.3.layernorm",),
}


class ConvBN(nn.Sequential):
    def __init__(self, w, path, act=True, **options):
        super().__init__(conv(w, f"{path}.convolution", **options), batch_norm(w, f"{path}.normalization"))
        if act:
            self.append(called(nn.SiLU(), f"{path}.activation"))


class Inverted(nn.Module):
    def __init__(self, w, path, stride):
        super().__init__()
        wide = len(w[f"{path}.conv_3x3.normalization.weight"])
        self.layers = nn.ModuleDict(
            {
                "widen": ConvBN(w, f"{path}.expand_1x1"),
                "spatial": ConvBN(w, f"{path}.conv_3x3", stride=stride, groups=wide),
                "narrow": ConvBN(w, f"{path}.reduce_1x1", act=False),
            }
        )

    def forward(self, x):
        y = x
        for layer in self.layers.values():
            y = layer(y)
        return x + y if x.shape == y.shape else y


class Layer(nn.Module):
    def __init__(self, w, path, wrong):
        super().__init__()
        self.norms = nn.ModuleList(
            [layer_norm(w, f"{path}.{name}") for name in ("layernorm_before", "layernorm_after")]
        )
        width = self.norms[0].normalized_shape[0]
        self.attention = called(nn.MultiheadAttention(width, HEADS, batch_first=True), f"{path}.attention")
        order = ["query", "key", "value"]
        if "value and key exchanged" in wrong and path.endswith("4.transformer.layer.0"):
            order = ["query", "value", "key"]
        inside = [f"{path}.attention.attention.{name}" for name in order]
        self.attention.in_proj_weight.data = torch.cat([w[f"{name}.weight"] for name in inside])
        self.attention.in_proj_bias.data = torch.cat([w[f"{name}.bias"] for name in inside])
        self.attention.out_proj.weight.data = w[f"{path}.attention.output.dense.weight"]
        self.attention.out_proj.bias.data = w[f"{path}.attention.output.dense.bias"]
        self.up = linear(w, f"{path}.intermediate.dense")
        self.swish = called(nn.SiLU(), f"{path}.intermediate.intermediate_act_fn")
        self.down = linear(w, f"{path}.output.dense")
        if "weight of a matrix scaled" in wrong and path.endswith("2.transformer.layer.0"):
            self.down.weight.data = self.down.weight.data * 1.25

    def forward(self, x):
        y = self.norms[0](x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.down(self.swish(self.up(self.norms[1](x))))


class Cut(nn.Module):
    """(B, D, H, W) to (4 B, N, D)."""

    def forward(self, x):
        batch, width = x.shape[:2]
        return nn.functional.unfold(x, 2, stride=2).view(batch, width, 4, -1).permute(0, 2, 3, 1).flatten(0, 1)


class Paste(nn.Module):
    def forward(self, x, size):
        tokens, width = x.shape[1:]
        x = x.view(-1, 4, tokens, width).permute(0, 3, 1, 2).reshape(-1, 4 * width, tokens)
        return nn.functional.fold(x, size, 2, stride=2)


class Vit(nn.Module):
    def __init__(self, w, path, depth, wrong):
        super().__init__()
        self.near = ConvBN(w, f"{path}.conv_kxk")
        self.embed = conv(w, f"{path}.conv_1x1.convolution")
        self.cut = called(Cut(), f"{path}.unfolding")
        self.encoder = nn.Sequential(*(Layer(w, f"{path}.transformer.layer.{i}", wrong) for i in range(depth)))
        forgotten = "the last norm forgotten" in wrong and path.endswith("3")
        self.norm = nn.Identity() if forgotten else layer_norm(w, f"{path}.layernorm")
        self.paste = called(Paste(), f"{path}.folding")
        self.back = ConvBN(w, f"{path}.conv_projection")
        self.both = ConvBN(w, f"{path}.fusion")

    def forward(self, x):
        y = self.norm(self.encoder(self.cut(self.embed(self.near(x)))))
        return self.both(torch.cat([x, self.back(self.paste(y, x.shape[2:]))], 1))


class Network(nn.Module):
    def __init__(self, w, wrong):
        super().__init__()
        base = "mobilevit.encoder.layer"
        features = [ConvBN(w, "mobilevit.conv_stem", stride=2), Inverted(w, f"{base}.0.layer.0", 1)]
        features += [Inverted(w, f"{base}.1.layer.{i}", 1 + (i == 0)) for i in range(3)]
        for s, depth in enumerate(STAGES, 2):
            features += [Inverted(w, f"{base}.{s}.downsampling_layer", 2), Vit(w, f"{base}.{s}", depth, wrong)]
        self.features = nn.Sequential(*features, ConvBN(w, "mobilevit.conv_1x1_exp"))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = linear(w, "classifier")

    def forward(self, x):
        return self.head(self.pool(self.features(x)).flatten(1))


def run(weights, pixels, wrong=()):
    return record(Network(weights, wrong), pixels)


def names(weights):
    return {"input": "pixel_values", "pool": "mobilevit.pooler_output"} | names_of(Network(weights, ()))
