"""A dump under the names of another family of checkpoints, timm's say: its names as ours, and what that family has in
one tensor as several. The tables are those of `weights.families`; which family it is, the names themselves tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tinymvit.comparison.names import WRAPPERS, Kinds, Names, mostly
from tinymvit.inspection.dump import Dump
from tinymvit.weights.families import FAMILIES, transformers
from tinymvit.weights.families.naming import Naming


@dataclass(frozen=True, eq=False)
class Translation:
    """A dump with what its names mean. family: the name of the family whose names they are, None if they are ours or
    nobody's. dump: with the parts of fused tensors in their places."""

    dump: Dump
    names: Names
    family: str | None = None


def translate(dump: Dump, known: Kinds, given: Mapping[str, str]) -> Translation:
    """What the names of a dump mean; the user's map goes first, and says nothing of whose the names are."""
    family, meanings = _family_of(dump, known)
    if family is None:
        return Translation(dump, Names(given))
    single, parts = {}, {}
    for name, our_names in meanings.items():
        if name in given:
            continue
        shape = dump.shape(name)
        if len(our_names) == 1:
            single[name] = our_names[0]
        elif shape and shape[-1] % len(our_names) == 0:
            parts[name] = {f"{name}[{each.rpartition('.')[2]}]": each for each in our_names}
    fused = {part: our_name for names in parts.values() for part, our_name in names.items()}
    split = dump.split({name: tuple(names) for name, names in parts.items()})
    return Translation(split, Names(given, single | fused), family)


def _family_of(dump: Dump, known: Kinds) -> tuple[str | None, Mapping[str, tuple[str, ...]]]:
    """The family in which most names of a dump mean something, None if they are ours or nobody's, and for each of these
    names ours for what its tensor holds."""
    understood = sum(Names({}).meaning(name, known) is not None for name in dump)
    best: dict[str, tuple[str, ...]] = {}
    spoken = None
    for family in FAMILIES:
        for naming in family.NAMINGS if family.NAME != transformers.NAME else ():
            found = {name: _meaning(name, naming, known) for name in dump}
            meant = {name: our_names for name, our_names in found.items() if our_names}
            if len(meant) > max(understood, len(best)) and mostly(meant, dump):
                best, spoken = meant, family.NAME
    return spoken, best


def _meaning(name: str, naming: Naming, known: Kinds) -> tuple[str, ...]:
    """Our names for what a tensor of this name holds; none if it means nothing in this family."""
    spelled = naming.spelling(name)
    meant = naming.output(WRAPPERS.sub("", spelled))
    if not meant and spelled not in ("", name) and Names({}).meaning(spelled, known) is not None:
        return (spelled,)
    return meant
