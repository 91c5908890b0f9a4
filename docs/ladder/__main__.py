"""The ladders of docs/kernels.md: convolutions, SiLU and attention, from a naive loop to the final kernel.

    python -m docs.ladder
    python -m docs.ladder --rounds 100 --threads 2

Each rung is checked against the float64 result. Then the rungs of a ladder are timed in turns, so that a slow moment of
the machine meets them all. All run on one thread, unless their name says otherwise. At the foot of a ladder stand the
BLAS that NumPy brings, and PyTorch if it is installed. Compiling takes half a minute.

The rungs' code is in convolution.py, silu.py and attention.py; this file has their data, the check and the stopwatch.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from tinymvit import kernels
from tinymvit.kernels.runtime import peak
from tinymvit.kernels.runtime.arguments import aligned
from tinymvit.kernels.simd.product import pack_panels
from tinymvit.text import align

from . import attention, convolution, silu

BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")  # read when NumPy is loaded
RELATIVE_TOLERANCE = 2e-6  # of float32 sums of a few hundred products
ULP_TOLERANCE = 4  # of SiLU
TURN = 0.01  # seconds in which a rung runs as often as it can: as long as the measurement of the peak takes


@dataclass(frozen=True)
class Rung:
    name: str
    run: Callable[[], np.ndarray]  # gives the result, with the axes of the expected one
    part: float = 1.0  # of the work: a rung that is too slow for all of it does the first rows
    threads: int = 1


@dataclass(frozen=True)
class Ladder:
    title: str
    expected: np.ndarray  # float64
    operations: int  # 0: SiLU, which counts values, and its error in units in the last place
    rungs: list[Rung]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m docs.ladder", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20, help="how many turns each rung has (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="run the kernels on so many, too (%(default)s)")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, not {options.rounds}")
    try:
        kernels.set_num_threads(options.threads)
    except ValueError as error:
        parser.error(f"--{error}")
    for make in (convolution_ladder, activated_ladder, silu_ladder, winograd_ladder, attention_ladder):
        ladder = make(options.threads)
        print(f"\n{ladder.title}\n", flush=True)
        try:
            errors = [error_of(rung, ladder) for rung in tqdm(ladder.rungs, "compiling", leave=False, disable=None)]
        except ArithmeticError as error:
            print(f"ladder: {error}", file=sys.stderr)
            return 1
        seconds, peaks = race(ladder.rungs, options.rounds)
        print("\n".join(table(ladder, errors, seconds, peaks)))
        print("\npeak: " + ", ".join(f"{rate:.0f} GFLOP/s (threads: {threads})" for threads, rate in peaks.items()))
    return 0


def error_of(rung: Rung, ladder: Ladder) -> float:
    """The largest error, relative to the largest expected value or in units in the last place. Compiles the rung.

    Raises ArithmeticError if it is more than rounding makes.
    """
    actual = rung.run()
    expected = ladder.expected[: len(actual)]
    difference = np.abs(actual - expected)
    if ladder.operations:
        error, tolerance = float(difference.max() / np.abs(expected).max()), RELATIVE_TOLERANCE
    else:
        error, tolerance = float((difference / np.spacing(np.abs(expected).astype(np.float32))).max()), ULP_TOLERANCE
    if not error <= tolerance:
        raise ArithmeticError(
            f"{rung.name} is wrong: its largest error is {error:.3g}, at most {tolerance} is expected"
        )
    return error


def race(rungs: list[Rung], rounds: int) -> tuple[list[list[float]], dict[int, float]]:
    """Seconds of each run of each rung, for all of its work; and the machine's peak, GFLOP/s by number of threads.

    The peak takes its turns with the rungs. A turn begins with a run that fills the caches, and is not counted.
    """
    seconds = [[] for _ in rungs]
    peaks = dict.fromkeys([rung.threads for rung in rungs], 0.0)
    for _ in tqdm(range(rounds), "timing", leave=False, disable=None):
        for threads in peaks:
            kernels.set_num_threads(threads)
            peaks[threads] = max(peaks[threads], 2e-9 * peak.multiply_adds_a_second())
        for rung, times in zip(rungs, seconds, strict=True):
            rung.run()
            begin = now = time.perf_counter()
            while now - begin < TURN:
                start = now
                rung.run()
                now = time.perf_counter()
                times.append((now - start) / rung.part)
    return seconds, peaks


def table(ladder: Ladder, errors: list[float], seconds: list[list[float]], peaks: dict[int, float]) -> list[str]:
    """The lines of a ladder's table. Rates are those of the fastest run, which other work disturbed least."""
    slowest = min(seconds[0])
    rows = [["", "median", "min", "times", "", "of peak", "error"]]
    if ladder.operations:
        rows.append(["", "ms", "ms", "faster", "GFLOP/s", "%", "relative"])
    else:
        rows.append(["", "ms", "ms", "faster", "ns each", "", "ULP"])
    for rung, error, times in zip(ladder.rungs, errors, seconds, strict=True):
        best = min(times)
        row = [rung.name, f"{1e3 * np.median(times):.2f}", f"{1e3 * best:.2f}", f"{slowest / best:,.1f}"]
        if ladder.operations:
            rate = 1e-9 * ladder.operations / best
            row += [f"{rate:.1f}", f"{100 * rate / peaks[rung.threads]:.0f}", f"{error:.0e}"]
        else:
            row += [f"{1e9 * best / ladder.expected.size:.2f}", "", f"{error:.1f}"]
        rows.append(row)
    return align(rows)


# ---- The rungs with their data. Each writes its result into an array of its own ----


def convolution_ladder(threads: int, pixels: int = 16 * 16, inputs: int = 96, outputs: int = 384) -> Ladder:
    """By default what expands the channels before MobileViT-S's second transformer, for a picture of 128 x 128: all
    of it stays in a second-level cache of 1 MB, so that the loops are compared, not the memory."""
    shape, x, weight, bias, expected = convolution_data(pixels, inputs, outputs)
    x_first, weight_last, panels = aligned(x.T), aligned(weight.T), pack_panels(weight.T)
    some = max(1, pixels // 256)  # pixels that Python's loop has time for

    def first(function, x):
        out = kernels.empty((outputs, x.shape[1]))
        return lambda: function(x, weight, bias, out) or out.T

    def last(function, weight):
        out = kernels.empty((pixels, outputs))
        return lambda: function(x, weight, bias, out) or out

    def flat(function, weight):
        out = kernels.empty((pixels, outputs))
        return lambda: function(x.ravel(), weight.ravel(), bias, out.ravel(), shape) or out

    rungs = [
        Rung("loop in Python", first(convolution.loop, aligned(x_first[:, :some])), some / pixels),
        Rung("loop, compiled", first(convolution.compiled_loop, x_first)),
        Rung("channels last", last(convolution.channels_last, weight)),
        Rung("channels last, fastmath", last(convolution.channels_last_fastmath, weight)),
        Rung("outputs innermost", last(convolution.outputs_innermost, weight_last)),
        Rung("one vector", flat(convolution.one_vector, weight_last)),
        Rung("tile of 4 x 1 vectors", flat(convolution.small_tile, weight_last)),
        Rung("tile that fills the registers", flat(convolution.tile, weight_last)),
        Rung("packed panels", flat(convolution.packed, misaligned(panels))),
        Rung("aligned panels", flat(convolution.packed, panels)),
        *kernel_rungs("kernels.linear", convolution_kernel(x, weight, bias, "identity"), threads),
        Rung("NumPy: BLAS, then bias", last(convolution.blas, weight.T)),
        *torch_convolutions(x, weight, bias, activated=False),
    ]
    title = f"1x1 convolution, {pixels} pixels, {inputs} to {outputs} channels"
    return Ladder(title, expected, 2 * pixels * inputs * outputs, rungs)


def activated_ladder(threads: int, pixels: int = 64 * 64, inputs: int = 48, outputs: int = 192) -> Ladder:
    """By default what expands the channels before MobileViT-XS's first transformer, for a picture of 256 x 256: its
    output, 3 MB, does not stay in a second-level cache."""
    shape, x, weight, bias, expected = convolution_data(pixels, inputs, outputs)
    panels = pack_panels(weight.T)

    def flat(function):
        out = kernels.empty((pixels, outputs))
        return lambda: function(x.ravel(), panels, bias, out.ravel(), shape) or out

    rungs = [
        Rung("SiLU after all", flat(convolution.silu_after_all)),
        Rung("SiLU after each tile", flat(convolution.silu_after_each_tile)),
        *kernel_rungs("kernels.linear", convolution_kernel(x, weight, bias, "silu"), threads),
        *torch_convolutions(x, weight, bias, activated=True),
    ]
    title = f"1x1 convolution and SiLU, {pixels} pixels, {inputs} to {outputs} channels"
    return Ladder(title, expected / (1 + np.exp(-expected)), 2 * pixels * inputs * outputs, rungs)


def convolution_data(pixels, inputs, outputs):
    x, weight, bias = normal(pixels, inputs), normal(outputs, inputs), normal(outputs)
    weight /= np.sqrt(np.float32(inputs))
    return (pixels, inputs, outputs), x, weight, bias, x.astype(np.float64) @ weight.astype(np.float64).T + bias


def convolution_kernel(x, weight, bias, activation):
    """A 1x1 convolution as the engine runs it: the linear layer, for each pixel."""
    packed = kernels.pack_linear(weight)
    return lambda: kernels.linear(x, packed, bias, activation=activation)


def silu_ladder(threads: int, count: int = 256 * 384) -> Ladder:
    x = 4 * normal(count)

    def plain(function):
        out = kernels.empty(x.shape)
        return lambda: function(x, out) or out

    rungs = [
        Rung("number by number", plain(silu.by_numbers)),
        Rung("NumPy", plain(silu.with_numpy)),
        Rung("vectors", plain(silu.by_vectors)),
        *kernel_rungs("kernels.activate", lambda: kernels.activate(x, "silu"), threads),
        *torch_silu(x),
    ]
    return Ladder(f"SiLU of {count} values", x / (1 + np.exp(-x.astype(np.float64))), 0, rungs)


def winograd_ladder(threads: int, size: int = 32, inputs: int = 96, outputs: int = 96) -> Ladder:
    """By default the 3x3 convolution before the first transformer of MobileViT-S, for a picture of 256 x 256. Both
    kernels are counted with the operations of the direct sum."""
    x, weight, bias = normal(1, size, size, inputs), normal(outputs, inputs, 3, 3, seed=1), normal(outputs, seed=2)
    weight /= np.sqrt(np.float32(9 * inputs))
    direct, packed = kernels.pack_conv2d(weight), kernels.pack_winograd(weight)
    padded = np.pad(x[0].astype(np.float64), ((1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))  # H, W, I, 3, 3
    expected = np.einsum("hwiyx,oiyx->hwo", windows, weight.astype(np.float64), optimize=True) + bias
    rungs = [
        *kernel_rungs("kernels.conv2d", lambda: kernels.conv2d(x, direct, bias, padding=1)[0], threads),
        *kernel_rungs("kernels.winograd", lambda: kernels.winograd(x, packed, bias)[0], threads),
        *torch_convolution_3x3(x, weight, bias),
    ]
    title = f"3x3 convolution, {size} x {size} pixels, {inputs} to {outputs} channels"
    return Ladder(title, expected, 18 * size**2 * inputs * outputs, rungs)


def attention_ladder(threads: int, sequences: int = 4, tokens: int = 256, width: int = 144, heads: int = 4) -> Ladder:
    """By default that of the first transformer of MobileViT-S: 32 x 32 pixels, one of each patch's 4 in a sequence."""
    shape = (sequences, tokens, width, heads)
    query, key, value = [normal(*shape[:3], seed=seed) for seed in range(3)]
    scores = kernels.empty((sequences * heads * tokens**2,))
    panels = [np.zeros((tokens + convolution.WIDTH) * (width + convolution.WIDTH), np.float32) for _ in range(2)]
    memory = (scores, *panels, np.zeros(convolution.WIDTH, np.float32))

    def plain(function):
        out = kernels.empty(query.shape)
        return lambda: function(query, key, value, heads, out) or out

    def flat(function):
        out = kernels.empty(query.shape)
        arrays = [array.ravel() for array in (query, key, value, out)]
        return lambda: function(*arrays, memory, shape) or out

    rungs = [
        Rung("loops, compiled", plain(attention.loops)),
        Rung("formula in NumPy", plain(attention.formula)),
        Rung("register tiles", flat(attention.op_by_op)),
        Rung("exp on vectors", flat(attention.op_by_op_on_vectors)),
        Rung("a block at a time", flat(attention.block_by_block)),
        *kernel_rungs("kernels.attention", lambda: kernels.attention(query, key, value, heads), threads),
        *torch_attention(query, key, value, heads),
    ]
    expected = np.empty(query.shape)
    attention.formula(*[array.astype(np.float64) for array in (query, key, value)], heads, expected)
    title = f"attention, {sequences} sequences of {tokens} tokens, {width} channels, {heads} heads"
    return Ladder(title, expected, 4 * sequences * tokens**2 * width, rungs)


def normal(*shape, seed=0):
    return aligned(np.random.default_rng(seed).standard_normal(shape, np.float32))


def misaligned(array):
    """A copy that begins 16 bytes after a cache line, as NumPy's large arrays do."""
    memory = kernels.empty((4 + array.size,))
    memory[4:] = array
    return memory[4:]


def kernel_rungs(name, op, threads):
    """The kernel as the engine runs it: recorded, and then no Python is left in it."""
    with kernels.recording() as program:
        out = op()

    def run(threads):
        kernels.set_num_threads(threads)
        program.run()
        return out

    rungs = [Rung(name, lambda: run(1))]
    return rungs if threads == 1 else [*rungs, Rung(f"{name}, threads: {threads}", lambda: run(threads), 1.0, threads)]


# ---- PyTorch, in the layout of its own kernels ----


def torch_rung(name, make):
    """The rung, if PyTorch is installed. make(torch) gives a function that gives a tensor."""
    if importlib.util.find_spec("torch") is None:
        return []
    import torch

    torch.set_num_threads(1)
    function = torch.inference_mode()(make(torch))
    return [Rung(name, lambda: function().numpy())]


def torch_convolutions(x, weight, bias, activated):
    def make(torch):
        pixels = torch.from_numpy(x.T.copy()[None, :, None])  # (1, I, 1, P)
        arguments = [pixels, torch.from_numpy(weight[:, :, None, None]), torch.from_numpy(bias)]

        def run():
            out = torch.nn.functional.conv2d(*arguments)
            return (torch.nn.functional.silu(out, inplace=True) if activated else out)[0, :, 0].T

        return run

    return torch_rung("PyTorch", make)


def torch_convolution_3x3(x, weight, bias):
    def make(torch):
        image, weights, biases = (torch.from_numpy(array) for array in (x, weight, bias))
        image = image.permute(0, 3, 1, 2).contiguous()
        return lambda: torch.nn.functional.conv2d(image, weights, biases, padding=1)[0].permute(1, 2, 0)

    return torch_rung("PyTorch", make)


def torch_silu(x):
    return torch_rung("PyTorch", lambda torch: lambda: torch.nn.functional.silu(torch.from_numpy(x)))


def torch_attention(query, key, value, heads):
    def make(torch):
        sequences, tokens, _ = query.shape
        arrays = [torch.from_numpy(array.reshape(sequences, tokens, heads, -1)) for array in (query, key, value)]

        def run():
            out = torch.nn.functional.scaled_dot_product_attention(*[array.transpose(1, 2) for array in arrays])
            return out.transpose(1, 2).reshape(query.shape)

        return run

    return torch_rung("PyTorch", make)


if __name__ == "__main__":
    if all(os.environ.get(name) == "1" for name in BLAS_THREADS):
        sys.exit(main())
    one_thread = os.environ | dict.fromkeys(BLAS_THREADS, "1")
    sys.exit(subprocess.call([sys.executable, *sys.orig_argv[1:]], env=one_thread))
