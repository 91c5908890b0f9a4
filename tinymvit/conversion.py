"""A checkpoint of one family becomes one of another: the weights, the settings, the labels and the preprocessing."""

from pathlib import Path

from tinymvit import weights
from tinymvit.images.processor import MobileViTImageProcessor
from tinymvit.modeling import load_model
from tinymvit.weights import Checkpoint, open_checkpoint


def convert(model: str | Path | Checkpoint, folder: str | Path, *, to: str = "transformers") -> None:
    """Write a checkpoint into `folder` as the software of another family loads it, so that it gives the same answers.

    model: anything `from_pretrained` takes, or what `weights.open_checkpoint` made of it, labels and channel order
    given. to: "transformers", "timm", "cvnets" or "tensorflow". The weights keep their bits, float16 and bfloat16
    widened to float32; where the family reads its channels in another order, the stem's input axis is reversed.
    Raises CheckpointError or ConfigError for what cannot be loaded, OutputError for what cannot be written.
    """
    checkpoint = open_checkpoint(model)
    loaded = load_model(checkpoint)
    processor = MobileViTImageProcessor.from_pretrained(checkpoint).to_dict()
    config = loaded.config.to_dict() | {"architectures": [type(loaded).__name__]}
    weights.save_checkpoint(folder, loaded.weights, config, family=to, processor=processor)
