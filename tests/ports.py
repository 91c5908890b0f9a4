"""Ports with one mistake each: transformers' model with one thing changed, for `compare` to find.

A mistake is a function that changes a model in place and gives back the node that is wrong and what a hint about it
must say. Written in PyTorch, not with the catalogue's own functions: what they compute must be the same by itself.
"""

import importlib.util
import math
from pathlib import Path
from types import MethodType

import torch
from torch.nn import functional as F  # noqa: N812

import tinymvit
from torch_models import build, tensors

SCRIPTS = Path(__file__).parent.parent / "docs" / "porting"


def script(name):
    """A script of docs/porting as a module."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


dump = script("dump_pytorch").dump

STAGE = "mobilevit.encoder.layer.2"
TRANSFORMER = f"{STAGE}.transformer.layer.1"
ATTENTION = f"{TRANSFORMER}.attention.attention"
BOTTLENECK = "mobilevit.encoder.layer.1.layer.1"
STRIDED = "mobilevit.encoder.layer.1.layer.0.conv_3x3.convolution"
ODD_STAGE = "mobilevit.encoder.layer.4"  # whose map a patch does not divide, for the input sizes of the tests


def pair(name, options, seed=0):
    """transformers' model in float32 and ours, with the same weights."""
    theirs = build(name, options, seed).float()
    for module_name, module in theirs.named_modules():
        if module_name.endswith("conv_1x1.convolution") and "encoder" in module_name:
            module.weight.data *= 0.03  # tokens of about the size that trained ones have, so that an epsilon matters
    ours = getattr(tinymvit, name)(tinymvit.MobileViTConfig(**options))
    ours._set_weights(tensors(theirs))
    return theirs, ours


def with_input(module, change):
    """Let a module compute from change(its input)."""
    forward = module.forward
    module.forward = lambda x: forward(change(x))


def instead(module, function):
    module.forward = lambda x: function(module, x)


# ---- pixels and convolutions ----


def channels_swapped(model):
    with_input(model.mobilevit.conv_stem.convolution, lambda x: x.flip(1))
    return "mobilevit.conv_stem.convolution", "channels are swapped (RGB for BGR)"


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
    name = "segmentation_head.aspp.convs.1.convolution"
    conv = model.get_submodule(name)
    conv.dilation, conv.padding = (1, 1), (1, 1)
    return name, "dilation is ignored"


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


# ---- normalisation, activation, linear ----


def epsilon_missing(model):
    model.get_submodule(f"{BOTTLENECK}.expand_1x1.normalization").eps = 0.0
    return f"{BOTTLENECK}.expand_1x1.normalization", "epsilon is missing"


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


def activation_of(function, call, right="silu"):
    def mistake(model):
        name = f"{BOTTLENECK}.conv_3x3.activation"
        instead(model.get_submodule(name), lambda activation, x: call(x))
        return name, f"the activation is {function}"

    mistake.__name__ = f"activation_of_{function}"
    mistake.right_activation = right
    return mistake


def bias_missing(model):
    model.get_submodule(f"{TRANSFORMER}.intermediate.dense").bias.data.zero_()
    return f"{TRANSFORMER}.intermediate.dense", "the bias is missing"


def weight_transposed(model):
    dense = model.get_submodule(f"{TRANSFORMER}.attention.output.dense")
    dense.weight.data = dense.weight.data.T.contiguous()
    return f"{TRANSFORMER}.attention.output.dense", "the weight is transposed"


def qkv_order(model):
    attention = model.get_submodule(ATTENTION)
    q, k, v = (
        {n: t.clone() for n, t in m.state_dict().items()} for m in (attention.query, attention.key, attention.value)
    )
    for module, state in ((attention.query, k), (attention.key, v), (attention.value, q)):
        module.load_state_dict(state)
    return f"{ATTENTION}.query", "query, key and value are in another order"


# ---- attention ----


def attention_with(node, hint, *, scale=None, axis=-1, split=None):
    def forward(self, x):
        heads, size = self.num_attention_heads, self.attention_head_size

        def apart(x):
            if split is not None:
                return split(x, heads, size)
            return x.view(*x.shape[:-1], heads, size).transpose(1, 2)

        query, key = apart(self.query(x)), apart(self.key(x))
        value = self.value(x)
        value = value.view(*value.shape[:-1], heads, size).transpose(1, 2)
        scores = query @ key.transpose(-1, -2) / (scale(self.all_head_size) if scale else math.sqrt(size))
        context = self.dropout(scores.softmax(axis)) @ value
        return context.transpose(1, 2).reshape(x.shape)

    def mistake(model):
        attention = model.get_submodule(ATTENTION)
        attention.forward = MethodType(forward, attention)
        return f"{ATTENTION}.{node}", hint

    mistake.__name__ = f"attention_{hint.replace(' ', '_')[:24]}"
    return mistake


def residual_missing_in_transformer(model):
    def forward(layer, x):
        x = layer.attention(layer.layernorm_before(x))
        return layer.output(layer.intermediate(layer.layernorm_after(x)), x)

    instead(model.get_submodule(TRANSFORMER), forward)
    return f"{TRANSFORMER}.attention_residual", "the residual is missing"


def residual_missing_in_bottleneck(model):
    model.get_submodule(BOTTLENECK).use_residual = False
    return BOTTLENECK, "the residual is missing"


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


def unfold_reshaped(model):
    layer = model.get_submodule(STAGE)
    unfolding = layer.unfolding

    def wrong(features):
        patches, info = unfolding(features)
        return features.reshape(patches.shape), info

    layer.unfolding = wrong
    return f"{STAGE}.unfolding", "unfold order: (B, D, H, W) is reshaped without transposes"


def patches_swapped_with_positions(model):
    layer = model.get_submodule(STAGE)
    unfolding, folding = layer.unfolding, layer.folding

    def swap(x, batch):
        return x.unflatten(0, (batch, -1)).transpose(1, 2).flatten(0, 1)

    def wrong(features):
        patches, info = unfolding(features)
        return swap(patches, info["batch_size"]), info

    layer.unfolding = wrong
    layer.folding = lambda patches, info: folding(swap(patches, info["batch_size"]), info)
    return f"{STAGE}.unfolding", "patches are swapped with positions"


def fold_order(model):
    layer = model.get_submodule(STAGE)
    folding = layer.folding
    layer.folding = lambda patches, info: folding(by_column(patches, info), info)
    return f"{STAGE}.folding", "fold order: positions inside a patch go column by column"


def resized_by(interpolate, hint):
    def mistake(model):
        layer = model.get_submodule(ODD_STAGE)
        unfolding = layer.unfolding

        def wrong(features):
            def other(x, size, mode, align_corners):
                return interpolate(x, size)

            real, torch.nn.functional.interpolate = torch.nn.functional.interpolate, other
            try:
                return unfolding(features)
            finally:
                torch.nn.functional.interpolate = real

        layer.unfolding = wrong
        return f"{ODD_STAGE}.unfolding.interpolate", hint

    mistake.__name__ = f"resized_{hint.replace(' ', '_')}"
    return mistake


_interpolate = F.interpolate


def corners_aligned(x, size):
    return _interpolate(x, size=size, mode="bilinear", align_corners=True)


def not_half_pixel(x, size):
    """Output i lies at i times the ratio of the sizes."""
    for axis, new in ((2, size[0]), (3, size[1])):
        old = x.shape[axis]
        at = torch.arange(new) * (old / new)
        low = at.long()
        t = (at - low).view(*(-1 if a == axis else 1 for a in range(4)))
        x = x.index_select(axis, low) * (1 - t) + x.index_select(axis, (low + 1).clamp(max=old - 1)) * t
    return x


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
    fold_order,
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
    activation_of("gelu", F.gelu),
    activation_of("relu", F.relu),
    activation_of("silu", F.silu, right="relu"),
    same_padding,
    attention_with("scores", "the scale is 1/sqrt(D), not 1/sqrt(D/h)", scale=math.sqrt),
    attention_with("probabilities", "softmax runs over the wrong axis (the queries)", axis=-2),
    attention_with(
        "scores",
        "heads are split wrongly: as (D/h, h)",
        split=lambda x, heads, size: x.view(*x.shape[:-1], size, heads).permute(0, 3, 1, 2),
    ),
    residual_missing_in_transformer,
    residual_missing_in_bottleneck,
    qkv_order,
    dilation_ignored,
    pooled_by_maximum,
    inputs_in("float16", lambda x: x.half().float()),
    inputs_in("int8", as_int8),
]
