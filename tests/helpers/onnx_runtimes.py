"""Runtimes that read ONNX files, each as a function from a path to what runs the file: an array in, arrays by name."""

from pathlib import Path

import numpy as np
import pytest

from tinymvit.exporters import onnx


def onnx_runtime(path):
    pytest.importorskip("onnxruntime", reason="pip install onnxruntime")
    return onnx.load(Path(path), threads=1)


def openvino(path):
    module = pytest.importorskip("openvino", reason="pip install openvino")
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}  # by default it may take bfloat16
    model = module.Core().compile_model(str(path), "CPU", settings)
    names = _outputs(path)
    return lambda x: dict(zip(names, (np.array(value) for value in model([x]).values()), strict=True))


def tract(path):
    """The strict one, in Rust."""
    module = pytest.importorskip("tract", reason="pip install tract")
    model = module.onnx().load(str(path)).into_model().into_runnable()
    names = _outputs(path)
    return lambda x: dict(zip(names, (tensor.to_numpy() for tensor in model.run([x])), strict=True))


def _outputs(path):
    """The names of the results, in the file's order."""
    return [output.name for output in pytest.importorskip("onnx").load(str(path)).graph.output]


RUNTIMES = {"ONNX Runtime": onnx_runtime, "OpenVINO": openvino, "tract": tract}
