"""Ports written from scratch as people write MobileViT: each file has a structure, names and layouts of its own.

A port is a module with `run(weights, pixels, wrong)`, which gives what it dumps by its own names in the order in which
it dumps, `names(weights)`, a map from its names to ours, and `WRONG`: its mistakes, each with the nodes of ours that
are then wrong. `wrong` are the mistakes that it makes in that run. In here is what they share: our weights in layers.
"""

from functools import cache
from importlib import import_module

from frameworks import torch
from ports import pair
from torch_models import TINY, tensors

nn = torch.nn if torch is not None else None
STAGES = (2, 4, 3)  # transformer layers of the stages with a transformer
HEADS = TINY["num_attention_heads"]
WIDTHS = TINY["hidden_sizes"]

PORTS = [
    "channels_first_tokens",
    "channels_last",
    "cvnets_like",
    "functional",
    "multihead",
    "normalisations_folded",
    "sequential",
    "stages_alone",
    "timm_like",
    "tokens_first",
]


@cache
def port(name):
    return import_module(f"foreign_ports.{name}")


@cache
def model_and_weights():
    """Our model, and its weights as tensors of PyTorch by our names."""
    theirs, ours = pair("MobileViTForImageClassification", TINY)
    return ours, {name: torch.from_numpy(x.copy()) for name, x in tensors(theirs).items()}


# ---- layers with our weights; `ours` is the node that a layer is, which the map of names is made from ----


def called(module, node):
    module.ours = node
    return module


def filled(module, weights, path):
    named = {name[len(path) + 1 :]: x for name, x in weights.items() if name.startswith(f"{path}.")}
    module.load_state_dict(named, strict=False)
    return called(module, path)


def conv(weights, path, stride=1, groups=1):
    """A padded convolution."""
    out, width, size, _ = weights[f"{path}.weight"].shape
    layer = nn.Conv2d(width * groups, out, size, stride, size // 2, groups=groups, bias=False)
    return filled(layer, weights, path)


def batch_norm(weights, path, eps=1e-5):
    return filled(nn.BatchNorm2d(len(weights[f"{path}.weight"]), eps), weights, path)


def layer_norm(weights, path, eps=1e-5):
    return filled(nn.LayerNorm(len(weights[f"{path}.weight"]), eps), weights, path)


def linear(weights, path):
    out, width = weights[f"{path}.weight"].shape
    return filled(nn.Linear(width, out), weights, path)


def fused(weights, path):
    """Query, key and value as one linear layer."""
    parts = [f"{path}.{name}" for name in ("query", "key", "value")]
    width = len(weights[f"{parts[0]}.bias"])
    layer = nn.Linear(width, 3 * width)
    layer.weight.data = torch.cat([weights[f"{part}.weight"] for part in parts])
    layer.bias.data = torch.cat([weights[f"{part}.bias"] for part in parts])
    return layer


def names_of(model):
    """The map of names that follows from `called`."""
    return {name: module.ours for name, module in model.named_modules() if hasattr(module, "ours")}


@torch.no_grad() if torch is not None else lambda function: function
def record(model, pixels, keep=lambda module: True):
    """The outputs of a model's modules in the order of computation, after the input."""
    found = {"input": pixels.numpy()}

    def hook(name):
        def save(module, inputs, output):
            output = output[0] if isinstance(output, tuple) else output
            found[name] = output.detach().clone().numpy()

        return save

    for name, module in model.named_modules():
        if keep(module) and name:
            module.register_forward_hook(hook(name))
    found["output"] = model.eval()(pixels).numpy()
    return found
