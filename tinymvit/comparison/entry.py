"""`tinymvit.compare`, for those who say "ours" and mean a model or a dump, as the command does."""

from __future__ import annotations

from collections.abc import Mapping

from tinymvit.comparison.against_model import compare_with_model
from tinymvit.comparison.inputs import Tensors, open_ours, open_theirs
from tinymvit.comparison.settings import ComparisonSettings
from tinymvit.comparison.two_dumps import compare_dumps
from tinymvit.comparison.verdict import Comparison
from tinymvit.errors import DumpError
from tinymvit.inspection.dump import Dump
from tinymvit.modeling import MobileViTPreTrainedModel, load_model
from tinymvit.weights import Checkpoint


def compare(
    ours: MobileViTPreTrainedModel | Checkpoint | Tensors,
    theirs: Tensors,
    *,
    names: Mapping[str, str] | None = None,
    layout: str = "auto",
    tolerance: str | float = "auto",
    isolate: bool = False,
    progress: bool = False,
    precision: str = "auto",
) -> Comparison:
    """Compare a port's tensors with ours: `compare_with_model` or `compare_dumps`, as `ours` is a model or a dump.

    ours: a model, the name or folder of one, an opened checkpoint, a dump, its path, or arrays by name. theirs: a dump,
    its path, or arrays by name. names, layout, tolerance, progress, precision: as in `ComparisonSettings`. isolate:
    compute each op from their inputs.

    Raises DumpError, a ValueError, for what cannot be compared at all; a tensor that cannot be gets a judgement that
    says so.
    """
    settings = ComparisonSettings(names or {}, layout, tolerance, progress, precision)
    their_dump = open_theirs(theirs)
    opened = open_ours(ours)
    if isinstance(opened, Dump):
        if isolate:
            raise DumpError("to isolate ops a model is needed, to compute them with; a dump has only their results")
        return compare_dumps(opened, their_dump, settings)
    model = load_model(opened) if isinstance(opened, Checkpoint) else opened
    if not isinstance(model, MobileViTPreTrainedModel):
        raise TypeError(f"ours: a {type(model).__name__}, expected a model, the name of one or a dump")
    return compare_with_model(model, their_dump, settings, isolate=isolate)
