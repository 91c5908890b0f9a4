"""Channels last and layers numbered by their kind, as Keras names them; kernels are (height, width, in, out)."""

from collections import Counter

from foreign_ports import HEADS, STAGES, torch

F = torch.nn.functional
WRONG = {
    "padded as SAME": ("mobilevit.conv_stem.convolution",),
    "epsilon of Keras": ("mobilevit.encoder.layer.1.layer.1.conv_3x3.normalization",),
    "attention over the queries": ("mobilevit.encoder.layer.3.transformer.layer.0.attention.attention.probabilities",),
    "no bias at the end": ("classifier",),
}


class Layers:
    """Calls layers, and keeps what each returns and which node of ours it is."""

    def __init__(self, weights, wrong):
        self.weights, self.wrong = weights, wrong
        self.kinds, self.values, self.names = Counter(), {}, {}

    def keep(self, kind, x, node=None):
        number = self.kinds[kind]
        self.kinds[kind] += 1
        name = f"{kind}_{number}" if number else kind
        self.values[name] = x.detach().numpy().copy()
        if node is not None:
            self.names[name] = node
        return x

    def conv2d(self, x, path, stride=1, depthwise=False):
        kernel = self.weights[f"{path}.weight"].permute(2, 3, 1, 0)
        size = kernel.shape[0]
        same = path == "mobilevit.conv_stem.convolution" and "padded as SAME" in self.wrong
        edge = size // 2
        x = F.pad(x, (0, 0, 0, 1, 0, 1) if same else (0, 0, edge, edge, edge, edge))
        groups = x.shape[-1] if depthwise else 1
        y = F.conv2d(x.permute(0, 3, 1, 2), kernel.permute(3, 2, 0, 1), stride=stride, groups=groups)
        return self.keep("depthwise_conv2d" if depthwise else "conv2d", y.permute(0, 2, 3, 1), path)

    def batch_normalization(self, x, path):
        mean, variance, gamma, beta = (
            self.weights[f"{path}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")
        )
        keras = "epsilon of Keras" in self.wrong and path in WRONG["epsilon of Keras"]
        y = (x - mean) * (variance + (1e-3 if keras else 1e-5)).rsqrt() * gamma + beta
        return self.keep("batch_normalization", y, path)

    def layer_normalization(self, x, path):
        y = F.layer_norm(x, x.shape[-1:], self.weights[f"{path}.weight"], self.weights[f"{path}.bias"])
        return self.keep("layer_normalization", y, path)

    def dense(self, x, path, bias=True):
        kernel = self.weights[f"{path}.weight"].T
        return self.keep("dense", x @ kernel + bias * self.weights[f"{path}.bias"], path)

    def swish(self, x, node):
        return self.keep("activation", x * x.sigmoid(), node)

    def conv_block(self, x, path, act=True, **options):
        x = self.batch_normalization(self.conv2d(x, f"{path}.convolution", **options), f"{path}.normalization")
        return self.swish(x, f"{path}.activation") if act else x

    def bottleneck(self, x, path, stride):
        y = self.conv_block(x, f"{path}.expand_1x1")
        y = self.conv_block(y, f"{path}.conv_3x3", stride=stride, depthwise=True)
        y = self.conv_block(y, f"{path}.reduce_1x1", act=False)
        return self.keep("add", x + y, path) if x.shape == y.shape else y

    def attention(self, x, path):
        q, k, v = (self.dense(x, f"{path}.attention.{name}") for name in ("query", "key", "value"))
        q, k, v = (y.unflatten(-1, (HEADS, -1)).transpose(1, 2) for y in (q, k, v))
        scores = self.keep("multiply", q @ k.mT / q.shape[-1] ** 0.5, f"{path}.attention.scores")
        axis = -2 if f"{path}.attention.probabilities" in WRONG["attention over the queries"] else -1
        weights = scores.softmax(axis if "attention over the queries" in self.wrong else -1)
        weights = self.keep("softmax", weights, f"{path}.attention.probabilities")
        context = self.keep("reshape", (weights @ v).transpose(1, 2).flatten(2), f"{path}.attention")
        return self.dense(context, f"{path}.output.dense")

    def transformer(self, x, path):
        y = self.attention(self.layer_normalization(x, f"{path}.layernorm_before"), f"{path}.attention")
        x = self.keep("add", x + y, f"{path}.attention_residual")
        y = self.dense(self.layer_normalization(x, f"{path}.layernorm_after"), f"{path}.intermediate.dense")
        y = self.dense(self.swish(y, f"{path}.intermediate.intermediate_act_fn"), f"{path}.output.dense")
        return self.keep("add", x + y, f"{path}.output")

    def block(self, x, path, depth):
        y = self.conv2d(self.conv_block(x, f"{path}.conv_kxk"), f"{path}.conv_1x1.convolution")
        batch, height, width, channels = y.shape
        y = y.reshape(batch, height // 2, 2, width // 2, 2, channels).permute(0, 2, 4, 1, 3, 5)
        y = self.keep("reshape", y.reshape(batch * 4, -1, channels), f"{path}.unfolding")
        for layer in range(depth):
            y = self.transformer(y, f"{path}.transformer.layer.{layer}")
        y = self.layer_normalization(y, f"{path}.layernorm")
        y = y.reshape(batch, 2, 2, height // 2, width // 2, channels).permute(0, 3, 1, 4, 2, 5)
        y = self.keep("reshape", y.reshape(batch, height, width, channels), f"{path}.folding")
        y = self.keep(
            "concatenate", torch.cat([x, self.conv_block(y, f"{path}.conv_projection")], -1), f"{path}.concat"
        )
        return self.conv_block(y, f"{path}.fusion")


@torch.no_grad()
def model(weights, pixels, wrong):
    layers = Layers(weights, wrong)
    base = "mobilevit.encoder.layer"
    x = layers.keep("input", pixels.permute(0, 2, 3, 1), "pixel_values")
    x = layers.conv_block(x, "mobilevit.conv_stem", stride=2)
    x = layers.bottleneck(x, f"{base}.0.layer.0", 1)
    for i in range(3):
        x = layers.bottleneck(x, f"{base}.1.layer.{i}", 2 if i == 0 else 1)
    for stage, depth in enumerate(STAGES, 2):
        x = layers.block(layers.bottleneck(x, f"{base}.{stage}.downsampling_layer", 2), f"{base}.{stage}", depth)
    x = layers.conv_block(x, "mobilevit.conv_1x1_exp")
    x = layers.keep("global_average_pooling2d", x.mean((1, 2)), "mobilevit.pooler_output")
    layers.dense(x, "classifier", bias="no bias at the end" not in wrong)
    return layers


def run(weights, pixels, wrong=()):
    return model(weights, pixels, wrong).values


def names(weights):
    return model(weights, torch.zeros(1, 3, 64, 128), ()).names
