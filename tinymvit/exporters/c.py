"""The network as a program in C: a folder that any compiler of C99 makes a program of, with nothing but the C library.

`c_program` says which functions are called, and where values lie; the functions stand in `c_source`, one op a file, to
be read beside `tinymvit/ops/`. Every sum is in the order of the op's own `compute_in_order`, so that all bits
are those of `reference.run(..., in_order=True)` on the folded graph.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import shutil
import string
import subprocess
import tempfile
import textwrap
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np

from tinymvit.errors import OutputError
from tinymvit.exporters.c_program import Program, write_program
from tinymvit.exporters.network import FLOAT32, IMAGE, INT8, PIXEL_VALUES, Network
from tinymvit.files import reason, text_writer
from tinymvit.numerics import Array
from tinymvit.ops import Shape
from tinymvit.text import short

NAME, WORD, SUFFIX = "c", "C", ""
PRECISIONS = (FLOAT32, INT8)
MODULES: tuple[str, ...] = ()
EXTRA: str | None = None
RUNTIME, RUNTIME_MODULES = "C, compiled here", ()
MOST_THREADS: int | None = 1

SOURCE = Path(__file__).parent / "c_source"
COMPILED = ("main.c", "mobilevit.c", "weights.c")
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-std=c99", "-O3", "-ffp-contract=off", "-fno-trapping-math")
ROW = 512  # float32 numbers in a line of weights.c: a string of at most 4095 characters, as C99 asks
TYPES = {"float32": "float", "int32": "int32_t", "uint8": "unsigned char"}  # in C


def files(network: Network, name: str) -> dict[str, Callable[[BinaryIO], object]]:
    """The files of the folder; what it is called does not matter. Raises TinyMViTError for an open number of images,
    an op or an activation that there is not in C."""
    program = write_program(network)
    return {
        "mobilevit.h": text_writer(header(network, program)),
        "mobilevit.c": text_writer(library(network, program)),
        "weights.c": partial(write_weights, program),
        "main.c": text_writer(main_program(network, program)),
        "Makefile": text_writer((SOURCE / "Makefile").read_text("utf-8")),
        "README.md": text_writer(readme(network, program)),
    }


# ---- the files ----


def header(network: Network, program: Program) -> str:
    """mobilevit.h: what a caller needs, and the declarations that mobilevit.c shares with weights.c."""
    numbers, multiples = sizes_of_weights(program)
    results = "".join(
        f"#define MOBILEVIT_{name.upper()} {math.prod(shape)} /* numbers of {name}, {_sides(shape)} */\n"
        for name, (shape, _) in program.results.items()
    )
    return _filled(
        "mobilevit.h",
        task=network.facts.get("task", "features"),
        precision=network.precision,
        batch=network.graph[PIXEL_VALUES].shape[0],
        input=math.prod(network.graph[PIXEL_VALUES].shape),
        arena=program.arena,
        nodes=len(program.nodes),
        results=results,
        parameters=_parameters(network, program),
        about_input=_about_input(network),
        rows=-(-numbers // ROW),
        row=4 * ROW,
        numbers=max(numbers, 1),
        multiples=(
            f"extern const signed char mobilevit_multiples[{-(-multiples // ROW)}][{ROW}];\n" if multiples else ""
        ),
    )


def library(network: Network, program: Program) -> str:
    """mobilevit.c: the table of nodes, the functions that this network calls, and the calls."""
    precision = INT8 if program.store.int8 else FLOAT32
    functions = _with_included(["begin", "softmax", *program.sources], {"weights": f"weights_{precision}"})
    nodes = "".join(
        f'    {{"{node.name}", {len(node.shape)}, {{{_sides(node.shape, ", ")}}}}},\n' for node in program.nodes
    )
    statements = "\n".join(_wrapped(line) for line in program.body)
    given = PIXEL_VALUES if network.preprocessing is None else IMAGE
    steps = [given, *program.results]
    batch = network.graph[PIXEL_VALUES].shape[0]
    sizes = [math.prod(network.graph[PIXEL_VALUES].shape), *(math.prod(shape) for shape, _ in program.results.values())]
    return _filled(
        "mobilevit.c",
        functions="\n".join(functions[name] for name in functions),
        nodes=nodes,
        statements=statements,
        parameters=_parameters(network, program),
        arguments=", ".join(steps),
        image_arguments=", ".join(f"{name} + i * {size // batch}" for name, size in zip(steps, sizes, strict=True)),
        multiples=("    const signed char *const multiples = mobilevit_multiples[0];\n" if program.store.int8 else ""),
    )


def _with_included(names: list[str], meant: Mapping[str, str]) -> dict[str, str]:
    """The text of these files of `c_source` by their names, each once and behind those that it includes. meant: the
    names of the files that stand for others."""
    found: dict[str, str] = {}
    for name in names:
        name = meant.get(name, name)
        if name in found:
            continue
        text = (SOURCE / f"{name}.c").read_text("utf-8")
        needed = re.findall(r'^#include "(\w+)\.c"\n', text, re.MULTILINE)
        found |= {key: value for key, value in _with_included(needed, meant).items() if key not in found}
        found[name] = re.sub(r'^#include "\w+\.c"\n+', "", text, flags=re.MULTILINE)
    return found


def write_weights(program: Program, file: BinaryIO) -> None:
    """weights.c: the bytes of the numbers, in strings, which a compiler takes in a tenth of the time that numbers would
    take it."""
    file.write(_filled("weights.c").encode())
    numbers = np.concatenate([*program.store.numbers, np.zeros(0, np.float32)]).astype("<f4")
    file.write(b"const mobilevit_numbers mobilevit_weights = {{\n")
    file.writelines(_strings(numbers.tobytes(), 4 * ROW))
    file.write(b"}};\n")
    if program.store.int8:
        rows = -(-sizes_of_weights(program)[1] // ROW)
        file.write(b"\nconst signed char mobilevit_multiples[%d][%d] = {\n" % (rows, ROW))
        file.writelines(_strings(np.concatenate(program.store.multiples).tobytes(), ROW))
        file.write(b"};\n")


_PLAIN = (string.ascii_letters + string.digits + " -_.,()'").encode()
_OCTAL = [f"\\{byte:03o}" for byte in range(256)]


def _strings(data: bytes, width: int) -> Iterator[bytes]:
    """The data as strings in C of so many bytes; the last may be shorter."""
    for start in range(0, len(data), width):
        yield f'"{"".join(map(_OCTAL.__getitem__, data[start : start + width]))}",\n'.encode()


def sizes_of_weights(program: Program) -> tuple[int, int]:
    """How many numbers in float32, and in int8, there are."""
    return sum(each.size for each in program.store.numbers), sum(each.size for each in program.store.multiples)


def main_program(network: Network, program: Program) -> str:
    """main.c: reads stdin, prints answers."""
    given = _given(network)
    tensors = {given[0]: given[1:], **{name: (_type(whole), s) for name, (s, whole) in program.results.items()}}
    data = [f"static {TYPES[kind]} {name}[{math.prod(shape)}];" for name, (kind, shape) in tensors.items()]
    table = [
        f'    {{"{name}", "{kind}", {len(shape)}, {{{_sides(shape, ", ")}}}, {name}, sizeof {name}}},'
        for name, (kind, shape) in tensors.items()
    ]
    return _filled(
        "main.c",
        input=f"{given[0]} ({_sides(given[2], ', ')}), {given[1]}",
        data="\n".join(data),
        tensors="\n".join(table),
        given=given[0],
        arguments=", ".join(tensors),
        answer=_answer(network, program).rstrip(),
    )


def _given(network: Network) -> tuple[str, str, Shape]:
    """Name, type and shape of the input."""
    shape = network.graph[PIXEL_VALUES].shape
    if network.preprocessing is None:
        return PIXEL_VALUES, "float32", shape
    images, channels, height, width = shape
    return IMAGE, "uint8", (images, height, width, channels)


def _type(whole: bool) -> str:
    return "int32" if whole else "float32"


def _needs_softmax(network: Network) -> bool:
    """Whether the program makes probabilities of the logits."""
    return bool(network.labels) and network.answer is None and len(_logits(network)) == 2


def _logits(network: Network) -> Shape:
    return network.graph[network.graph.outputs["logits"]].shape


def _answer(network: Network, program: Program) -> str:
    """What prints an answer."""
    if not network.labels and network.answer is None:
        return _filled("main_features.c")
    _, classes, *sides = _logits(network)
    ((result, (_, whole)),) = program.results.items()
    labels = network.labels or tuple(map(str, range(classes)))
    names = "".join(f'    "{_escaped(label)}",\n' for label in labels)
    if whole or sides:
        best = _filled("main_whole.c" if whole else "main_best.c", result=result)
        printing = _filled("main_shares.c", best=best)
    else:
        softmax = "    mobilevit_softmax(p, CLASSES);\n" if _needs_softmax(network) else ""
        printing = _filled("main_best_five.c", result=result, softmax=softmax)
    return _filled("main_labels.c", classes=classes, pixels=math.prod(sides), names=names) + "\n" + printing


def _escaped(label: str) -> str:
    """Text inside a string in C: what is no plain letter as the bytes of UTF-8."""
    return "".join(chr(byte) if byte in _PLAIN else _OCTAL[byte] for byte in label.encode())


def _about_input(network: Network) -> str:
    given, _, shape = _given(network)
    if given == PIXEL_VALUES:
        order = network.facts.get("channel_order", "BGR")
        factor = network.facts.get("rescale_factor", 1)
        numbers = f"the numbers of a picture times {factor:.9g}, channels in the order {order}"
        return f"pixel_values ({_sides(shape, ', ')}): {numbers}"
    return f"image ({_sides(shape, ', ')}): a byte each for red, green and blue"


def _parameters(network: Network, program: Program) -> str:
    given = "const float *pixel_values" if network.preprocessing is None else "const unsigned char *image"
    results = [f"{TYPES[_type(whole)]} *{name}" for name, (_, whole) in program.results.items()]
    return ", ".join([given, *results, "float *arena"])


def _sides(shape: Shape, between: str = " x ") -> str:
    return between.join(map(str, shape))


def _wrapped(statement: str) -> str:
    """A statement, or a comment, with its indentation, in lines of at most 120 characters."""
    return textwrap.fill(
        statement,
        120,
        initial_indent=" " * 4,
        subsequent_indent=" " * 8,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _filled(name: str, **values: object) -> str:
    """A file of `c_source` with values for its ${names}."""
    return string.Template((SOURCE / name).read_text("utf-8")).substitute(values)


def readme(network: Network, program: Program) -> str:
    """README.md of the folder: how it is compiled, called and compared."""
    numbers, multiples = sizes_of_weights(program)
    return _filled(
        "README.md",
        task=network.facts.get("task", "features"),
        precision=network.precision,
        about_input=_about_input(network),
        results="".join(f"- `{name}` ({_sides(s, ', ')}), {_type(w)}\n" for name, (s, w) in program.results.items()),
        arena=f"{4 * program.arena:,}",
        weights=f"{4 * numbers + multiples:,}",
        given=_given(network)[0],
        arguments=", ".join(program.results),
    )


def about(network: Network) -> str:
    """The memory that the program needs."""
    program = write_program(network)
    numbers, multiples = sizes_of_weights(program)
    return f"weights: {4 * numbers + multiples:,} bytes; the arena that it works in: {4 * program.arena:,} bytes"


# ---- running it ----


def load(path: Path, threads: int) -> Callable[[Array], Mapping[str, Array]]:
    """What runs the program in a folder that `export` wrote, compiled for this machine: from an input to the results,
    by their names. It uses one thread, whatever `threads` says. Raises OutputError if there is no compiler, or if it
    refuses the folder."""
    compiler = find_compiler()
    with tempfile.TemporaryDirectory(
        ignore_cleanup_errors=True
    ) as folder:  # a program that runs needs its file no more
        program = compile_folder(path, Path(folder) / "mobilevit", compiler, _flags(compiler))
        lines = subprocess.run([program, "--describe"], capture_output=True, text=True, check=True).stdout.splitlines()
        process = subprocess.Popen([program, "--raw"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    return _Running(path, process, [line.split() for line in lines])


def find_compiler() -> list[str]:
    """The command of a compiler of C: that of the environment variable CC, or the first there is of `COMPILERS`.
    Raises OutputError if there is none."""
    try:
        given = shlex.split(os.environ.get("CC", ""))
    except ValueError:
        raise OutputError(f"CC is {short(os.environ['CC'])}, expected a command, its quotes closed") from None
    if given:
        if shutil.which(given[0]) is None:
            raise OutputError(f"CC is {given[0]!r}, expected the name of a compiler that is on the path")
        return given
    found = next((name for name in COMPILERS if shutil.which(name)), None)
    if found is None:
        raise OutputError(
            f"no compiler of C: expected one of {', '.join(COMPILERS)} on the path, or CC to name another"
        )
    return [found]


def compile_folder(path: Path, program: Path, compiler: list[str], flags: tuple[str, ...] = FLAGS) -> Path:
    """Compile the folder to a program. Raises OutputError with what the compiler says first."""
    sources = [str(path / name) for name in COMPILED]
    try:
        done = subprocess.run([*compiler, *flags, "-o", str(program), *sources], capture_output=True, text=True)
    except OSError as failure:
        raise OutputError(f"{compiler[0]}: cannot be run: {reason(failure)}") from None
    if done.returncode == 0 and not program.exists():
        raise OutputError(f"{path}: {compiler[0]} wrote no program of it, expected a compiler of C")
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if "error" in line), f"exit code {done.returncode}")
        raise OutputError(f"{path}: {compiler[0]} does not compile it: {said}")
    return program


def _flags(compiler: list[str]) -> tuple[str, ...]:
    """Those for a program that runs here, with all that this processor has if the compiler knows how."""
    native = (*FLAGS, "-march=native")
    test = subprocess.run([*compiler, *native, "-x", "c", "-E", os.devnull], capture_output=True)
    return native if test.returncode == 0 else FLAGS


class _Running:
    """A program that waits for inputs, and ends with this object."""

    def __init__(self, path: Path, process: subprocess.Popen[bytes], described: list[list[str]]) -> None:
        self._path = path
        self._process = process
        (_, self._dtype, *shape), *self._results = described
        self._shape = tuple(map(int, shape))
        weakref.finalize(self, _end, process)

    def __call__(self, given: Array) -> dict[str, Array]:
        """given: of the shape and dtype that the program takes. Raises ValueError for another, OutputError if the
        program has ended."""
        if given.shape != self._shape or given.dtype != self._dtype:
            raise ValueError(f"input: {given.dtype} {given.shape}, expected {self._dtype} {self._shape}")
        stdin, stdout = _pipes(self._process)
        try:
            stdin.write(np.ascontiguousarray(given).data)
            stdin.flush()
            return {name: _read(stdout, dtype, tuple(map(int, shape))) for name, dtype, *shape in self._results}
        except (OSError, EOFError):
            raise OutputError(f"{self._path}: the program has ended, with exit code {self._process.wait()}") from None


def _read(stream: IO[bytes], dtype: str, shape: Shape) -> Array:
    result = np.empty(shape, dtype)
    data = stream.read(result.nbytes)
    if len(data) < result.nbytes:
        raise EOFError
    result.ravel().view(np.uint8)[...] = np.frombuffer(data, np.uint8)
    return result


def _end(process: subprocess.Popen[bytes]) -> None:
    stdin, stdout = _pipes(process)
    with suppress(OSError):
        stdin.close()
    stdout.close()
    process.wait()


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout
