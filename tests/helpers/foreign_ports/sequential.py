"""Sequential modules without names of their own, as in many a notebook: `net.0.1`; tokens are (B, P, N, D)."""

from foreign_ports import (
    HEADS,
    STAGES,
    batch_norm,
    called,
    conv,
    fused,
    layer_norm,
    linear,
    names_of,
    nn,
    record,
    torch,
)

WRONG = {
    "channels of the stem reversed": ("mobilevit.conv_stem.convolution",),
    "scale by the model's width": ("mobilevit.encoder.layer.2.transformer.layer.1.attention.attention.scores",),
    "last pool is a maximum": ("mobilevit.pooler_output",),
    "half a residual": ("mobilevit.encoder.layer.3.transformer.layer.2.output",),
}


class Skip(nn.Module):
    def __init__(self, *layers, weight=1.0):
        super().__init__()
        self.body = nn.Sequential(*layers)
        self.weight = weight

    def forward(self, x):
        return x * self.weight + self.body(x)


def conv_norm(w, path, act=True, **options):
    layers = [conv(w, f"{path}.convolution", **options), batch_norm(w, f"{path}.normalization")]
    return nn.Sequential(*layers, *([called(nn.SiLU(), f"{path}.activation")] if act else []))


def bottleneck(w, path, stride):
    wide = len(w[f"{path}.conv_3x3.normalization.weight"])
    layers = [
        conv_norm(w, f"{path}.expand_1x1"),
        conv_norm(w, f"{path}.conv_3x3", stride=stride, groups=wide),
        conv_norm(w, f"{path}.reduce_1x1", act=False),
    ]
    same = layers[0][0].in_channels == layers[2][0].out_channels and stride == 1
    return called(Skip(*layers), path) if same else nn.Sequential(*layers)


class Attention(nn.Module):
    def __init__(self, w, path, wide_scale):
        super().__init__()
        self.to_qkv = fused(w, f"{path}.attention")
        self.attend = called(nn.Softmax(-1), f"{path}.attention.probabilities")
        self.to_out = linear(w, f"{path}.output.dense")
        width = self.to_out.in_features
        self.scale = (width if wide_scale else width // HEADS) ** -0.5

    def forward(self, x):
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(2, 3) for part in self.to_qkv(x).chunk(3, -1))
        weights = self.attend(q @ k.transpose(-1, -2) * self.scale)
        return self.to_out((weights @ v).transpose(2, 3).flatten(3))


def transformer_layer(w, path, wrong):
    return nn.Sequential(
        called(
            Skip(
                layer_norm(w, f"{path}.layernorm_before"),
                Attention(
                    w,
                    f"{path}.attention",
                    "scale by the model's width" in wrong and path.endswith("2.transformer.layer.1"),
                ),
            ),
            f"{path}.attention_residual",
        ),
        called(
            Skip(
                layer_norm(w, f"{path}.layernorm_after"),
                linear(w, f"{path}.intermediate.dense"),
                called(nn.SiLU(), f"{path}.intermediate.intermediate_act_fn"),
                linear(w, f"{path}.output.dense"),
                weight=0.5 if "half a residual" in wrong and path.endswith("3.transformer.layer.2") else 1.0,
            ),
            f"{path}.output",
        ),
    )


class Block(nn.Module):
    def __init__(self, w, path, depth, wrong):
        super().__init__()
        self.local = nn.Sequential(conv_norm(w, f"{path}.conv_kxk"), conv(w, f"{path}.conv_1x1.convolution"))
        layers = [transformer_layer(w, f"{path}.transformer.layer.{i}", wrong) for i in range(depth)]
        self.body = nn.Sequential(*layers, layer_norm(w, f"{path}.layernorm"))
        self.back = conv_norm(w, f"{path}.conv_projection")
        self.fuse = conv_norm(w, f"{path}.fusion")

    def forward(self, x):
        y = self.local(x)
        rows, columns = y.shape[2] // 2, y.shape[3] // 2
        y = y.unflatten(2, (rows, 2)).unflatten(4, (columns, 2)).permute(0, 3, 5, 2, 4, 1)
        y = self.body(y.flatten(1, 2).flatten(2, 3)).unflatten(2, (rows, columns)).unflatten(1, (2, 2))
        y = y.permute(0, 5, 3, 1, 4, 2).flatten(4, 5).flatten(2, 3)
        return self.fuse(torch.cat([x, self.back(y)], 1))


class Pool(nn.Module):
    def __init__(self, largest):
        super().__init__()
        self.largest = largest

    def forward(self, x):
        return x.amax((2, 3)) if self.largest else x.mean((2, 3))


def build(w, wrong=()):
    base = "mobilevit.encoder.layer"
    layers = [conv_norm(w, "mobilevit.conv_stem", stride=2), bottleneck(w, f"{base}.0.layer.0", 1)]
    if "channels of the stem reversed" in wrong:
        layers[0][0].weight.data = layers[0][0].weight.data.flip(1)
    layers += [bottleneck(w, f"{base}.1.layer.{i}", 2 if i == 0 else 1) for i in range(3)]
    for stage, depth in enumerate(STAGES, 2):
        layers += [bottleneck(w, f"{base}.{stage}.downsampling_layer", 2), Block(w, f"{base}.{stage}", depth, wrong)]
    pool = called(Pool("last pool is a maximum" in wrong), "mobilevit.pooler_output")
    return nn.Sequential(
        nn.Sequential(*layers), nn.Sequential(conv_norm(w, "mobilevit.conv_1x1_exp"), pool, linear(w, "classifier"))
    )


def run(weights, pixels, wrong=()):
    return record(build(weights, wrong), pixels)


def names(weights):
    return {"input": "pixel_values", "output": "logits"} | names_of(build(weights))
