"""The examples in the documentation run and print what they say; its commands are those of the command line."""

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
RECIPES = ROOT / "docs" / "contributing" / "adding.md"  # names files that are to be made: test_contributing.py
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
FILES = re.compile(r"`((?:tinymvit|kernels|weights|tests|docs)/[\w./-]*)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_print_what_they_say(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = page.read_text("utf-8").replace("\n```", "\n\n```")  # a fence ends an expected output
    test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    report = []
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=report.append)
    assert not report, "".join(report)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_links_exist(page):
    text = page.read_text("utf-8")
    named = [ROOT / path for path in FILES.findall(text) if page != RECIPES]
    linked = [page.parent / path for path in re.findall(r"\]\(([^):#]+)\)", text)]
    assert [str(path) for path in named + linked if not path.exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lines_fit(page):
    """Those of prose; not tables, what a program prints, and links."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    prose = [line for line in text.splitlines() if not line.startswith(("|", "    ", "- [ ]")) and "](" not in line]
    assert [line for line in prose if len(line) > 120] == []
