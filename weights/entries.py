"""The catalogue's entries: the bundled checkpoints, found in this package, and the published ones, in one table.

How a name becomes files on this machine is left to `locate`.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path

from tinymvit.errors import CheckpointError
from tinymvit.files import read_json
from tinymvit.weights.families.transformers import CONFIG_FILE, task
from tinymvit.weights.formats.safetensors import WEIGHTS_FILE, open_file

CLASSIFICATION = "image classification"
SEGMENTATION = "semantic segmentation"


@dataclass(frozen=True)
class CatalogEntry:
    """A checkpoint that a name stands for, with what one wants to know before choosing it."""

    name: str
    task: str  # CLASSIFICATION or SEGMENTATION
    num_labels: int
    image_size: int  # side of the input in pixels
    num_parameters: int  # that training adjusts, as PyTorch counts them
    num_bytes: int  # of the weights file
    licence: str
    revision: str | None = None  # on the hub; None: bundled


# The main branch of Apple's checkpoints holds pickles, which are read too. Their safetensors copy is the hub's own
# conversion, which waits as pull request 2 in each repository. Licences as the model cards of 2025 name them.
_CONVERTED = "refs/pr/2"
MAIN = "main"  # the branch that a repository's name stands for
_SAMPLE_CODE = "Apple sample code licence"
_RESEARCH = "Apple machine learning research licence (apple-amlr)"
_APPLE = tuple(
    CatalogEntry(*row, revision=_CONVERTED)
    for row in (
        ("apple/mobilevit-small", CLASSIFICATION, 1000, 256, 5_578_632, 22_410_656, _SAMPLE_CODE),
        ("apple/mobilevit-x-small", CLASSIFICATION, 1000, 256, 2_317_848, 9_351_960, _SAMPLE_CODE),
        ("apple/mobilevit-xx-small", CLASSIFICATION, 1000, 256, 1_272_024, 5_151_120, _SAMPLE_CODE),
        ("apple/deeplabv3-mobilevit-small", SEGMENTATION, 21, 512, 6_357_941, 25_538_572, _RESEARCH),
        ("apple/deeplabv3-mobilevit-x-small", SEGMENTATION, 21, 512, 2_944_069, 11_869_572, _SAMPLE_CODE),
        ("apple/deeplabv3-mobilevit-xx-small", SEGMENTATION, 21, 512, 1_854_853, 7_495_484, _SAMPLE_CODE),
    )
)
# The same networks under timm's names, for RGB, and with its way to prepare pictures.
_TIMM = tuple(
    CatalogEntry(*row, licence="ml-cvnets licence", revision=MAIN)
    for row in (
        ("timm/mobilevit_s.cvnets_in1k", CLASSIFICATION, 1000, 256, 5_578_632, 22_395_240),
        ("timm/mobilevit_xs.cvnets_in1k", CLASSIFICATION, 1000, 256, 2_317_848, 9_336_584),
        ("timm/mobilevit_xxs.cvnets_in1k", CLASSIFICATION, 1000, 256, 1_272_024, 5_135_800),
    )
)
PUBLISHED = (*_APPLE, *_TIMM)

# State of BatchNorm that training tracks but does not adjust: PyTorch's buffers.
_BUFFERS = (".running_mean", ".running_var", ".num_batches_tracked")


def catalog() -> list[CatalogEntry]:
    """Every checkpoint with a name: first the bundled ones, then the published ones."""
    return [_bundled_entry(name, folder) for name, folder in bundled().items()] + list(PUBLISHED)


def bundled() -> dict[str, Path]:
    """Name and folder of each checkpoint inside this package: its subfolders that hold a `config.json`."""
    return {path.parent.name: path.parent for path in sorted(Path(__file__).parent.glob(f"*/{CONFIG_FILE}"))}


def _bundled_entry(name: str, folder: Path) -> CatalogEntry:
    config = read_json(folder / CONFIG_FILE, CheckpointError)
    tensors = open_file(folder / WEIGHTS_FILE)
    licence = re.search(r"^license: *(.+)$", (folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    return CatalogEntry(
        name=name,
        task=SEGMENTATION if task(config) == "segment" else CLASSIFICATION,
        num_labels=len(config["id2label"]),
        image_size=config["image_size"],
        num_parameters=sum(math.prod(tensor.shape) for name, tensor in tensors.items() if not name.endswith(_BUFFERS)),
        num_bytes=(folder / WEIGHTS_FILE).stat().st_size,
        licence=licence[1] if licence else "see the model card",
    )
