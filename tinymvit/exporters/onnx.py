"""The network as an ONNX file: opset 17, no axis beyond the fourth, every shape a constant.

A map is (B, C, H, W), as in the graph. Tokens are one matrix, (N B P, D): a linear layer is one product with its bias
(Gemm), and unfolding is a transpose to channels last, then one that moves rows of a patch as a whole. Attention sees
(1, N, B P h, d), of which a transpose of the two middle axes makes (1, B P h, N, d): ONNX Runtime and OpenVINO do it
inside of the products around it. Of the forms that were tried (tokens as (B P, N, D), heads in an axis of their own,
patches apart before channels go last) this is the fastest in both: see tests/measures/onnx_speed.py.

What is stored as float16 or int8 becomes float32 by nodes that read constants only. A runtime computes them once, when
it loads the file, so they cost no time, and the arithmetic is that of float32.

Arithmetic in int8 is written as ONNX has it: a layer in float32 between DequantizeLinear and QuantizeLinear, which a
runtime takes for one op on integers. Where it does not, it rounds at the same places.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tinymvit.errors import OutputError, TinyMViTError
from tinymvit.exporters.network import FLOAT16, FLOAT32, IMAGE, INT8, PIXEL_VALUES, SOFTMAX, Network, query_factors
from tinymvit.exporters.storage import as_float16, as_int8, in_json
from tinymvit.graph import Node
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
    Input,
    LayerNorm,
    Linear,
    MeanPool,
    Op,
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
from tinymvit.passes.quantise import SUFFIX as SUFFIX_OF_INT8
from tinymvit.text import short
from tinymvit.version import __version__

NAME, WORD, SUFFIX = "onnx", "ONNX", ".onnx"
PRECISIONS = (FLOAT32, FLOAT16, INT8)
MODULES: tuple[str, ...] = ("onnx",)
EXTRA: str | None = "onnx"
RUNTIME, RUNTIME_MODULES = "ONNX Runtime", ("onnxruntime",)
MOST_THREADS: int | None = None

OPSET, IR_VERSION = 17, 8  # of 2022: runtimes of that age read the file
LARGEST = 2**31 - 1  # bytes of a protobuf message
PRECISE = "session.x64quantprecision"  # without it sums of int8 overflow on x86 processors that have no VNNI
QUANTISE, DEQUANTISE = "QuantizeLinear", "DequantizeLinear"
BATCH = "batch"  # the name of the first axis where it is open


def files(network: Network, name: str) -> dict[str, Callable[[BinaryIO], object]]:
    """One file, for inputs of the network's size: see `export.Exporter`. Raises TinyMViTError for an activation that is
    a function in Python, for a weight that is too large for float16, and for more than 2 GiB."""
    content = _Writer(network).model().SerializeToString(deterministic=True)
    return {name: lambda file: file.write(content)}


def about(network: Network) -> str:
    """Nothing beside its size."""
    return ""


def load(path: Path, threads: int) -> Callable[[Array], Mapping[str, Array]]:
    """What runs a file that `files` wrote in ONNX Runtime: from pixel_values (B, C, H, W) float32, or from a picture
    (B, H, W, 3) uint8 for a file with preprocessing, to its results by their public names. Raises OutputError, in a
    line, for what ONNX Runtime refuses."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors, which it raises too
    options.add_session_config_entry(PRECISE, "1")
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own are no subclasses of anything nearer
        raise OutputError(f"{path}: ONNX Runtime refuses it: {short(str(error))}") from None
    (taken,), names = session.get_inputs(), [output.name for output in session.get_outputs()]
    return lambda given: dict(zip(names, session.run(names, {taken.name: given}), strict=True))


# ---- the file ----


class _Writer:
    """Writes a network's nodes as ONNX has them, in their order. at: the tensor of each node's value, by its name.
    reals: for nodes in int8, the tensors of what they stand for."""

    def __init__(self, network: Network) -> None:
        import onnx

        self.onnx = onnx
        self.network = network
        self.graph, self.weights = network.folded() if network.ranges is None else network.quantised()
        self.batch = self.graph[PIXEL_VALUES].shape[0]
        self.factors = query_factors(self.graph)
        self.public: dict[str, str] = {}  # the first public name of each node that has one
        for public, name in self.graph.outputs.items():
            self.public.setdefault(name, public)
        self.at: dict[str, str] = {}
        self.reals: dict[str, str] = {}
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.stored = 0  # bytes of the constants

    def model(self) -> Any:
        """The ModelProto."""
        for node in self.graph:
            writer = WRITERS.get(type(node.op))
            if writer is None:
                raise TinyMViTError(f"{node.name}: {type(node.op).__name__}, expected an op that {WORD} has")
            self.at[node.name] = writer(self, node, node.op, *(self.at[name] for name in node.inputs))
        outputs = self.outputs()
        if self.stored > LARGEST - 2**24:  # what is beside the constants
            raise TinyMViTError(f"{WORD}: {self.stored:,} bytes of weights, expected less than 2 GiB")
        helper = self.onnx.helper
        graph = helper.make_graph(self.nodes, "mobilevit", [self.input()], outputs, list(self.constants.values()))
        graph.doc_string = f"{self.network.facts.get('task', 'features')}, for images of {self.size()} pixels"
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="tinymvit",
            producer_version=__version__,
            doc_string="MobileViT. Each tensor has the name of its node in tinymvit's graph; what is no node's value "
            "has a name below one, with a slash.",
        )
        helper.set_model_props(model, _metadata(self.network))
        return model

    def input(self) -> Any:
        """What the file takes."""
        batch, channels, height, width = self.graph[PIXEL_VALUES].shape
        if self.network.preprocessing is None:
            order = self.network.facts.get("channel_order", "BGR") if channels == 3 else f"{channels} channels"
            words = f"the pixels, from 0 to 1, {order}"
            return self.described(PIXEL_VALUES, np.float32, (batch, channels, height, width), words)
        return self.described(IMAGE, np.uint8, (batch, height, width, channels), "a picture, from 0 to 255, RGB")

    def outputs(self) -> list[Any]:
        """What the file gives: the results, or what is to become of the logits."""
        if self.network.answer is None:
            for public, name in self.graph.outputs.items():
                if public != self.public[name]:
                    self.add("Identity", [self.public[name]], public)
            return [
                self.described(public, np.float32, self.graph[name].shape)
                for public, name in self.graph.outputs.items()
            ]
        node = self.graph[self.graph.outputs["logits"]]
        if self.network.answer == SOFTMAX:
            self.add("Softmax", ["logits"], "probabilities", axis=1)
            return [self.described("probabilities", np.float32, node.shape, "of each class")]
        self.add("ArgMax", ["logits"], "classes", axis=1, keepdims=0)
        return [self.described("classes", np.int64, (node.shape[0], *node.shape[2:]), "the number of the best class")]

    def described(self, name: str, dtype: type, shape: Shape, words: str = "") -> Any:
        """A tensor that the file takes or gives."""
        sizes: list[str | int] = [BATCH if self.network.dynamic_batch else shape[0], *shape[1:]]
        kind = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.onnx.helper.make_tensor_value_info(name, kind, sizes, words)

    def size(self) -> str:
        return " x ".join(map(str, self.graph[PIXEL_VALUES].shape[2:]))

    def name(self, node: Node) -> str:
        """What the tensor of a node's value is called."""
        return self.public.get(node.name, node.name)

    def add(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """An ONNX node, which is called as the one tensor that it makes. Returns this name."""
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def constant(self, values: Array, name: str) -> str:
        """An array that the file stores under a name. Returns the name."""
        if name not in self.constants:
            self.constants[name] = self.onnx.numpy_helper.from_array(np.asarray(values, order="C"), name)
            self.stored += values.nbytes
        return name

    def number(self, value: float) -> str:
        return self.constant(np.array(value, np.float32), f"number/{float(np.float32(value)):.9g}")

    def integers(self, values: Sequence[int]) -> str:
        return self.constant(np.array(values, np.int64), f"integers/{'_'.join(map(str, values))}")

    def reshape(self, x: str, sizes: Sequence[int], batch_axis: int, name: str) -> str:
        """x with these sizes, of which that of `batch_axis` holds the images."""
        sizes = list(sizes)
        if self.network.dynamic_batch:
            sizes[batch_axis] = -1
        return self.add("Reshape", [x, self.integers(sizes)], name)

    def transpose(self, x: str, axes: Sequence[int], name: str) -> str:
        return self.add("Transpose", [x], name, perm=axes)

    def matrix(self, values: Array, name: str, axis: int) -> str:
        """The weights of products, in float32, whatever is stored. axis: that of the output channels."""
        if self.network.precision == FLOAT16:
            stored = self.constant(as_float16(values, name), f"{name}/float16")
            return self.add("Cast", [stored], name, to=self.onnx.TensorProto.FLOAT)
        if self.network.precision == INT8 and self.network.ranges is None:
            multiples, scale = as_int8(values, axis)
            stored = self.constant(multiples, f"{name}/int8")
            cast = self.add("Cast", [stored], f"{name}/float32", to=self.onnx.TensorProto.FLOAT)
            others = [1] * (values.ndim - 1 - axis)
            return self.add("Mul", [cast, self.constant(scale.reshape(-1, *others), f"{name}/scale")], name)
        return self.constant(values, name)

    def quantised(self, kind: str, x: str, by: Quantisation, name: str) -> str:
        """QuantizeLinear or DequantizeLinear of a whole tensor, whose whole numbers are uint8: 128 more than ours."""
        scale = self.constant(np.array(by.scale, np.float32), f"scale/{by.scale!r}")
        zero_point = self.constant(np.array(by.zero_point + 128, np.uint8), f"zero/{by.zero_point + 128}")
        return self.add(kind, [x, scale, zero_point], name)

    def layer_weight(self, numbers: Array, name: str, scale: Array, scale_name: str, axis: int) -> str:
        """What the whole numbers of a weight stand for, symmetric, with a scale for each place along an axis."""
        zeros = self.constant(np.zeros(scale.shape, numbers.dtype), f"{name}/zeros")
        operands = [self.constant(numbers, name), self.constant(scale, scale_name), zeros]
        return self.add(DEQUANTISE, operands, f"{name}/real", axis=axis)

    def real(self, node: Node, by: Quantisation) -> str:
        """What the int8 numbers that a node reads stand for. Those of a layer stand for its value, whose node the graph
        lacks where others read only the numbers; those of a value that is rounded do not."""
        (name,) = node.inputs
        if name not in self.reals:
            value = name.removesuffix(SUFFIX_OF_INT8)
            tensor = value if value not in self.graph.nodes else f"{name}/real"
            self.reals[name] = self.quantised(DEQUANTISE, self.at[name], by, tensor)
        return self.reals[name]

    def vector(self, name: str, *shape: int) -> str:
        """The weights of each channel: biases, and those of normalisations."""
        return self.constant(np.asarray(self.weights[name], np.float32).reshape(-1, *shape), name)


def _metadata(network: Network) -> dict[str, str]:
    """What the file says of itself: text, or JSON of what is none; `names`, `imgsz` and `task` as others call them."""
    facts = {key: value for key, value in network.facts.items() if key != "labels"}
    facts["imgsz"] = list(network.graph[PIXEL_VALUES].shape[2:])
    if network.labels:
        facts["names"] = {str(i): label for i, label in enumerate(network.labels)}
    return {key: value if isinstance(value, str) else in_json(value) for key, value in sorted(facts.items())}


# ---- nodes become ONNX nodes: writer, node, op and the tensors of its inputs -> the tensor of its value ----


def _input(to: _Writer, node: Node, op: Input) -> str:
    """The pixels; with preprocessing what becomes of a picture. Bytes are moved, since they are shorter than floats."""
    preprocessing = to.network.preprocessing
    if preprocessing is None:
        return PIXEL_VALUES
    x = to.transpose(IMAGE, [0, 3, 1, 2], f"{IMAGE}/channels_first")
    if preprocessing.flips:
        x = to.add("Gather", [x, to.integers([2, 1, 0])], f"{IMAGE}/reversed", axis=1)
    x = to.add("Cast", [x], f"{IMAGE}/float32", to=to.onnx.TensorProto.FLOAT)
    return to.add("Mul", [x, to.constant(np.array(preprocessing.factor, np.float32), f"{IMAGE}/factor")], PIXEL_VALUES)


def _conv2d(to: _Writer, node: Node, op: Conv2d, x: str) -> str:
    weight, *bias = node.weights
    return _convolution(
        to, op, [x, to.matrix(to.weights[weight], weight, axis=0), *map(to.vector, bias)], to.name(node)
    )


def _convolution(to: _Writer, op: Conv2d, operands: Sequence[str], name: str) -> str:
    return to.add(
        "Conv",
        operands,
        name,
        kernel_shape=[op.kernel_size] * 2,
        strides=[op.stride] * 2,
        pads=[op.padding] * 4,
        dilations=[op.dilation] * 2,
        group=op.groups,
    )


def _batch_norm(to: _Writer, node: Node, op: BatchNorm, x: str) -> str:
    """Step by step, since a runtime would fold a BatchNormalization, and here that would be seen."""
    name = to.name(node)
    weight, bias, mean, variance = node.weights
    with np.errstate(invalid="ignore"):
        deviation = np.sqrt(to.weights[variance] + np.float32(op.eps)).reshape(-1, 1, 1)
    x = to.add("Sub", [x, to.vector(mean, 1, 1)], f"{name}/centred")
    x = to.add("Div", [x, to.constant(deviation, f"{name}/deviation")], f"{name}/normalised")
    x = to.add("Mul", [x, to.vector(weight, 1, 1)], f"{name}/scaled")
    return to.add("Add", [x, to.vector(bias, 1, 1)], name)


def _activation(to: _Writer, node: Node, op: Activation, x: str) -> str:
    return _function(to, node)(to, x, to.name(node))


def _add(to: _Writer, node: Node, op: Add, a: str, b: str) -> str:
    return to.add("Add", [a, b], to.name(node))


def _concat(to: _Writer, node: Node, op: Concat, *inputs: str) -> str:
    return to.add("Concat", inputs, to.name(node), axis=1)


def _mean_pool(to: _Writer, node: Node, op: MeanPool, x: str) -> str:
    name = to.name(node)
    if op.keep_dims:
        return to.add("GlobalAveragePool", [x], name)
    return to.add("Flatten", [to.add("GlobalAveragePool", [x], f"{name}/mean")], name, axis=1)


def _resize(to: _Writer, node: Node, op: Resize, x: str) -> str:
    """With an open batch there are no sizes: then the axes have factors."""
    name, before = to.name(node), to.graph[node.inputs[0]].shape[2:]
    if to.network.dynamic_batch:
        factors = [1, 1, _factor(before[0], op.height), _factor(before[1], op.width)]
        how = ["", to.constant(np.array(factors, np.float32), f"{name}/factors")]
    else:
        how = ["", "", to.integers(node.shape)]
    return to.add("Resize", [x, *how], name, mode="linear", coordinate_transformation_mode="half_pixel")


def _factor(before: int, after: int) -> np.float32:
    """The float32 next to after / before which times `before`, in whatever precision, is not below `after`."""
    factor = np.float32(after / before)
    return factor if float(factor) * before >= after else np.nextafter(factor, np.float32(np.inf))


def _linear(to: _Writer, node: Node, op: Linear, x: str) -> str:
    """A query may hold the factor of the scores, and has another name then."""
    name, factor = to.name(node), to.factors.get(node.name, 1)
    weight, *bias = node.weights
    matrix = to.matrix((np.asarray(to.weights[weight]) * np.float32(factor)).T, weight, axis=1)
    if factor != 1:
        name = f"{name}/scaled"
        bias = [to.constant(np.asarray(to.weights[each]) * np.float32(factor), each) for each in bias]
    else:
        bias = [to.vector(each) for each in bias]
    return to.add("Gemm", [x, matrix, *bias], name) if bias else to.add("MatMul", [x, matrix], name)


def _layer_norm(to: _Writer, node: Node, op: LayerNorm, x: str) -> str:
    return to.add("LayerNormalization", [x, *map(to.vector, node.weights)], to.name(node), axis=-1, epsilon=op.eps)


def _unfold(to: _Writer, node: Node, op: Unfold, x: str) -> str:
    """(B, D, H, W) -> (B, H, W, D) -> if B is not one (H / ph, B, ph W D) -> (H / ph, B ph, W / pw, pw D)
    -> (H / ph, W / pw, B ph, pw D) -> (N B P, D)."""
    name, batch = to.name(node), to.batch
    _, width, map_height, map_width = to.graph[node.inputs[0]].shape
    rows, columns = map_height // op.patch_height, map_width // op.patch_width
    x = to.transpose(x, [0, 2, 3, 1], f"{name}/channels_last")
    if batch != 1 or to.network.dynamic_batch:
        x = to.reshape(x, [batch, rows, op.patch_height * map_width * width], 0, f"{name}/rows")
        x = to.transpose(x, [1, 0, 2], f"{name}/rows_first")
    x = to.reshape(x, [rows, batch * op.patch_height, columns, op.patch_width * width], 1, f"{name}/columns")
    x = to.transpose(x, [0, 2, 1, 3], f"{name}/patches_first")
    return to.reshape(x, [math.prod(node.shape[:2]), width], 0, name)


def _fold(to: _Writer, node: Node, op: Fold, x: str) -> str:
    """The way of `_unfold` back."""
    name, batch, width = to.name(node), to.batch, node.shape[1]
    rows, columns = op.height // op.patch_height, op.width // op.patch_width
    x = to.reshape(x, [rows, columns, batch * op.patch_height, op.patch_width * width], 2, f"{name}/patches_first")
    x = to.transpose(x, [0, 2, 1, 3], f"{name}/columns")
    if batch != 1 or to.network.dynamic_batch:
        x = to.reshape(x, [rows, batch, op.patch_height * op.width * width], 1, f"{name}/rows_first")
        x = to.transpose(x, [1, 0, 2], f"{name}/rows")
    x = to.reshape(x, [batch, op.height, op.width, width], 0, f"{name}/channels_last")
    return to.transpose(x, [0, 3, 1, 2], name)


def _heads(to: _Writer, x: str, tokens: Shape, heads: int, name: str) -> str:
    """(N B P, D) -> (1, N, B P h, d) -> (1, B P h, N, d)"""
    sequences, count, width = tokens
    apart = to.reshape(x, [1, count, sequences * heads, width // heads], 2, f"{name}_heads")
    return to.transpose(apart, [0, 2, 1, 3], name)


def _scores(to: _Writer, node: Node, op: Scores, query: str, key: str) -> str:
    name, tokens = to.name(node), to.graph[node.inputs[0]].shape
    query = _heads(to, query, tokens, op.heads, f"{name}/query")
    columns = to.transpose(_heads(to, key, tokens, op.heads, f"{name}/key"), [0, 1, 3, 2], f"{name}/key_columns")
    if node.inputs[0] in to.factors:
        return to.add("MatMul", [query, columns], name)
    product = to.add("MatMul", [query, columns], f"{name}/product")
    return to.add("Mul", [product, to.number(1 / math.sqrt(tokens[-1] / op.heads))], name)


def _softmax(to: _Writer, node: Node, op: Softmax, x: str) -> str:
    return to.add("Softmax", [x], to.name(node), axis=-1)


def _context(to: _Writer, node: Node, op: Context, probabilities: str, value: str) -> str:
    name, heads = to.name(node), to.graph[node.inputs[0]].shape[1]
    value = _heads(to, value, node.shape, heads, f"{name}/value")
    x = to.add("MatMul", [probabilities, value], f"{name}/heads_first")
    x = to.transpose(x, [0, 2, 1, 3], f"{name}/heads")
    return to.reshape(x, [math.prod(node.shape[:2]), node.shape[2]], 0, name)


def _quantise(to: _Writer, node: Node, op: Quantise, x: str) -> str:
    return to.quantised(QUANTISE, x, op.by, f"{to.name(node)}/uint8")


def _dequantise(to: _Writer, node: Node, op: Dequantise, x: str) -> str:
    to.reals[node.inputs[0]] = to.quantised(DEQUANTISE, x, op.by, to.name(node))
    return to.reals[node.inputs[0]]


def _quantised(to: _Writer, node: Node, op: Quantised, x: str) -> str:
    """The layer, on what its uint8 input, its int8 weight and its int32 bias stand for."""
    weight, scale, bias = (np.asarray(to.weights[name]) for name in node.weights)
    axis = 0 if isinstance(op.op, Conv2d) else 1
    bias_scale = (op.x.scale * scale.astype(np.float64)).astype(np.float32)
    operands = [
        to.real(node, op.x),
        to.layer_weight(weight if axis == 0 else weight.T, node.weights[0], scale, node.weights[1], axis),
        to.layer_weight(bias, node.weights[2], bias_scale, f"{node.weights[2]}/scale", 0),
    ]
    name = to.name(node)
    if isinstance(op.op, Conv2d):
        y = _convolution(to, op.op, operands, f"{name}/result")
    else:
        y = to.add("Gemm", operands, f"{name}/result")
    return to.quantised(QUANTISE, y, op.y, f"{name}/uint8")


def _quantised_activation(to: _Writer, node: Node, op: QuantisedActivation, x: str) -> str:
    """By the function, not by the table, which no runtime reads as fast."""
    name = to.name(node)
    y = _function(to, node)(to, to.real(node, op.x), f"{name}/result")
    return to.quantised(QUANTISE, y, op.y, f"{name}/uint8")


WRITERS: dict[type[Op], Callable[..., str]] = {
    Input: _input,
    Conv2d: _conv2d,
    BatchNorm: _batch_norm,
    Activation: _activation,
    Add: _add,
    Concat: _concat,
    MeanPool: _mean_pool,
    Resize: _resize,
    Linear: _linear,
    LayerNorm: _layer_norm,
    Unfold: _unfold,
    Fold: _fold,
    Scores: _scores,
    Softmax: _softmax,
    Context: _context,
    Quantise: _quantise,
    Dequantise: _dequantise,
    Quantised: _quantised,
    QuantisedActivation: _quantised_activation,
}


# ---- activations by their names: the writer, a tensor and a name for the result -> that name ----


def _function(to: _Writer, node: Node) -> Callable[[_Writer, str, str], str]:
    """What writes the function of a node. Raises TinyMViTError for one in Python."""
    assert isinstance(node.op, Activation | QuantisedActivation)
    if node.op.function not in ACTIVATIONS:
        expected = f"expected a name: {', '.join(ACTIVATIONS)}"
        raise TinyMViTError(f"{node.name}: the activation {short(node.op.function)}, {expected}")
    return ACTIVATIONS[node.op.function]


def _silu(to: _Writer, x: str, name: str) -> str:
    """Runtimes take the two for one function; ONNX has it from opset 24 on."""
    return to.add("Mul", [x, to.add("Sigmoid", [x], f"{name}/sigmoid")], name)


def _relu6(to: _Writer, x: str, name: str) -> str:
    return to.add("Clip", [x, to.number(0), to.number(6)], name)


def _gelu(to: _Writer, x: str, name: str) -> str:
    """In the order of steps that runtimes take for one function; ONNX has it from opset 20 on."""
    root = to.add("Div", [x, to.number(math.sqrt(2))], f"{name}/over_root")
    erf = to.add("Erf", [root], f"{name}/erf")
    return _half_of_product(to, x, erf, name)


def _gelu_tanh(to: _Writer, x: str, name: str) -> str:
    square = to.add("Mul", [x, x], f"{name}/square")
    cube = to.add("Mul", [square, x], f"{name}/cube")
    bent = to.add("Add", [x, to.add("Mul", [cube, to.number(0.044715)], f"{name}/part")], f"{name}/bent")
    inside = to.add("Mul", [bent, to.number(math.sqrt(2 / math.pi))], f"{name}/inside")
    return _half_of_product(to, x, to.add("Tanh", [inside], f"{name}/tanh"), name)


def _half_of_product(to: _Writer, x: str, step: str, name: str) -> str:
    """x (step + 1) / 2"""
    raised = to.add("Add", [step, to.number(1)], f"{name}/raised")
    return to.add("Mul", [to.add("Mul", [x, raised], f"{name}/double"), to.number(0.5)], name)


def _by(kind: str, **attributes: float) -> Callable[[_Writer, str, str], str]:
    """An activation that is one ONNX operator."""
    return lambda to, x, name: to.add(kind, [x], name, **attributes)


ACTIVATIONS: dict[Any, Callable[[_Writer, str, str], str]] = {
    "identity": _by("Identity"),
    "silu": _silu,
    "relu": _by("Relu"),
    "relu6": _relu6,
    "leaky_relu": _by("LeakyRelu", alpha=0.01),
    "hardswish": _by("HardSwish"),
    "sigmoid": _by("Sigmoid"),
    "tanh": _by("Tanh"),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
}
