"""The bits of the bundled checkpoints: a digest of the logits and of each hidden state, for one image.

`python tests/measures/digests.py` prints them as JSON. They are kept in `tests/digests.json`, and are written anew only
by a change that is meant to change the arithmetic:

    python tests/measures/digests.py > tests/digests.json
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from tinymvit import MobileViTForImageClassification, MobileViTForSemanticSegmentation

KEPT = Path(__file__).parent.parent / "digests.json"
MODELS = {"digits": MobileViTForImageClassification, "digits-seg": MobileViTForSemanticSegmentation}


def digests(batch=3, image=1):
    """SHA-256 by checkpoint and tensor, of one of three images in a batch, or of that image alone (`batch` 1)."""
    found = {}
    for name, kind in MODELS.items():
        model = kind.from_pretrained(name)
        shape = (3, model.config.num_channels, *model.config.image_shape)
        pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32) / np.float32(255)
        outputs = model(pixels if batch == 3 else pixels[image : image + 1], output_hidden_states=True)
        tensors = {"logits": outputs.logits}
        tensors |= {f"hidden_states.{number}": value for number, value in enumerate(outputs.hidden_states)}
        for tensor, value in tensors.items():
            little_endian = value[image if batch == 3 else 0].astype("<f4")
            found[f"{name} {tensor}"] = hashlib.sha256(little_endian.tobytes()).hexdigest()
    return found


if __name__ == "__main__":
    print(json.dumps(digests(), indent=2))
