"""Docstrings name what exists: in backticks, each dotted name and file of Python, and each part to which a module
leaves something."""

import ast
import re
from importlib import import_module
from itertools import chain

import pytest

from project import PROJECT, ROOT

FILES = list(chain(PROJECT.modules.values(), *((ROOT / folder).rglob("*.py") for folder in ("docs", "tests"))))
QUOTED = re.compile(r"`([^`\s]+)`")
DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
DATA = (".json", ".safetensors", ".npy", ".md", ".toml", ".pkl", ".h5", ".pt", ".bin")
FOREIGN = ("torch.", "out.")  # another library's names; an example's result


def docstrings(path):
    """The docstrings of a file; first its own, or ''."""
    tree = ast.parse(path.read_text("utf-8"))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)]
    return [ast.get_docstring(node) or "" for node in (tree, *found)]


def exists(name, module):
    """Whether a name means something to who reads a module: something in it, beside it, or in the package."""
    package = module if PROJECT.modules[module].name == "__init__.py" else module.rpartition(".")[0]
    homes = (module, package, package.rpartition(".")[0], "tinymvit")
    return _found(name) or any(_found(f"{home}.{name}") for home in homes)


def _found(name):
    steps = name.split(".")
    end = max((end for end in range(1, len(steps) + 1) if ".".join(steps[:end]) in PROJECT.modules), default=0)
    if not end:
        return False
    thing = import_module(".".join(steps[:end]))
    for step in steps[end:]:
        if step in getattr(thing, "__annotations__", {}):  # a field without a default
            return step == steps[-1]
        if not hasattr(thing, step):
            return False
        thing = getattr(thing, step)
    return True


@pytest.mark.parametrize("module", PROJECT.modules)
def test_a_dotted_name_in_a_docstring_exists(module):
    for name in QUOTED.findall(" ".join(docstrings(PROJECT.modules[module]))):
        if DOTTED.fullmatch(name) and not name.endswith((*DATA, ".py")) and not name.startswith(FOREIGN):
            assert exists(name, module), name


@pytest.mark.parametrize("module", PROJECT.modules)
def test_what_a_module_leaves_something_to_exists(module):
    text = " ".join(docstrings(PROJECT.modules[module])[0].split())
    for sentence in re.findall(r"[Ll]eft to (.*?)(?:\. |\.$|$)", text):
        for name in QUOTED.findall(sentence):
            if re.fullmatch(r"[a-z_.]+", name) and not name.endswith(".py"):
                assert exists(name, module), f"left to `{name}`"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_that_a_docstring_names_exists(path):
    for name in QUOTED.findall(" ".join(docstrings(path))):
        if re.fullmatch(r"[\w/]+\.py", name):
            assert any(f"/{other.relative_to(ROOT).as_posix()}".endswith(f"/{name}") for other in FILES), name
