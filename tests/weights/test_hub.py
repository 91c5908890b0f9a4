"""Checkpoints of the Hugging Face hub, from a server here that answers as it does, from its cache, and without it."""

import http.server
import json
import os
import subprocess
import sys
import threading
import urllib.parse
from pathlib import Path

import numpy as np
import pytest

from checkpoints import complaint
from tinymvit.errors import CheckpointError
from tinymvit.files import write_files
from tinymvit.weights import hub
from tinymvit.weights.formats import pytorch

SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
REPOSITORIES = {
    "apple/mobilevit-small": (
        "refs/pr/2",
        ["config.json", "preprocessor_config.json", "model.safetensors", "README.md"],
    ),
    "someone/numbers": ("main", ["config.json", "model.safetensors"]),
    "someone/pickled": ("main", ["config.json", "pytorch_model.bin", "tf_model.h5", "flax_model.msgpack"]),
    "someone/shards": ("main", ["config.json", "model.safetensors.index.json", *SHARDS, "pytorch_model.bin"]),
    "someone/onnx": ("main", ["config.json", "model.onnx", "optimizer.pt", "checkpoints/last.pth"]),
    "someone/several": ("main", ["config.json", "a.pt", "b.pt", "c.pth", "d.ckpt"]),
    "timm/mobilevit_xxs.cvnets_in1k": ("main", ["config.json", "model.safetensors", "pytorch_model.bin"]),
}
COMMIT = "c0ffee" * 6 + "c0de"


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the Hugging Face hub as a download needs: a repository's revision, its files, each file."""

    asked: list[str] = []  # noqa: RUF012 - set anew by the fixture

    def do_GET(self):
        self.asked.append(self.path)
        path = urllib.parse.unquote(urllib.parse.urlparse(self.path).path)
        repository = "/".join(path.removeprefix("/api/models").split("/")[1:3])
        if repository == "someone/gated":
            return self.answer(403, error="GatedRepo")
        if repository not in REPOSITORIES:
            return self.answer(401, error="RepoNotFound")
        revision, files = REPOSITORIES[repository]
        rest = path.split(repository + "/")[1]
        if rest == f"revision/{revision}":
            return self.answer(
                200, {"id": repository, "sha": COMMIT, "siblings": [{"rfilename": file} for file in files]}
            )
        if rest == f"tree/{COMMIT}":
            return self.answer(200, [{"type": "file", "path": file, "size": 2, "oid": "0" * 40} for file in files])
        if rest.startswith(f"resolve/{COMMIT}/") and rest.split("/")[-1] in files:
            return self.answer(200, {}, etag=rest.split("/")[-1])
        return self.answer(404, error="RevisionNotFound")

    do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

    def answer(self, status, value=None, error=None, etag=None):
        content = json.dumps({"error": error} if error else value).encode()
        self.send_response(status)
        for header, text in {"X-Repo-Commit": COMMIT, "X-Error-Code": error, "ETag": etag and f'"{etag}"'}.items():
            if text:
                self.send_header(header, text)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub_server(monkeypatch):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    monkeypatch.setattr(Hub, "asked", [])
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def resolve_in_a_new_process(names, home, **environment):
    """What `resolve` makes of each name, a path or a complaint; the hub library reads its settings at its import."""
    script = (
        "import json, sys\n"
        "from tinymvit.weights import resolve\n"
        "from tinymvit.errors import CheckpointError\n"
        "def answer(name):\n"
        "    try: return str(resolve(name))\n"
        "    except CheckpointError as error: return str(error)\n"
        "print(json.dumps([answer(name) for name in sys.argv[1:]]))\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", script, *names],
        env={**os.environ, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", **environment},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def test_hub(tmp_path, hub_server):
    pytest.importorskip("huggingface_hub")
    expected = {
        "apple/mobilevit-small": ["config.json", "model.safetensors", "preprocessor_config.json"],
        "someone/numbers@main": ["config.json", "model.safetensors"],
        "someone/pickled": ["config.json", "pytorch_model.bin"],
        "someone/shards": ["config.json", *SHARDS, "model.safetensors.index.json"],
        "timm/mobilevit_xxs.cvnets_in1k": ["config.json", "model.safetensors"],
    }
    folders = resolve_in_a_new_process(expected, tmp_path, HF_ENDPOINT=hub_server)
    for folder, files in zip(folders, expected.values(), strict=True):
        assert Path(folder).name == COMMIT
        assert sorted(path.name for path in Path(folder).iterdir()) == files

    asked_before = len(Hub.asked)
    assert resolve_in_a_new_process(expected, tmp_path, HF_ENDPOINT=hub_server) == folders
    assert len(Hub.asked) == asked_before, "a cached checkpoint needs no network"

    bad = ["apple/mobilevit-smal", "someone/gated", "someone/numbers@v9", "someone/onnx", "someone/several"]
    misspelt, gated, no_revision, other, several = resolve_in_a_new_process(bad, tmp_path, HF_ENDPOINT=hub_server)
    assert misspelt.startswith("apple/mobilevit-smal: no such folder here, no such repository on the Hugging Face hub")
    assert misspelt.endswith('did you mean "apple/mobilevit-small"?')
    assert gated == "someone/gated: ask for access at https://huggingface.co/someone/gated, then: hf auth login"
    assert no_revision == "someone/numbers: the repository on the Hugging Face hub has no revision v9"
    assert other.startswith("someone/onnx: revision main has no MobileViT in a file that is read here (.safetensors, ")
    assert several == (
        "someone/several: revision main has no model.safetensors and no other single weights file, only a.pt, b.pt, "
        "c.pth and 1 more; download the one that is meant and name it"
    )


def test_weights_of_any_name_without_settings_are_taken_if_a_family_knows_them(tmp_path):
    assert not hub._is_complete(tmp_path)
    for name, is_complete in (("stages.2.1.transformer.0.attn.qkv.weight", True), ("x", False)):
        write_files(tmp_path, {"mobilevit_xxs.pt": pytorch.tensor_writer({name: np.zeros((4, 3, 3, 3), np.float32)})})
        assert hub._is_complete(tmp_path) == is_complete


@pytest.mark.parametrize(
    "environment", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}], ids=["offline", "no network"]
)
def test_hub_out_of_reach(tmp_path, environment):
    """A copy that transformers, or anything else, left in the cache is used; else one line says what is wrong."""
    pytest.importorskip("huggingface_hub")
    cached = tmp_path / "hub" / "models--someone--numbers"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(COMMIT)
    (cached / "snapshots" / COMMIT).mkdir(parents=True)
    for file in ("config.json", "model.safetensors"):
        (cached / "snapshots" / COMMIT / file).touch()
    found, missing = resolve_in_a_new_process(["someone/numbers", "apple/mobilevit-small"], tmp_path, **environment)
    assert found == str(cached / "snapshots" / COMMIT)
    assert missing.startswith(
        "apple/mobilevit-small: no such folder here, not in the Hugging Face cache, and the hub is"
    )


def test_hub_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with complaint(
        CheckpointError, "apple/mobilevit-small: no such folder; as a Hugging", 'pip install "tinymvit[hub]"'
    ):
        hub.fetch("apple/mobilevit-small", "main")
