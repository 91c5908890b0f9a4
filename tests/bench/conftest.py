"""What the tests of `bench` share: a tiny checkpoint, peers that misbehave, and our number of threads put back."""

import sys

import pytest

import fake_peers
from tinymvit.bench import peers
from tinymvit.bench import race as bench
from tinymvit.config import MobileViTConfig
from tinymvit.kernels import get_num_threads, set_num_threads
from tinymvit.modeling import MobileViTForImageClassification
from tinymvit.networks.random_weights import as_trained


@pytest.fixture(autouse=True)
def same_threads():
    threads = get_num_threads()
    yield
    set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny():
    """A tiny model, whose weights are random but alive."""
    from torch_models import TINY  # not above: pytest reads this file before the quick run blocks PyTorch

    config = MobileViTConfig(**TINY)
    graph = MobileViTForImageClassification.recorder(config, (1, 3, 32, 32))
    return MobileViTForImageClassification.from_tensors(config, as_trained(graph))


@pytest.fixture
def checkpoint(tmp_path, tiny):
    """A folder with the tiny model's checkpoint."""
    tiny.save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def fakes(monkeypatch):
    """Let `bench` know the fake peers, here and in the processes that it starts."""
    for name, peer in fake_peers.FAKES.items():
        monkeypatch.setitem(peers.PEERS, name, peer)
    monkeypatch.setitem(peers.EXPORT_MODULES, fake_peers.Unmade.file, ())
    monkeypatch.setattr(bench, "PROGRAM", (sys.executable, fake_peers.__file__))
    monkeypatch.setattr(bench, "PAUSE", 0.0)
