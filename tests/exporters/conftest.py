"""What tests of exporting share."""

import pytest

from tinymvit.exporters import onnx


@pytest.fixture
def tiny_onnx_files(monkeypatch):
    """ONNX files of a few bytes, for tests of what is around the exporter."""
    monkeypatch.setattr(onnx, "files", lambda network, name: {name: lambda file: file.write(b"what is exported")})
    monkeypatch.setattr(onnx, "MODULES", ())
