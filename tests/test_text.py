"""One rule for all text that is not ours: one line, nothing in it that a terminal obeys, and not too long."""

import pickle
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymvit import errors
from tinymvit.text import LONGEST_LINE, LONGEST_WORD, align, one_line

HOSTILE = [
    ("a\nb", "a\\nb"),
    ("\x1b[31mred", "\\x1b[31mred"),
    ("abc\u202egnp.exe", "abc\\u202egnp.exe"),
    ("\x9b2J", "\\x9b2J"),
    ("caf\udce9.png", "caf\\udce9.png"),  # a byte of a file's name that is no UTF-8
    ("zero\0byte", "zero\\x00byte"),
    ("\u2028\u2029\x85", "\\u2028\\u2029\\x85"),
    ("\U000e0001", "\\U000e0001"),
    ("\u00e9 \u72ac \U0001f415 \\n <b>&", "\u00e9 \u72ac \U0001f415 \\n <b>&"),  # ours or not, this is text
]


@pytest.mark.parametrize(("text", "shown"), HOSTILE, ids=[str(i) for i in range(len(HOSTILE))])
def test_what_a_terminal_would_obey_is_escaped(text, shown):
    assert one_line(text) == shown


def test_what_is_long_is_shortened_in_the_middle():
    assert one_line("x" * 300) == "x" * 300
    assert one_line("the name " + "x" * 301 + " here") == f"the name {'x' * 148}[...]{'x' * 147} here"
    words = "word " * 400
    assert one_line(words) == words
    assert one_line("first" + words + "last") == f"first{words[:993]}[...]{words[-993:]}last"
    assert one_line("first" + words + "last", None) == f"first{words}last"
    assert one_line("\n" * 10**6) == "\\n" * 74 + "[...]n" + "\\n" * 73


@given(st.one_of(st.text(), st.text("ab \n\x1b\udcff\u202e\U000e0001", min_size=250, max_size=3000)))
def test_any_text_becomes_one_short_line_once_and_for_all(text):
    line = one_line(text)
    assert line.isprintable()
    assert len(line) <= LONGEST_LINE
    assert max(map(len, line.split()), default=0) <= LONGEST_WORD
    assert one_line(line) == line
    assert text != line or text.isprintable()
    assert one_line(text, None).isprintable()


def test_the_cells_of_a_table_break_no_line():
    assert align([("a\nb", "1"), ("c", "2")]) == ["a\\nb  1", "c     2"]
    assert len(align([("x " * 5000, "1")])[0]) == LONGEST_WORD + len("  1")


@pytest.mark.parametrize("error", [each for each in vars(errors).values() if isinstance(each, type)])
def test_an_error_is_one_line_whatever_it_names(error):
    assert str(error("\x1b[31m\n" + "x" * 10_000 + ": no such file")).startswith("\\x1b[31m\\nxxx")
    assert len(str(error("x" * 10_000))) == LONGEST_WORD
    assert str(pickle.loads(pickle.dumps(error("a\nb")))) == "a\\nb"
    assert str(error()) == ""


def test_a_warning_is_one_line_too():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        errors.warn("tensor a\nb")
    assert [str(each.message) for each in caught] == [r"tensor a\nb"]
