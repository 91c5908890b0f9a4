"""The checkpoints that have names: the bundled ones, found in this package, and the published ones, in one table.

How a name becomes a folder on this machine is left to `locate`.
"""

from dataclasses import dataclass
from pathlib import Path

from tinymvit.errors import CheckpointError
from tinymvit.weights.files import read_json
from tinymvit.weights.tensor_file import read_header

CLASSIFICATION = "image classification"
SEGMENTATION = "semantic segmentation"


@dataclass(frozen=True)
class CatalogEntry:
    """A checkpoint that a name stands for, with what one wants to know before choosing it."""

    name: str
    task: str  # CLASSIFICATION or SEGMENTATION
    labels: int
    image_size: int  # side of the input in pixels
    parameters: int  # that training adjusts, as PyTorch counts them
    bytes: int  # of the weights file
    licence: str
    revision: str | None = None  # on the hub; None: bundled


# The published checkpoints' own branch holds only pickles; their safetensors copy is the hub's conversion, which waits
# as pull request 2 in each repository. Licences as the model cards of 2025 name them.
_SAFETENSORS = "refs/pr/2"
_SAMPLE_CODE = "Apple sample code licence, see the model card"
_AMLR = "Apple machine learning research licence (apple-amlr)"
PUBLISHED = (
    CatalogEntry("apple/mobilevit-small", CLASSIFICATION, 1000, 256, 0, 0, _SAMPLE_CODE, _SAFETENSORS),
    CatalogEntry("apple/mobilevit-x-small", CLASSIFICATION, 1000, 256, 0, 0, _SAMPLE_CODE, _SAFETENSORS),
    CatalogEntry("apple/mobilevit-xx-small", CLASSIFICATION, 1000, 256, 0, 0, _SAMPLE_CODE, _SAFETENSORS),
    CatalogEntry("apple/deeplabv3-mobilevit-small", SEGMENTATION, 21, 512, 0, 0, _AMLR, _SAFETENSORS),
    CatalogEntry("apple/deeplabv3-mobilevit-x-small", SEGMENTATION, 21, 512, 0, 0, _SAMPLE_CODE, _SAFETENSORS),
    CatalogEntry("apple/deeplabv3-mobilevit-xx-small", SEGMENTATION, 21, 512, 0, 0, _SAMPLE_CODE, _SAFETENSORS),
)


def bundled() -> dict[str, Path]:
    """Name and folder of each checkpoint inside this package: its subfolders that hold a `config.json`."""
    return {path.parent.name: path.parent for path in sorted(Path(__file__).parent.glob("*/config.json"))}


def catalog() -> list[CatalogEntry]:
    """Every checkpoint with a name: first the bundled ones, then the published ones."""
    return [_bundled_entry(name, folder) for name, folder in bundled().items()] + list(PUBLISHED)


def _bundled_entry(name: str, folder: Path) -> CatalogEntry:
    config = read_json(folder / "config.json", CheckpointError)
    weights = folder / "model.safetensors"
    header = read_header(weights)
    return CatalogEntry(
        name=name,
        task=SEGMENTATION if any(tensor.startswith("segmentation_head.") for tensor in header) else CLASSIFICATION,
        labels=len(config["id2label"]),
        image_size=config["image_size"],
        parameters=0,
        bytes=weights.stat().st_size,
        licence="",
    )
