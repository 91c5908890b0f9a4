"""Dump the intermediates of an ONNX model run by ONNX Runtime into one safetensors file.

    python dump_onnxruntime.py model.onnx pixels.npy port.safetensors
    tinymvit compare apple/mobilevit-small port.safetensors --isolate

pixels.npy: what the network is given, (B, 3, H, W) float32, BGR, 0 to 1, or the picture (B, H, W, 3) uint8 of a file
that takes one. Every chosen intermediate becomes an output of the graph, and the runtime's own optimisations are off,
so that each of them is really computed. `tinymvit export` calls tensors as their nodes, and what is no node's value
after one, with a slash. Else names are taken from what PyTorch's exporters leave in the file; another converter's
tensors keep their own names (give compare a map).
"""

import ast
import sys

import numpy as np
import onnx
import onnxruntime
from safetensors.numpy import save_file


def module_of(node):
    """The path of the module that a node was exported from; None if the file does not say."""
    for entry in node.metadata_props:  # torch.onnx.export(..., dynamo=True)
        if entry.key == "pkg.torch.onnx.name_scopes":
            return ast.literal_eval(entry.value)[-2]
    if node.name.startswith("/"):  # torch.onnx.export(..., dynamo=False): /mobilevit/conv_stem/convolution/Conv
        return ".".join(node.name.split("/")[1:-1])
    return None


def name_tensors(model):
    """{name: tensor}: the values of nodes in a file of tinymvit's; in others the last tensor that a module's nodes make
    is the module's output."""
    graph = model.graph
    if model.producer_name == "tinymvit":
        made = {name for node in graph.node for name in node.output} - weights_of(graph)
        return {name: name for name in made if "/" not in name}
    last = {}
    for node in graph.node:
        path = module_of(node)
        if path is None:
            last[node.output[0]] = node.output[0]
            continue
        parts = path.split(".")
        for depth in range(1, len(parts) + 1):
            if parts[depth - 1] not in ("layer", "convs"):  # lists of modules, no modules
                last[".".join(parts[:depth])] = node.output[0]
        if node.op_type == "Softmax":
            last[f"{path}.scores"], last[f"{path}.probabilities"] = node.input[0], node.output[0]
    constants = {node.output[0] for node in graph.node if node.op_type == "Constant"}
    return {name: tensor for name, tensor in last.items() if name and tensor not in constants}


def weights_of(graph):
    """The tensors that are computed from constants alone: weights that are stored in fewer bits."""
    constant = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if constant.issuperset(node.input):
            constant.update(node.output)
    return constant


def dump(model, pixel_values):
    """The named intermediates of an ONNX model, the pixels they started from and the outputs they ended in."""
    names = name_tensors(model)
    outputs = {output.name for output in model.graph.output}
    for tensor in sorted(set(names.values()) - outputs):
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(tensor))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted = sorted({*names.values(), *outputs})
    taken = session.get_inputs()[0].name
    values = dict(zip(wanted, session.run(wanted, {taken: pixel_values}), strict=True))
    tensors = {} if taken == "image" else {"pixel_values": pixel_values}
    tensors |= {name: values[tensor] for name, tensor in names.items()}
    tensors |= {name: values[name] for name in outputs}
    return {name: np.ascontiguousarray(value) for name, value in tensors.items()}


def main(model, pixels, target):
    save_file(dump(onnx.load(model), np.load(pixels)), target)


if __name__ == "__main__":
    main(*sys.argv[1:])
