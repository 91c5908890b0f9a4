"""What is said of tensors in errors and warnings."""

from collections import Counter
from collections.abc import Callable, Collection

from tinymvit.text import short
from tinymvit.weights.families import FAMILIES, family_of
from tinymvit.weights.families.others import other_network

LISTED = 10  # tensors of a kind that an error lists


def no_family(names: Collection[str]) -> str:
    """What is said of tensors whose names no family recognises: of which network they are, or what stands in front."""
    other = other_network(names)
    if other is not None:
        return f"is no MobileViT that is read here: its tensors are those of {other}"
    known = f"its names are of no family that is known here ({', '.join(family.NAME for family in FAMILIES)})"
    prefix, rest = "", list(names)
    for _ in range(3):  # wrappers, one in another
        parts = Counter(name.partition(".")[0] for name in rest if "." in name)
        if not parts:
            break
        prefix += (part := parts.most_common(1)[0][0] + ".")
        rest = [name.removeprefix(part) for name in rest if name.startswith(part)]
        if family := family_of(rest):
            most = f"{len(rest)} of {len(names)} begin with {short(prefix)}"
            return f"{known}; {most}, and are names of {family.NAME} without it"
    return known


def row_count(shape: tuple[int, ...]) -> int:
    return shape[0] if shape else 0


def listing(kind: str, names: list[str], describe: Callable[[str], str]) -> list[str]:
    """One phrase that counts the tensors `names` and describes them, the first few of many; none for none."""
    if not names:
        return []
    more = f", and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return [f"{len(names)} {kind}: {', '.join(map(describe, names[:LISTED]))}{more}"]
