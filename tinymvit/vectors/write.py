"""Test vectors as files: a folder with a file a tensor or a vector, manifest.json, and a README that says what to do.

The folder is a dump too in the formats that have a file a tensor. What a vector holds is left to `make`, how a dump is
written to `inspection.dump_writer`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

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
from tinymvit.vectors.make import (
    FACTOR,
    Vector,
    distinct,
    distinct_in_int8,
    int8_vectors,
    model_graph,
    vectors,
)

FORMATS = ("npy", "raw", "safetensors", "c")
FLOAT32, INT8 = PRECISIONS = ("float32", "int8")
README = "README.md"


def write_vectors(
    model: MobileViTPreTrainedModel,
    folder: str | Path,
    format: str = "npy",
    size: tuple[int, int] | None = None,
    source: str = "",
    precision: str = FLOAT32,
) -> dict[str, Any]:
    """Write the model's vectors into a new folder, with a manifest.json and a README.md; returns the manifest.

    format: "npy" or "raw" (a file a tensor; raw is little-endian float32 without a header), "safetensors" or "c" (a
    file a vector; c is a header with the numbers as hexadecimal floats). size: see `vectors`. source: the checkpoint's
    name, to be noted. precision: "float32", or "int8" for the ops that int8 computes in integers, see `int8_vectors`:
    their arrays have their own dtypes in every format. Raises OutputError, a ValueError, if the folder holds anything
    or cannot be written; nothing is then left behind. Raises CheckpointError if the weights give no numbers.
    """
    from tqdm import tqdm

    if not isinstance(model, MobileViTPreTrainedModel):
        raise TypeError(f"model: {type(model).__name__}, expected one of the MobileViT models")
    if format not in FORMATS:
        raise OutputError(f"format {format!r}; expected {', '.join(FORMATS)}")
    if precision not in PRECISIONS:
        raise OutputError(f"precision {precision!r}; expected {' or '.join(PRECISIONS)}")
    entries: list[dict[str, Any]] = []
    tensors: list[dict[str, Any]] = []
    with complete_or_nothing(folder, lambda target: _check_new(target, folder)) as temporary:
        temporary.mkdir()
        if precision == INT8:
            made, total = int8_vectors(model, size), len(distinct_in_int8(model, size)) + 2
        else:
            made, total = vectors(model, size), len(distinct(model_graph(model, size), shrink=size is None)) + 1
        for vector in tqdm(made, total=total, unit="vector", disable=None, leave=False):
            files = write_vector(temporary, vector, format)
            entries.append(vector_entry(vector))
            tensors += [
                manifest_entry(f"{vector.name}.{name}", tensor, files[name], {})
                for name, tensor in vector.tensors.items()
            ]
        manifest = write_manifest(
            temporary, {"model": source, "format": format, "precision": precision, "vectors": entries}, tensors
        )
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
        ordered = sorted(vector.tensors.items(), key=lambda item: -item[1].itemsize)  # so that each lies aligned
        specs = {name: Spec(name, tensor.shape, tensor.dtype.name) for name, tensor in ordered}
        with safetensors_file(folder / file, list(specs.values())) as put:
            for name, tensor in ordered:
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
        **({"derived": list(vector.derived)} if vector.derived else {}),
        "outputs": {
            name: {"absolute_tolerance": result.absolute, "relative_tolerance": result.relative}
            for name, result in vector.outputs.items()
        },
        "nodes": list(vector.nodes),
    }


def c_header(vector: Vector) -> str:
    """The vector as C99: macros for shapes, attributes and tolerances; arrays of exact hexadecimal floats, or of whole
    numbers."""
    macro = f"TINYMVIT_{vector.name}".upper()
    numbers = _flat(attributes(vector.op)) if vector.op else {}
    fields = ", ".join(f"{name}={value!r}" for name, value in numbers.items())
    title = f"{type(vector.op).__name__}({fields})" if vector.op else "The whole model."
    lines = [f"/* {title} */", f"#ifndef {macro}_H", f"#define {macro}_H", ""]
    types = {tensor.dtype.name for tensor in vector.tensors.values()} - {"float32"}
    if types:
        lines += ["#include <stdint.h>", ""]
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
            f"static const {C_TYPES[tensor.dtype.name]} tinymvit_{vector.name}_{name}[{tensor.size}] = {{",
        ]
        values = [f"{_c_number(value)}," for value in tensor.ravel().tolist()]
        row = 6 if tensor.dtype == np.float32 else 16
        lines += ["    " + " ".join(values[i : i + row]) for i in range(0, len(values), row)]
        lines.append("};")
    return "\n".join([*lines, "", f"#endif /* {macro}_H */", ""])


C_TYPES = {"float32": "float", "int8": "int8_t", "int32": "int32_t"}


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes without a level below: those of the op inside by their own names, others with the outer name before
    them."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= {inner if name == "op" else f"{name}_{inner}": each for inner, each in value.items()}
        else:
            found[name] = value
    return found


def _c_number(number: float) -> str:
    """An integer, or a float in hexadecimal, which is exact, without the zeros at its end."""
    return re.sub(r"\.?0*p", "p", number.hex()) + "f" if isinstance(number, float) else str(int(number))


READING = {
    "npy": 'Each tensor is a file: `np.load("NAME.input.npy")`.',
    "raw": "Each tensor is a file of little-endian numbers without a header, of the dtype that the manifest gives: "
    '`np.fromfile("NAME.input.bin", "<f4")`, then the shape from the manifest.',
    "safetensors": 'Each vector is a file: `safetensors.numpy.load_file("NAME.safetensors")["input"]`.',
    "c": 'Each vector is a C99 header: `#include "NAME.h"` gives the arrays `tinymvit_NAME_input`, `..._weight`, '
    "`..._output`, and macros for shapes, attributes and tolerances.",
}


def read_me(manifest: Mapping[str, Any]) -> str:
    """What the folder tells whoever finds it."""
    rows = "\n".join(
        f"| `{v['name']}` | {v['op']} | {', '.join(f'{k} {value}' for k, value in _flat(v['attributes']).items())} "
        f"| {len(v['nodes'])} |"
        for v in manifest["vectors"]
    )
    table = f"| vector | op | attributes | nodes |\n|---|---|---|---|\n{rows}\n"
    return (_int8_read_me if manifest["precision"] == INT8 else _float_read_me)(manifest) + table


def _float_read_me(manifest: Mapping[str, Any]) -> str:
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

"""


def _int8_read_me(manifest: Mapping[str, Any]) -> str:
    return f"""# Test vectors of {manifest["model"] or "a MobileViT"} in int8

For each distinct operation of the network that is computed in integers: inputs, weights, and the output that a port
must give, to the bit.

1. Run your operation on a vector's input and weights, with the attributes that `{MANIFEST}` gives.
2. Every number of your output must be the output's. Whoever rounds the last step in another way is off by one in a few;
   that is how TensorFlow Lite and ONNX Runtime differ, and nothing else may.
3. Go in the table's order, which is the network's: the first vector that fails names the operation to mend.

What each tensor is:

- `input`, `output`: int8, but for the input of `quantise` and the output of `dequantise`, which are float32. A number q
  stands for `(q - zero_point) * scale`, with `x_zero_point` and `x_scale` for the input, `y_` for the output.
- `weight`: int8, -127 to 127; `scale`: float32, one for each output channel; `bias`: int32, in steps of
  `x_scale * scale[o]`.
- `multiplier`, `shift`: int32, one for each output channel, made of the three scales: of the sum `a` in int32,

      a = bias[o] + sum of (input - x_zero_point) * weight
      output = min(max(((a * multiplier[o] + (1 << (shift[o] - 1))) >> shift[o]) + y_zero_point, -128), 127)

  with the product and the shift, an arithmetic one, in int64. A convolution reads `x_zero_point` outside the map.
- `table`: int8, what an activation makes of -128 to 127, in this order.

{READING[manifest["format"]]}

Layouts are PyTorch's: maps (batch, channels, height, width), tokens (sequences, tokens, width), convolution weights
(out, in, height, width), linear weights (out, in). `nodes` in the manifest lists the places in the network that a
vector stands for. The normalisations are folded into the convolutions. What is not here stays in float: attention,
normalisation of tokens, sums, the pool, resizing.

`sha256` in the manifest is that of a tensor's little-endian bytes.

"""
