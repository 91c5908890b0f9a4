"""Only what stages give, the last first, as from a network that extracts features; names are numbers."""

from foreign_ports import torch
from foreign_ports.functional import PLACES
from foreign_ports.functional import WRONG as WRONG_INSIDE
from foreign_ports.functional import run as run_all

WRONG = {name: nodes for name, nodes in WRONG_INSIDE.items() if name != "heads joined without a transpose"}


def _taps():
    ends = {"stem": "stem/out", "a": "a/sum", "b0": "b0/project/bn", "b2": "b2/sum", "last": "last/out"}
    ends |= {f"vit{stage}": f"vit{stage}/fuse/out" for stage in (2, 3, 4)}
    return {"x": "pixel_values", "mean": "mobilevit.pooler_output", "scores": "classifier"}, ends


def run(weights, pixels, wrong=()):
    whole, ends = _taps()
    found = run_all(weights, pixels, wrong)
    kept = {name: x for name, x in found.items() if name in whole or name in ends.values()}
    return {str(number): x for number, x in reversed(list(enumerate(kept.values())))}


def names(weights):
    whole, ends = _taps()
    ours = whole | {end: PLACES[place] for place, end in ends.items()}
    ours |= {"b0/project/bn": f"{PLACES['b0']}.reduce_1x1.normalization"}
    ours |= {end: f"{PLACES[place]}.activation" for place, end in ends.items() if place in ("stem", "last")}
    kept = [name for name in run_all(weights, torch.zeros(1, 3, 64, 128)) if name in ours]
    return {str(number): ours[name] for number, name in enumerate(kept)}
