"""The commands at the head of docs/exporting.md print what the page says."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "exporting.md").read_text("utf-8")
NEEDED = [name for name in ("onnx", "ai_edge_litert", "flatbuffers") if find_spec(name) is None]


def commands():
    """Each command with what it prints."""
    found = []
    for line in PAGE.splitlines():
        if line.startswith("    $ "):
            found.append((line.removeprefix("    $ "), []))
        elif found and line.startswith("    "):
            found[-1][1].append(line.removeprefix("    "))
        elif found and not line:
            continue
        elif found:
            break  # what follows is of other examples
    return found


@pytest.mark.slow
@pytest.mark.skipif(NEEDED != [], reason=f"pip install {' '.join(NEEDED)}")
@pytest.mark.skipif(shutil.which("cc") is None, reason="no compiler of C: apt-get install gcc")
def test_the_commands_print_what_the_page_says(tmp_path):
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    assert len(commands()) == 6
    for command, printed in commands():
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PATH": path}
        )
        assert (done.returncode, done.stderr) == (0, ""), command
        assert done.stdout.rstrip("\n").splitlines() == printed, command
