"""Dump every module's output of a PyTorch MobileViT, through forward hooks, into one safetensors file.

    python dump_pytorch.py apple/mobilevit-small cat.jpg port.safetensors
    tinymvit compare apple/mobilevit-small port.safetensors --isolate

Use it as it is for transformers' models; for a port of your own, import `record` and give it your module.
"""

import sys
from contextlib import contextmanager

import torch
from safetensors.torch import save_file


@contextmanager
def record(model):
    """Collects {module path: output} of every module of `model` that returns one tensor, while the block runs."""
    tensors = {}

    def hook(name):
        def keep(module, inputs, output):
            if isinstance(output, torch.Tensor):
                tensors[name] = output.detach().clone().contiguous()

        return keep

    handles = [module.register_forward_hook(hook(name)) for name, module in model.named_modules() if name]
    try:
        yield tensors
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def dump(model, pixel_values):
    """Every intermediate of one forward pass, with the pixels it started from and the logits it ended in."""
    with record(model.eval()) as tensors:
        output = model(pixel_values)
    return {"pixel_values": pixel_values.contiguous(), **tensors, "logits": output.logits.contiguous()}


def main(name, image, target):
    import transformers
    from PIL import Image

    processor = transformers.MobileViTImageProcessor.from_pretrained(name)
    (kind,) = transformers.MobileViTConfig.from_pretrained(name).architectures
    model = getattr(transformers, kind).from_pretrained(name)
    with Image.open(image) as picture:
        pixels = processor(picture.convert("RGB"), return_tensors="pt").pixel_values
    save_file(dump(model, pixels), target)


if __name__ == "__main__":
    main(*sys.argv[1:])
