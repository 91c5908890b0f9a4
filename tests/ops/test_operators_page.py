"""docs/operators.md has a section for each op, whose head is that of the op's file."""

import re
import runpy
from pathlib import Path

import pytest

from tinymvit import ops

ROOT = Path(__file__).parent.parent.parent
PROGRAM = runpy.run_path(str(ROOT / "docs" / "operators" / "heads.py"))
PAGE = PROGRAM["PAGE"].read_text("utf-8")
OPS = [name for name, kind in vars(ops).items() if isinstance(kind, type) and issubclass(kind, ops.Op) and name != "Op"]


def test_every_op_has_one_section():
    assert sorted(re.findall(r"^## `(\w+)`$", PAGE, re.MULTILINE)) == sorted(OPS)


@pytest.mark.parametrize("name", OPS)
def test_the_head_is_the_op_s_own(name):
    assert f"\n## `{name}`\n\n{PROGRAM['head'](name)}" in PAGE, (
        "`python docs/operators/heads.py` writes it into the page"
    )


def test_writing_the_heads_changes_nothing_else():
    assert PROGRAM["with_heads"](PAGE) == PAGE
    bare = re.sub(r"<!-- from .*?<!-- by hand -->\n\n", "", PAGE, flags=re.DOTALL)
    assert PROGRAM["with_heads"](bare) == PAGE
