"""What the tests of checkpoints share: a tiny one of each class, and a package with two of them bundled."""

import pytest

from checkpoints import CLASSES, save_tiny
from tinymvit.weights import entries


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Folders with a tiny checkpoint of each class, by the names in CLASSES."""
    root = tmp_path_factory.mktemp("checkpoints")
    return {name: save_tiny(name, root / name) for name in CLASSES}


@pytest.fixture
def bundle(tmp_path, monkeypatch, checkpoints):
    """Two bundled checkpoints, "digits" and "digits-seg", in a folder that stands for the package's."""
    for name, source in (("digits", "classifier"), ("digits-seg", "segmenter")):
        folder = tmp_path / "package" / name
        folder.mkdir(parents=True)
        for file in checkpoints[source].iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Digits\n")
    (tmp_path / "package" / "__pycache__").mkdir()
    monkeypatch.setattr(entries, "__file__", str(tmp_path / "package" / "entries.py"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "package"
