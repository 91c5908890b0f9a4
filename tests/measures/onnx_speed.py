"""How fast our ONNX files are in ONNX Runtime and OpenVINO beside torch.onnx.export's of the same model.

    python tests/measures/onnx_speed.py                     # each published shape, on 1 thread and on 2
    python tests/measures/onnx_speed.py --shapes small --threads 4 --seconds 60 --int8

The model has random weights like trained ones. It is exported in each precision by us, and by
`torch.onnx.export(dynamo=True, opset_version=18)`, which `pip install -e '.[bench]'` brings; without it our float32
file is what the others are compared with. With --int8 there is a file that computes in int8 too, its ranges those of
noise. The files take turns, in random order, each after a run that does not count: the threads of the one before have
stopped spinning by then. On one thread the seconds are those of the processor, so that what else the machine does
counts little. Printed are the bytes, the relative error of the logits against the float64 reference, the median time,
and how often a file could run while the first one runs once: the median of the ratios of the rounds.
"""

import argparse
import tempfile
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from tinymvit import reference
from tinymvit.bench.peers import ONNX, OnnxRuntime, OpenVino, export_onnx
from tinymvit.config import MobileViTConfig, preset_task
from tinymvit.exporters.export import export
from tinymvit.exporters.onnx import PRECISIONS
from tinymvit.modeling import MODELS
from tinymvit.networks.random_weights import as_trained
from tinymvit.numerics import relative_error
from tinymvit.presets import PRESETS
from tinymvit.text import align
from tinymvit.vectors import noise

HEAD = ["file", "bytes", "error", "median ms", "times as fast"]
RUNTIMES = {peer.name: peer for peer in (OnnxRuntime, OpenVino)}


def model_of(shape):
    config = MobileViTConfig.preset(shape)
    kind = MODELS[preset_task(shape)]
    return kind.from_tensors(config, as_trained(kind.recorder(config, (1, 3, *config.image_shape))))


def folders_of(model, pixels, root, precisions, in_int8):
    """Folders with a file each, by names: PyTorch's first, where it is installed."""
    folders = {}
    if find_spec("torch") and find_spec("onnxscript"):
        folders["torch.onnx.export"] = root / "torch"
        model.save_pretrained(root / "torch")
        with warnings.catch_warnings(action="ignore"):
            export_onnx(root / "torch", pixels)
    for precision in precisions:
        folders[f"ours, {precision}"] = root / precision
        export(model, root / precision / ONNX, to="onnx", precision=precision)
    if in_int8:
        folders["ours, computed in int8"] = root / "computed"
        picture = (noise((*model.config.image_shape, 3)) * 255).astype(np.uint8)
        export(model, root / "computed" / ONNX, to="onnx", precision="int8", calibrate=[picture])
    return folders


def in_turns(peers, pixels, seconds, clock):
    """Seconds (rounds, files)."""
    rng = np.random.default_rng(0)
    rounds, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(rounds) < 5:
        row = np.zeros(len(peers))
        for i in rng.permutation(len(peers)):
            peers[i].run(pixels)
            begin = clock()
            peers[i].run(pixels)
            row[i] = clock() - begin
        rounds.append(row)
    return np.array(rounds)


def loaded(peer, folder, threads):
    peer = peer()
    peer.load(folder, threads)
    return peer


def measure(shape, runtimes, threads, seconds, precisions, in_int8):
    """Print a table for a shape, a runtime and a number of threads."""
    model = model_of(shape)
    pixels = noise((1, 3, *model.config.image_shape))
    graph = model.graph(pixels.shape).select(["logits"])
    truth = reference.run(graph, model.weights, pixels)["logits"]
    with tempfile.TemporaryDirectory() as root:
        folders = folders_of(model, pixels, Path(root), precisions, in_int8)
        for name in runtimes:
            for count in threads:
                peers = [loaded(RUNTIMES[name], folder, count) for folder in folders.values()]
                times = in_turns(peers, pixels, seconds, time.process_time if count == 1 else time.perf_counter)
                rows = [HEAD]
                for i, (file, folder) in enumerate(folders.items()):
                    error = f"{relative_error(peers[i].run(pixels), truth):.1e}"
                    size = f"{(folder / ONNX).stat().st_size:,}"
                    speed = f"{np.median(times[:, 0] / times[:, i]):.2f}"
                    rows.append([file, size, error, f"{np.median(times[:, i]) * 1e3:.2f}", speed])
                print(f"{shape}, {' x '.join(map(str, pixels.shape))}, {name}, threads: {count}, rounds: {len(times)}")
                print("\n".join(align(rows)), "", sep="\n", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", choices=PRESETS, default=list(PRESETS))
    parser.add_argument("--runtimes", nargs="+", choices=RUNTIMES, default=list(RUNTIMES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=20, help="of each table (default: %(default)g)")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--int8", action="store_true", help="a file that computes in int8 too")
    options = parser.parse_args()
    for shape in options.shapes:
        measure(shape, options.runtimes, options.threads, options.seconds, options.precisions, options.int8)


if __name__ == "__main__":
    main()
