"""The examples in the documentation run and print what they say; its commands are those of the command line."""

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")])
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
    named = [ROOT / path for path in FILES.findall(text)]
    linked = [page.parent / path for path in re.findall(r"\]\(([^):#]+)\)", text)]
    assert [str(path) for path in named + linked if not path.exists()] == []
