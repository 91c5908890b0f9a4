"""Checkpoints in the names of a family, with something wrong in a name, a shape, the settings or the labels; and what
becomes of them in another family."""

from contextlib import suppress

import numpy as np

from tinymvit import modeling
from tinymvit.config import MobileViTConfig
from tinymvit.conversion import convert
from tinymvit.images.processor import MobileViTImageProcessor
from tinymvit.weights import open_checkpoint
from tinymvit.weights.families import FAMILIES, tensorflow
from tinymvit.weights.formats import pytorch, safetensors

from . import models
from .cases import Case
from .random_values import mutated_bytes, text
from .settings import CONFIG, PROCESSOR, json_text

with suppress(ImportError):
    import h5py  # noqa: F401 - now, for when it is imported it asks the system in a process what kind it is

TIMM = {
    "architecture": "mobilevit_xxs",
    "num_classes": 3,
    "num_features": 16,
    "global_pool": "avg",
    "model_args": {"img_size": 32},
    "label_names": ["a", "b", "c"],
    "pretrained_cfg": {
        "input_size": [3, 32, 32],
        "crop_pct": 0.9,
        "crop_mode": "center",
        "interpolation": "bicubic",
        "mean": [0.0, 0.0, 0.0],
        "std": [1.0, 1.0, 1.0],
        "first_conv": "stem.conv",
        "classifier": "head.fc",
    },
}
LABELS = b"cat\ndog\nmouse\n"


def family(rng, sandbox):
    """A weights file of a family with perhaps a file of settings beside it, opened, run or converted."""
    name = rng.choice(models.CLASSES)
    source = rng.choice([family for family in FAMILIES if family is not tensorflow])
    tensors = source.NAMINGS[0].to_theirs(models.weights(name))
    wrong = rng.randrange(8)
    _spoil(rng, tensors, wrong)
    folder = sandbox.case / "model"
    folder.mkdir()
    suffix, writer = rng.choice(((".safetensors", safetensors), (".pth", pytorch), (".pt", pytorch)))
    file = folder / rng.choice((f"model{suffix}", f"mobilevit_xxs{suffix}"))
    with file.open("wb") as out:
        writer.tensor_writer(tensors)(out)
    settings = rng.choice(("", "", "timm", "transformers"))
    if settings:
        (folder / "config.json").write_bytes(json_text(rng, TIMM if settings == "timm" else CONFIG))
    if rng.random() < 0.2:
        (folder / "preprocessor_config.json").write_bytes(json_text(rng, PROCESSOR))
    given = {}
    if rng.random() < 0.3:
        labels = sandbox.case / rng.choice(("labels.txt", "labels.json"))
        labels.write_bytes(
            mutated_bytes(rng, LABELS) if labels.suffix == ".txt" else json_text(rng, {"0": "a", "1": "b"})
        )
        given["labels"] = labels
    if rng.random() < 0.3:
        given["channel_order"] = rng.choice(("RGB", "BGR", "rgb", None, 3, text(rng)))
    if rng.random() < 0.3:
        given["size"] = rng.choice((1, 32, 48, 0, -1, 10**9, 2.5, None, True, text(rng)))
    way, to = rng.randrange(4), rng.choice((*(each.WORD for each in FAMILIES), text(rng)))
    where = rng.choice((folder, file, str(file)))

    def run():
        opened = open_checkpoint(where, **given)
        if way == 0:
            return modeling.load_model(opened)(models.pixels()[:, :, :9, :9])
        if way == 1:
            return MobileViTConfig.from_pretrained(opened), MobileViTImageProcessor.from_pretrained(opened)
        if way == 2:
            return {key: tensor.copy() for key, tensor in opened.tensors.items()}
        convert(opened, sandbox.case / "converted", to=to)
        return open_checkpoint(sandbox.case / "converted").family.WORD

    def agrees(answer, error):
        return None if way != 3 or error is not None or answer == to else f"converted to {to}, read as {answer}"

    told = (
        f"way {way} to {to!r}, {source.WORD}'s {name} in {where.__class__.__name__} {file.name}, fault {wrong}, {given}"
    )
    return Case(run, told, ("converted",), agrees=agrees)


def _spoil(rng, tensors, wrong):
    """Make one thing wrong among tensors, or none."""
    name = rng.choice(sorted(tensors))
    if wrong == 0:
        del tensors[name]
    elif wrong == 1:
        tensors[text(rng).encode("utf-8", "ignore").decode() or "x"] = np.zeros(
            rng.choice(((), (3,), (0, 2))), np.float32
        )
    elif wrong == 2:
        shape = list(tensors[name].shape)
        axis = rng.randrange(len(shape))
        shape[axis] = rng.choice((0, 1, 3, shape[axis] + 1, shape[axis] * 3))
        tensors[name] = np.zeros(shape, np.float32)
    elif wrong == 3:
        tensors[name] = tensors[name].reshape(rng.choice(((-1,), (1, -1), (1, 1, 1, 1, -1))))
    elif wrong == 4:  # of another family
        other = rng.choice(FAMILIES).NAMINGS[0].to_theirs(models.weights(models.CLASSES[0]))
        for each in rng.sample(sorted(other), rng.choice((1, 20, len(other)))):
            tensors[each] = other[each]
    elif wrong == 5:
        tensors[name] = tensors[name].astype(rng.choice((np.float64, np.float16, np.int64, np.bool_)))
