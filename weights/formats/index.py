"""The index of a checkpoint in several files: JSON that says which tensor lies in which file beside it.

The files may be of any format that is read here; what opens one is given by the caller.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from tinymvit.errors import CheckpointError
from tinymvit.files import read_json, what_is
from tinymvit.weights.stored import StoredTensor

SUFFIX = ".index.json"  # behind the name that the weights file would have if it were one


def open_index(index: Path, open_file: Callable[[Path], Mapping[str, StoredTensor]]) -> dict[str, StoredTensor]:
    """The tensors of all files that the index lists, by name. Raises CheckpointError naming the file and the tensor."""
    shard_of = read_json(index, CheckpointError).get("weight_map")
    if not isinstance(shard_of, dict) or not all(isinstance(shard, str) for shard in shard_of.values()):
        raise CheckpointError(f"{index}: expected a weight_map of tensor names to file names")
    suffix = Path(index.name.removesuffix(SUFFIX)).suffix
    tensors: dict[str, StoredTensor] = {}
    for shard in sorted(set(shard_of.values())):
        path = index.parent / shard
        if path.name != shard or path.suffix != suffix:  # an index must not point out of its folder
            raise CheckpointError(f"{index}: the shard {shard!r}, expected the name of a {suffix} file beside it")
        if what_is(path, CheckpointError) is None:
            raise CheckpointError(f"{index}: names the shard {shard}, which is missing")
        found = open_file(path)
        for name in found:
            if shard_of.get(name) != shard:
                raise CheckpointError(f"{path}: holds tensor {name}, which {index.name} places in {shard_of.get(name)}")
        for name in shard_of:
            if shard_of[name] == shard and name not in found:
                raise CheckpointError(f"{path}: lacks tensor {name}, which {index.name} places in it")
        tensors |= found
    return tensors
