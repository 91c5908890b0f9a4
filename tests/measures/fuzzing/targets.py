"""The targets: what makes their cases, how large their share is, and how long a worker may be silent."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import pictures, rules, settings, tensor_files
from .cases import Case

STARTING = 20.0  # seconds beyond a case's own in which a process starts and comes to its first case


@dataclass(frozen=True)
class Target:
    """make: a case out of a random.Random and a Sandbox. share: of all cases, relative to the other targets'."""

    make: Callable[[Any, Any], Case]
    share: float
    seconds: float = rules.SECONDS + STARTING


TARGETS = {
    "safetensors": Target(tensor_files.safetensors_file, 20),
    "settings": Target(settings.settings_file, 12),
    "settings-python": Target(settings.settings_from_python, 8),
    "pictures": Target(pictures.picture_file, 20),
    "picture-bombs": Target(pictures.picture_bomb, 0.1),
}
