"""Test vectors as files: a folder with a file a tensor or a vector, manifest.json, and a README that says what to do.

The folder is a dump too in the formats that have a file a tensor. What a vector holds is left to `make`, how a dump is
written to `inspection.dump_writer`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinymvit.errors import OutputError
from tinymvit.files import complete_or_nothing
from tinymvit.inspection.dump import MANIFEST
from tinymvit.inspection.dump_writer import (
    SUFFIXES,
    Spec,
    manifest_entry,
    safetensors_file,
    write_manifest,
    write_tensor,
)
from tinymvit.inspection.trace import attributes
from tinymvit.modeling import MobileViTPreTrainedModel
from tinymvit.vectors.make import FACTOR, Vector, distinct, model_graph, vectors

FORMATS = ("npy", "raw", "safetensors", "c")
README = "README.md"


def write_vectors(
    model: MobileViTPreTrainedModel,
    folder: str | Path,
    format: str = "npy",
    size: tuple[int, int] | None = None,
    source: str = "",
) -> dict[str, Any]:
    """Write the model's vectors into a new folder, with a manifest.json and a README.md; returns the manifest.

    format: "npy" or "raw" (a file a tensor; raw is little-endian float32 without a header), "safetensors" or "c" (a
    file a vector; c is a header with the numbers as hexadecimal floats). size: see `vectors`. source: the checkpoint's
    name, to be noted. Raises OutputError, a ValueError, if the folder holds anything or cannot be written; nothing is
    then left behind. Raises CheckpointError if the weights give no numbers.
    """
    from tqdm import tqdm

    if not isinstance(model, MobileViTPreTrainedModel):
        raise TypeError(f"model: {type(model).__name__}, expected one of the MobileViT models")
    if format not in FORMATS:
        raise OutputError(f"format {format!r}; expected {', '.join(FORMATS)}")
    entries: list[dict[str, Any]] = []
    tensors: list[dict[str, Any]] = []
    with complete_or_nothing(folder, lambda target: _check_new(target, folder)) as temporary:
        temporary.mkdir()
        total = len(distinct(model_graph(model, size), shrink=size is None)) + 1
        for vector in tqdm(vectors(model, size), total=total, unit="vector", disable=None, leave=False):
            files = write_vector(temporary, vector, format)
            entries.append(vector_entry(vector))
            tensors += [
                manifest_entry(f"{vector.name}.{name}", tensor, files[name], {})
                for name, tensor in vector.tensors.items()
            ]
        manifest = write_manifest(temporary, {"model": source, "format": format, "vectors": entries}, tensors)
        (temporary / README).write_text(read_me(manifest), encoding="utf-8", newline="\n")
    return manifest


def _check_new(target: Path, folder: str | Path) -> None:
    """`folder`: how the caller called it."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OutputError(f"{folder}: is there already; expected the name of a new folder or an empty one")


def write_vector(folder: Path, vector: Vector, format: str) -> dict[str, str]:
    """Write one vector's files, and return which of them holds each of its tensors."""
    if format in SUFFIXES:
        files = {name: f"{vector.name}.{name}{SUFFIXES[format]}" for name in vector.tensors}
        for name, tensor in vector.tensors.items():
            write_tensor(folder / files[name], tensor)
        return files
    file = f"{vector.name}.{'h' if format == 'c' else format}"
    if format == "c":
        (folder / file).write_text(c_header(vector), encoding="ascii", newline="\n")
    else:
        specs = {name: Spec(name, tensor.shape, tensor.dtype.name) for name, tensor in vector.tensors.items()}
        with safetensors_file(folder / file, list(specs.values())) as put:
            for name, tensor in vector.tensors.items():
                put(specs[name], tensor)
    return dict.fromkeys(vector.tensors, file)


def vector_entry(vector: Vector) -> dict[str, Any]:
    """A vector's entry in the manifest."""
    return {
        "name": vector.name,
        "op": type(vector.op).__name__ if vector.op else "model",
        "attributes": attributes(vector.op) if vector.op else {},
        "inputs": list(vector.inputs),
        "weights": list(vector.weights),
        "outputs": {
            name: {"absolute_tolerance": result.absolute, "relative_tolerance": result.relative}
            for name, result in vector.outputs.items()
        },
        "nodes": list(vector.nodes),
    }


def c_header(vector: Vector) -> str:
    """The vector as C99: macros for shapes, attributes and tolerances; arrays of exact hexadecimal floats."""
    macro = f"TINYMVIT_{vector.name}".upper()
    numbers = attributes(vector.op) if vector.op else {}
    fields = ", ".join(f"{name}={value!r}" for name, value in numbers.items())
    title = f"{type(vector.op).__name__}({fields})" if vector.op else "The whole model."
    lines = [f"/* {title} */", f"#ifndef {macro}_H", f"#define {macro}_H", ""]
    for name, result in vector.outputs.items():
        numbers |= {f"{name}_absolute_tolerance": result.absolute, f"{name}_relative_tolerance": result.relative}
    for name, number in numbers.items():
        if isinstance(number, int | float):
            lines.append(f"#define {macro}_{name.upper()} {_c_number(number)}")
    for name, tensor in vector.tensors.items():
        lines += [
            "",
            f"#define {macro}_{name.upper()}_SHAPE {{{', '.join(map(str, tensor.shape))}}}",
            f"#define {macro}_{name.upper()}_SIZE {tensor.size}",
            f"static const float tinymvit_{vector.name}_{name}[{tensor.size}] = {{",
        ]
        values = [f"{_c_number(value)}," for value in tensor.ravel().tolist()]
        lines += ["    " + " ".join(values[i : i + 6]) for i in range(0, len(values), 6)]
        lines.append("};")
    return "\n".join([*lines, "", f"#endif /* {macro}_H */", ""])


def _c_number(number: float) -> str:
    """An integer, or a float in hexadecimal, which is exact, without the zeros at its end."""
    return re.sub(r"\.?0*p", "p", number.hex()) + "f" if isinstance(number, float) else str(int(number))


READING = {
    "npy": 'Each tensor is a file: `np.load("NAME.input.npy")`.',
    "raw": 'Each tensor is a file of little-endian float32 without a header: `np.fromfile("NAME.input.bin", "<f4")`, '
    "then the shape from the manifest.",
    "safetensors": 'Each vector is a file: `safetensors.numpy.load_file("NAME.safetensors")["input"]`.',
    "c": 'Each vector is a C99 header: `#include "NAME.h"` gives the arrays `tinymvit_NAME_input`, `..._weight`, '
    "`..._output`, and macros for shapes, attributes and tolerances.",
}


def read_me(manifest: Mapping[str, Any]) -> str:
    """What the folder tells whoever finds it."""
    rows = "\n".join(
        f"| `{v['name']}` | {v['op']} | {', '.join(f'{k} {value}' for k, value in v['attributes'].items())} "
        f"| {len(v['nodes'])} |"
        for v in manifest["vectors"]
    )
    return f"""# Test vectors of {manifest["model"] or "a MobileViT"}

For each distinct operation of the network: inputs, weights, and the output that a port must give; and, as `model`, the
whole network's input and output with the checkpoint's own weights, which are not repeated here.

1. Run your operation on a vector's inputs and weights, with the attributes that `{MANIFEST}` gives.
2. Every value of your output must satisfy `|value - output| <= absolute_tolerance + relative_tolerance * |output|`.
3. Go in the table's order, which is the network's: the first vector that fails names the operation to mend.

{READING[manifest["format"]]}

Layouts are PyTorch's: maps (batch, channels, height, width), tokens (sequences, tokens, width), convolution weights
(out, in, height, width), linear weights (out, in). Several inputs are numbered in the order of the operation's
arguments: query and key, probabilities and value. `nodes` in the manifest lists the places in the network that a vector
stands for; those named `interpolate` exist only for inputs whose maps the patch does not divide.

The outputs are computed in float64 and rounded to float32. Inputs have 12 bits, so they are exact in float16 too. The
tolerances are those of a float32 port: {FACTOR} times the rounding error of float32 measured on this very vector; zero
where numbers are only moved. Among the inputs are those that ports fail on: zeros of both signs and large numbers for
activations, rows that overflow for softmax, a row without variance for layer normalisation.

`sha256` in the manifest is that of a tensor's bytes as little-endian float32.

| vector | op | attributes | nodes |
|---|---|---|---|
{rows}
"""
