"""The program in C of each published shape at its own size: its bits, its memory, its code, its time.

    python tests/measures/exported_c.py
    python tests/measures/exported_c.py --shapes xx-small --precision int8

Each shape, with random weights like trained ones, is exported and compiled by `cc` (CC names another). *bits*: whether
the results are those of the ordered reference to the last bit, with -O3 -march=native -ffp-contract=off. *arena*: the
bytes that it works in, beside weights, input and results. *text*: the bytes of machine code of mobilevit.c with -Os and
with -O3. *ms*: the medians of it and of our engine, one thread each, in turns. Takes some minutes and 2 GB of memory.
"""

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from exports import model_of

from tinymvit import reference
from tinymvit.exporters import c
from tinymvit.exporters.check import check, noise_for
from tinymvit.exporters.export import export
from tinymvit.exporters.network import INT8
from tinymvit.exporters.storage import as_int8
from tinymvit.presets import PRESETS

HEAD = ["network", "weights", "bits", "arena", "bytes", "text -Os", "text -O3", "cc weights.c", "ms", "engine, ms"]


def rounded(weight):
    """A weight as int8 holds it."""
    multiples, scale = as_int8(weight)
    return multiples.astype(np.float32) * scale.reshape(-1, *[1] * (weight.ndim - 1))


def expected(network, given):
    """The results of the ordered reference."""
    graph, weights = network.folded()
    weights = {name: weights[name] for name in graph.weight_shapes()}
    if network.precision == INT8:
        weights = {name: rounded(weight) if weight.ndim > 1 else weight for name, weight in weights.items()}
    return reference.run(graph, weights, given, np.float32, in_order=True)


def compiled(folder, name, level):
    """The object file of one source."""
    target = folder / f"{name}{level}.o"
    subprocess.run([*c.find_compiler(), "-std=c99", level, "-c", folder / f"{name}.c", "-o", target], check=True)
    return target


def text_of(path):
    """The bytes of machine code in an object file."""
    lines = subprocess.run(["size", "-A", path], capture_output=True, text=True, check=True).stdout.splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(".text"))


def row(shape, precision):
    """What is found out about one shape."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "source")
        network = export(model_of(shape), folder, to="c", precision=precision)
        program = c.write_program(network)
        numbers, multiples = c.sizes_of_weights(program)
        texts = [text_of(compiled(folder, "mobilevit", level)) for level in ("-Os", "-O3")]
        start = time.perf_counter()
        compiled(folder, "weights", "-O3")
        seconds = time.perf_counter() - start
        run, given = c.load(folder, 1), noise_for(network)
        truth, found = expected(network, given), run(given)
        same = all((found[name].view(np.uint32) == truth[name].view(np.uint32)).all() for name in truth)
        checked = check(network, folder, to="c")
        times = (checked.seconds, checked.engine_seconds)
    sizes = [4 * program.arena, 4 * numbers + multiples, *texts]
    said = [*(f"{size:,}" for size in sizes), f"{seconds:.1f} s", *(f"{each * 1e3:.1f}" for each in times)]
    return [shape, precision, "equal" if same else "DIFFERENT", *said]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", choices=PRESETS, default=list(PRESETS))
    parser.add_argument("--precision", nargs="+", choices=c.PRECISIONS, default=list(c.PRECISIONS))
    options = parser.parse_args()
    for each in (HEAD, ["---"] * len(HEAD)):
        print(f"| {' | '.join(each)} |")
    for shape in options.shapes:
        for precision in options.precision:
            print(f"| {' | '.join(row(shape, precision))} |", flush=True)


if __name__ == "__main__":
    main()
