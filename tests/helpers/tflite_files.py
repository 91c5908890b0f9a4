"""What stands in a TensorFlow Lite file, and what LiteRT makes of it, for the tests of its exporter."""

import io
import json
import math
import zipfile
from dataclasses import dataclass

import numpy as np

GPU = {
    *("ADD", "BATCH_MATMUL", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "DEPTH_TO_SPACE", "DEQUANTIZE", "DIV"),
    *("FULLY_CONNECTED", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOGISTIC", "MEAN", "MUL", "PAD", "RELU", "RELU6"),
    *("RESHAPE", "RESIZE_BILINEAR", "RSQRT", "SOFTMAX", "SPACE_TO_DEPTH", "SUB", "TANH", "TRANSPOSE"),
}


@dataclass
class Tensor:
    """shape; name; dtype, as the schema calls it; constant: its bytes, None for a value; scales: of int8 weights."""

    shape: tuple
    name: str
    dtype: str
    constant: bytes | None
    scales: np.ndarray | None


class File:
    """A file's operators as (code, inputs, outputs, options), its tensors, inputs and outputs, and its metadata."""

    def __init__(self, content):
        from ai_edge_litert import schema_py_generated as schema

        assert schema.Model.ModelBufferHasIdentifier(content, 0)
        self.content = content
        self.model = schema.ModelT.InitFromPackedBuf(content, 0)
        (graph,) = self.model.subgraphs
        codes = {number: code for code, number in vars(schema.BuiltinOperator).items() if code.isupper()}
        types = {number: name for name, number in vars(schema.TensorType).items() if name.isupper()}
        buffers = [None if buffer.data is None else buffer.data.tobytes() for buffer in self.model.buffers]
        self.tensors = [
            Tensor(
                () if t.shape is None else tuple(int(side) for side in t.shape),
                t.name.decode(),
                types[t.type],
                buffers[t.buffer] if t.buffer else None,
                None if t.quantization is None else t.quantization.scale,
            )
            for t in graph.tensors
        ]
        self.signatures = [t.shapeSignature for t in graph.tensors]
        self.operators = [
            (
                codes[self.model.operatorCodes[op.opcodeIndex].builtinCode],
                [self.tensors[i] for i in op.inputs],
                [self.tensors[i] for i in op.outputs],
                op.builtinOptions,
            )
            for op in graph.operators
        ]
        self.inputs = [self.tensors[i] for i in graph.inputs]
        self.outputs = [self.tensors[i] for i in graph.outputs]
        self.metadata = {entry.name.decode(): buffers[entry.buffer] for entry in self.model.metadata}

    @property
    def codes(self):
        return [code for code, *_ in self.operators]

    @property
    def facts(self):
        return json.loads(self.metadata["tinymvit"])

    @property
    def labels(self):
        with zipfile.ZipFile(io.BytesIO(self.content)) as archive:
            assert archive.namelist() == ["labels.txt"]
            return archive.read("labels.txt").decode().splitlines()


def partitions(path):
    """How many parts of the file LiteRT gives to XNNPACK, and whether these take in what the file takes and give what
    it gives."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    parts = [op for op in interpreter._get_ops_details() if op["op_name"] == "DELEGATE"]
    taken = {i for part in parts for i in part["inputs"]}
    given = {i for part in parts for i in part["outputs"]}
    ends = (
        {t["index"] for t in interpreter.get_input_details()},
        {t["index"] for t in interpreter.get_output_details()},
    )
    return len(parts), ends[0] <= taken and ends[1] <= given


def check_for_gpu(file):
    """Assert what LiteRT's delegates for GPUs ask of a file: tflite/tools/versioning/gpu_compatibility.cc there."""
    made = set()
    for code, inputs, outputs, options in file.operators:
        assert code in GPU, code
        for tensor in (*inputs, *outputs):
            assert len(tensor.shape) <= 4, (tensor.name, tensor.shape)
            assert all(side > 0 for side in tensor.shape), (tensor.name, tensor.shape)
        runtime = [tensor for tensor in inputs if tensor.constant is None and tensor.name not in made]
        if code == "DEQUANTIZE" and inputs[0].constant is not None:
            made.add(outputs[0].name)
        elif code in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MEAN", "PAD", "RESHAPE", "TRANSPOSE"):
            assert len(runtime) == 1, code
        elif code == "BATCH_MATMUL":
            assert len(runtime) == 2
        if code in ("ADD", "MUL", "SUB", "DIV"):
            check_broadcast(*inputs)
        if code == "RESHAPE":
            assert np.frombuffer(inputs[1].constant, np.int32).tolist() == list(outputs[0].shape)
        if code == "SOFTMAX":
            assert options.beta == 1
        if code in ("DEPTH_TO_SPACE", "SPACE_TO_DEPTH"):
            assert options.blockSize > 1


def check_broadcast(a, b):
    """Equal ranks, whose sides are equal or 1, or a constant that is one number or one for each channel."""
    if len(a.shape) == len(b.shape):
        assert all(x == y or y == 1 for x, y in zip(a.shape, b.shape, strict=True)), (a.name, b.name)
    else:
        assert b.constant is not None, b.name
        assert b.shape in ((), (a.shape[-1],)), (a.shape, b.shape)


def weight_bytes(file):
    """The bytes of all constants of more than one axis, by their dtypes."""
    found = {}
    for tensor in file.tensors:
        if tensor.constant is not None and len(tensor.shape) > 1 and tensor.dtype != "INT32":
            found[tensor.dtype] = found.get(tensor.dtype, 0) + len(tensor.constant)
            assert math.prod(tensor.shape) > 0
    return found
