"""Dump the intermediates of a LiteRT (TensorFlow Lite) model into one safetensors file.

    python dump_litert.py model.tflite pixels.npy port.safetensors
    tinymvit compare apple/mobilevit-small port.safetensors --isolate

pixels.npy: what the network is given: float32, BGR, 0 to 1, as its input lies in memory or with its channels first, as
`tinymvit trace --names pixel_values` writes it; or the picture, uint8, for a file that takes one. The interpreter keeps
every intermediate, without a delegate that would fuse some away. Names are taken from what `tinymvit export` or
litert-torch leaves in the file; another converter's tensors keep their own names, and compare guesses by shape, order
and values, or is given a map. int8 values become the numbers that they stand for.
"""

import re
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from safetensors.numpy import save_file

LISTS = {"MobileViTASPP": "convs"}  # the attribute that holds a module's numbered children, where it is not "layer"

PARTS = re.compile(r"[a-z_]+_\d+|classes|probabilities")  # in our files: what is no value of the model's own
INT8 = ".int8"  # in our files: ends the name of a value whose numbers are int8
REVERSED = "pixel_values/reversed"  # in our files that take a picture: its pixels, before their channels are swapped

MOVES = ("PAD", "TRANSPOSE", "RESHAPE")  # between the layouts of two ops, and named after either


def module_of(name, kind=""):
    """The module path in a tensor's name; None if it has none.

    A name is `pkg.Class_attribute/pkg.Class_attribute/...`, or several with `;` between them for ops fused into one:
    then the first whose last class is `kind`, or the first.
    """
    paths = [part for part in name.split(";") if "/" in part]
    if not paths:
        return None
    of_kind = [part for part in paths if part.rpartition(".")[2].startswith(f"{kind}_")]
    path, parent = [], ""
    for part in (of_kind or paths)[0].split("/"):
        own, _, attribute = part.rpartition(".")[2].partition("_")
        if attribute.isdecimal():
            path.append(LISTS.get(parent, "layer"))
        if attribute:
            path.append(attribute)
        parent = own
    return ".".join(path)


def is_ours(model_path):
    """Whether `tinymvit export` wrote the file, whose tensors then have the names of the model's nodes."""
    model = schema.Model.GetRootAs(Path(model_path).read_bytes())
    return b"tinymvit" in [model.Metadata(i).Name() for i in range(model.MetadataLength())]


def real(tensor, details):
    """The numbers that a tensor stands for."""
    scale, zero_point = details["quantization"]
    if tensor.dtype.kind == "f" or scale == 0:
        return tensor
    return (tensor.astype(np.float32) - zero_point) * np.float32(scale)


def dump(model_path, pixel_values):
    """The intermediates by the module that made them, in the order in which they are computed."""
    interpreter = Interpreter(
        model_path=str(model_path),
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    (taken,) = interpreter.get_input_details()
    channels_last = pixel_values.transpose(0, 2, 3, 1)
    fits = pixel_values.shape != tuple(taken["shape"]) == channels_last.shape
    interpreter.set_tensor(taken["index"], channels_last if fits else pixel_values)
    interpreter.invoke()
    details = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    found = (ours if is_ours(model_path) else theirs)(interpreter, details)
    tensors = {name: real(interpreter.get_tensor(index), details[index]) for name, index in found.items()}
    if REVERSED in tensors:
        tensors["pixel_values"] = tensors.pop(REVERSED)[..., ::-1]
    return {"pixel_values": pixel_values} | {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}


def ours(interpreter, details):
    """The indices of the tensors that are the model's own values, by their names: of one that is there both in float
    and in int8, whose name then ends so, the float."""
    results = {details[op["outputs"][0]]["name"]: op["outputs"][0] for op in interpreter._get_ops_details()}
    values = {name: index for name, index in results.items() if not PARTS.fullmatch(name)}
    given = [tensor["name"] for tensor in interpreter.get_input_details()]
    whole = {name: index for name, index in values.items() if name.removesuffix(INT8) not in (*values, *given)}
    return {name: index for name, index in values.items() if not name.endswith(INT8)} | {
        name.removesuffix(INT8): index for name, index in whole.items()
    }


def theirs(interpreter, details):
    """The indices of the last tensors that each module makes, by the module."""
    last = {}
    for op in interpreter._get_ops_details():  # in order; there is no public way to tell results from constants
        index = op["outputs"][0]
        name = details[index]["name"]
        if op["op_name"] in MOVES:
            continue
        path = module_of(name, "Linear" if op["op_name"] == "FULLY_CONNECTED" else "")
        if path is None:
            last[name] = index
            continue
        parts = path.split(".")
        for depth in range(1, len(parts) + 1):
            if parts[depth - 1] not in ("layer", "convs"):  # lists of modules, no modules
                last[".".join(parts[:depth])] = index
        if op["op_name"] == "SOFTMAX":
            last[f"{path}.scores"], last[f"{path}.probabilities"] = op["inputs"][0], index
    return last


def main(model, pixels, target):
    save_file(dump(model, np.load(pixels)), target)


if __name__ == "__main__":
    main(*sys.argv[1:])
