"""timm's structure and names: a normalisation takes the activation in, one product makes query, key and value, and
PyTorch's fused attention shows no scores. Only what is a layer is hooked."""

from foreign_ports import HEADS, STAGES, batch_norm, conv, fused, layer_norm, linear, nn, record, torch

WRONG = {
    "no activation at the end of a block": ("mobilevit.encoder.layer.3.fusion.activation",),
    "epsilon of the layer norms": (
        *(f"mobilevit.encoder.layer.2.transformer.layer.{i}.layernorm_before" for i in range(2)),
        *(f"mobilevit.encoder.layer.2.transformer.layer.{i}.layernorm_after" for i in range(2)),
    ),
    "patches column by column": ("mobilevit.encoder.layer.4.unfolding",),
    "flipped pixels and twice the logits": ("mobilevit.conv_stem.convolution", "classifier"),
}


class BatchNormAct2d(nn.Module):
    def __init__(self, w, path, act):
        super().__init__()
        self.norm = batch_norm(w, path)
        self.act = nn.SiLU() if act else nn.Identity()

    def forward(self, x):
        return self.act(self.norm(x))


class ConvNormAct(nn.Module):
    def __init__(self, w, path, act=True, **options):
        super().__init__()
        self.conv = conv(w, f"{path}.convolution", **options)
        self.bn = BatchNormAct2d(w, f"{path}.normalization", act)

    def forward(self, x):
        return self.bn(self.conv(x))


class BottleneckBlock(nn.Module):
    def __init__(self, w, path, stride):
        super().__init__()
        groups = len(w[f"{path}.conv_3x3.normalization.weight"])
        self.conv1_1x1 = ConvNormAct(w, f"{path}.expand_1x1")
        self.conv2_kxk = ConvNormAct(w, f"{path}.conv_3x3", stride=stride, groups=groups)
        self.conv3_1x1 = ConvNormAct(w, f"{path}.reduce_1x1", act=False)

    def forward(self, x):
        y = self.conv3_1x1(self.conv2_kxk(self.conv1_1x1(x)))
        return x + y if x.shape == y.shape else y


class Attention(nn.Module):
    def __init__(self, w, path):
        super().__init__()
        self.qkv = fused(w, f"{path}.attention")
        self.proj = linear(w, f"{path}.output.dense")

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, w, path):
        super().__init__()
        self.fc1 = linear(w, f"{path}.intermediate.dense")
        self.act = nn.SiLU()
        self.fc2 = linear(w, f"{path}.output.dense")

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class TransformerLayer(nn.Module):
    def __init__(self, w, path, eps):
        super().__init__()
        self.norm1 = layer_norm(w, f"{path}.layernorm_before", eps)
        self.attn = Attention(w, f"{path}.attention")
        self.norm2 = layer_norm(w, f"{path}.layernorm_after", eps)
        self.mlp = Mlp(w, path)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class MobileVitBlock(nn.Module):
    def __init__(self, w, path, depth, wrong):
        super().__init__()
        self.conv_kxk = ConvNormAct(w, f"{path}.conv_kxk")
        self.conv_1x1 = conv(w, f"{path}.conv_1x1.convolution")
        eps = 1e-2 if "epsilon of the layer norms" in wrong and path.endswith("2") else 1e-5
        layers = [TransformerLayer(w, f"{path}.transformer.layer.{i}", eps) for i in range(depth)]
        self.transformer = nn.Sequential(*layers)
        self.norm = layer_norm(w, f"{path}.layernorm")
        self.conv_proj = ConvNormAct(w, f"{path}.conv_projection")
        act = not ("no activation at the end of a block" in wrong and path.endswith("3"))
        self.conv_fusion = ConvNormAct(w, f"{path}.fusion", act=act)
        self.by_column = "patches column by column" in wrong and path.endswith("4")

    def forward(self, x):
        y = self.conv_1x1(self.conv_kxk(x))
        batch, width, height, columns = y.shape
        rows, across = height // 2, columns // 2
        y = y.reshape(batch * width * rows, 2, across, 2).transpose(1, 2)
        y = y.reshape(batch, width, rows * across, 4).transpose(1, 3).reshape(batch * 4, -1, width)
        if self.by_column:
            y = y.unflatten(0, (batch, 2, 2)).transpose(1, 2).flatten(0, 2)
        y = self.norm(self.transformer(y))
        y = y.reshape(batch, 4, -1, width).transpose(1, 3).reshape(batch * width * rows, across, 2, 2)
        y = self.conv_proj(y.transpose(1, 2).reshape(batch, width, height, columns))
        return self.conv_fusion(torch.cat((x, y), 1))


class Head(nn.Module):
    def __init__(self, w, scale):
        super().__init__()
        self.fc = linear(w, "classifier")
        self.scale = scale

    def forward(self, x):
        return self.fc(x.mean((2, 3))) * self.scale


class MobileVit(nn.Module):
    def __init__(self, w, wrong):
        super().__init__()
        base = "mobilevit.encoder.layer"
        self.stem = ConvNormAct(w, "mobilevit.conv_stem", stride=2)
        self.flipped = "flipped pixels and twice the logits" in wrong
        stages = [[BottleneckBlock(w, f"{base}.0.layer.0", 1)]]
        stages.append([BottleneckBlock(w, f"{base}.1.layer.{i}", 1 + (i == 0)) for i in range(3)])
        for s, depth in enumerate(STAGES, 2):
            down = BottleneckBlock(w, f"{base}.{s}.downsampling_layer", 2)
            stages.append([down, MobileVitBlock(w, f"{base}.{s}", depth, wrong)])
        self.stages = nn.Sequential(*(nn.Sequential(*stage) for stage in stages))
        self.final_conv = ConvNormAct(w, "mobilevit.conv_1x1_exp")
        self.head = Head(w, 2 if self.flipped else 1)

    def forward(self, x):
        return self.head(self.final_conv(self.stages(self.stem(x.flip(1) if self.flipped else x))))


def run(weights, pixels, wrong=()):
    layers = (nn.Conv2d, nn.Linear, nn.LayerNorm, BatchNormAct2d, MobileVitBlock, BottleneckBlock, Attention)
    return record(MobileVit(weights, wrong), pixels, lambda module: isinstance(module, layers))


def names(weights):
    """A map that leaves out query, key and value, which are one tensor here."""
    found = {"input": "pixel_values"}
    for name, module in MobileVit(weights, ()).named_modules():
        if isinstance(module, BatchNormAct2d):
            activated = isinstance(module.act, nn.SiLU)
            found[name] = module.norm.ours.replace("normalization", "activation") if activated else module.norm.ours
        elif hasattr(module, "ours") and not isinstance(module, nn.BatchNorm2d):
            found[name] = module.ours
    return found
