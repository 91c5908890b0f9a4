"""The runtimes that `bench` times, each behind the same two methods: load a model from a folder, run it on an array.

The folder holds one checkpoint as transformers writes it, and the files that `EXPORTS` make of it. Everything heavy is
imported inside, because each peer lives in a process of its own (`contestant`) that should hold nothing else. Settings
are those that each runtime recommends for one image at a time on a given number of threads, in float32.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from tinymvit.numerics import Array

ONNX, TFLITE = "model.onnx", "model.tflite"  # made of the checkpoint by EXPORTS


class Peer(ABC):
    """A way to run the checkpoint in a folder.

    name: what --against calls it. distribution: the package whose version is shown. modules: what it imports, which is
    timed apart from loading. file: what it reads beside the checkpoint, or None. extra: which extra installs it.
    """

    name: ClassVar[str]
    distribution: ClassVar[str]
    modules: ClassVar[tuple[str, ...]]
    file: ClassVar[str | None] = None
    extra: ClassVar[str | None] = "bench"

    @abstractmethod
    def load(self, folder: Path, threads: int) -> None:
        """Make ready to run on `threads` threads."""

    @abstractmethod
    def run(self, pixel_values: Array) -> Array:
        """The logits for pixel_values (B, C, H, W) float32."""


class TinyMViT(Peer):
    """This library, used through its public classes."""

    name = "tinymvit"
    distribution = "tinymvit"
    modules = ("tinymvit.modeling",)
    extra = None

    def load(self, folder: Path, threads: int) -> None:
        from tinymvit import kernels, modeling

        kernels.set_num_threads(threads)
        self._model: Any = modeling.load_model(folder)

    def run(self, pixel_values: Array) -> Array:
        return self._model(pixel_values).logits


class Torch(Peer):
    """transformers' model on PyTorch, eager: what most people run."""

    name = "torch"
    distribution = "torch"
    modules = ("torch", "transformers.models.mobilevit.modeling_mobilevit")

    def load(self, folder: Path, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._model = torch_model(folder)
        self._torch = torch

    def run(self, pixel_values: Array) -> Array:
        with self._torch.inference_mode():
            return self._model(self._torch.from_numpy(pixel_values))[0].numpy()


class OnnxRuntime(Peer):
    """ONNX Runtime's own CPU kernels."""

    name = "onnxruntime"
    distribution = "onnxruntime"
    modules = ("onnxruntime",)
    file = ONNX

    def load(self, folder: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(folder / ONNX, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def run(self, pixel_values: Array) -> Array:
        return self._session.run(None, {self._input: pixel_values})[0]


class OpenVino(Peer):
    """Intel's runtime, on the ONNX file."""

    name = "openvino"
    distribution = "openvino"
    modules = ("openvino",)
    file = ONNX

    def load(self, folder: Path, threads: int) -> None:
        import openvino

        settings = {
            "INFERENCE_PRECISION_HINT": "f32",  # by default it takes bfloat16 where the CPU has it
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._model = openvino.Core().compile_model(folder / ONNX, "CPU", settings)

    def run(self, pixel_values: Array) -> Array:
        return self._model([pixel_values])[0]


class LiteRT(Peer):
    """Google's runtime for devices, which computes float32 on the CPU by XNNPACK."""

    name = "litert"
    distribution = "ai-edge-litert"
    modules = ("ai_edge_litert.interpreter",)
    file = TFLITE
    extra = "bench-litert"

    def load(self, folder: Path, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(str(folder / TFLITE), num_threads=threads)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def run(self, pixel_values: Array) -> Array:
        self._interpreter.set_tensor(self._input, pixel_values)
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output)


PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in (TinyMViT, Torch, OnnxRuntime, OpenVino, LiteRT)}
OURS = TinyMViT.name


def missing(peer: type[Peer]) -> str | None:
    """The first module that the peer, or the making of its file, needs and that is not installed."""
    modules = (*peer.modules, *(EXPORT_MODULES[peer.file] if peer.file else ()))
    names = dict.fromkeys(module.split(".")[0] for module in modules)
    return next((name for name in names if find_spec(name) is None), None)


# ---- reading the checkpoint, and making the other files of it ----


def torch_model(folder: Path) -> Any:
    """The checkpoint as transformers loads it, returning a tuple whose first entry are the logits."""
    import transformers

    (architecture,) = transformers.MobileViTConfig.from_pretrained(folder).architectures
    return getattr(transformers, architecture).from_pretrained(folder, return_dict=False).eval()


def export_onnx(folder: Path, pixel_values: Array) -> None:
    import torch

    x = torch.from_numpy(pixel_values)
    torch.onnx.export(
        torch_model(folder), (x,), folder / ONNX, dynamo=True, opset_version=18, external_data=False, verbose=False
    )


def export_tflite(folder: Path, pixel_values: Array) -> None:
    import litert_torch
    import torch

    litert_torch.convert(torch_model(folder), (torch.from_numpy(pixel_values),)).export(str(folder / TFLITE))


EXPORTS: dict[str, Callable[[Path, Array], None]] = {ONNX: export_onnx, TFLITE: export_tflite}
EXPORT_MODULES = {
    ONNX: ("torch", "transformers", "onnx", "onnxscript"),
    TFLITE: ("torch", "transformers", "litert_torch"),
}
