"""The names of labels: from a file of them, and those of ImageNet-1k, which checkpoints of some families leave out."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tinymvit.errors import ConfigError
from tinymvit.files import at_home, read_json_value, read_text
from tinymvit.text import short

IMAGENET = 1000  # the classes of ImageNet-1k


@cache
def imagenet() -> tuple[str, ...]:
    """The names of ImageNet-1k's classes by id: the lemmas of their WordNet synsets, as in the config.json of published
    checkpoints. Two are called crane."""
    return tuple((Path(__file__).parent / "imagenet-1k.txt").read_text(encoding="utf-8").splitlines())


def read_labels(source: str | Path | Sequence[str]) -> list[str]:
    """The names of labels, by id.

    source: the names themselves, or a file of them: one a line, or JSON: a list, an object as `id2label` or `label2id`
    of a config.json, or a whole config.json. Raises ConfigError naming the file.
    """
    if not isinstance(source, str | Path):
        names = list(source) if isinstance(source, Sequence) else []
        if not names or any(not isinstance(name, str) for name in names):
            raise ConfigError(f"labels: {short(source)}, expected the names of labels or a file of them")
        return [str(name) for name in names]
    path = at_home(source, ConfigError)
    if path.suffix == ".json":
        return _from_json(path)
    lines = [line.strip() for line in read_text(path, ConfigError, "the name of a label in each line").splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    if not all(lines) or not lines:
        where = f"line {lines.index('') + 1} is empty" if lines else "is empty"
        raise ConfigError(f"{path}: {where}, expected the name of a label in each line")
    return lines


def _from_json(path: Path) -> list[str]:
    values = read_json_value(path, ConfigError, "the names of labels")
    if isinstance(values, dict):
        values = next((values[key] for key in ("id2label", "label2id") if isinstance(values.get(key), dict)), values)
        if all(type(number) is int for number in values.values()):
            values = {str(number): name for name, number in values.items()}
        values = [values.get(str(number)) for number in range(len(values))]
    if not isinstance(values, list) or not values or any(not isinstance(name, str) for name in values):
        raise ConfigError(
            f"{path}: expected the names of labels: a list, or an object of names by id or of ids by name"
        )
    return values
