"""The README's layout and the walk name every folder of the project, and none that is not there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FOLDERS = {"kernels/", "weights/", *(f"tinymvit/{path.parent.name}/" for path in ROOT.glob("tinymvit/*/__init__.py"))}
LINE = re.compile(r"^    ((?:tinymvit/)?\w+/) ", re.MULTILINE)


def test_the_readme_has_a_line_for_each_folder():
    layout = (ROOT / "README.md").read_text("utf-8").split("\n## Layout\n")[1].split("\n## ")[0]
    named = LINE.findall(layout)
    assert sorted(named) == sorted(FOLDERS | {"tests/", "docs/"})


@pytest.mark.parametrize("folder", sorted(FOLDERS))
def test_the_walk_passes_each_folder(folder):
    assert folder in (ROOT / "docs" / "walk.md").read_text("utf-8")
