"""Every kernel has all its parts; a test that fails here says which one is missing. Nothing here lists the kernels:
they are those of the files in kernels/."""

import ast
import inspect
from pathlib import Path

import pytest

from every_op import every_op, normal
from tinymvit import kernels

ROOT = Path(__file__).parent.parent.parent
FILES = sorted(path for path in (ROOT / "kernels").glob("*.py") if path.stem != "__init__")


def exported(path):
    """The functions of a kernel's file that `kernels/__init__.py` exports."""
    tree = ast.parse((ROOT / "kernels" / "__init__.py").read_text("utf-8"))
    nodes = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == path.stem]
    names = [alias.name for node in nodes for alias in node.names]
    return [name for name in names if inspect.isfunction(getattr(kernels, name))]


@pytest.fixture(scope="module")
def called():
    """The exported functions that the helper `every_op` calls."""
    names = set()

    def noting(name, function):
        def call(*arguments, **options):
            names.add(name)
            return function(*arguments, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for path in FILES:
            for name in exported(path):
                patch.setattr(kernels, name, noting(name, getattr(kernels, name)))
        every_op(normal(7, 1, 11, 13, 37))
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_is_exported_and_tested(path, called):
    assert path.stem in exported(path), f"kernels/__init__.py does not export {path.stem}"
    assert (ROOT / "tests" / "kernels" / f"test_{path.stem}.py").exists(), (
        f"there is no tests/kernels/test_{path.stem}.py"
    )
    missing = set(exported(path)) - called
    assert not missing, (
        f"tests/helpers/every_op.py does not call {missing}: no test says that bits are the same anywhere"
    )
