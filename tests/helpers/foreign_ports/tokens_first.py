"""PyTorch's attention as it is by default, tokens before the batch, (N, 4 B, D); hooked from the end to the start."""

from foreign_ports import STAGES, called, conv, layer_norm, linear, names_of, nn, record, torch
from foreign_ports.multihead import ConvBN, Inverted
from foreign_ports.multihead import Layer as BatchFirst

WRONG = {
    "gelu in the matrices": (
        *(f"mobilevit.encoder.layer.2.transformer.layer.{i}.intermediate.intermediate_act_fn" for i in range(2)),
    ),
    "a bottleneck without its sum": ("mobilevit.encoder.layer.1.layer.1",),
    "output matrix transposed": ("mobilevit.encoder.layer.3.transformer.layer.3.attention.output.dense",),
}


class Layer(BatchFirst):
    def __init__(self, w, path, wrong):
        super().__init__(w, path, ())
        self.attention.batch_first = False
        if "gelu in the matrices" in wrong and "layer.2.transformer" in path:
            self.swish = called(nn.GELU(), self.swish.ours)
        if "output matrix transposed" in wrong and path.endswith("3.transformer.layer.3"):
            matrix = self.attention.out_proj.weight
            matrix.data = matrix.data.T.contiguous()


class Alone(nn.Module):
    """A bottleneck without the sum."""

    def __init__(self, inverted):
        super().__init__()
        self.inverted = inverted

    def forward(self, x):
        for layer in self.inverted.layers.values():
            x = layer(x)
        return x


class Vit(nn.Module):
    def __init__(self, w, path, depth, wrong):
        super().__init__()
        self.first = ConvBN(w, f"{path}.conv_kxk")
        self.second = conv(w, f"{path}.conv_1x1.convolution")
        self.layers = nn.ModuleList([Layer(w, f"{path}.transformer.layer.{i}", wrong) for i in range(depth)])
        self.norm = layer_norm(w, f"{path}.layernorm")
        self.third = ConvBN(w, f"{path}.conv_projection")
        self.fourth = ConvBN(w, f"{path}.fusion")

    def forward(self, x):
        y = self.second(self.first(x))
        batch, width, height, columns = y.shape
        y = y.view(batch, width, height // 2, 2, columns // 2, 2).permute(2, 4, 0, 3, 5, 1)
        y = y.reshape(-1, 4 * batch, width)
        for layer in self.layers:
            y = layer(y)
        y = self.norm(y).view(height // 2, columns // 2, batch, 2, 2, width).permute(2, 5, 0, 3, 1, 4)
        return self.fourth(torch.cat([x, self.third(y.reshape(batch, width, height, columns))], 1))


def build(w, wrong=()):
    base = "mobilevit.encoder.layer"
    layers = [ConvBN(w, "mobilevit.conv_stem", stride=2), Inverted(w, f"{base}.0.layer.0", 1)]
    layers += [Inverted(w, f"{base}.1.layer.{i}", 1 + (i == 0)) for i in range(3)]
    if "a bottleneck without its sum" in wrong:
        layers[3] = Alone(layers[3])
    for s, depth in enumerate(STAGES, 2):
        layers += [Inverted(w, f"{base}.{s}.downsampling_layer", 2), Vit(w, f"{base}.{s}", depth, wrong)]
    layers += [ConvBN(w, "mobilevit.conv_1x1_exp"), nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear(w, "classifier")]
    return nn.Sequential(*layers)


def run(weights, pixels, wrong=()):
    return dict(reversed(record(build(weights, wrong), pixels).items()))


def names(weights):
    return {"input": "pixel_values"} | names_of(build(weights))
