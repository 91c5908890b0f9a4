"""The targets: what makes their cases, how large their share is, and how long a worker may be silent."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from . import (
    checkpoints,
    commands,
    dumps,
    extreme_weights,
    families,
    hdf5_files,
    pictures,
    python_calls,
    pytorch_files,
    rules,
    settings,
    tensor_files,
)
from .cases import Case

STARTING = 30.0  # seconds beyond a case's own in which a process starts and comes to its first case


@dataclass(frozen=True)
class Target:
    """make: a case out of a random.Random and a Sandbox. share: of all cases, relative to the other targets'."""

    make: Callable[[Any, Any], Case]
    share: float
    seconds: float = rules.SECONDS + STARTING


TARGETS = {
    "safetensors": Target(tensor_files.safetensors_file, 20),
    "pytorch": Target(pytorch_files.pytorch_file, 20),
    **({"hdf5": Target(hdf5_files.hdf5_file, 10)} if find_spec("h5py") else {}),  # which makes the files
    "settings": Target(settings.settings_file, 12),
    "ranges": Target(settings.ranges_file, 3),
    "settings-python": Target(settings.settings_from_python, 8),
    "pictures": Target(pictures.picture_file, 20),
    "picture-bombs": Target(pictures.picture_bomb, 0.05),
    "checkpoints": Target(checkpoints.checkpoint, 6),
    "families": Target(families.family, 6),
    "dumps": Target(dumps.dump, 12),
    "compare": Target(dumps.compared, 2),
    "python": Target(python_calls.python_call, 14),
    "weights": Target(extreme_weights.weights_of_models, 1.5),
    "commands": Target(commands.in_this_process, 5),
    "processes": Target(commands.as_processes, 0.06, rules.SECONDS_OF_A_PROCESS + STARTING),
}
