"""The network as a TensorFlow Lite file, of built-in operators only, written with LiteRT's schema classes.

A map is (B, H, W, C) in the file. Tokens are (B, N, P, D): the pixels of a patch side by side, so that unfolding moves
numbers once, and only attention, which needs the sequences apart, moves them again. Every axis but the first is the
network's own, and no tensor has more than four, as GPU delegates like it. In LiteRT the whole graph is XNNPACK's.

What is stored as float16 or int8 becomes float32 by a DEQUANTIZE of its own, once, when the file is loaded: it costs no
time, and the arithmetic is that of float32.
"""

from __future__ import annotations

import io
import math
import os
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tinymvit.errors import OutputError, TinyMViTError
from tinymvit.exporters.network import ARGMAX, FLOAT16, FLOAT32, IMAGE, INT8, PIXEL_VALUES, Network, query_factors
from tinymvit.exporters.storage import as_float16, as_int8, in_json
from tinymvit.graph import Graph, Node
from tinymvit.numerics import Array
from tinymvit.ops import (
    Activation,
    Add,
    BatchNorm,
    Concat,
    Context,
    Conv2d,
    Dequantise,
    Fold,
    Fused,
    Input,
    LayerNorm,
    Linear,
    MeanPool,
    Quantisation,
    Quantise,
    Quantised,
    QuantisedActivation,
    Resize,
    Scores,
    Shape,
    Softmax,
    Unfold,
)
from tinymvit.passes.fold import Kinds, are_ordinary
from tinymvit.passes.fuse import fuse_activation
from tinymvit.passes.quantise import SUFFIX as SUFFIX_INT8
from tinymvit.text import short

NAME, WORD, SUFFIX = "tflite", "TensorFlow Lite", ".tflite"
PRECISIONS = (FLOAT32, FLOAT16, INT8)
MODULES: tuple[str, ...] = ("ai_edge_litert", "flatbuffers")
EXTRA: str | None = "tflite"
RUNTIME, RUNTIME_MODULES = "LiteRT", ("ai_edge_litert",)
MOST_THREADS: int | None = None

REVERSED = f"{PIXEL_VALUES}/reversed"  # the pixels, their channels in the opposite order
SIGNATURE = "serving_default"
LARGEST = 2**31 - 2**26  # bytes of constants; a file has at most 2^31, which leaves enough for all else
FACTS, LABELS = "tinymvit", "labels.txt"  # metadata: what the file says of itself, and its classes, in a zip at its end


def files(network: Network, name: str) -> dict[str, Callable[[BinaryIO], object]]:
    """One file, for an input of the network's size. Raises TinyMViTError for an activation that is a function of one's
    own, a weight that is too large for float16, pixels that are multiplied by what is no positive number of float32,
    and more than `LARGEST` bytes of weights."""
    content = _Writer(network).content()
    return {name: lambda file: file.write(content)}


def about(network: Network) -> str:
    """Nothing beside its size."""
    return ""


def load(path: Path, threads: int) -> Callable[[Array], Mapping[str, Array]]:
    """What runs a file that `files` wrote in LiteRT: from pixel_values (B, C, H, W) float32, or from a picture
    (B, H, W, 3) uint8 for a file with preprocessing, to its results by their public names, maps as (B, C, H, W). Raises
    OutputError, in a line, for what LiteRT refuses; what runs it raises TinyMViTError for an input of another shape."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        with _silent():
            interpreter = Interpreter(model_path=str(path), num_threads=threads)
            interpreter.allocate_tensors()
        signature = interpreter.get_signature_list()[SIGNATURE]
    except (ValueError, RuntimeError, KeyError) as error:
        raise OutputError(f"{path}: LiteRT refuses it: {short(str(error))}") from None
    (taken,) = interpreter.get_input_details()
    runner = interpreter.get_signature_runner(SIGNATURE)
    outputs = {name: runner.get_output_details()[name]["index"] for name in signature["outputs"]}
    index, shape = taken["index"], tuple(int(side) for side in taken["shape"])

    def run(given: Array) -> Mapping[str, Array]:
        nonlocal shape
        x = given if taken["dtype"] == np.uint8 else np.ascontiguousarray(given.transpose(0, 2, 3, 1))
        if x.shape != shape:
            if x.shape[1:] != shape[1:] or taken["shape_signature"][0] != -1:
                raise TinyMViTError(f"an input of shape {x.shape}, expected {shape}")
            interpreter.resize_tensor_input(index, x.shape, strict=True)
            interpreter.allocate_tensors()
            shape = x.shape
        interpreter.set_tensor(index, x)
        interpreter.invoke()
        results = {name: interpreter.get_tensor(output) for name, output in outputs.items()}
        return {name: np.moveaxis(y, -1, 1) if y.ndim == 4 else y for name, y in results.items()}

    return run


@contextmanager
def _silent() -> Iterator[None]:
    """LiteRT's libraries say what they do on stderr; nothing else turns that off."""
    with Path(os.devnull).open("wb") as nowhere:
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


# ---- nodes become operators ----


class _Writer:
    """Writes a network's nodes into a `_File`, in their order.

    at: the tensor of each node's value, by its name. scales: what the weights of a linear layer are multiplied by.
    bare: of a layer normalisation that leaves its factor and its shift to the linear layers behind it, the names of
    both. input: what the file takes.
    """

    def __init__(self, network: Network) -> None:
        graph, self.weights = network.folded() if network.ranges is None else network.quantised()
        self.graph, _ = fuse_activation(graph, self.weights, CLAMPS)
        self.network = network
        self.batch = graph[PIXEL_VALUES].shape[0]
        self.file = _File(network)
        self.scales = query_factors(self.graph)
        self.bare = _bare_norms(self.graph, network.kinds())
        self.input = 0
        self.at: dict[str, int] = {}

    def content(self) -> bytes:
        for node in self.graph:
            writer = WRITERS.get(type(node.op))
            if writer is None:
                raise TinyMViTError(f"{node.name}: {type(node.op).__name__}, expected an op that {WORD} has")
            self.at[node.name] = writer(self, node, *(self.at[name] for name in node.inputs))
        outputs = {public: self.at[name] for public, name in self.graph.outputs.items()}
        return self.file.finish(self.input, _answered(self.file, outputs, self.network.answer))

    def weight(self, node: Node, role: int) -> Array:
        return self.weights[node.weights[role]]


def _bare_norms(graph: Graph, kinds: Kinds) -> dict[str, tuple[str, ...]]:
    """The layer normalisations that only linear layers read, none of them with extreme weights."""
    if not are_ordinary(graph, kinds):
        return {}
    norms = [node for node in graph if isinstance(node.op, LayerNorm)]
    return {node.name: node.weights for node in norms if _only_read_by(Linear, node, graph)}


def _only_read_by(kind: type, node: Node, graph: Graph) -> bool:
    """Whether the node is no output, and each op that reads it, an activation in it aside, is of one kind."""
    readers = [other.op for other in graph if node.name in other.inputs]
    readers = [op.op if isinstance(op, Fused) else op for op in readers]
    return node.name not in graph.outputs.values() and all(isinstance(op, kind) for op in readers)


def _layout(shape: Shape, batch: int) -> Shape:
    """The shape in the file of a map (B, C, H, W), of tokens (B P, N, D) or of a vector (B, C)."""
    if len(shape) == 4:
        return (shape[0], shape[2], shape[3], shape[1])
    if len(shape) == 3:
        return (batch, shape[1], shape[0] // batch, shape[2])
    return shape


def _input(w: _Writer, node: Node) -> int:
    shape = _layout(node.shape, w.batch)
    preprocessing = w.network.preprocessing
    if preprocessing is None:
        w.input = w.file.tensor(shape, PIXEL_VALUES)
        return w.input
    scale = np.array([preprocessing.factor], np.float32)
    if not np.finfo(np.float32).tiny <= scale[0] < np.inf:
        raise TinyMViTError(
            f"rescale_factor: {preprocessing.factor:g}, expected a positive number of float32, for {WORD}"
        )
    w.input = w.file.tensor(shape, IMAGE, "UINT8", steps=(scale, np.zeros(1, np.int64), 0))
    return w.file.add("DEQUANTIZE", [w.input], shape, REVERSED if preprocessing.flips else PIXEL_VALUES)


def _conv2d(w: _Writer, node: Node, x: int, activation: str = "NONE") -> int:
    op = node.op.op if isinstance(node.op, Fused) else node.op
    assert isinstance(op, Conv2d)
    kernel, axis = _kernel(w, node, op)
    bias = w.file.bias(w.weight(node, 1) if op.bias else None, f"{node.name}.bias", op.out_channels)
    return _convolution(w, node, op, x, w.file.weight(kernel, node.weights[0], axis), bias, activation)


def _kernel(w: _Writer, node: Node, op: Conv2d) -> tuple[Array, int]:
    """The convolution's weight as the file has it, and the axis of its output channels. Where the channels of a picture
    come the other way round, its are reversed."""
    weight, preprocessing = w.weight(node, 0), w.network.preprocessing
    if preprocessing is not None and preprocessing.flips and node.inputs[0].removesuffix(SUFFIX_INT8) == PIXEL_VALUES:
        weight = weight[:, ::-1]
    if op.depthwise:
        return weight[:, 0].transpose(1, 2, 0)[None], 3
    return weight.transpose(0, 2, 3, 1), 0


def _convolution(
    w: _Writer,
    node: Node,
    op: Conv2d,
    x: int,
    weight: int,
    bias: int,
    activation: str = "NONE",
    by: Quantisation | None = None,
) -> int:
    """A convolution of tensors that are there; in int8 `by` says what its result's numbers stand for."""
    padding, x = _padded(w, node, op, x)
    options: dict[str, Any] = {
        "padding": padding,
        "strideH": op.stride,
        "strideW": op.stride,
        "dilationHFactor": op.dilation,
        "dilationWFactor": op.dilation,
        "fusedActivationFunction": activation,
    }
    code, version = "CONV_2D", 6 if op.groups > 1 else 1
    if op.depthwise:
        options["depthMultiplier"] = 1
        code, version = "DEPTHWISE_CONV_2D", 2 if op.dilation > 1 else 1
    shape = _layout(node.shape, w.batch)
    return w.file.add(code, [x, weight, bias], shape, node.name, 3 if by else version, by, **options)


def _padded(w: _Writer, node: Node, op: Conv2d, x: int) -> tuple[str, int]:
    """How the convolution says its padding, and what it reads: TensorFlow's own SAME puts the odd row at the end, where
    ours begins with it."""
    reach = op.dilation * (op.kernel_size - 1) + 1
    sides = w.file.shapes[x][1:3]
    outputs = node.shape[2:]
    totals = [max((out - 1) * op.stride + reach - side, 0) for out, side in zip(outputs, sides, strict=True)]
    same = [math.ceil(side / op.stride) for side in sides]
    if op.padding == 0:
        return "VALID", x
    if tuple(same) == tuple(outputs) and all(total // 2 == op.padding for total in totals):
        return "SAME", x
    p = op.padding
    shape = w.file.shapes[x]
    padded = (shape[0], shape[1] + 2 * p, shape[2] + 2 * p, shape[3])
    amounts = w.file.constant(np.array([[0, 0], [p, p], [p, p], [0, 0]], np.int32), "padding")
    by = node.op.x if isinstance(node.op, Quantised) else None
    return "VALID", w.file.add("PAD", [x, amounts], padded, w.file.part("padded"), 2 if by else 1, by)


def _linear(w: _Writer, node: Node, x: int, activation: str = "NONE") -> int:
    weight, bias = w.weight(node, 0), w.weight(node, 1) if len(node.weights) == 2 else None
    if node.inputs[0] in w.bare:
        weight, bias = _with_norm(weight, bias, *(w.weights[name] for name in w.bare[node.inputs[0]]))
    scale, name = w.scales.get(node.name), node.name
    if scale is not None:
        weight, bias, name = weight * scale, None if bias is None else bias * scale, w.file.part("scaled_query")
    inputs = [x, w.file.weight(weight, node.weights[0], 0), w.file.bias(bias, f"{node.name}.bias", len(weight))]
    shape = _layout(node.shape, w.batch)
    options: dict[str, Any] = {"keepNumDims": len(shape) > 2, "fusedActivationFunction": activation}
    return w.file.add("FULLY_CONNECTED", inputs, shape, name, 5 if len(shape) > 2 else 1, **options)


def _with_norm(weight: Array, bias: Array | None, factor: Array, shift: Array) -> tuple[Array, Array]:
    """A linear layer's weight (O, I) and bias (O,) that take over the factor and the shift (I,) of the normalisation
    before it, in float64."""
    matrix = weight.astype(np.float64)
    moved = (matrix * shift).sum(1)  # and no product of matrices, whose last bits depend on the processor
    return matrix * factor, moved + (0 if bias is None else bias)


def _fused(w: _Writer, node: Node, x: int) -> int:
    assert isinstance(node.op, Fused)
    write = _conv2d if isinstance(node.op.op, Conv2d) else _linear
    return write(w, node, x, CLAMPS[node.op.activation])


def _quantise(w: _Writer, node: Node, x: int) -> int:
    assert isinstance(node.op, Quantise)
    return w.file.add("QUANTIZE", [x], w.file.shapes[x], node.name, by=node.op.by)


def _dequantise(w: _Writer, node: Node, x: int) -> int:
    return w.file.add("DEQUANTIZE", [x], w.file.shapes[x], node.name, 2)


def _quantised(w: _Writer, node: Node, x: int) -> int:
    """A layer in int8, its weights with a scale for each output channel."""
    assert isinstance(node.op, Quantised)
    op, y, f = node.op.op, node.op.y, w.file
    scale = w.weight(node, 1)
    kernel, axis = _kernel(w, node, op) if isinstance(op, Conv2d) else (w.weight(node, 0), 0)
    zeros = np.zeros(len(scale), np.int64)
    weight = f.constant(kernel, node.weights[0], (scale, zeros, axis))
    bias = f.constant(w.weight(node, 2), node.weights[2], (np.float32(node.op.x.scale) * scale, zeros, 0))
    if isinstance(op, Conv2d):
        return _convolution(w, node, op, x, weight, bias, by=y)
    shape = _layout(node.shape, w.batch)
    keeps = len(shape) > 2
    return f.add("FULLY_CONNECTED", [x, weight, bias], shape, node.name, 5 if keeps else 4, y, keepNumDims=keeps)


def _quantised_activation(w: _Writer, node: Node, x: int) -> int:
    """SiLU in int8 by the two operators that there are for it, whose sigmoid is in steps of 1/256; another activation
    between two conversions."""
    assert isinstance(node.op, QuantisedActivation)
    f, shape, op = w.file, w.file.shapes[x], node.op
    if op.function == "silu" and op.x.scale * GATE.scale < op.y.scale:
        gate = f.add("LOGISTIC", [x], shape, f.part("sigmoid"), 2, GATE)
        return f.add("MUL", [x, gate], shape, node.name, 2, op.y)
    real = f.add("DEQUANTIZE", [x], shape, f.part("real"), 2)
    real = _activated(w, node, op.function, real, f.part("activated"))
    return f.add("QUANTIZE", [real], shape, node.name, by=op.y)


GATE = Quantisation(1 / 256, -128)  # of a sigmoid, as TensorFlow Lite fixes it


def _batch_norm(w: _Writer, node: Node, x: int) -> int:
    """A normalisation that must not be folded, step by step as the op computes it."""
    assert isinstance(node.op, BatchNorm)
    weight, bias, mean, variance = (w.weight(node, i) for i in range(4))
    with np.errstate(invalid="ignore"):
        deviation = np.sqrt(variance + np.float32(node.op.eps))
    f, shape = w.file, w.file.shapes[x]
    x = f.add("SUB", [x, f.constant(mean, node.weights[2])], shape, f.part("centred"))
    x = f.add("DIV", [x, f.constant(deviation, f"{node.name}.deviation")], shape, f.part("normalised"))
    x = f.add("MUL", [x, f.constant(weight, node.weights[0])], shape, f.part("scaled"))
    return f.add("ADD", [x, f.constant(bias, node.weights[1])], shape, node.name)


def _layer_norm(w: _Writer, node: Node, x: int) -> int:
    assert isinstance(node.op, LayerNorm)
    f, shape = w.file, w.file.shapes[x]
    one = (*shape[:-1], 1)
    centred = f.add("SUB", [x, _mean(f, x, [3], f.part("mean"))], shape, f.part("centred"))
    variance = _mean(f, f.add("MUL", [centred, centred], shape, f.part("squared")), [3], f.part("variance"))
    variance = f.add("ADD", [variance, f.constant(np.float32(node.op.eps), "eps")], one, f.part("variance"))
    factor = f.add("RSQRT", [variance], one, f.part("factor"))
    x = f.add("MUL", [centred, factor], shape, f.part("normalised"))
    if node.name in w.bare:
        return x
    x = f.add("MUL", [x, f.constant(w.weight(node, 0), node.weights[0])], shape, f.part("scaled"))
    return f.add("ADD", [x, f.constant(w.weight(node, 1), node.weights[1])], shape, node.name)


def _mean(f: _File, x: int, axes: list[int], name: str) -> int:
    shape = tuple(1 if i in axes else side for i, side in enumerate(f.shapes[x]))
    return f.add("MEAN", [x, f.constant(np.array(axes, np.int32), "axes")], shape, name, keepDims=True)


def _activation(w: _Writer, node: Node, x: int) -> int:
    assert isinstance(node.op, Activation)
    return _activated(w, node, node.op.function, x, node.name)


def _activated(w: _Writer, node: Node, function: Any, x: int, name: str) -> int:
    """A tensor of that name: the function of x, which the node stands for."""
    shape = w.file.shapes[x]
    if not isinstance(function, str):
        raise TinyMViTError(f"{node.name}: {short(function)}, expected an activation by its name, for {WORD}")
    if function == "identity":
        return x
    if function == "silu":
        gate = w.file.add("LOGISTIC", [x], shape, w.file.part("sigmoid"))
        return w.file.add("MUL", [x, gate], shape, name)
    code, options = ACTIVATIONS[function]
    return w.file.add(code, [x], shape, name, **options)


CLAMPS = {"relu": "RELU", "relu6": "RELU6"}  # what an operator does to its own result
ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("RELU", {}),
    "relu6": ("RELU6", {}),
    "leaky_relu": ("LEAKY_RELU", {"alpha": 0.01}),
    "hardswish": ("HARD_SWISH", {}),
    "sigmoid": ("LOGISTIC", {}),
    "tanh": ("TANH", {}),
    "gelu": ("GELU", {"approximate": False}),
    "gelu_tanh": ("GELU", {"approximate": True}),
}


def _add(w: _Writer, node: Node, a: int, b: int) -> int:
    return w.file.add("ADD", [a, b], w.file.shapes[a], node.name)


def _concat(w: _Writer, node: Node, *inputs: int) -> int:
    shape = _layout(node.shape, w.batch)
    return w.file.add("CONCATENATION", list(inputs), shape, node.name, axis=3)


def _mean_pool(w: _Writer, node: Node, x: int) -> int:
    assert isinstance(node.op, MeanPool)
    if node.op.keep_dims:
        return _mean(w.file, x, [1, 2], node.name)
    return w.file.reshaped(_mean(w.file, x, [1, 2], w.file.part("mean")), node.shape, node.name)


def _resize(w: _Writer, node: Node, x: int) -> int:
    shape = _layout(node.shape, w.batch)
    size = w.file.constant(np.array(shape[1:3], np.int32), "size")
    return w.file.add("RESIZE_BILINEAR", [x, size], shape, node.name, 3, halfPixelCenters=True)


def _unfold(w: _Writer, node: Node, x: int) -> int:
    """(B, H, W, D) -> (B, N, P, D)"""
    assert isinstance(node.op, Unfold)
    batch, height, width, channels = w.file.shapes[x]
    ph, pw = node.op.patch_height, node.op.patch_width
    cells = (batch, height // ph, width // pw, ph * pw * channels)
    if ph == pw and ph > 1:
        x = w.file.add("SPACE_TO_DEPTH", [x], cells, w.file.part("cells"), blockSize=ph)
    elif ph != pw:
        x = _swapped(w.file, x, (-1, ph, width // pw, pw * channels))
    return w.file.reshaped(x, _layout(node.shape, w.batch), node.name)


def _fold(w: _Writer, node: Node, x: int) -> int:
    """(B, N, P, D) -> (B, H, W, D)"""
    assert isinstance(node.op, Fold)
    shape = _layout(node.shape, w.batch)
    batch, height, width, channels = shape
    ph, pw = node.op.patch_height, node.op.patch_width
    if ph == pw and ph > 1:
        cells = (batch, height // ph, width // pw, ph * pw * channels)
        x = w.file.reshaped(x, cells, w.file.part("cells"))
        return w.file.add("DEPTH_TO_SPACE", [x], shape, node.name, blockSize=ph)
    if ph != pw:
        x = _swapped(w.file, x, (-1, width // pw, ph, pw * channels))
    return w.file.reshaped(x, shape, node.name)


def _swapped(f: _File, x: int, shape: Shape) -> int:
    """The numbers of a map as (-1, a, b, c), axes a and b exchanged."""
    rest = math.prod(f.shapes[x]) // -math.prod(shape)
    x = f.reshaped(x, (rest, *shape[1:]), f.part("rows"))
    return f.transposed(x, (0, 2, 1, 3), f.part("swapped"))


def _scores(w: _Writer, node: Node, query: int, key: int) -> int:
    assert isinstance(node.op, Scores)
    f, heads = w.file, node.op.heads
    if node.inputs[0] not in w.scales:
        scale = f.constant(np.float32(1 / math.sqrt(f.shapes[query][-1] // heads)), "scale")
        query = f.add("MUL", [query, scale], f.shapes[query], f.part("scaled_query"))
    query, key = _heads(f, query, heads, "queries"), _heads(f, key, heads, "keys")
    batch, sequences, tokens, _ = f.shapes[query]
    return f.add("BATCH_MATMUL", [query, key], (batch, sequences, tokens, tokens), node.name, adjY=True)


def _heads(f: _File, x: int, heads: int, name: str) -> int:
    """(B, N, P, D) -> (B, P h, N, D / h)"""
    batch, tokens, pixels, width = f.shapes[x]
    x = f.reshaped(x, (batch, tokens, pixels * heads, width // heads), f.part("heads"))
    return f.transposed(x, (0, 2, 1, 3), f.part(name))


def _softmax(w: _Writer, node: Node, x: int) -> int:
    return w.file.add("SOFTMAX", [x], w.file.shapes[x], node.name, beta=1.0)


def _context(w: _Writer, node: Node, probabilities: int, value: int) -> int:
    f, shape = w.file, w.file.shapes[value]
    value = _heads(f, value, f.shapes[probabilities][1] // shape[2], "values")
    x = f.add("BATCH_MATMUL", [probabilities, value], f.shapes[value], f.part("contexts"))
    return f.reshaped(f.transposed(x, (0, 2, 1, 3), f.part("heads")), shape, node.name)


WRITERS: dict[type, Callable[..., int]] = {
    Input: _input,
    Conv2d: _conv2d,
    Linear: _linear,
    Quantise: _quantise,
    Dequantise: _dequantise,
    Quantised: _quantised,
    QuantisedActivation: _quantised_activation,
    Fused: _fused,
    BatchNorm: _batch_norm,
    LayerNorm: _layer_norm,
    Activation: _activation,
    Add: _add,
    Concat: _concat,
    MeanPool: _mean_pool,
    Resize: _resize,
    Unfold: _unfold,
    Fold: _fold,
    Scores: _scores,
    Softmax: _softmax,
    Context: _context,
}


def _answered(f: _File, outputs: dict[str, int], answer: str | None) -> dict[str, int]:
    """The outputs, with what is asked for in place of the logits."""
    if answer is None:
        return outputs
    x = outputs["logits"]
    shape = f.shapes[x]
    if answer == ARGMAX:
        axis = f.constant(np.int32(len(shape) - 1), "axis")
        return {"classes": f.add("ARG_MAX", [x, axis], shape[:-1], "classes", kind="INT32", outputType="INT32")}
    return {"probabilities": f.add("SOFTMAX", [x], shape, "probabilities", beta=1.0)}


# ---- the file ----

# Each operator with its options, and the first version of TensorFlow that runs each version of it.
OPERATORS: dict[str, tuple[str | None, dict[int, str]]] = {
    "ADD": ("Add", {1: "1.5.0"}),
    "ARG_MAX": ("ArgMax", {1: "1.9.0"}),
    "BATCH_MATMUL": ("BatchMatMul", {1: "2.3.0"}),
    "CONCATENATION": ("Concatenation", {1: "1.5.0"}),
    "CONV_2D": ("Conv2D", {1: "1.5.0", 3: "1.14.0", 6: "2.9.0"}),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2D", {1: "1.5.0", 2: "1.12.0", 3: "1.14.0"}),
    "DEPTH_TO_SPACE": ("DepthToSpace", {1: "2.1.0"}),
    "DEQUANTIZE": ("Dequantize", {1: "1.13.1", 2: "1.14.0", 3: "1.15.0", 5: "2.7.0"}),
    "DIV": ("Div", {1: "1.6.0"}),
    "FULLY_CONNECTED": ("FullyConnected", {1: "1.5.0", 4: "1.14.0", 5: "2.0.0"}),
    "GELU": ("Gelu", {1: "2.9.0"}),
    "HARD_SWISH": ("HardSwish", {1: "1.15.0"}),
    "LEAKY_RELU": ("LeakyRelu", {1: "1.13.1"}),
    "LOGISTIC": (None, {1: "1.14.0", 2: "1.14.0"}),
    "MEAN": ("Reducer", {1: "1.6.0"}),
    "MUL": ("Mul", {1: "1.5.0", 2: "1.14.0"}),
    "PAD": ("Pad", {1: "1.5.0", 2: "1.14.0"}),
    "QUANTIZE": ("Quantize", {1: "1.14.0"}),
    "RELU": (None, {1: "1.5.0"}),
    "RELU6": (None, {1: "1.5.0"}),
    "RESHAPE": ("Reshape", {1: "1.5.0"}),
    "RESIZE_BILINEAR": ("ResizeBilinear", {3: "2.2.0"}),
    "RSQRT": (None, {1: "1.10.0"}),
    "SOFTMAX": ("Softmax", {1: "1.5.0"}),
    "SPACE_TO_DEPTH": ("SpaceToDepth", {1: "1.5.0"}),
    "SUB": ("Sub", {1: "1.6.0"}),
    "TANH": (None, {1: "1.14.0"}),
    "TRANSPOSE": ("Transpose", {1: "1.6.0"}),
}
ENUMERATIONS = {"padding": "Padding", "fusedActivationFunction": "ActivationFunctionType", "outputType": "TensorType"}
Steps = tuple[Array, Array, int]  # scales, zero points, and the axis that they are along


class _File:
    """A model in the making: tensors, operators and buffers of LiteRT's schema. shapes: of each tensor."""

    def __init__(self, network: Network) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema: Any = schema
        self.network = network
        self.model = schema.ModelT(version=3, operatorCodes=[], buffers=[schema.BufferT()])
        self.graph = schema.SubGraphT(tensors=[], operators=[], name="main")
        self.shapes: list[Shape] = []
        self.codes: dict[tuple[str, int], int] = {}
        self.constants: dict[tuple[str, Shape, bytes], int] = {}
        self.options: dict[tuple[Any, ...], _Once] = {}

    def tensor(
        self, shape: Shape, name: str, kind: str = "FLOAT32", buffer: int = 0, steps: Steps | None = None
    ) -> int:
        """A new tensor: of a value, or with a buffer, which 0 is not, of a constant."""
        tensor = self.schema.TensorT(type=getattr(self.schema.TensorType, kind), buffer=buffer, name=name)
        tensor.shape = np.array(shape, np.int32)
        if self.network.dynamic_batch and not buffer:
            tensor.shapeSignature = np.array((-1, *shape[1:]), np.int32)
        if steps is not None:
            scale, zero, axis = steps
            tensor.quantization = self.schema.QuantizationParametersT(
                scale=scale, zeroPoint=zero, quantizedDimension=axis
            )
        self.graph.tensors.append(tensor)
        self.shapes.append(tuple(shape))
        return len(self.shapes) - 1

    def part(self, what: str) -> str:
        """A name for the next tensor, which is no node's value: without a dot, which each other name of a node has."""
        return f"{what}_{len(self.shapes)}"

    def constant(self, value: Any, name: str, steps: Steps | None = None) -> int:
        """A constant tensor of the array's shape and dtype; the same one for the same array, if it has no steps."""
        content, shape, dtype = np.asarray(value).tobytes(), np.shape(value), np.asarray(value).dtype.name
        key = (dtype, shape, content)
        if steps is None and key in self.constants:
            return self.constants[key]
        self.model.buffers.append(self.schema.BufferT(data=np.frombuffer(content, np.uint8)))
        tensor = self.tensor(shape, name, dtype.upper(), len(self.model.buffers) - 1, steps)
        if steps is None:
            self.constants[key] = tensor
        return tensor

    def bias(self, value: Array | None, name: str, channels: int) -> int:
        """A bias (channels,), of zeros if there is none: XNNPACK asks for one."""
        if value is None:
            return self.constant(np.zeros(channels, np.float32), "zeros")
        return self.constant(value.astype(np.float32), name)

    def weight(self, value: Array, name: str, axis: int) -> int:
        """A tensor of weights, as the network's precision stores it. axis: that of the output channels."""
        value = value.astype(np.float32)
        if self.network.precision == FLOAT32 or self.network.ranges is not None:
            return self.constant(value, name)
        if self.network.precision == FLOAT16:
            stored, version = self.constant(as_float16(value, name), name), 3
        else:
            integers, scale = as_int8(value, axis)
            stored = self.constant(integers, name, (scale, np.zeros(len(scale), np.int64), axis))
            version = 5
        return self.add("DEQUANTIZE", [stored], value.shape, self.part("weight"), version)

    def add(
        self,
        code: str,
        inputs: list[int],
        shape: Shape,
        name: str,
        version: int = 1,
        by: Quantisation | None = None,
        kind: str = "FLOAT32",
        **options: Any,
    ) -> int:
        """A new operator, and the tensor that it makes, in int8 if `by` says what its numbers stand for."""
        schema, (kind_of_options, _) = self.schema, OPERATORS[code]
        steps = None if by is None else (np.array([by.scale], np.float32), np.array([by.zero_point], np.int64), 0)
        output = self.tensor(shape, name, kind if by is None else "INT8", steps=steps)
        operator = schema.OperatorT(
            opcodeIndex=self.codes.setdefault((code, version), len(self.codes)),
            inputs=np.array(inputs, np.int32),
            outputs=np.array([output], np.int32),
        )
        if kind_of_options is not None:
            operator.builtinOptions = self._shared_options(kind_of_options, options)
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, f"{kind_of_options}Options")
        self.graph.operators.append(operator)
        return output

    def _shared_options(self, kind: str, options: dict[str, Any]) -> _Once:
        """An operator's options, the same object for equal ones."""
        values = {key: self._value(key, value) for key, value in options.items()}
        key = (kind, *((key, str(value)) for key, value in values.items()))
        if key not in self.options:
            self.options[key] = _Once(getattr(self.schema, f"{kind}OptionsT")(**values))
        return self.options[key]

    def _value(self, option: str, value: Any) -> Any:
        return getattr(getattr(self.schema, ENUMERATIONS[option]), value) if option in ENUMERATIONS else value

    def reshaped(self, x: int, shape: Shape, name: str) -> int:
        free = (-1, *shape[1:]) if self.network.dynamic_batch else shape
        new = np.array(free, np.int32)
        return self.add("RESHAPE", [x, self.constant(new, "shape")], shape, name, newShape=new)

    def transposed(self, x: int, order: Sequence[int], name: str) -> int:
        shape = tuple(self.shapes[x][i] for i in order)
        return self.add("TRANSPOSE", [x, self.constant(np.array(order, np.int32), "order")], shape, name)

    def finish(self, taken: int, given: dict[str, int]) -> bytes:
        """The bytes of the model that takes one tensor and gives these, by their public names."""
        schema = self.schema
        size = sum(len(buffer.data) for buffer in self.model.buffers if buffer.data is not None)
        if size > LARGEST:
            raise TinyMViTError(f"{size:,} bytes of weights, expected at most {LARGEST:,} for {WORD}")
        for public, index in given.items():
            self.graph.tensors[index].name = public
        self.graph.inputs = np.array([taken], np.int32)
        self.graph.outputs = np.array(list(given.values()), np.int32)
        self.model.subgraphs = [self.graph]
        for code, version in self.codes:
            number = getattr(schema.BuiltinOperator, code)
            self.model.operatorCodes.append(schema.OperatorCodeT(min(number, 127), None, version, number))
        name = self.graph.tensors[taken].name
        self.model.signatureDefs = [
            schema.SignatureDefT(
                inputs=[schema.TensorMapT(name, taken)],
                outputs=[schema.TensorMapT(public, index) for public, index in given.items()],
                signatureKey=SIGNATURE,
            )
        ]
        self._describe(name, list(given))
        return _with_labels(_packed(self.model), self.network.labels)

    def _describe(self, taken: str, given: list[str]) -> None:
        """What the file says of itself: the facts but for the labels, which are a file at its end."""
        facts = {key: value for key, value in self.network.facts.items() if key != "labels"}
        self.model.description = f"MobileViT, written by {facts.get('producer', 'tinymvit')}"
        runtimes = [OPERATORS[code][1][version] for code, version in self.codes]
        runtime = max(runtimes, key=lambda text: [int(part) for part in text.split(".")])
        entries = {"min_runtime_version": runtime.encode().ljust(16, b"\0"), FACTS: in_json(facts).encode()}
        if self.network.labels:
            entries["TFLITE_METADATA"] = _label_metadata(taken, given, self.network.preprocessing is not None)
        self.model.metadata = []
        for name, content in entries.items():
            self.model.buffers.append(self.schema.BufferT(data=np.frombuffer(content, np.uint8)))
            self.model.metadata.append(self.schema.MetadataT(name=name, buffer=len(self.model.buffers) - 1))


class _Once:
    """A table of the schema that many others point at: it is written once."""

    def __init__(self, table: Any) -> None:
        self.table = table
        self.at: int | None = None

    def Pack(self, builder: Any) -> int:  # noqa: N802
        if self.at is None:
            self.at = int(self.table.Pack(builder))
        return self.at


def _packed(model: Any) -> bytes:
    """The model in the file's format. Vectors of numbers that are equal are written once."""
    import flatbuffers

    class Builder(flatbuffers.Builder):
        """Writes what is equal once: vectors of numbers, and names. Constants begin at multiples of 16 bytes."""

        written: dict[Any, int]

        def CreateNumpyVector(self, x: Array) -> int:  # noqa: N802
            if x.dtype == np.uint8:
                self.Prep(16, x.size)
            return self._once((x.dtype.str, x.tobytes()), super().CreateNumpyVector, x)

        def CreateString(self, s: str, *encoding: str) -> int:  # noqa: N802
            return self._once(s, super().CreateString, s, *encoding)

        def _once(self, key: Any, create: Callable[..., int], *values: Any) -> int:
            if key not in self.written:
                self.written[key] = create(*values)
            return self.written[key]

    builder = Builder(1 << 20)
    builder.written = {}
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


# ---- the labels, as TensorFlow Lite's metadata has them: https://www.tensorflow.org/lite/models/convert/metadata ----


def _label_metadata(taken: str, given: list[str], is_picture: bool) -> bytes:
    """A table ModelMetadata of metadata_schema.fbs: the names of the input and of the outputs, and where the labels of
    these are."""
    import flatbuffers

    builder = flatbuffers.Builder()
    text = builder.CreateString

    def table(*fields: int | bytes | None) -> int:
        """A table of places in the file, of bytes, and of fields left out."""
        builder.StartObject(len(fields))
        for place, value in enumerate(fields):
            if isinstance(value, bytes):
                builder.PrependUint8Slot(place, value[0], 0)
            elif value is not None:
                builder.PrependUOffsetTRelativeSlot(place, value, 0)
        return int(builder.EndObject())

    def vector(places: Sequence[int]) -> int:
        builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            builder.PrependUOffsetTRelative(place)
        return int(builder.EndVector())

    labels = vector([table(text(LABELS), None, b"\2")])  # TENSOR_AXIS_LABELS
    content = table(b"\2", table(b"\1")) if is_picture else None  # ImageProperties: RGB
    inputs = vector([table(text(taken), None, None, content)])
    outputs = vector([table(text(name), None, None, None, None, None, labels) for name in given])
    graphs = vector([table(None, None, inputs, outputs)])
    model = table(text("MobileViT"), None, None, graphs, None, None, None, text("1.0.0"))
    builder.Finish(model, b"M001")
    return bytes(builder.Output())


def _with_labels(model: bytes, labels: Sequence[str]) -> bytes:
    """The model with a zip behind it that holds the labels, a line each, if there are any."""
    if not labels:
        return model
    file = io.BytesIO(model)
    entry = zipfile.ZipInfo(LABELS)  # of 1980, so that the bytes depend on no day
    entry.create_system, entry.external_attr = 3, 0o644 << 16
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(entry, "".join(" ".join(label.splitlines()) + "\n" for label in labels))
    return file.getvalue()
