"""Writes `docs/api.md` from the docstrings of the public names: `python docs/contributing/write_api.py`.

The page has a section for each name of `tinymvit.__all__`, under the module it comes from: its signature, its docstring
and those of its methods. `tests/docs/test_api.py` says when the page is not what this program would write.
"""

import ast
import inspect
import json
import re
import sys
import textwrap
from dataclasses import is_dataclass
from itertools import groupby
from pathlib import Path

import tinymvit

PAGE = Path(__file__).parent.parent / "api.md"
WIDTH = 120
FIRST = ["pipeline", "modeling", "images", "config"]
HEAD = """# The public names

`from tinymvit import ...`, all of them. `python docs/contributing/write_api.py` writes this page from the docstrings.
B is images, C channels, H height, W width. What a caller gave wrongly is a ValueError, of which the library's
own are subclasses (`TinyMViTError`), or a TypeError.
"""


def page():
    """The whole page."""
    homes = {name: getattr(tinymvit, name).__module__ for name in tinymvit.__all__ if not name.startswith("_")}
    seen = {}
    paragraphs = [HEAD]
    for home, group in groupby(sorted(homes, key=lambda name: place(homes[name])), key=homes.get):
        paragraphs += [f"## `{home}`", inspect.getdoc(sys.modules[home]).split("\n\n")[0]]
        for name in group:
            paragraphs += section(name, getattr(tinymvit, name), seen)
    return "\n\n".join(paragraph.strip("\n") for paragraph in paragraphs) + "\n"


def place(home):
    """What sorts a module: what most readers need comes first."""
    part = home.split(".")[1]
    return FIRST.index(part) if part in FIRST else len(FIRST), home


def section(name, thing, seen):
    """The paragraphs of one name. `seen` has the functions that stand on the page already, by where they stand."""
    yield f"### `{name}`"
    yield from entry(name, thing)
    again = {}
    for method, function in methods(thing) if inspect.isclass(thing) else ():
        if function in seen:
            again.setdefault(seen[function], []).append(f"`{method}`")
        else:
            seen[function] = name
            yield f"#### `{name}.{method}`"
            yield from entry(method, function)
    for where, shared in again.items():
        yield textwrap.fill(f"As in `{where}`: {', '.join(shared)}.", WIDTH, break_on_hyphens=False)


def methods(kind):
    """(name, function or property) of what a class offers and does not have from Python."""
    for name in dir(kind):
        if not name.startswith("_") or name == "__call__":
            function = inspect.getattr_static(kind, name)
            function = getattr(function, "__func__", function)  # of a class method
            where = next(each for each in kind.__mro__ if name in vars(each))
            if where.__module__.startswith("tinymvit") and (inspect.isfunction(function) or is_property(function)):
                yield name, function


def is_property(thing):
    return isinstance(thing, property)


def entry(name, thing):
    """Signature and docstring."""
    yield f"```python\n{signature(name, thing)}\n```"
    if text := docstring(thing):
        yield markdown(text, parameters(thing))


def docstring(thing):
    """What the source says of a thing: of a class and, if it has one, of its construction."""
    if not inspect.isclass(thing):
        return inspect.getdoc(thing) or ""
    parts = [thing.__doc__, getattr(thing.__init__, "__doc__", "") if constructor(thing) else ""]
    return "\n\n".join(inspect.cleandoc(part) for part in parts if part)


def constructor(kind):
    """The function in the source that makes an object of a class, or None."""
    return kind.__init__ if inspect.isfunction(kind.__init__) and not is_dataclass(kind) else None


def signature(name, thing):
    """As the source has it, on one line if it fits."""
    if inspect.isclass(thing):
        if is_dataclass(thing):
            return fields(name, thing)
        if constructor(thing) is None:
            return f"class {name}({', '.join(base.__name__ for base in thing.__bases__)})"
        thing = thing.__init__
    [node] = ast.parse(textwrap.dedent(inspect.getsource(thing.fget if is_property(thing) else thing))).body
    returns = f" -> {ast.unparse(node.returns)}" if node.returns and node.name != "__init__" else ""
    if is_property(thing):
        return f"{name}{returns.replace(' ->', ':')}"
    given = [constants(each, thing) for each in split(node.args) if each not in ("self", "cls")]
    line = f"{name}({', '.join(given)}){returns}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{name}(", *[f"    {each}," for each in given], f"){returns}"])


def parameters(thing):
    """The names that a docstring may explain: a dataclass's fields, else a function's parameters."""
    if is_property(thing) or (inspect.isclass(thing) and not (is_dataclass(thing) or constructor(thing))):
        return []
    return [name for name in inspect.signature(thing).parameters if name not in ("self", "cls")]


def split(arguments):
    """The parameters of a function, each as text."""
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
    for parameter, default in zip(positional, defaults, strict=True):
        yield with_default(parameter, default)
    if arguments.vararg:
        yield f"*{ast.unparse(arguments.vararg)}"
    elif arguments.kwonlyargs:
        yield "*"
    for parameter, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield with_default(parameter, default)
    if arguments.kwarg:
        yield f"**{ast.unparse(arguments.kwarg)}"


def with_default(parameter, default):
    equals = " = " if parameter.annotation else "="
    return ast.unparse(parameter) + (f"{equals}{literal(default)}" if default else "")


def constants(text, function):
    """A parameter as text, with the value of a default that the source gives by a constant's name."""
    return re.sub(r"(?<== )[A-Z_]+$", lambda name: json.dumps(function.__globals__[name[0]]), text)


def literal(node):
    """As the formatter writes it, with double quotes."""
    text = ast.unparse(node)
    return text if '"' in text else text.replace("'", '"')


def fields(name, kind):
    """A dataclass: a line a field."""
    [node] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    lines = [f"class {name}:"]
    for each in node.body:
        if isinstance(each, ast.AnnAssign) and not each.target.id.startswith("_"):
            value = f" = {literal(each.value)}" if each.value else ""
            lines.append(f"    {each.target.id}: {ast.unparse(each.annotation)}{value}")
    return "\n".join(lines)


def markdown(text, names):
    """A docstring as Markdown: what it says of a parameter is an item, what is raised a paragraph."""
    if names:
        name = f"(?:{'|'.join(names)})"
        explained = rf"(?:^|\s+)(?<![\w,;]\s)({name}(?:,\s{name})*):\s+"  # perhaps several at once
        text = re.sub(explained, lambda found: "\n\n- " + re.sub(name, r"`\g<0>`", found[1]) + ": ", text)
    text = re.sub(r"\s+(?=Raises )", "\n\n", text)
    text = "\n\n".join(wrapped(paragraph) for paragraph in text.strip().split("\n\n"))
    return re.sub(r"(\n- .*(?:\n  .*)*)\n(?=\n- )", r"\1", f"\n{text}")


def wrapped(paragraph):
    """A paragraph in lines that fit; what is indented, as code is, stays as it is."""
    if paragraph.startswith(" ") or "\n " in paragraph:
        return paragraph
    indent = "  " if paragraph.startswith("- ") else ""
    return textwrap.fill(paragraph, WIDTH, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8", newline="\n")
