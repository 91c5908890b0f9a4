"""Ports in structures, names and layouts of their own: right ones agree, of wrong ones the wrong op is named and no
other, whether names mean something or not."""

import hashlib
from functools import cache

import pytest

from foreign_ports import PORTS, model_and_weights, port
from frameworks import torch
from tinymvit import compare

pytestmark = pytest.mark.torch
CASES = [(name, wrong) for name in PORTS for wrong in ("", *(port(name).WRONG if torch is not None else ()))]


@cache
def dumped(name, wrong):
    pixels = torch.rand(1, 3, 64, 128, generator=torch.manual_seed(7))
    return port(name).run(model_and_weights()[1], pixels, (wrong,) if wrong else ())


def with_own_names(name, found):
    return found, None


def with_a_map(name, found):
    return found, port(name).names(model_and_weights()[1])


def numbered(name, found):
    """The input is the first of a dump in order."""
    return {f"t{i:04}": x for i, x in enumerate(found.values())}, None


def shuffled(name, found):
    hashed = {hashlib.sha256(own.encode()).hexdigest()[:8]: x for own, x in found.items()}
    return dict(sorted(hashed.items())), None


@pytest.mark.parametrize("naming", [with_a_map, with_own_names, numbered, shuffled])
@pytest.mark.parametrize(("name", "wrong"), CASES)
def test_a_port_is_judged_rightly_whatever_its_names_are(name, wrong, naming):
    ours, _ = model_and_weights()
    found, names = naming(name, dumped(name, wrong))
    if names is not None:
        names = {own: node for own, node in names.items() if own in found}
    for isolate in (False, True):
        comparison = compare(ours, found, names=names, isolate=isolate)
        accused = comparison.wrong if isolate else comparison.wrong[:1]
        blamed = [{row.wrong_op, *row.together} for row in accused]
        right = set(port(name).WRONG[wrong]) if wrong else set()
        assert bool(blamed) == bool(wrong), comparison.first
        for ops in blamed:
            assert ops & right, ops
