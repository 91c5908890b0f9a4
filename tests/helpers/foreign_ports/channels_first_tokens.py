"""Tokens stay (B, D, P, N): matrices are 1x1 convolutions, the norm runs over axis 1. Sorted by name, two images."""

from foreign_ports import HEADS, STAGES, torch

F = torch.nn.functional
WRONG = {
    "norm over the tokens": ("mobilevit.encoder.layer.2.transformer.layer.1.layernorm_before",),
    "scores are not scaled": ("mobilevit.encoder.layer.4.transformer.layer.2.attention.attention.scores",),
    "two kernels flipped": (
        "mobilevit.encoder.layer.1.layer.0.conv_3x3.convolution",
        "mobilevit.encoder.layer.4.fusion.convolution",
    ),
}


class Net:
    """`taps` is what is dumped, `names` what it is of ours."""

    def __init__(self, weights, wrong):
        self.w, self.wrong, self.taps, self.names = weights, wrong, {}, {}

    def tap(self, x, node):
        name = f"n{hash_of(node)}"
        self.taps[name], self.names[name] = x.numpy().copy(), node
        return x

    def conv(self, x, path, stride=1, groups=1):
        kernel = self.w[f"{path}.weight"]
        if path in WRONG["two kernels flipped"] and "two kernels flipped" in self.wrong:
            kernel = kernel.flip(2)
        return self.tap(F.conv2d(x, kernel, None, stride, kernel.shape[2] // 2, 1, groups), path)

    def conv_norm(self, x, path, act=True, **options):
        x = self.conv(x, f"{path}.convolution", **options)
        mean, variance, gain, shift = (
            self.w[f"{path}.normalization.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        x = self.tap(F.batch_norm(x, mean, variance, gain, shift), f"{path}.normalization")
        return self.tap(x * x.sigmoid(), f"{path}.activation") if act else x

    def matrix(self, x, path):
        return self.tap(F.conv2d(x, self.w[f"{path}.weight"][:, :, None, None], self.w[f"{path}.bias"]), path)

    def norm(self, x, path):
        axes = (3,) if "norm over the tokens" in self.wrong and path in WRONG["norm over the tokens"] else (1,)
        variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
        gain, shift = (self.w[f"{path}.{part}"].view(-1, 1, 1) for part in ("weight", "bias"))
        return self.tap((x - mean) / (variance + 1e-5).sqrt() * gain + shift, path)

    def bottleneck(self, x, path, stride):
        y = self.conv_norm(x, f"{path}.expand_1x1")
        y = self.conv_norm(y, f"{path}.conv_3x3", stride=stride, groups=y.shape[1])
        y = self.conv_norm(y, f"{path}.reduce_1x1", act=False)
        return self.tap(x + y, path) if x.shape == y.shape else y

    def layer(self, x, path):
        y = self.norm(x, f"{path}.layernorm_before")
        at = f"{path}.attention.attention"
        q, k, v = (self.matrix(y, f"{at}.{name}").unflatten(1, (HEADS, -1)) for name in ("query", "key", "value"))
        scale = (
            1.0
            if "scores are not scaled" in self.wrong and f"{at}.scores" in WRONG["scores are not scaled"]
            else q.shape[2] ** -0.5
        )
        soft = (torch.einsum("bhepn,bhepm->bhpnm", q, k) * scale).softmax(-1)
        y = self.tap(torch.einsum("bhpnm,bhepm->bhepn", soft, v).flatten(1, 2), at)
        x = self.tap(x + self.matrix(y, f"{path}.attention.output.dense"), f"{path}.attention_residual")
        y = self.matrix(self.norm(x, f"{path}.layernorm_after"), f"{path}.intermediate.dense")
        y = self.tap(F.silu(y), f"{path}.intermediate.intermediate_act_fn")
        return self.tap(x + self.matrix(y, f"{path}.output.dense"), f"{path}.output")

    def block(self, x, path, depth):
        y = self.conv(self.conv_norm(x, f"{path}.conv_kxk"), f"{path}.conv_1x1.convolution")
        size = y.shape[2:]
        y = F.unfold(y, 2, stride=2).unflatten(1, (-1, 4))
        for i in range(depth):
            y = self.layer(y, f"{path}.transformer.layer.{i}")
        y = F.fold(self.norm(y, f"{path}.layernorm").flatten(1, 2), size, 2, stride=2)
        return self.conv_norm(torch.cat([x, self.conv_norm(y, f"{path}.conv_projection")], 1), f"{path}.fusion")

    @torch.no_grad()
    def __call__(self, x):
        base = "mobilevit.encoder.layer"
        x = self.tap(torch.cat([x, x.flip(3)]), "pixel_values")
        x = self.bottleneck(self.conv_norm(x, "mobilevit.conv_stem", stride=2), f"{base}.0.layer.0", 1)
        for i in range(3):
            x = self.bottleneck(x, f"{base}.1.layer.{i}", 1 + (i == 0))
        for s, depth in enumerate(STAGES, 2):
            x = self.block(self.bottleneck(x, f"{base}.{s}.downsampling_layer", 2), f"{base}.{s}", depth)
        x = self.tap(self.conv_norm(x, "mobilevit.conv_1x1_exp").mean((2, 3), keepdim=True), "mobilevit.pooler_output")
        self.matrix(x, "classifier")
        return self


def hash_of(node):
    """A number that stands for a node's name and says nothing."""
    number = 0
    for letter in node:
        number = (number * 31 + ord(letter)) % 1_000_003
    return f"{number:06}"


def run(weights, pixels, wrong=()):
    return dict(sorted(Net(weights, wrong)(pixels).taps.items()))


def names(weights):
    return Net(weights, ())(torch.zeros(1, 3, 64, 128)).names
