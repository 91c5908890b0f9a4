"""Every command with options, values and names of files that are nearly right; a few of them as real processes."""

import itertools
import os
import subprocess
import sys
from contextlib import suppress

from tinymvit.cli import COMMANDS

from . import models, pictures, rules, settings
from .cases import Case, Printed, command
from .checkpoints import json_text
from .dumps import written_dump
from .random_values import file_name, mutated_bytes, own, scalar, text
from .settings import CONFIG, PROCESSOR

NAMES = [each.__name__.rpartition(".")[2] for each in COMMANDS]
SIZES = ("9", "8x12", "16", "0", "1x2x3", "99999999", "x", "-1", "²", "1")


def in_this_process(rng, sandbox):
    arguments, given = _arguments(rng, sandbox)
    seconds = rules.SECONDS_TO_WRITE if arguments[:1] == ["segment"] else rules.SECONDS
    return Case(command(arguments), f"tinymvit {arguments!r}", given.outputs, given.kept, seconds=seconds)


def as_processes(rng, sandbox):
    arguments, given = _arguments(rng, sandbox)
    encoded = [os.fsencode(argument) for argument in arguments]

    def call():
        program = [sys.executable, "-m", "tinymvit.cli", *encoded]
        try:
            done = subprocess.run(
                program, stdin=subprocess.DEVNULL, capture_output=True, timeout=rules.SECONDS_OF_A_PROCESS - 5
            )
        except subprocess.TimeoutExpired:
            return Printed(-1, "", "")
        return Printed(
            done.returncode, *(text.decode("utf-8", "surrogateescape") for text in (done.stdout, done.stderr))
        )

    told = f"tinymvit {arguments!r} as a process"
    seconds = rules.SECONDS_OF_A_PROCESS
    return Case(call, told, given.outputs, given.kept, seconds=seconds, starts_processes=True)


def _arguments(rng, sandbox):
    """Arguments of a command, and the `Given` of their files, which are made."""
    given = Given(rng, sandbox.case, sandbox)
    name = rng.choice([name for name in NAMES if name not in ("warmup", "bench")] if rng.random() < 0.97 else NAMES)
    arguments = [name, *OPTIONS[name](given)]
    if rng.random() < 0.06:
        at = rng.randrange(len(arguments) + 1)
        arguments.insert(
            at, rng.choice((given.text(), "--json", "--version", "-h", "--thr", "--", f"--{given.text()}"))
        )
    if rng.random() < 0.04:
        del arguments[rng.randrange(len(arguments))]
    for option, value in itertools.pairwise(arguments):
        if option == "--json":  # which may have got an input for its file
            given.outputs.append(os.path.relpath(value, sandbox.case))
    return [_possible(argument) for argument in arguments], given


def _possible(argument):
    """What a shell can pass on: no null character, nothing that is neither text nor bytes."""
    return argument.replace("\x00", "").replace("\ud800", "")[:30000]


class Given:
    """What the options of a command are given. outputs, kept: see `Case`."""

    def __init__(self, rng, folder, sandbox):
        self.rng, self.folder, self.sandbox, self.outputs = rng, folder, sandbox, []
        self.kept = []

    def text(self):
        return own(text(self.rng))

    def mostly(self, right, share=0.92):
        """This value, or now and then another."""
        return right if self.rng.random() < share else self.rng.choice((self.text(), own(str(scalar(self.rng)))))

    def some(self, *options):
        """Each of these lists of arguments with a chance."""
        chosen = []
        for option in options:
            if self.rng.random() < 0.3:
                chosen += option() if callable(option) else option
        return chosen

    def model(self, name=models.CLASSES[0]):
        """A checkpoint's folder, most often a right one."""
        if self.rng.random() < 0.1:
            return self.rng.choice((self.text(), self.text(), "apple/mobilevit-small", "a/b", "~/x", "model/x"))
        name = name if self.rng.random() < 0.9 else self.rng.choice(models.CLASSES)
        folder = models.save(self.free(self.rng.choice(("model", "model", file_name(self.rng)))), name)
        if self.rng.random() < 0.1:
            (folder / "config.json").write_bytes(json_text(self.rng, CONFIG | {"architectures": [name]}))
        elif self.rng.random() < 0.1:
            (folder / "preprocessor_config.json").write_bytes(json_text(self.rng, PROCESSOR))
        elif self.rng.random() < 0.1:
            path = folder / "model.safetensors"
            path.write_bytes(mutated_bytes(self.rng, path.read_bytes()))
        return self.rng.choice((str(folder), str(folder), f"{folder}/model.safetensors", os.path.relpath(folder)))

    def free(self, name):
        """The path of this name, or of a longer one if something has it."""
        while os.path.lexists(self.folder / name):
            name += "2"
        return self.folder / name

    def image(self):
        if self.rng.random() < 0.04:
            return self.rng.choice(
                (self.text(), "/dev/null", "/dev/zero", "missing.png", ".", "model", "/proc/self/mem")
            )
        path = self.free(file_name(self.rng, self.rng.choice((".png", ".png", ".jpg", ".tif", ".webp", ""))))
        if self.rng.random() < 0.01:
            os.mkfifo(path)
        elif self.rng.random() < 0.7:
            path.write_bytes(pictures.good_pictures()["PNG", self.rng.choice(("RGB", "L", "RGBA", "P")), "plain"])
        else:
            path.write_bytes(pictures.picture_content(self.rng)[1])
        return self.rng.choice((str(path), path.name))

    def images(self):
        if self.rng.random() < 0.15:
            folder = self.free(self.rng.choice(("pictures", file_name(self.rng))))
            folder.mkdir()
            for _ in range(self.rng.randrange(4)):
                content = pictures.good_pictures()["PNG", "RGB", "plain"]
                (folder / file_name(self.rng, ".png")).write_bytes(content)
            return [str(folder)]
        return [self.image() for _ in range(self.rng.choice((1, 1, 1, 2, 3)))]

    def output(self, suffixes=(".png",)):
        """A name to write to: new, there already, a folder, a pipe, a link, or one that cannot be."""
        suffix = self.mostly(self.rng.choice(suffixes), 0.9)
        name = (
            (self.rng.choice(("out", "out", "sub/deep/out", file_name(self.rng))) + suffix)
            .replace("\x00", "")
            .replace("\ud800", "")
        )
        name = _possible(self.mostly(name, 0.95)).lstrip("/")
        if ".." in name or name.startswith("~") or os.path.normpath(name) == ".":
            name = "out"
        path = self.folder / name
        self.outputs.append(os.path.normpath(name))
        with suppress(OSError):  # a name that cannot be
            self._prepare(path)
        return self.rng.choice((str(path), name or "."))

    def _prepare(self, path):
        way = self.rng.randrange(16)
        if os.path.lexists(path):
            return
        if way < 4:
            path.parent.mkdir(parents=True, exist_ok=True)
        if way == 0:
            path.write_bytes(b"what was here")
        elif way == 1:
            path.mkdir()
            (path / "mine.txt").write_text("mine", encoding="utf-8")
            self.kept.append(f"{path.relative_to(self.folder)}/mine.txt")
        elif way == 2:
            os.mkfifo(path)
        elif way == 3:
            (self.folder / "elsewhere").mkdir(exist_ok=True)
            self.outputs += ["nowhere", "elsewhere"]  # of a link, what it points to is replaced
            path.symlink_to(self.rng.choice((path.name, self.folder / "nowhere", self.folder / "elsewhere")))

    def dump(self):
        return self.mostly(str(written_dump(self.rng, self.sandbox)), 0.95)

    def threads(self):
        return ["--threads", self.mostly("1", 0.7)]

    def json(self):
        return ["--json"]

    def labels(self):
        path = self.free(self.rng.choice(("labels.txt", "labels.json")))
        path.write_bytes(mutated_bytes(self.rng, b"a\nb\nc\n") if self.rng.random() < 0.5 else b"a\nb\nc\n")
        return ["--labels", self.mostly(str(path))]

    def calibrate(self):
        if self.rng.random() < 0.4:
            path = self.free("ranges.json")
            path.write_bytes(json_text(self.rng, settings.ranges()))
            return ["--calibrate", self.mostly(str(path))]
        return ["--calibrate", self.image()]

    def keep_float(self):
        return ["--keep-float", *(self.mostly(name) for name in self.rng.choice((("classifier",), ("*.query", "x"))))]

    def channel_order(self):
        return ["--channel-order", self.mostly(self.rng.choice(("rgb", "BGR")))]

    def side(self):
        return ["--size", self.rng.choice(SIZES)]


def _classify(given):
    top_k = ["--top-k", given.mostly(given.rng.choice(("1", "3", "99")))]
    said = given.some(given.labels, given.channel_order, given.side)
    return [*given.images(), "--model", given.model(), *said, *given.some(given.threads, given.json, top_k)]


def _segment(given):
    images = given.images()
    output = given.output((".png", ".jpg", ".webp", ".bmp", ".tif", "", ".gif"))
    return [
        *images,
        "--model",
        given.model(models.CLASSES[1]),
        "--output",
        output,
        *given.some(given.threads, given.json, ["--mask"]),
    ]


def _summary(given):
    subject = [given.model()] if given.rng.random() < 0.6 else ["--shape", given.mostly("xx-small")]
    return [*subject, *given.some(given.json, lambda: ["--size", given.rng.choice(SIZES)])]


def _bench(given):
    wrong = given.some(["--batch", "0"], ["--size", "x"], ["--task", given.text()], ["--shape", given.text()])
    against = given.mostly(given.rng.choice(("nobody", "torch,", ",", "")), 0.9)
    return [given.text(), *wrong, "--against", against]  # all of it refused: a benchmark takes seconds


def _trace(given):
    more = given.some(
        given.threads, given.json, ["--dtype", given.mostly("float64")], ["--source", given.mostly("engine")],
        ["--format", given.mostly(given.rng.choice(("raw", "npy", "safetensors")))],
    )  # fmt: skip
    names = ["--names", given.mostly(given.rng.choice(("logits", "*.scores", "*")), 0.7)]
    return [given.image(), "--model", given.model(), "--output", given.output(("", ".safetensors")), *names, *more]


def _attention(given):
    more = given.some(["--layer", given.mostly("1")], ["--head", given.mostly("0")])
    block = given.mostly(given.rng.choice(("0", "1", "2", "3")))
    return [
        given.image(), "--model", given.model(), "--block", block, "--query", given.mostly("3,4"), "--output",
        given.output(), *more,
    ]  # fmt: skip


def _features(given):
    node = given.mostly(given.rng.choice(("mobilevit.conv_stem", "logits", "mobilevit.encoder.layer.1")), 0.8)
    return [given.image(), "--model", given.model(), "--node", node, "--output", given.output()]


def _compare(given):
    ours = given.rng.choice((given.model, given.dump))()
    theirs = given.dump()
    if given.rng.random() < 0.3:
        theirs = ours
    more = given.some(
        ["--layout", given.mostly("nchw")], ["--tolerance", given.mostly("1e-3")], ["--isolate"],
        lambda: ["--json", given.output((".json",))], lambda: ["--html", given.output((".html",))],
        lambda: ["--write-map", given.output((".json",))], ["--precision", given.mostly("int8")],
    )  # fmt: skip
    if given.rng.random() < 0.2:
        path = given.free("map.json")
        path.write_bytes(json_text(given.rng, {"t0": "logits", "n1": "mobilevit.conv_stem"}))
        more += ["--map", str(path)]
    return [ours, theirs, *more]


def _vectors(given):
    format = given.mostly(given.rng.choice(("npy", "raw", "c", "safetensors")))
    arguments = ["--model", given.model(), "--output", given.output(("",)), "--format", format]
    return [*arguments, *given.some(lambda: ["--size", given.rng.choice(SIZES)], ["--precision", given.mostly("int8")])]


def _error(given):
    image = [given.image()] if given.rng.random() < 0.9 else []
    more = given.some(
        given.threads, lambda: ["--json", given.output((".json",))], lambda: ["--plot", given.output((".x", ".jpg"))]
    )
    if given.rng.random() < 0.3:
        more += ["--precision", given.mostly("int8"), *given.some(given.calibrate, given.keep_float)]
    return [given.model(), *image, *more]


def _calibrate(given):
    said = given.some(given.labels, given.channel_order, lambda: ["--size", given.rng.choice(SIZES)])
    method = given.some(["--method", given.mostly("percentile")], ["--percentile", given.mostly("99")])
    return [given.model(), *given.images(), "--output", given.output((".json", ".json", ".txt")), *said, *method]


def _export(given):
    to = given.mostly(given.rng.choice(("onnx", "tflite", "c")))
    output = given.output((".onnx", ".tflite", ""))
    said = given.some(given.labels, given.channel_order, given.side, given.threads)
    more = given.some(
        ["--precision", given.mostly(given.rng.choice(("float16", "int8")))], ["--batch", given.mostly("2")],
        ["--dynamic-batch"], ["--backbone"], ["--with-preprocessing"], ["--answer", given.mostly("argmax")],
        lambda: ["--json", given.output((".json",))], given.calibrate, given.keep_float,
    )  # fmt: skip
    return [given.model(given.rng.choice(models.CLASSES)), "--to", to, "--output", output, *said, *more]


def _convert(given):
    to = given.mostly(given.rng.choice(("transformers", "timm", "cvnets", "tensorflow")))
    said = given.some(given.labels, given.channel_order, given.side)
    return [given.model(given.rng.choice(models.CLASSES)), given.output(("",)), "--to", to, *said]


def _models(given):
    return given.some(given.json)


OPTIONS = {
    "classify": _classify, "segment": _segment, "summary": _summary, "bench": _bench, "trace": _trace,
    "attention": _attention, "features": _features, "compare": _compare, "vectors": _vectors, "error": _error,
    "convert": _convert, "export": _export, "calibrate": _calibrate, "models": _models,
    "warmup": lambda given: [given.text()],
}  # fmt: skip
