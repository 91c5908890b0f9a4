"""How fast our TensorFlow Lite files are in LiteRT beside litert-torch's of the same model.

    python tests/measures/tflite_speed.py                   # XXS and DeepLabV3 XXS, on 2 threads and on 1
    python tests/measures/tflite_speed.py --shapes small --threads 4 --rounds 500

The model has random weights like trained ones. It is exported in each precision by us, and by litert-torch, which
`pip install -e '.[bench-litert]'` brings; without it our float32 file is what the others are compared with. The files
take turns, a run each in random order, so that what else the machine does meets all of them. Printed are the bytes, the
relative error of the logits against the float64 reference, the parts that XNNPACK takes, the median time, and how often
a file could run while the first one runs once: the median of the ratios of the rounds.
"""

import argparse
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from tinymvit import reference
from tinymvit.bench.peers import TFLITE, export_tflite
from tinymvit.config import MobileViTConfig, preset_task
from tinymvit.exporters.export import export
from tinymvit.exporters.tflite import PRECISIONS
from tinymvit.modeling import MODELS
from tinymvit.networks.random_weights import as_trained
from tinymvit.numerics import relative_error
from tinymvit.presets import PRESETS
from tinymvit.text import align
from tinymvit.vectors import noise

HEAD = ["file", "bytes", "error", "parts", "median ms", "times as fast"]


def model_of(shape):
    config = MobileViTConfig.preset(shape)
    kind = MODELS[preset_task(shape)]
    return kind.from_tensors(config, as_trained(kind.recorder(config, (1, 3, *config.image_shape))))


def files_of(model, pixels, folder):
    """Paths by names: litert-torch's file first, where it is installed."""
    paths = {}
    if find_spec("litert_torch"):
        model.save_pretrained(folder)
        export_tflite(folder, pixels)
        paths["litert-torch"] = folder / TFLITE
    for precision in PRECISIONS:
        paths[f"ours, {precision}"] = folder / f"{precision}.tflite"
        export(model, folder / f"{precision}.tflite", to="tflite", precision=precision)
    return paths


def interpreter_of(path, pixels, threads):
    """An interpreter that was given the pixels as its file takes them: channels first by litert-torch, last by us."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads)
    interpreter.allocate_tensors()
    (taken,) = interpreter.get_input_details()
    channels_first = tuple(taken["shape"]) == pixels.shape
    given = pixels if channels_first else np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
    interpreter.set_tensor(taken["index"], given)
    interpreter.invoke()
    return interpreter


def logits_of(interpreter, shape):
    logits = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return logits if logits.shape == shape else np.moveaxis(logits, -1, 1)


def parts_of(interpreter):
    return [op["op_name"] for op in interpreter._get_ops_details()].count("DELEGATE")


def in_turns(interpreters, rounds):
    """Seconds (rounds, files)."""
    rng = np.random.default_rng(0)
    seconds = np.zeros((rounds, len(interpreters)))
    for row in seconds:
        for i in rng.permutation(len(interpreters)):
            begin = time.perf_counter()
            interpreters[i].invoke()
            row[i] = time.perf_counter() - begin
    return seconds


def measure(shape, threads, rounds):
    """Print a table for a shape and a number of threads."""
    model = model_of(shape)
    pixels = noise((1, 3, *model.config.image_shape))
    graph = model.graph(pixels.shape).select(["logits"])
    truth = reference.run(graph, model.weights, pixels)["logits"]
    with tempfile.TemporaryDirectory() as folder:
        paths = files_of(model, pixels, Path(folder))
        for count in threads:
            interpreters = [interpreter_of(path, pixels, count) for path in paths.values()]
            seconds = in_turns(interpreters, rounds)
            rows = [HEAD]
            for i, (name, path) in enumerate(paths.items()):
                error = relative_error(logits_of(interpreters[i], truth.shape), truth)
                speed = np.median(seconds[:, 0] / seconds[:, i])
                milliseconds = f"{np.median(seconds[:, i]) * 1e3:.2f}"
                size = f"{path.stat().st_size:,}"
                rows.append([name, size, f"{error:.1e}", str(parts_of(interpreters[i])), milliseconds, f"{speed:.2f}"])
            print(f"{shape}, {' x '.join(map(str, pixels.shape))}, threads: {count}")
            print("\n".join(align(rows)), "", sep="\n", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", choices=PRESETS, default=["xx-small", "deeplabv3-xx-small"])
    parser.add_argument("--threads", nargs="+", type=int, default=[2, 1])
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    for shape in options.shapes:
        measure(shape, options.threads, options.rounds)


if __name__ == "__main__":
    main()
