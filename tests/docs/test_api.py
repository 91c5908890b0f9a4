"""docs/api.md is what the docstrings say, and these say what a caller must know: shapes, and what is raised."""

import ast
import importlib.util
import inspect
import re
import textwrap
from pathlib import Path

import pytest

import tinymvit
from tinymvit import kernels

ROOT = Path(__file__).parent.parent.parent
WRITER = ROOT / "docs" / "contributing" / "write_api.py"
SHAPE = re.compile(r"\((?=[^()]*\b[A-Z]\b)[^()]+\)|\bshapes?\b")  # (B, C, H, W), or the word


@pytest.fixture(scope="module")
def write_api():
    spec = importlib.util.spec_from_file_location("write_api", WRITER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def public():
    """(name, function or class, the class it belongs to) of all that a caller may name."""
    for name, thing in vars(kernels).items():
        if inspect.isfunction(thing) and not name.startswith("_"):
            yield f"kernels.{name}", thing, None
    for name in tinymvit.__all__[1:]:  # the version is first
        thing = getattr(tinymvit, name)
        yield name, thing, None
        for method, function in vars(thing).items() if inspect.isclass(thing) else ():
            function = getattr(function, "__func__", getattr(function, "fget", function))
            if inspect.isfunction(function) and (method == "__call__" or not method.startswith("_")):
                yield f"{name}.{method}", function, thing


PUBLIC = {name: (thing, owner) for name, thing, owner in public()}


def test_the_page_is_what_the_docstrings_say(write_api):
    expected = write_api.page()
    current = write_api.PAGE.read_text("utf-8")
    assert current == expected, "docs/api.md is not current: run python docs/contributing/write_api.py"


def test_each_parameter_that_is_explained_is_an_item(write_api):
    """Wherever the docstring breaks its lines; several may share a sentence."""
    text = "Of a map.\n\nx: (B, H, W, C). low,\nhigh: its bounds, low: first. name:\nits name. Not name: this one."
    assert write_api.markdown(text, ["x", "low", "high", "name"]).split("\n\n", 1)[1] == (
        "- `x`: (B, H, W, C).\n- `low`, `high`: its bounds, low: first.\n- `name`: its name. Not name: this one."
    )


@pytest.mark.parametrize("name", PUBLIC)
def test_a_docstring_says_what_a_caller_must_know(name):
    thing, owner = PUBLIC[name]
    text = thing.__doc__
    assert text, f"{name} has no docstring"
    if inspect.isclass(thing) or text.startswith("The same as"):
        return
    tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    if any(isinstance(node, ast.Raise) for node in ast.walk(tree)):
        assert "Raises" in text or "raises" in text, f"{name} does not say what it raises"
    annotations = " ".join(map(str, inspect.get_annotations(thing).values()))
    if re.search(r"\b(Array|ndarray)\b", annotations):
        told = [text, *inspect.signature(thing).parameters, owner.__doc__ if owner else ""]
        assert SHAPE.search(" ".join(told)), f"{name} does not say shapes"
