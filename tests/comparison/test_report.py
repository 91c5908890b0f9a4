"""A comparison as JSON and as a page."""

import json
from html.parser import HTMLParser

from tiny_port import STEM, doubled, model, right
from tinymvit import compare
from tinymvit.comparison.report import to_html, to_json, to_text


class Page(HTMLParser):
    """Whether the tags of a page are balanced, and whether it takes anything from elsewhere."""

    def __init__(self, text):
        super().__init__()
        self.open, self.cells, self.faults = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag != "meta":
            self.open.append(tag)
        if tag in ("script", "link", "img", "iframe") or {"src", "href"} & {name for name, _ in attributes}:
            self.faults.append(tag)

    def handle_endtag(self, tag):
        if self.open.pop() != tag:
            self.faults.append(f"/{tag}")

    def handle_data(self, data):
        if self.open[-1:] in (["li"], ["td"]):
            self.cells.append(data)


def test_agreement_is_a_word_wherever_it_is_shown():
    comparison = compare(model(), right())
    assert comparison.first is None
    assert to_text(comparison).splitlines()[0] == to_json(comparison)["first"] == "agree"
    assert "<h1>agree</h1>" in to_html(comparison)


def test_a_divergence_is_marked():
    comparison = compare(model(), doubled(right(), STEM))
    found, page = to_json(comparison), to_html(comparison)
    assert found["first"] == STEM
    assert found["rows"][1]["verdict"] == "differs"
    assert json.loads(json.dumps(found)) == found
    assert f"<h1>First divergent node: <code>{STEM}</code></h1>" in page
    assert page.count('<tr class="wrong first">') == 1
    assert page.count("<tr") == 1 + len(found["rows"])


def test_names_of_others_cannot_spoil_a_page():
    name = "a\nb\x1b[31m<td>&\u2028é"
    page = Page(to_html(compare(model(), doubled(right(), STEM) | {name: right()["logits"][:, :3]})))
    assert (page.open, page.faults) == ([], [])
    assert any("a\\nb\\x1b[31m<td>&\\u2028é" in cell for cell in page.cells)
