"""The table of docs/exporting.md: what each exported file weighs, takes and errs, in the runtime that it is for.

    python tests/measures/exports.py
    python tests/measures/exports.py --shapes xx-small --threads 1

Each published shape, with random weights like trained ones, is written by each exporter in each precision and run by
`exporters.check`, which lets the file and our engine take turns. So the times of a row are comparable, and those of
different rows nearly so. The errors are relative, against the float64 reference; those of int8 depend on the weights,
and trained ones have others: docs/quantisation.md.
"""

import argparse
import tempfile
from pathlib import Path

from tinymvit.commands.export import size_of
from tinymvit.config import MobileViTConfig, preset_task
from tinymvit.exporters.check import check, missing_module
from tinymvit.exporters.export import EXPORTERS, export
from tinymvit.modeling import MODELS
from tinymvit.networks.random_weights import as_trained
from tinymvit.presets import PRESETS

HEAD = ["network", "file", "precision", "bytes", "error", "ms", "our engine, ms"]


def model_of(shape):
    """A published shape, with random weights under which no value dies out."""
    config = MobileViTConfig.preset(shape)
    kind = MODELS[preset_task(shape)]
    return kind.from_tensors(config, as_trained(kind.recorder(config, (1, 3, *config.image_shape))))


def rows(shape, threads, targets):
    """A row for each exporter and precision whose runtime is installed."""
    model = model_of(shape)
    for to in targets:
        if missing_module(to):
            continue
        for precision in EXPORTERS[to].PRECISIONS:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "model" + EXPORTERS[to].SUFFIX)
                found = check(export(model, path, to=to, precision=precision), path, to=to, threads=threads)
                times = [f"{seconds * 1e3:.2f}" for seconds in (found.seconds, found.engine_seconds)]
                error = f"{found.results['logits'].relative:.1e}"
                yield [shape, EXPORTERS[to].WORD, precision, f"{size_of(path):,}", error, *times]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", choices=PRESETS, default=list(PRESETS))
    parser.add_argument("--to", nargs="+", choices=EXPORTERS, default=list(EXPORTERS))
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    for row in (HEAD, ["---"] * len(HEAD)):
        print(f"| {' | '.join(row)} |")
    for shape in options.shapes:
        for row in rows(shape, options.threads, options.to):
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
