"""The head of each operator's section in docs/operators.md, from the op's file: `python docs/operators/heads.py` writes
them into the page. What stands behind a head in its section is written by hand.

A head is how the op is made, with its attributes and their defaults, and the docstring of its class.
"""

import inspect
import re
from pathlib import Path

from tinymvit import ops

PAGE = Path(__file__).parent.parent / "operators.md"
SECTION = re.compile(r"(?<=^## `)(\w+)`\n\n(?:<!-- from .*? -->\n.*?\n<!-- by hand -->\n\n)?", re.MULTILINE | re.DOTALL)


def head(name: str) -> str:
    """What the page says of an op before what is written by hand."""
    op = getattr(ops, name)
    attributes = [
        parameter.name if parameter.default is parameter.empty else f"{parameter.name}={parameter.default!r}"
        for parameter in inspect.signature(op).parameters.values()
    ]
    file = "tinymvit/" + op.__module__.removeprefix("tinymvit.").replace(".", "/") + ".py"
    made = f"In `{file}`:\n\n    {name}({', '.join(attributes)})"
    return f"<!-- from {file} -->\n{made}\n\n{inspect.getdoc(op)}\n<!-- by hand -->\n\n"


def with_heads(page: str) -> str:
    """The page with the head of each section as it should be."""
    return SECTION.sub(lambda section: f"{section[1]}`\n\n{head(section[1])}", page)


if __name__ == "__main__":
    PAGE.write_text(with_heads(PAGE.read_text("utf-8")), "utf-8")
