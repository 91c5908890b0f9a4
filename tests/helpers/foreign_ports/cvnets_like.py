"""ml-cvnets' structure and names: everything is a `block` of a Sequential, one product makes query, key and value, and
modules are hooked from the inside out, the blocks among them."""

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
    "a missing norm": ("mobilevit.encoder.layer.1.layer.2.reduce_1x1.normalization",),
    "four heads for two": ("mobilevit.encoder.layer.3.transformer.layer.1.attention.attention.scores",),
    "sigmoid for swish": ("mobilevit.conv_1x1_exp.activation",),
}


class ConvLayer(nn.Module):
    def __init__(self, w, path, act=None, norm=True, **options):
        super().__init__()
        self.block = nn.Sequential()
        self.block.add_module("conv", conv(w, f"{path}.convolution", **options))
        if norm:
            self.block.add_module("norm", batch_norm(w, f"{path}.normalization"))
        if act is not None:
            self.block.add_module("act", called(act(), f"{path}.activation"))

    def forward(self, x):
        return self.block(x)


class InvertedResidual(nn.Module):
    def __init__(self, w, path, stride, wrong=()):
        super().__init__()
        groups = len(w[f"{path}.conv_3x3.normalization.weight"])
        norm = not ("a missing norm" in wrong and path.endswith("1.layer.2"))
        self.block = nn.Sequential()
        self.block.add_module("exp_1x1", ConvLayer(w, f"{path}.expand_1x1", nn.SiLU))
        self.block.add_module("conv_3x3", ConvLayer(w, f"{path}.conv_3x3", nn.SiLU, stride=stride, groups=groups))
        self.block.add_module("red_1x1", ConvLayer(w, f"{path}.reduce_1x1", norm=norm))

    def forward(self, x):
        y = self.block(x)
        return x + y if x.shape == y.shape else y


class MultiHeadAttention(nn.Module):
    def __init__(self, w, path, heads):
        super().__init__()
        self.qkv_proj = fused(w, f"{path}.attention")
        self.softmax = called(nn.Softmax(-1), f"{path}.attention.probabilities")
        self.out_proj = linear(w, f"{path}.output.dense")
        self.heads = heads

    def forward(self, x):
        q, k, v = self.qkv_proj(x).reshape(*x.shape[:2], 3, self.heads, -1).transpose(1, 3).unbind(2)
        weights = self.softmax((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2))
        return self.out_proj((weights @ v).transpose(1, 2).flatten(2))


class TransformerEncoder(nn.Module):
    def __init__(self, w, path, heads):
        super().__init__()
        attention = MultiHeadAttention(w, f"{path}.attention", heads)
        self.pre_norm_mha = nn.Sequential(layer_norm(w, f"{path}.layernorm_before"), attention, nn.Dropout(0.1))
        self.pre_norm_ffn = nn.Sequential(
            layer_norm(w, f"{path}.layernorm_after"),
            linear(w, f"{path}.intermediate.dense"),
            called(nn.SiLU(), f"{path}.intermediate.intermediate_act_fn"),
            nn.Dropout(0.1),
            linear(w, f"{path}.output.dense"),
            nn.Dropout(0.1),
        )

    def forward(self, x):
        x = x + self.pre_norm_mha(x)
        return x + self.pre_norm_ffn(x)


class MobileViTBlock(nn.Module):
    def __init__(self, w, path, depth, wrong):
        super().__init__()
        self.local_rep = nn.Sequential()
        self.local_rep.add_module("conv_3x3", ConvLayer(w, f"{path}.conv_kxk", nn.SiLU))
        self.local_rep.add_module("conv_1x1", ConvLayer(w, f"{path}.conv_1x1", norm=False))
        layers = [f"{path}.transformer.layer.{i}" for i in range(depth)]
        heads = [
            4 if "four heads for two" in wrong and layer.endswith("3.transformer.layer.1") else HEADS
            for layer in layers
        ]
        encoders = [TransformerEncoder(w, *each) for each in zip(layers, heads, strict=True)]
        self.global_rep = nn.Sequential(*encoders, layer_norm(w, f"{path}.layernorm"))
        self.conv_proj = ConvLayer(w, f"{path}.conv_projection", nn.SiLU)
        self.fusion = ConvLayer(w, f"{path}.fusion", nn.SiLU)

    def forward(self, x):
        y = self.local_rep(x)
        batch, width, height, columns = y.shape
        y = y.reshape(batch * width * (height // 2), 2, columns // 2, 2).transpose(1, 2)
        y = y.reshape(batch, width, -1, 4).transpose(1, 3).reshape(batch * 4, -1, width)
        y = self.global_rep(y).reshape(batch, 4, -1, width).transpose(1, 3)
        y = y.reshape(batch * width * (height // 2), columns // 2, 2, 2).transpose(1, 2)
        y = self.conv_proj(y.reshape(batch, width, height, columns))
        return self.fusion(torch.cat((x, y), 1))


class Pool(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


class Net(nn.Module):
    def __init__(self, w, wrong):
        super().__init__()
        base = "mobilevit.encoder.layer"
        self.conv_1 = ConvLayer(w, "mobilevit.conv_stem", nn.SiLU, stride=2)
        self.layer_1 = nn.Sequential(InvertedResidual(w, f"{base}.0.layer.0", 1))
        self.layer_2 = nn.Sequential(
            *(InvertedResidual(w, f"{base}.1.layer.{i}", 1 + (i == 0), wrong) for i in range(3))
        )
        for s, depth in enumerate(STAGES, 2):
            down = InvertedResidual(w, f"{base}.{s}.downsampling_layer", 2)
            self.add_module(f"layer_{s + 1}", nn.Sequential(down, MobileViTBlock(w, f"{base}.{s}", depth, wrong)))
        self.conv_1x1_exp = ConvLayer(
            w, "mobilevit.conv_1x1_exp", nn.Sigmoid if "sigmoid for swish" in wrong else nn.SiLU
        )
        self.classifier = nn.Sequential()
        self.classifier.add_module("global_pool", called(Pool(), "mobilevit.pooler_output"))
        self.classifier.add_module("dropout", nn.Dropout(0.1))
        self.classifier.add_module("fc", linear(w, "classifier"))

    def forward(self, x):
        for layer in self.children():
            x = layer(x)
        return x


def run(weights, pixels, wrong=()):
    return record(Net(weights, wrong), pixels)


def names(weights):
    return {"input": "pixel_values"} | names_of(Net(weights, ()))
