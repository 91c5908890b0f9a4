"""Ports with one mistake each: transformers' model with one thing changed, for `compare` to find.

A mistake is a function that changes a model in place and gives back the node that is wrong and what a hint about it
must say; its attribute `right`, where it has one, are the options of a model that it is a mistake in. Written in
PyTorch, not with the catalogue's own functions: what they compute must be the same by itself. `MISTAKES` are those that
people make most, `VARIANTS` the rest of what the catalogue knows, and `WRONG_PIXELS` those of preprocessing.
"""

import importlib.util
import math
from functools import cache
from types import MethodType
from unittest import mock

import tinymvit
from command_line import ROOT
from frameworks import F, torch
from torch_models import build, tensors


@cache
def script(name):
    """A script of docs/porting as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "porting" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def dump(model, pixels):
    """What docs/porting/dump_pytorch.py collects of a model, as arrays by name."""
    return {name: tensor.numpy() for name, tensor in script("dump_pytorch").dump(model, pixels).items()}


STAGE = "mobilevit.encoder.layer.2"
TRANSFORMER = f"{STAGE}.transformer.layer.1"
ATTENTION = f"{TRANSFORMER}.attention.attention"
BEFORE_MLP = f"{TRANSFORMER}.layernorm_after"
BOTTLENECK = "mobilevit.encoder.layer.1.layer.1"
EXPANDED = f"{BOTTLENECK}.expand_1x1.normalization"
STRIDED = "mobilevit.encoder.layer.1.layer.0.conv_3x3.convolution"
ODD_STAGE = "mobilevit.encoder.layer.4"  # whose map a patch does not divide, for the input sizes of the tests


def pair(name, options, seed=0):
    """transformers' model in float32 and ours, with the same weights."""
    theirs = build(name, options, seed).float()
    for module_name, module in theirs.named_modules():
        if module_name.endswith("conv_1x1.convolution") and "encoder" in module_name:
            module.weight.data *= 0.03  # tokens of about the size that trained ones have, so that an epsilon matters
    return theirs, getattr(tinymvit, name).from_tensors(tinymvit.MobileViTConfig(**options), tensors(theirs))


def with_input(module, change):
    """Let a module compute from change(its input)."""
    forward = module.forward
    module.forward = lambda x: forward(change(x))


def instead(module, function):
    module.forward = lambda x: function(module, x)


# ---- pixels and convolutions ----


def channels_swapped(model):
    with_input(model.mobilevit.conv_stem.convolution, lambda x: x.flip(1))
    return "mobilevit.conv_stem.convolution", "channels are swapped (RGB for BGR) before it"


def same_padding(model):
    def forward(conv, x):
        return F.conv2d(F.pad(x, (0, 1, 0, 1)), conv.weight, stride=2, groups=conv.groups)

    instead(model.get_submodule(STRIDED), forward)
    return STRIDED, "padding is on the wrong side (TensorFlow's SAME)"


def kernel_transposed(model):
    conv = model.get_submodule(STRIDED)
    conv.weight.data = conv.weight.data.transpose(2, 3).contiguous()
    return STRIDED, "the kernel is transposed"


def dilation_ignored(model):
    if hasattr(model, "segmentation_head"):
        name = "segmentation_head.aspp.convs.1.convolution"
    else:
        name = f"{ODD_STAGE}.downsampling_layer.conv_3x3.convolution"
    conv = model.get_submodule(name)
    conv.dilation, conv.padding = (1, 1), (1, 1)
    return name, "dilation is ignored"


dilation_ignored.right = {"output_stride": 8}  # so that a classifier has a dilated convolution


def padded_with(mode, hint):
    def mistake(model):
        def forward(conv, x):
            return F.conv2d(F.pad(x, (1, 1, 1, 1), mode=mode), conv.weight, stride=2, groups=conv.groups)

        instead(model.get_submodule(STRIDED), forward)
        return STRIDED, hint

    mistake.__name__ = f"padded_with_{mode}"
    return mistake


def kernel_flipped(model):
    conv = model.get_submodule(STRIDED)
    conv.weight.data = conv.weight.data.flip(2, 3)
    return STRIDED, "the kernel is flipped"


def kernel_read_as(read, hint):
    def mistake(model):
        name = f"{STAGE}.fusion.convolution"
        conv = model.get_submodule(name)
        conv.weight.data = read(conv.weight.data, *conv.weight.shape).contiguous()
        return name, hint

    mistake.__name__ = hint.replace(" ", "_")
    return mistake


def bias_of_convolution_missing(model):
    name = "segmentation_head.classifier.convolution"
    model.get_submodule(name).bias.data.zero_()
    return name, "the bias is missing"


def inputs_in(format, change):
    def mistake(model):
        name = f"{STAGE}.fusion.convolution"
        with_input(model.get_submodule(name), change)
        return name, f"inputs are rounded to {format}"

    mistake.__name__ = f"inputs_in_{format}"
    return mistake


def as_int8(x):
    step = x.abs().max() / 127
    return (x / step).round() * step


def as_uint8(x):
    """From a zero point."""
    low, high = x.min().clamp(max=0), x.max().clamp(min=0)
    step = (high - low) / 255
    zero = (-low / step).round()
    return (((x / step).round() + zero).clamp(0, 255) - zero) * step


def as_int8_by_channel(x):
    return torch.stack([as_int8(channel) for channel in x])


FORMATS = {
    "float16": lambda x: x.half().float(),
    "bfloat16": lambda x: x.bfloat16().float(),
    "int8": as_int8,
    "uint8 with a zero point": as_uint8,
}


def rounded(what, format, change):
    """A linear layer with its inputs, its weights or both in a shorter format."""

    def mistake(model):
        name = f"{TRANSFORMER}.intermediate.dense"
        dense = model.get_submodule(name)
        if "inputs" in what:
            with_input(dense, change)
        if "weights" in what:
            dense.weight.data = change(dense.weight.data)
        return name, f"{what} are rounded to {format}"

    mistake.__name__ = f"{what}_in_{format}".replace(" ", "_")
    return mistake


# ---- normalisation, activation, linear ----


def epsilon_missing(model):
    model.get_submodule(f"{BOTTLENECK}.expand_1x1.normalization").eps = 0.0
    return f"{BOTTLENECK}.expand_1x1.normalization", "epsilon is missing, or below 1e-6"


def other_epsilon(model):
    model.get_submodule(f"{TRANSFORMER}.layernorm_after").eps = 1e-3
    return f"{TRANSFORMER}.layernorm_after", "epsilon is 0.001"


def epsilon_of_keras(model):
    model.get_submodule(f"{BOTTLENECK}.reduce_1x1.normalization").eps = 1e-3
    return f"{BOTTLENECK}.reduce_1x1.normalization", "epsilon is 0.001"


def batch_norm_missing(model):
    instead(model.get_submodule(f"{BOTTLENECK}.expand_1x1.normalization"), lambda norm, x: x * 1)
    return f"{BOTTLENECK}.expand_1x1.normalization", "the normalisation is missing"


def final_norm_missing(model):
    instead(model.get_submodule(f"{STAGE}.layernorm"), lambda norm, x: x * 1)
    return f"{STAGE}.layernorm", "the normalisation is missing"


def scale_and_shift_missing(model):
    norm = model.get_submodule(f"{TRANSFORMER}.layernorm_before")
    norm.weight.data.fill_(1)
    norm.bias.data.zero_()
    return f"{TRANSFORMER}.layernorm_before", "scale and shift are missing"


def epsilon_of(eps):
    def mistake(model):
        model.get_submodule(f"{TRANSFORMER}.layernorm_after").eps = eps
        return f"{TRANSFORMER}.layernorm_after", f"epsilon is {eps:g}"

    mistake.__name__ = f"epsilon_of_{eps:g}"
    return mistake


epsilon_of_pytorch = epsilon_of(1e-5)
epsilon_of_pytorch.right = {"layer_norm_eps": 1e-3}


def normalised_by(name, normalise, hint):
    def mistake(model):
        instead(model.get_submodule(name), normalise)
        return name, hint

    mistake.__name__ = f"normalised_{normalise.__name__}"
    return mistake


def of_the_batch(norm, x):
    return F.batch_norm(x, None, None, norm.weight, norm.bias, training=True, eps=norm.eps)


def by_variance(norm, x):
    mean, variance, weight, bias = (
        t.view(-1, 1, 1) for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (x - mean) / (variance + norm.eps) * weight + bias


def without_affine(norm, x):
    return F.batch_norm(x, norm.running_mean, norm.running_var, eps=norm.eps)


def by_width_less_one(norm, x):
    variance, mean = torch.var_mean(x, -1, correction=1, keepdim=True)
    return (x - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias


def over_tokens(norm, x):
    variance, mean = torch.var_mean(x, 1, correction=0, keepdim=True)
    return (x - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias


def activation_of(function, call, right="silu"):
    def mistake(model):
        name = f"{BOTTLENECK}.conv_3x3.activation"
        instead(model.get_submodule(name), lambda activation, x: call(x))
        return name, f"the activation is {function}"

    mistake.__name__ = f"activation_of_{function}"
    mistake.right = {"hidden_act": right}
    return mistake


def activation_missing(model):
    name = f"{BOTTLENECK}.conv_3x3.activation"
    instead(model.get_submodule(name), lambda activation, x: x * 1)
    return name, "the activation is missing"


def bias_missing(model):
    model.get_submodule(f"{TRANSFORMER}.intermediate.dense").bias.data.zero_()
    return f"{TRANSFORMER}.intermediate.dense", "the bias is missing"


def weight_transposed(model):
    dense = model.get_submodule(f"{TRANSFORMER}.attention.output.dense")
    dense.weight.data = dense.weight.data.T.contiguous()
    return f"{TRANSFORMER}.attention.output.dense", "the weight is transposed"


def qkv_in_order(order, hint):
    def mistake(model):
        attention = model.get_submodule(ATTENTION)
        modules = attention.query, attention.key, attention.value
        states = [{name: tensor.clone() for name, tensor in module.state_dict().items()} for module in modules]
        for module, other in zip(modules, order, strict=True):
            module.load_state_dict(states[other])
        return f"{ATTENTION}.query", f"query, key and value are in another order ({hint})"

    mistake.__name__ = f"qkv_in_order_{order}"
    return mistake


def qkv_split_by_head(heads):
    """One product makes (3, h, D / h) channels, which are taken for (h, 3, D / h)."""

    def mistake(model):
        attention = model.get_submodule(ATTENTION)
        modules = attention.query, attention.key, attention.value
        for kind in ("weight", "bias"):
            fused = torch.cat([getattr(module, kind).data for module in modules])
            parts = fused.unflatten(0, (heads, 3, -1)).unbind(1)
            for module, part in zip(modules, parts, strict=True):
                getattr(module, kind).data = part.flatten(0, 1).clone()
        return (
            f"{ATTENTION}.query",
            f"query, key and value of one product are split head by head ({heads} heads)",
        )

    mistake.__name__ = f"qkv_split_by_{heads}_heads"
    return mistake


# ---- attention ----


def split_heads(x, heads, size):
    return x.view(*x.shape[:-1], heads, size).transpose(1, 2)


def split_heads_last(x, heads, size):
    return x.view(*x.shape[:-1], size, heads).permute(0, 3, 1, 2)


def split_heads_by_reshape(x, heads, size):
    return x.reshape(len(x), heads, -1, size)


def keep_heads_together(x, heads, size):
    return x.unsqueeze(1).expand(-1, heads, -1, -1)


def scores_scaled_by(scale):
    """scale(D, D / h) in place of sqrt(D / h)."""
    return lambda query, key, width, size: query @ key.transpose(-1, -2) / scale(width, size)


right_scores = scores_scaled_by(lambda width, size: math.sqrt(size))
scores_scaled_without_heads = scores_scaled_by(lambda width, size: math.sqrt(width))


def scores_exchanged(query, key, width, size):
    return right_scores(key, query, width, size)


def softmax_over(axis):
    return lambda scores: scores.softmax(axis)


RIGHT_STEPS = {  # of attention, in their order
    "split": split_heads,  # of query and key
    "scores": right_scores,
    "weigh": softmax_over(-1),
    "split_value": split_heads,
    "mix": lambda probabilities, value: probabilities @ value,
    "join": lambda x: x.transpose(1, 2).flatten(2),
}


def attention_with(node, hint, **wrong_steps):
    """Attention with some of `RIGHT_STEPS` done otherwise. node: what is wrong then, "" for attention's result."""
    steps = RIGHT_STEPS | wrong_steps

    def forward(self, x):
        heads, width, size = self.num_attention_heads, self.all_head_size, self.attention_head_size
        query, key = (steps["split"](x, heads, size) for x in (self.query(x), self.key(x)))
        probabilities = self.dropout(steps["weigh"](steps["scores"](query, key, width, size)))
        value = steps["split_value"](self.value(x), heads, size)
        return steps["join"](steps["mix"](probabilities, value))

    def mistake(model):
        attention = model.get_submodule(ATTENTION)
        attention.forward = MethodType(forward, attention)
        return f"{ATTENTION}.{node}" if node else ATTENTION, hint

    mistake.__name__ = f"attention_{hint.replace(' ', '_')}"
    return mistake


scaled_without_heads = attention_with(
    "scores", "the scale is 1/sqrt(D), not 1/sqrt(D/h)", scores=scores_scaled_without_heads
)


def residual_missing_in_transformer(model):
    def forward(layer, x):
        x = layer.attention(layer.layernorm_before(x))
        return layer.output(layer.intermediate(layer.layernorm_after(x)), x)

    instead(model.get_submodule(TRANSFORMER), forward)
    return f"{TRANSFORMER}.attention_residual", "the residual is missing: only the first term is there"


def residual_missing_in_bottleneck(model):
    model.get_submodule(BOTTLENECK).use_residual = False
    return BOTTLENECK, "the residual is missing: only the second term is there"


def concatenated_backwards(model):
    with_input(model.get_submodule(f"{STAGE}.fusion.convolution"), lambda x: torch.cat(x.chunk(2, 1)[::-1], 1))
    return f"{STAGE}.concat", "the inputs are in the other order"


# ---- unfold, fold, resize, pool ----


def unfolding_then(change, hint):
    def mistake(model):
        layer = model.get_submodule(STAGE)
        unfolding = layer.unfolding

        def wrong(features):
            patches, info = unfolding(features)
            return change(patches, info), info

        layer.unfolding = wrong
        return f"{STAGE}.unfolding", hint

    mistake.__name__ = f"unfold_{change.__name__}"
    return mistake


def by_column(patches, info):
    """The four positions in a patch in the order 0, 2, 1, 3."""
    area = len(patches) // info["batch_size"]
    return patches.unflatten(0, (-1, area))[:, [0, 2, 1, 3]].flatten(0, 1)


def patches_by_column(patches, info):
    """The patches in the order of their columns. Its own inverse, for the maps of the tests are square."""
    sides = info["num_patches_height"], info["num_patches_width"]
    return patches.unflatten(1, sides).transpose(1, 2).flatten(1, 2)


def all_by_column(patches, info):
    return by_column(patches_by_column(patches, info), info)


def swapped_and_reshaped(patches, info):
    return swap(patches, info["batch_size"]).reshape(patches.shape)


def unfold_reshaped(model):
    layer = model.get_submodule(STAGE)
    unfolding = layer.unfolding

    def wrong(features):
        patches, info = unfolding(features)
        return features.reshape(patches.shape), info

    layer.unfolding = wrong
    return f"{STAGE}.unfolding", "unfold order: (B, D, H, W) is reshaped without transposes"


def unfold_reshaped_channels_last(model):
    layer = model.get_submodule(STAGE)
    unfolding = layer.unfolding

    def wrong(features):
        patches, info = unfolding(features)
        return features.permute(0, 2, 3, 1).reshape(patches.shape), info

    layer.unfolding = wrong
    return f"{STAGE}.unfolding", "unfold order: (B, H, W, D) is reshaped without transposes"


def swap(x, batch):
    """(B P, N, D) to (B N, P, D), or back."""
    return x.unflatten(0, (batch, -1)).transpose(1, 2).flatten(0, 1)


def patches_swapped_with_positions(model):
    layer = model.get_submodule(STAGE)
    unfolding, folding = layer.unfolding, layer.folding

    def wrong(features):
        patches, info = unfolding(features)
        return swap(patches, info["batch_size"]), info

    layer.unfolding = wrong
    layer.folding = lambda patches, info: folding(swap(patches, info["batch_size"]), info)
    return f"{STAGE}.unfolding", "patches are swapped with positions: attention would run inside patches"


def folding_of(change, hint):
    def mistake(model):
        layer = model.get_submodule(STAGE)
        folding = layer.folding
        layer.folding = lambda patches, info: folding(change(patches, info), info)
        return f"{STAGE}.folding", hint

    mistake.__name__ = f"fold_{change.__name__}"
    return mistake


def taken_for_swapped(patches, info):
    """Tokens (B P, N, D) taken for (B N, P, D)."""
    return swap(patches.reshape(-1, len(patches) // info["batch_size"], patches.shape[2]), info["batch_size"])


def folding_by(fold, hint):
    def mistake(model):
        model.get_submodule(STAGE).folding = fold
        return f"{STAGE}.folding", hint

    mistake.__name__ = f"fold_{fold.__name__}"
    return mistake


def reshaped(patches, info):
    return patches.reshape(info["batch_size"], info["channels"], *info["orig_size"])


def reshaped_to_channels_last(patches, info):
    return patches.reshape(info["batch_size"], *info["orig_size"], info["channels"]).permute(0, 3, 1, 2)


def resized_by(interpolate, hint):
    def mistake(model):
        layer = model.get_submodule(ODD_STAGE)
        unfolding = layer.unfolding

        right = F.interpolate

        def other(x, size, mode, align_corners):
            with mock.patch.object(F, "interpolate", right):
                return interpolate(x, size)

        def wrong(features):
            with mock.patch.object(F, "interpolate", other):
                return unfolding(features)

        layer.unfolding = wrong
        return f"{ODD_STAGE}.unfolding.interpolate", hint

    mistake.__name__ = f"resized_{hint.replace(' ', '_')}"
    return mistake


def corners_aligned(x, size):
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def not_half_pixel(x, size):
    """Output i lies at i times the ratio of the sizes."""
    for axis, new in ((2, size[0]), (3, size[1])):
        old = x.shape[axis]
        at = torch.arange(new) * (old / new)
        low = at.long()
        t = (at - low).view(*(-1 if a == axis else 1 for a in range(4)))
        x = x.index_select(axis, low) * (1 - t) + x.index_select(axis, (low + 1).clamp(max=old - 1)) * t
    return x


def nearest(x, size):
    return F.interpolate(x, size=size, mode="nearest")


def nearest_half_pixel(x, size):
    return F.interpolate(x, size=size, mode="nearest-exact")


def padded(x, size):
    return F.pad(x, (0, size[1] - x.shape[3], 0, size[0] - x.shape[2]))


def pooled_with(pool, hint):
    def mistake(model):
        name = "segmentation_head.aspp.convs.4.global_pool"
        instead(model.get_submodule(name), lambda module, x: pool(x))
        return name, f"average pooling: {hint}"

    mistake.__name__ = f"pooled_{hint.replace(' ', '_')}"
    return mistake


def mean_of_another_layout(x):
    batch, channels, height, width = x.shape
    return x.reshape(batch, height, width, channels).mean((1, 2))[:, :, None, None]


def pooled_by_maximum(model):
    if hasattr(model, "segmentation_head"):
        name = "segmentation_head.aspp.convs.4.global_pool"
        instead(model.get_submodule(name), lambda pool, x: x.amax((2, 3), keepdim=True))
        return name, "average pooling: the maximum in its place"
    forward = model.mobilevit.forward

    def wrong(*arguments, **options):
        output = forward(*arguments, **options)
        output.pooler_output = output.last_hidden_state.amax((2, 3))
        return output

    model.mobilevit.forward = wrong
    return "mobilevit.pooler_output", "average pooling: the maximum in its place"


MISTAKES = [
    channels_swapped,
    weight_transposed,
    kernel_transposed,
    unfolding_then(by_column, "unfold order: positions inside a patch go column by column"),
    unfold_reshaped,
    folding_of(by_column, "fold order: positions inside a patch go column by column"),
    patches_swapped_with_positions,
    resized_by(corners_aligned, "align_corners is true"),
    resized_by(not_half_pixel, "resize has no half-pixel centres"),
    epsilon_missing,
    other_epsilon,
    epsilon_of_keras,
    bias_missing,
    batch_norm_missing,
    final_norm_missing,
    scale_and_shift_missing,
    activation_of("gelu", lambda x: F.gelu(x)),
    activation_of("relu", lambda x: F.relu(x)),
    activation_of("silu", lambda x: F.silu(x), right="relu"),
    same_padding,
    scaled_without_heads,
    attention_with("probabilities", "softmax runs over the wrong axis (the queries)", weigh=softmax_over(-2)),
    attention_with("scores", "heads are split wrongly: as (D/h, h)", split=split_heads_last),
    attention_with(
        "", "heads are joined wrongly: without a transpose", join=lambda x: x.reshape(len(x), x.shape[2], -1)
    ),
    residual_missing_in_transformer,
    residual_missing_in_bottleneck,
    concatenated_backwards,
    qkv_in_order((1, 2, 0), "the next one's weights"),
    qkv_split_by_head(2),
    dilation_ignored,
    pooled_by_maximum,
    inputs_in("float16", FORMATS["float16"]),
    inputs_in("int8", as_int8),
]

VARIANTS = [
    padded_with("replicate", "padding repeats the edge, not zeros"),
    padded_with("reflect", "padding mirrors the map, not zeros"),
    kernel_flipped,
    kernel_read_as(lambda w, o, i, u, v: w.reshape(i, o, u, v).transpose(0, 1), "the weight is transposed (in, out)"),
    kernel_read_as(
        lambda w, o, i, u, v: w.reshape(u, v, i, o).permute(3, 2, 0, 1),
        "the weight is read as (height, width, in, out)",
    ),
    bias_of_convolution_missing,
    *(
        rounded(what, format, change)
        for what in ("inputs", "weights", "inputs and weights")
        for format, change in FORMATS.items()
    ),
    rounded("weights", "int8 channel by channel", as_int8_by_channel),
    epsilon_of(1e-6),
    epsilon_of_pytorch,
    epsilon_of(1e-4),
    epsilon_of(1e-2),
    normalised_by(EXPANDED, of_the_batch, "the statistics are the batch's, as in training"),
    normalised_by(EXPANDED, by_variance, "the variance is used as the deviation"),
    normalised_by(EXPANDED, without_affine, "scale and shift are missing"),
    normalised_by(BEFORE_MLP, by_width_less_one, "the variance is unbiased (divided by D - 1)"),
    normalised_by(BEFORE_MLP, over_tokens, "it normalises over the tokens, not the channels"),
    activation_missing,
    activation_of("relu6", lambda x: F.relu6(x)),
    activation_of("leaky_relu", lambda x: F.leaky_relu(x)),
    activation_of("hardswish", lambda x: F.hardswish(x)),
    activation_of("sigmoid", lambda x: F.sigmoid(x)),
    activation_of("tanh", lambda x: F.tanh(x)),
    activation_of("gelu_tanh", lambda x: F.gelu(x, approximate="tanh")),
    unfolding_then(patches_by_column, "unfold order: patches go column by column"),
    unfolding_then(all_by_column, "unfold order: positions and patches go column by column"),
    unfold_reshaped_channels_last,
    unfolding_then(swapped_and_reshaped, "patches are swapped with positions, then reshaped"),
    folding_of(patches_by_column, "fold order: patches go column by column"),
    folding_of(all_by_column, "fold order: positions and patches go column by column"),
    folding_of(taken_for_swapped, "patches are swapped with positions"),
    folding_by(reshaped, "fold order: reshaped to (B, D, H, W) without transposes"),
    folding_by(reshaped_to_channels_last, "fold order: reshaped to (B, H, W, D) without transposes"),
    qkv_in_order((2, 0, 1), "the one before's weights"),
    qkv_split_by_head(4),
    qkv_split_by_head(8),
    attention_with("scores", "the scale is missing", scores=scores_scaled_by(lambda width, size: 1.0)),
    attention_with(
        "scores", "the scale is 1/(D/h), without the root", scores=scores_scaled_by(lambda width, size: size)
    ),
    attention_with("scores", "query and key are exchanged", scores=scores_exchanged),
    attention_with("scores", "heads are split wrongly: without a transpose", split=split_heads_by_reshape),
    attention_with("scores", "heads are not split", split=keep_heads_together, scores=scores_scaled_without_heads),
    attention_with("probabilities", "softmax runs over the wrong axis (the heads)", weigh=softmax_over(1)),
    attention_with("probabilities", "softmax runs over the wrong axis (the sequences)", weigh=softmax_over(0)),
    attention_with("probabilities", "softmax is missing", weigh=lambda scores: scores),
    attention_with("", "heads are split wrongly: as (D/h, h)", split_value=split_heads_last),
    attention_with("", "heads are split wrongly: without a transpose", split_value=split_heads_by_reshape),
    attention_with("", "heads are joined wrongly: as (D/h, h)", join=lambda x: x.permute(0, 2, 3, 1).flatten(2)),
    attention_with(
        "", "the probabilities are transposed", mix=lambda probabilities, value: probabilities.transpose(-1, -2) @ value
    ),
    pooled_with(lambda x: x.sum((2, 3), keepdim=True), "the sum in its place"),
    pooled_with(mean_of_another_layout, "the memory is read in another layout"),
    resized_by(nearest, "resize takes the nearest pixel"),
    resized_by(nearest_half_pixel, "resize takes the nearest pixel, half-pixel centres"),
    resized_by(padded, "resize is a zero padding"),
]


def prepared(scale=1.0, mean=(0.0, 0.0, 0.0), deviation=(1.0, 1.0, 1.0)):
    """A preparation of pixels in BGR; the constants are for RGB."""

    def prepare(pixels):
        shift, divisor = (torch.tensor(values[::-1])[:, None, None] for values in (mean, deviation))
        return (pixels * scale - shift) / divisor

    return prepare


def also_swapped(prepare):
    return lambda pixels: prepare(pixels).flip(1)


IMAGENET = {"mean": (0.485, 0.456, 0.406), "deviation": (0.229, 0.224, 0.225)}
HALVES = {"mean": (0.5, 0.5, 0.5), "deviation": (0.5, 0.5, 0.5)}
PREPARATIONS = {
    "pixels are not divided by 255": prepared(255),
    "pixels are divided by 255 once more": prepared(1 / 255),
    "pixels are standardised with ImageNet's mean and deviation": prepared(**IMAGENET),
    "pixels are scaled to run from -1 to 1": prepared(**HALVES),
    "pixels are not divided by 255 and less Caffe's mean": prepared(255, mean=(123.68, 116.779, 103.939)),
    "pixels are divided by 255 once more and standardised with ImageNet's mean and deviation": prepared(
        1 / 255, **IMAGENET
    ),
    "pixels are divided by 255 once more and scaled to run from -1 to 1": prepared(1 / 255, **HALVES),
}
SWAPPED = "channels are swapped (RGB for BGR)"
WRONG_PIXELS = {
    SWAPPED: also_swapped(prepared()),
    **PREPARATIONS,
    **{f"{SWAPPED} and {sentence}": also_swapped(prepare) for sentence, prepare in PREPARATIONS.items()},
}
