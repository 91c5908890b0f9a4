"""The limit of memory: who sets it, what it refuses, and that nothing is taken before it is asked."""

import re

import pytest

from tinymvit import limits
from tinymvit.errors import ImageError, TinyMViTError


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    monkeypatch.delenv(limits.VARIABLE, raising=False)
    yield
    limits.set_max_memory(None)


def test_the_default_is_one_gibibyte():
    assert limits.get_max_memory() == 2**30
    limits.check(2**30, "a thing")


def test_more_is_refused_in_a_line():
    message = "a thing: 1.07 GB of memory, expected at most 1.07 GB (TINYMVIT_MAX_MEMORY raises it)"
    with pytest.raises(TinyMViTError, match=f"^{re.escape(message)}$"):
        limits.check(2**30 + 1, "a thing")
    with pytest.raises(ImageError, match=r"^a thing: 5000\.00 TB of memory"):
        limits.check(5 * 10**15, "a thing", ImageError)
    limits.set_max_memory(7)
    with pytest.raises(ValueError, match=r"^a thing: 8 bytes of memory, expected at most 7 bytes"):
        limits.check(8, "a thing")


@pytest.mark.parametrize(
    ("text", "size"),
    [("", 2**30), ("1000", 1000), ("4G", 2**32), ("500m", 500 * 2**20), ("2GiB", 2**31), ("1kB", 1024), ("1T", 2**40)],
)
def test_the_environment_changes_it(monkeypatch, text, size):
    monkeypatch.setenv(limits.VARIABLE, text)
    assert limits.get_max_memory() == size
    limits.set_max_memory(5)
    assert limits.get_max_memory() == 5
    limits.set_max_memory(None)
    assert limits.get_max_memory() == size


@pytest.mark.parametrize("text", ["4X", "-1", "4 G", "1e9", "٤G", "9" * 19, "inf"])
def test_an_environment_that_is_no_size(monkeypatch, text):
    monkeypatch.setenv(limits.VARIABLE, text)
    with pytest.raises(ValueError, match=r"^TINYMVIT_MAX_MEMORY is .*; expected a number of bytes, such"):
        limits.check(1, "a thing")


def test_what_is_no_number_of_bytes():
    for wrong in (1.5, "4G", True):
        with pytest.raises(TypeError, match=r"^max_memory is a \w+; expected a whole number of bytes, or None$"):
            limits.set_max_memory(wrong)
    with pytest.raises(ValueError, match=r"^max_memory is below 1; expected a number of bytes$"):
        limits.set_max_memory(0)
