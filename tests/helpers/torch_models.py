"""Models of transformers for the tests to compare with: random weights under which activations neither die nor blow
up, batch statistics included, in float64."""

from frameworks import torch, transformers

PUBLISHED = {
    "small": {"hidden_sizes": [144, 192, 240], "neck_hidden_sizes": [16, 32, 64, 96, 128, 160, 640]},
    "x-small": {"hidden_sizes": [96, 120, 144], "neck_hidden_sizes": [16, 32, 48, 64, 80, 96, 384]},
    "xx-small": {
        "hidden_sizes": [64, 80, 96],
        "neck_hidden_sizes": [16, 16, 24, 48, 64, 80, 320],
        "expand_ratio": 2.0,
        "hidden_dropout_prob": 0.05,
    },
}
TINY = {
    "hidden_sizes": [8, 12, 16],
    "neck_hidden_sizes": [4, 4, 8, 8, 12, 12, 20],
    "num_attention_heads": 2,
    "expand_ratio": 2.0,
    "aspp_out_channels": 8,
    "num_labels": 5,
    "image_size": 32,
}
CLASSES = ("MobileViTModel", "MobileViTForImageClassification", "MobileViTForSemanticSegmentation")


def build(name, options, seed=0, **model_options):
    """transformers' class `name` for a config of these options, in float64."""
    model = getattr(transformers, name)(transformers.MobileViTConfig(**options), **model_options)
    with torch.no_grad():
        return randomize(model, seed).double().eval()


def randomize(model, seed):
    rng = torch.Generator().manual_seed(seed)

    def normal(tensor, mean, deviation):
        tensor.copy_(torch.randn(tensor.shape, generator=rng) * deviation + mean)

    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.copy_(torch.rand(module.running_var.shape, generator=rng) * 0.5 + 0.5)
            normal(module.running_mean, 0, 0.1)
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.LayerNorm):
            normal(module.weight, 1, 0.1)
            normal(module.bias, 0, 0.1)
        elif isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            fan_in = module.weight[0].numel()
            gain = 2 if isinstance(module, torch.nn.Conv2d) else 1
            normal(module.weight, 0, (gain / fan_in) ** 0.5)
            if module.bias is not None:
                normal(module.bias, 0, 0.1)
    return model


def tensors(model):
    """A model's tensors as NumPy arrays by name, as a checkpoint holds them."""
    return {k: v.numpy() for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
