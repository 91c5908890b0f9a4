"""Ports in other runtimes, dumped by the scripts of docs/porting: right ones agree, a mistake is named."""

import copy
import logging
import warnings
from contextlib import contextmanager
from functools import cache

import numpy as np
import pytest

from command_line import DIGIT, run
from frameworks import torch
from ports import dump, pair, scaled_without_heads, script
from tinymvit import compare
from tinymvit.weights import resolve
from torch_models import TINY

pytestmark = pytest.mark.torch


@cache
def port():
    """transformers' model and ours with the same weights, and pixels (2, 3, 64, 96)."""
    return (*pair("MobileViTForImageClassification", TINY), torch.rand(2, 3, 64, 96, generator=torch.manual_seed(3)))


@contextmanager
def converters_silenced():
    """Their warnings are not ours to mend."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def test_the_script_for_pytorch(capsys, tmp_path):
    script("dump_pytorch").main(str(resolve("digits")), DIGIT, str(tmp_path / "port.safetensors"))
    capsys.readouterr()
    code, out, _ = run(capsys, "compare", "digits", tmp_path / "port.safetensors", "--isolate")
    assert (code, out.splitlines()[0]) == (0, "agree")


@pytest.mark.parametrize("isolate", [False, True])
def test_pytorch_uses_less_than_half_of_the_tolerance(isolate):
    theirs, ours, pixels = port()
    rows = compare(ours, dump(theirs, pixels), isolate=isolate).rows
    assert max(row.errors.rms / row.limit.rms for row in rows if row.limit and row.limit.rms) < 0.5


@pytest.mark.parametrize("isolate", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_pytorch_stored_in_another_format(dtype, isolate):
    theirs, ours, pixels = port()
    found = {name: x.astype(dtype) for name, x in dump(theirs, pixels).items()}
    assert compare(ours, found | {"pixel_values": pixels.numpy()}, isolate=isolate).agrees


@pytest.mark.parametrize("isolate", [False, True])
def test_the_outputs_of_all_pytorch_modules_without_names(isolate):
    """Many tensors come several times; at this size the folded map of the last block has the shape of its tokens."""
    theirs, ours, _ = port()
    found = dump(theirs, torch.rand(1, 3, 128, 128, generator=torch.manual_seed(3)))
    comparison = compare(ours, {f"t{i:04}": x for i, x in enumerate(found.values())}, isolate=isolate)
    assert comparison.agrees
    assert len(comparison.rows) > 150


def exported(model, path, **options):
    """A model in ONNX Runtime: the tensors of its dump."""
    import onnx

    names = {"input_names": ["pixel_values"], "output_names": ["logits"], "verbose": False}
    with converters_silenced():
        torch.onnx.export(model, (port()[2],), str(path), **names, **options)
    return script("dump_onnxruntime").dump(onnx.load(path), port()[2].numpy())


@pytest.fixture
def _onnx_runtime():
    for name in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(name)


@pytest.mark.usefixtures("_onnx_runtime")
def test_onnx_runtime_from_the_newer_exporter(tmp_path):
    theirs, ours, _ = port()
    comparison = compare(ours, exported(theirs, tmp_path / "model.onnx", dynamo=True, optimize=False), isolate=True)
    assert comparison.agrees
    assert len(comparison.rows) > 150


@pytest.mark.usefixtures("_onnx_runtime")
@pytest.mark.parametrize("mistake", [None, scaled_without_heads], ids=["right", "wrong scale"])
def test_onnx_runtime_from_the_older_exporter(tmp_path, mistake):
    """It folds the normalisations into the convolutions."""
    theirs, ours = copy.deepcopy(port()[0]), port()[1]
    node, sentence = mistake(theirs) if mistake else (None, "")
    comparison = compare(ours, exported(theirs, tmp_path / "model.onnx", dynamo=False), isolate=True)
    assert comparison.first == node
    assert len(comparison.rows) > 150
    if mistake:
        assert comparison.divergence.hints[0].mistake == sentence


def test_litert_names():
    pytest.importorskip("ai_edge_litert")
    module_of = script("dump_litert").module_of
    prefix = "a.B/c.MobileViTModel_mobilevit/c.MobileViTEncoder_encoder/c.MobileViTLayer_3"
    assert module_of(f"{prefix}/torch.nn.Conv2d_conv_1x1;1") == "mobilevit.encoder.layer.3.conv_1x1"
    assert module_of(f"{prefix}/x.LayerNorm_layernorm;7;{prefix}/x.Linear_query;1", "Linear").endswith("layer.3.query")
    assert module_of("a.B/h.MobileViTASPP_aspp/h.MobileViTConvLayer_2") == "aspp.convs.2"
    assert module_of("serving_default_args_0:0") is None


def test_litert(tmp_path):
    pytest.importorskip("ai_edge_litert")
    with converters_silenced():
        litert_torch = pytest.importorskip("litert_torch")
    theirs, ours, pixels = port()

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = theirs

        def forward(self, pixels):
            return self.model(pixels).logits

    with converters_silenced():
        litert_torch.convert(Logits().eval(), (pixels[:1],)).export(str(tmp_path / "model.tflite"))
        found = script("dump_litert").dump(tmp_path / "model.tflite", pixels[:1].numpy())
    for isolate in (False, True):
        comparison = compare(ours, found, isolate=isolate)
        assert comparison.agrees
        assert len(comparison.rows) > 150
