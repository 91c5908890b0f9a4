"""The long measures of docs/reliability.md: kills, memory, and processes that compile side by side.

    python tests/measures/reliability.py kills --rounds 100      every command that writes, stopped at random moments
    python tests/measures/reliability.py memory --calls 20000 --models 300
    python tests/measures/reliability.py compile --processes 8   all kernels, into one empty cache
    python tests/measures/reliability.py warmups --rounds 12     `tinymvit warmup`, stopped at random moments, one cache

Each prints what it found and ends with exit code 1 if a promise is broken. The tests in tests/reliability/ run the same
with small numbers.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

IMAGES = Path(__file__).parent.parent.parent / "docs" / "images"
SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGKILL: None}
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp(/|$)")
Contents = dict[str, bytes]


# ---- kills ----


@dataclass(frozen=True)
class Command:
    """A command line in which {image} stands for a picture; it writes `outputs`, names in the current folder."""

    line: str
    outputs: tuple[str, ...]
    replaces: bool = True  # what an earlier run wrote


COMMANDS = [
    Command("segment {image} --model digits-seg --output picture.png", ("picture.png",)),
    Command("trace {image} --output dump.safetensors", ("dump.safetensors",)),
    Command("trace {image} --output dump --format npy", ("dump",)),
    Command("attention {image} --block 0 --query 10,10 --output attention.png", ("attention.png",)),
    Command("features {image} --node mobilevit.conv_stem --output features.png", ("features.png",)),
    Command(
        "compare digits {image}.safetensors --json compare.json --html compare.html", ("compare.json", "compare.html")
    ),
    Command("vectors --model digits --output vectors --format raw", ("vectors",), replaces=False),
    Command("error {image}.model --json error.json", ("error.json",)),
]


def measure_kills(rounds: int, seed: int, only: list[str]) -> list[str]:
    """What was found wrong."""
    import tinymvit.comparison.against_model
    import tinymvit.error_budget.measure
    import tinymvit.images.draw
    import tinymvit.inspection.feature_map
    import tinymvit.pipeline
    import tinymvit.vectors.write
    from tinymvit.cli import main

    tinymvit.set_num_threads(1)
    list(tinymvit.kernels.warm_up())
    choose = random.Random(seed)
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        for digit, image in enumerate(("digit-2.png", "digit-7.png")):
            shutil.copy(IMAGES / image, f"{digit}.png")
            _finish(main, f"trace {digit}.png --output {digit}.png.safetensors".split())
            _write_small_model(Path(f"{digit}.png.model"), 32 + 32 * digit)
        inputs = set(_contents(Path()))
        for command in COMMANDS:
            if only and command.line.split()[0] not in only:
                continue
            expected = []
            for digit in ("0.png", "1.png"):
                start = time.perf_counter()
                _finish(main, command.line.format(image=digit).split())
                seconds = time.perf_counter() - start
                expected.append({path: data for path, data in _contents(Path()).items() if path not in inputs})
                _clear(inputs)
            old, new = expected if command.replaces else ({}, expected[1])
            counts: Counter[str] = Counter()
            for number in [number for number in SIGNALS for _ in range(rounds)]:
                _write(old)
                moment = choose.uniform(0, 1.05 * seconds)
                status, said = _stopped(main, command.line.format(image="1.png").split(), number, moment)
                found = {path: data for path, data in _contents(Path()).items() if path not in inputs}
                end, fault = _judge(command, number, status, said, found, old, new)
                counts[end] += 1
                if fault:
                    wrong.append(f"{command.line}: {number.name} after {moment:.4f} s: {fault}")
                _clear(inputs)
            print(f"{command.line}: {dict(counts)}", flush=True)
    return wrong


def _write_small_model(folder: Path, size: int) -> None:
    """The bundled classifier for pictures of a few pixels, which is soon done."""
    from tinymvit import MobileViTConfig, MobileViTForImageClassification

    model = MobileViTForImageClassification.from_pretrained("digits")
    model.config = MobileViTConfig.from_dict(model.config.to_dict() | {"image_size": size})
    model.save_pretrained(folder)


def _judge(
    command: Command, number: signal.Signals, status: int, said: str, found: Contents, old: Contents, new: Contents
) -> tuple[str, str | None]:
    """How the command ended, in a word, and what is wrong with that."""
    left = {path for path in found if TEMPORARY.match(path)}
    results = {path: data for path, data in found.items() if path not in left}
    for output in command.outputs:  # each is whole; of two files, one may be old
        of = [
            {path: data for path, data in each.items() if path.split("/")[0] == output} for each in (results, old, new)
        ]
        if of[0] not in of[1:]:
            return "damaged", f"{output} is neither the old one nor the new one"
    if {path.split("/")[0] for path in results} - set(command.outputs):
        return "damaged", f"other files: {sorted(results)}"
    if number == signal.SIGKILL:
        return ("finished" if status == 0 else "killed, file left" if left else "killed"), None
    if left:
        return "left", f"left {sorted(left)[:3]}"
    if status == 0:
        return "finished", None if results == new else "finished, but not written"
    if status in (128 + number, -number) and not said:
        return "not begun", None
    lines = [line for line in said.splitlines() if line]
    if status != 128 + number or lines != [f"tinymvit: {SIGNALS[number]}"]:
        return "odd", f"exit code {status}, said {said!r}"
    return "stopped", None


def _finish(main, arguments: list[str]) -> None:
    status, said = _stopped(main, arguments, None, 0)
    if status not in (0, 1):
        sys.exit(f"{' '.join(arguments)}: exit code {status}: {said}")


def _stopped(main, arguments: list[str], number: signal.Signals | None, moment: float) -> tuple[int, str]:
    """Run a command in a forked child, which has everything imported, and stop it: exit code, and what it said."""
    with tempfile.TemporaryFile() as said:
        begun, begins = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.dup2(said.fileno(), 2)
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                sys.stdout, sys.stderr = open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
                os.write(begins, b" ")
                code = main(arguments)
                sys.stderr.flush()
                os._exit(code)
            except KeyboardInterrupt:
                os._exit(130)
            finally:
                import traceback

                traceback.print_exc()
                sys.stderr.flush()
                os._exit(99)
        os.read(begun, 1)
        os.close(begun)
        os.close(begins)
        if number is not None:
            time.sleep(moment)
            os.kill(child, number)
        guard = threading.Timer(120, os.kill, (child, signal.SIGKILL))
        guard.start()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        guard.cancel()
        said.seek(0)
        return status, said.read().decode(errors="replace")


def _contents(folder: Path) -> Contents:
    return {path.as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _write(contents: Contents) -> None:
    for name, data in contents.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(data)


def _clear(inputs: set[str]) -> None:
    for path in Path().iterdir():
        if path.name not in {name.split("/")[0] for name in inputs}:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


# ---- memory ----


def measure_memory(calls: int, models: int, allowed: float) -> list[str]:
    """What grew by more than `allowed` bytes from a tenth of the way to the end, or at all, of what must not."""
    import tinymvit

    wrong = []
    choose = random.Random(0)
    classifier = tinymvit.MobileViTForImageClassification.from_pretrained("digits")
    sizes = [(height, width) for height in range(32, 96, 8) for width in range(32, 96, 8)]
    numbers = np.random.default_rng(0).random((2, 3, 96, 96), np.float32)

    def infer(_: int) -> None:
        height, width = choose.choice(sizes)
        classifier(numbers[: choose.randint(1, 2), :, :height, :width])

    folder = tempfile.TemporaryDirectory()  # in float32, which is mapped and not copied
    classifier.save_pretrained(folder.name)

    def load(number: int) -> None:
        kind = tinymvit.MobileViTForSemanticSegmentation if number % 2 else tinymvit.MobileViTForImageClassification
        model = kind.from_pretrained("digits-seg" if number % 2 else folder.name)
        model(numbers[:1, :, :64, :64])

    for name, count, work in (("inferences of changing size", calls, infer), ("models", models, load)):
        marks = []
        start = time.perf_counter()
        for number in range(count):
            work(number)
            if number % max(1, count // 10) == count // 10 - 1 or number == count - 1:
                gc.collect()
                marks.append(_state())
                print(f"{name}: {number + 1}: {_words(marks[-1])}", flush=True)
        print(f"{name}: {count} in {time.perf_counter() - start:.0f} s", flush=True)
        early, late = marks[min(1, len(marks) - 1)], marks[-1]
        if late["bytes"] - early["bytes"] > allowed:
            wrong.append(f"{name}: memory grew from {early['bytes'] / 1e6:.1f} to {late['bytes'] / 1e6:.1f} MB")
        grown = [what for what in early if what != "bytes" and late[what] > early[what]]
        wrong += [f"{name}: {what} from {early[what]} to {late[what]}" for what in grown]
    folder.cleanup()
    return wrong


def _state() -> dict[str, int]:
    """Resident memory of this process, its open files, threads and mapped files."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    maps = Path("/proc/self/maps").read_text()
    return {
        "bytes": pages * os.sysconf("SC_PAGE_SIZE"),
        "files": len(os.listdir("/proc/self/fd")),  # noqa: PTH208
        "threads": len(os.listdir("/proc/self/task")),  # noqa: PTH208
        "maps": maps.count(".safetensors"),
    }


def _words(state: dict[str, int]) -> str:
    others = ", ".join(f"{count} {what}" for what, count in state.items() if what != "bytes")
    return f"{state['bytes'] / 1e6:.1f} MB, {others}"


# ---- compile ----


def measure_compile(processes: int) -> list[str]:
    """Let processes classify at the same time with one empty cache between them."""
    program = "import tinymvit, sys; print(tinymvit.classify(sys.argv[1], top_k=1)[0]['label'])"
    command = [sys.executable, "-c", program, str(IMAGES / "digit-7.png")]
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"NUMBA_CACHE_DIR": cache}
        start = time.perf_counter()
        running = [
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(processes)
        ]
        answers = [(*process.communicate(timeout=1800), process.returncode) for process in running]
        print(f"{processes} processes compiled all kernels into one cache in {time.perf_counter() - start:.0f} s")
        wrong = [
            f"exit code {code}, {out!r}, {err[-300:]!r}" for out, err, code in answers if (out, code) != ("7\n", 0)
        ]
        left = [path.name for path in Path(cache).rglob("*.tmp")]
        kept = len(list(Path(cache).rglob("*.pickle")))
        print(f"files in the cache: {kept}, temporary ones: {len(left)}")
        again = subprocess.run(command, env=environment, capture_output=True, text=True)
        if (again.stdout, again.stderr) != ("7\n", ""):
            wrong.append(f"the cache is not whole: {again.stdout!r}, {again.stderr!r}")
    return wrong + [f"left {name}" for name in left]


# ---- warmups ----


def measure_warm_ups(rounds: int, seed: int, longest: float) -> list[str]:
    """Stop `tinymvit warmup` within `longest` seconds, again and again with the same cache; then classify with it."""
    choose = random.Random(seed)
    wrong = []
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"NUMBA_CACHE_DIR": cache}
        for number in [list(SIGNALS)[index % len(SIGNALS)] for index in range(rounds)]:
            command = [sys.executable, "-P", "-m", "tinymvit.cli", "warmup"]
            process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            time.sleep(choose.uniform(0.5, longest))
            process.send_signal(number)
            said = process.communicate(timeout=120)[1].decode().splitlines()
            left = [path.name for path in Path(cache).rglob("*.tmp")]
            kept = len(list(Path(cache).rglob("*.pickle")))
            print(f"{number.name}: exit code {process.returncode}, {kept} files, {len(left)} temporary", flush=True)
            heard = process.returncode == 128 + number and said[-1:] == [f"tinymvit: {SIGNALS[number]}"]
            if number != signal.SIGKILL and process.returncode != 0 and not heard:
                wrong.append(f"{number.name}: exit code {process.returncode}, said {said}")
        program = "import tinymvit, sys; print(tinymvit.classify(sys.argv[1], top_k=1)[0]['label'])"
        command = [sys.executable, "-c", program, str(IMAGES / "digit-7.png")]
        answer = subprocess.run(command, env=environment, capture_output=True, text=True)
        if answer.stdout != "7\n":
            wrong.append(f"with the cache that they left: {answer.stdout!r}, {answer.stderr!r}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    measures = parser.add_subparsers(dest="measure", required=True)
    kills = measures.add_parser("kills")
    kills.add_argument("--rounds", type=int, default=100, help="of each command and signal")
    kills.add_argument("--seed", type=int, default=0)
    kills.add_argument("--only", nargs="*", default=[], help="commands")
    memory = measures.add_parser("memory")
    memory.add_argument("--calls", type=int, default=20_000)
    memory.add_argument("--models", type=int, default=300)
    memory.add_argument("--allowed", type=float, default=8e6, help="bytes of growth")
    compiling = measures.add_parser("compile")
    compiling.add_argument("--processes", type=int, default=8)
    warmups = measures.add_parser("warmups")
    warmups.add_argument("--rounds", type=int, default=12)
    warmups.add_argument("--seed", type=int, default=0)
    warmups.add_argument("--longest", type=float, default=15.0, help="seconds until the signal")
    options = parser.parse_args()
    print(f"load before: {' '.join(f'{each:.1f}' for each in os.getloadavg())}")
    if options.measure == "kills":
        wrong = measure_kills(options.rounds, options.seed, options.only)
    elif options.measure == "memory":
        wrong = measure_memory(options.calls, options.models, options.allowed)
    elif options.measure == "warmups":
        wrong = measure_warm_ups(options.rounds, options.seed, options.longest)
    else:
        wrong = measure_compile(options.processes)
    for each in wrong:
        print("WRONG:", each)
    print(f"wrong: {len(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
