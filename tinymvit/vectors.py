"""Test vectors for porters: for each distinct op of a model, inputs, weights and what must come out; and the model's.

Two nodes are one vector if their ops have the same attributes and read the same shapes up to the spatial size. The
input maps are small by default, yet large enough that every weight of a dilated kernel meets a pixel. Their sides
differ, but for the pooled pixel, and unfold and fold get two images, whose order in the axis of the sequences shows.
The graph is recorded at a size that no patch of two divides, so the resizing is in it.

Same bits everywhere: inputs and weights are random integers (PCG64's raw bits, which NumPy promises to keep) times a
power of two, short enough that a product of an input and a weight, and any sum of such products, is exact in float64.
So the order in which a machine's BLAS adds them cannot show. What is left to the machine is the last bit of the C
library's exp (tanh, erfc) in float64, which survives the rounding to float32 about once in 2^28 values; the whole
model's result, where float64 does round on the way; and the measured tolerances, rounded up to a power of two.

The formulas are the float64 reference's. Here they are only given something to compute, and written to files.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import shutil
import uuid
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tinymvit import graph as ops
from tinymvit import reference
from tinymvit.errors import CheckpointError, OutputError
from tinymvit.graph import Graph, Shape
from tinymvit.inspection.trace import attributes
from tinymvit.modeling import MobileViTPreTrainedModel
from tinymvit.numerics import UNIT, rms
from tinymvit.version import __version__

Array = np.ndarray
Case = tuple[ops.Op, tuple[Shape, ...]]  # an op and the shapes of its inputs

FORMATS = ("npy", "raw", "safetensors", "c")
MANIFEST = "manifest.json"
README = "README.md"
ODD_SIZE = (65, 129)  # every map below is odd on both sides, so that a patch of 2 x 2 needs the resizing
FACTOR = 8  # tolerance over the measured float32 error; docs/operators.md says what ports were measured to need


@dataclass(frozen=True)
class Expected:
    """A result: the float64 reference's, rounded to float32, and how far a port may be from it.

    A value of the port passes if |value - expected| <= absolute + relative |expected|.
    """

    value: Array
    absolute: float
    relative: float


@dataclass(frozen=True)
class Vector:
    """What a port is given and what it must make of it; every array is float32, in the public shapes.

    `op` is None for the whole model, whose weights are the checkpoint's and not repeated here. `nodes` names the nodes
    of the graph that this vector stands for.
    """

    name: str
    op: ops.Op | None
    nodes: tuple[str, ...]
    inputs: dict[str, Array]
    weights: dict[str, Array]
    outputs: dict[str, Expected]

    @property
    def tensors(self) -> dict[str, Array]:
        """All the arrays by name: inputs, weights by their role, results."""
        return self.inputs | self.weights | {name: expected.value for name, expected in self.outputs.items()}


# ---- making them ----


def vectors(model: MobileViTPreTrainedModel, size: tuple[int, int] | None = None) -> Iterator[Vector]:
    """One vector for each distinct op in the graph's order, then the whole model's, named "model".

    size: height and width of the input whose maps the ops then have; by default small maps.
    """
    graph = model_graph(model, size)
    for (op, shapes), (name, nodes) in distinct(graph, shrink=size is None).items():
        yield op_vector(name, op, shapes, tuple(nodes))
    yield model_vector(graph, model.weights)


def model_graph(model: MobileViTPreTrainedModel, size: tuple[int, int] | None) -> Graph:
    """The graph of one image, without the outputs that are only looked at (the hidden states)."""
    graph = model.graph((1, model.config.num_channels, *(size or ODD_SIZE)))
    return graph.select([name for name in graph.outputs if not name.startswith("hidden_states")])


def distinct(graph: Graph, shrink: bool) -> dict[Case, tuple[str, list[str]]]:
    """Each distinct op with the shapes of its inputs: a name for it, and the nodes that it stands for."""
    found: dict[Case, tuple[str, list[str]]] = {}
    stems: Counter[str] = Counter()
    for node in graph:
        if isinstance(node.op, ops.Input):
            continue
        shapes = tuple(source.shape for source in graph.inputs_of(node))
        case = shrunk(node.op, shapes) if shrink else (node.op, shapes)
        if case not in found:
            stem = vector_name(*case)
            stems[stem] += 1
            found[case] = stem if stems[stem] == 1 else f"{stem}_v{stems[stem]}", []
        found[case][1].append(node.name)
    return found


def op_vector(name: str, op: ops.Op, shapes: tuple[Shape, ...], nodes: tuple[str, ...]) -> Vector:
    """The vector of one op on inputs of these shapes. Its numbers depend on the name alone."""
    stream = np.random.PCG64(zlib.crc32(name.encode()))
    inputs = draw_inputs(op, shapes, stream)
    weights = {role: draw_weight(op, role, shape, stream) for role, shape in op.weight_shapes().items()}
    exact, single = (
        reference.compute(op, [x.astype(dtype) for x in inputs], [w.astype(dtype) for w in weights.values()])
        for dtype in (np.float64, np.float32)
    )
    names = ["input"] if len(inputs) == 1 else [f"input_{i}" for i in range(len(inputs))]
    only_moves = isinstance(op, ops.Unfold | ops.Fold | ops.Concat)
    result = Expected(_rounded(exact), 0.0, 0.0) if only_moves else expected(exact, single)
    return Vector(name, op, nodes, dict(zip(names, inputs, strict=True)), weights, {"output": result})


def model_vector(graph: Graph, weights: Mapping[str, Array]) -> Vector:
    """The vector of the whole graph on noise from 0 to 1, with the weights that it has. Raises CheckpointError if these
    give no numbers."""
    pixels = graph["pixel_values"]
    given = noise(pixels.shape)
    exact, single = (reference.run(graph, weights, given, dtype) for dtype in (np.float64, np.float32))
    for name, result in exact.items():
        if not np.isfinite(result).all():
            raise CheckpointError(f"{name}: not finite for pixels from 0 to 1; expected finite weights")
    results = {name: expected(exact[name], single[name]) for name in exact}
    return Vector("model", None, tuple(graph.outputs.values()), {pixels.name: given}, {}, results)


def expected(exact: Array, single: Array) -> Expected:
    """The float64 result rounded to float32, with the tolerance that the float32 result `single` suggests.

    An error of half a unit in the last place is in the nature of float32: it sets the relative part. What goes beyond
    it, where terms cancel, sets the absolute one, rounded up to a power of two; but at least one rounding of a number
    of the usual size, since sums that happen to be exact in one order are not in another.
    """
    excess = float((np.abs(single - exact) - UNIT * np.abs(exact)).max())
    error = FACTOR * max(excess, UNIT * rms(exact))
    absolute = 2.0 ** math.ceil(math.log2(error)) if error else 0.0
    return Expected(_rounded(exact), absolute, FACTOR * UNIT)


def _rounded(exact: Array) -> Array:
    return np.ascontiguousarray(exact, np.float32)  # contiguous, since safetensors writes the memory as it lies


# ---- numbers ----

INPUT_BITS = 12  # one of them a sign: exact in float16 too
WEIGHT_BITS = 23


def uniform(stream: np.random.PCG64, shape: Shape, low: float, high: float, bits: int) -> Array:
    """float32 numbers from low to high in 2^bits equal steps; exact if the step and low are powers of two."""
    raw = stream.random_raw(math.prod(shape)) >> np.uint64(64 - bits)
    return (low + raw * ((high - low) / 2**bits)).astype(np.float32).reshape(shape)


def noise(shape: Shape) -> Array:
    """Pixels from 0 to 1, without a picture."""
    return uniform(np.random.PCG64(0), shape, 0, 1, INPUT_BITS - 1)


def draw_inputs(op: ops.Op, shapes: tuple[Shape, ...], stream: np.random.PCG64) -> list[Array]:
    """Numbers from -4 to 4, and probabilities from 0 to 1; among them those that this op is known to fail on."""
    inputs = [uniform(stream, shape, -4, 4, INPUT_BITS) for shape in shapes]
    x = inputs[0]
    match op:
        case ops.Activation():
            edges = [0, -0.0, 2**-14, -(2**-14), 3, -3, 6, -6, 20, -20, 100, -100]
            x.reshape(-1)[: len(edges)] = edges[: x.size]
        case ops.Softmax():  # rows that overflow unless the maximum is subtracted; one that is all zeros
            rows = x[0, 0]
            rows[0:1] = 100
            rows[1:2] = -100
            rows[1:2, :1] = 100
            rows[2:3] = 0
        case ops.LayerNorm():  # no variance at all, and one as small as the epsilon
            x[0, 0:1] = 1
            x[0, 1:2] *= 2.0**-10
        case ops.Context():
            inputs[0] = np.abs(x) / 4
    return inputs


def draw_weight(op: ops.Op, role: str, shape: Shape, stream: np.random.PCG64) -> Array:
    """Numbers of the size that trained weights have, so that results are of the inputs' size. No scale is near 1, no
    bias near 0 for all channels: one that is left out shows."""
    if len(shape) > 1:
        bound = 2.0 ** -round(math.log2(math.prod(shape[1:])) / 2)
        return uniform(stream, shape, -bound, bound, WEIGHT_BITS)
    if role == "running_var":
        return uniform(stream, shape, 0.25, 1.25, WEIGHT_BITS)
    if role == "weight":
        return uniform(stream, shape, 0.5, 1.5, WEIGHT_BITS)
    return uniform(stream, shape, -1, 1, WEIGHT_BITS)


# ---- shapes and names ----


def shrunk(op: ops.Op, shapes: tuple[Shape, ...]) -> Case:
    """The op and its inputs on maps as small as still tell right from wrong."""
    match op:
        case ops.Conv2d():
            side = max(5, op.dilation * (op.kernel_size // 2) + 1)  # the outermost weights meet pixels
            return op, ((*shapes[0][:2], side, side + 1),)
        case ops.Resize():
            height, new_height = _shrunk_sides(shapes[0][2], op.height, 3)
            width, new_width = _shrunk_sides(shapes[0][3], op.width, 5)
            return replace(op, height=new_height, width=new_width), ((*shapes[0][:2], height, width),)
        case ops.Unfold():
            return op, ((2, shapes[0][1], 2 * op.patch_height, 3 * op.patch_width),)
        case ops.Fold():
            small = replace(op, height=2 * op.patch_height, width=3 * op.patch_width)
            return small, ((2 * op.patch_height * op.patch_width, 6, shapes[0][2]),)
        case ops.Softmax():
            return op, ((2, shapes[0][1], 5, 5),)
        case ops.Context():
            return op, ((2, shapes[0][1], 5, 5), (2, 5, shapes[1][2]))
    return op, tuple(_shrunk_shape(shape) for shape in shapes)


def _shrunk_shape(shape: Shape) -> Shape:
    match shape:
        case batch, channels, _, _:
            return batch, channels, 3, 4
        case _, _, width:
            return 2, 5, width
    return shape


def _shrunk_sides(side: int, new_side: int, least: int) -> tuple[int, int]:
    """A side before and after resizing: the smaller becomes `least`, and the difference stays; 1 stays 1."""
    if side == 1:
        return 1, min(new_side, least)
    less = min(side, new_side) - least
    return side - less, new_side - less


def vector_name(op: ops.Op, shapes: tuple[Shape, ...]) -> str:
    """A name in words that C accepts, such as conv2d_3x3_16_to_32_stride2."""
    width = shapes[0][-1] if len(shapes[0]) == 3 else shapes[0][1]  # of a token, or channels
    kind = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(op).__name__).lower()
    match op:
        case ops.Conv2d():
            words = [f"depthwise_{kind}" if op.depthwise else kind, f"{op.kernel_size}x{op.kernel_size}"]
            words += [str(width)] if op.depthwise else [f"{width}_to_{op.out_channels}"]
            words += [f"stride{op.stride}"] if op.stride > 1 else []
            words += [f"dilation{op.dilation}"] if op.dilation > 1 else []
            words += ["bias"] if op.bias else []
            return "_".join(words)
        case ops.Linear():
            return f"{kind}_{op.in_features}_to_{op.out_features}" + ("" if op.bias else "_no_bias")
        case ops.Activation():
            function = op.function if isinstance(op.function, str) else getattr(op.function, "__name__", "activation")
            function = re.sub(r"\W", "_", function)  # a lambda's name has brackets
            return f"{function}_{_layout(shapes[0])}_{width}"
        case ops.Resize():
            return f"{kind}_{shapes[0][2]}x{shapes[0][3]}_to_{op.height}x{op.width}_{width}"
        case ops.Concat():
            return f"{kind}_{'_'.join(str(shape[1]) for shape in shapes)}"
        case ops.Scores():
            return f"{kind}_{op.heads}_heads_{width}"
        case ops.Softmax():
            return f"{kind}_{width}_heads"
        case ops.Context():
            return f"{kind}_{width}_heads_{shapes[1][2]}"
        case ops.Add():
            return f"{kind}_{_layout(shapes[0])}_{width}"
    return f"{kind}_{width}"


def _layout(shape: Shape) -> str:
    return "map" if len(shape) == 4 else "tokens"


# ---- files ----


def write_vectors(
    model: MobileViTPreTrainedModel,
    folder: str | Path,
    format: str = "npy",
    size: tuple[int, int] | None = None,
    source: str = "",
) -> dict[str, Any]:
    """Write the model's vectors into a new folder, with a manifest.json and a README.md; returns the manifest.

    format: "npy" or "raw" (a file a tensor; raw is little-endian float32 without a header), "safetensors" or "c" (a
    file a vector; c is a header with the numbers as hexadecimal floats). source: the checkpoint's name, to be noted.
    Raises OutputError, a ValueError, if the folder holds anything or cannot be written; nothing is then left behind.
    """
    from tqdm import tqdm

    if format not in FORMATS:
        raise OutputError(f"format {format!r}; expected {', '.join(FORMATS)}")
    folder = Path(folder)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
    entries: list[dict[str, Any]] = []
    tensors: list[dict[str, Any]] = []
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise OutputError(f"{folder}: is there already; expected the name of a new folder or an empty one")
        temporary.mkdir(parents=True)
        total = len(distinct(model_graph(model, size), shrink=size is None)) + 1
        for vector in tqdm(vectors(model, size), total=total, unit="vector", disable=None, leave=False):
            files = dict(encode(vector, format))
            for name, content in files.items():
                (temporary / name).write_bytes(content)
            entries.append(describe(vector))
            tensors += list_tensors(vector, list(files))
        manifest = {
            "producer": f"tinymvit {__version__}",
            "byte_order": "little",
            "model": source,
            "format": format,
            "vectors": entries,
            "tensors": tensors,
        }
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        (temporary / README).write_text(read_me(manifest), encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        temporary.replace(folder)
    except OSError as failure:
        raise OutputError(f"{folder}: cannot be written: {failure.strerror}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return manifest


def encode(vector: Vector, format: str) -> Iterator[tuple[str, bytes]]:
    """The files of one vector: names and contents."""
    if format == "c":
        yield f"{vector.name}.h", c_header(vector).encode("ascii")
    elif format == "safetensors":
        from safetensors.numpy import save

        yield f"{vector.name}.safetensors", save(vector.tensors)
    else:
        for name, tensor in vector.tensors.items():
            file = io.BytesIO()
            if format == "npy":
                np.lib.format.write_array(file, tensor.astype("<f4", order="C"), version=(1, 0))
            else:
                file.write(_little_endian(tensor))
            yield f"{vector.name}.{name}.{'npy' if format == 'npy' else 'bin'}", file.getvalue()


def describe(vector: Vector) -> dict[str, Any]:
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


def list_tensors(vector: Vector, files: list[str]) -> Iterable[dict[str, Any]]:
    """The tensors' entries in the manifest. sha256 is that of the tensor's bytes: float32, little endian, C order."""
    in_one = len(files) == 1 < len(vector.tensors)
    for i, (name, tensor) in enumerate(vector.tensors.items()):
        yield {
            "name": f"{vector.name}.{name}",
            "shape": list(tensor.shape),
            "dtype": "float32",
            "file": files[0 if in_one else i],
            "sha256": hashlib.sha256(_little_endian(tensor)).hexdigest(),
        }


def _little_endian(tensor: Array) -> bytes:
    return tensor.astype("<f4").tobytes()


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
