"""docs/kernels.md and its scripts: every rung computes the right thing, and the page shows the code that runs."""

import ast
import functools
import importlib
import re
from pathlib import Path

import numpy as np
import pytest

from tinymvit import kernels

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "docs" / "ladder"
PAGE = (ROOT / "docs" / "kernels.md").read_text("utf-8")
SCRIPTS = [path.read_text("utf-8") for path in sorted(FOLDER.glob("*.py"))]

LADDERS = {  # small, and no multiple of a tile's rows; columns come in whole panels
    "convolution_ladder": {"pixels": 13, "inputs": 7, "outputs": 96},
    "activated_ladder": {"pixels": 13, "inputs": 7, "outputs": 96},
    "silu_ladder": {"count": 1001},
    "winograd_ladder": {"size": 7, "inputs": 7, "outputs": 20},
    "attention_ladder": {"sequences": 3, "tokens": 20, "width": 36, "heads": 2},
}


@pytest.fixture(scope="module")
def ladder():
    """The program, as `python -m` finds it in a clone; the setting of the threads is put back."""
    threads = kernels.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        yield importlib.import_module("docs.ladder.__main__")
    kernels.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.parametrize("name", LADDERS)
def test_every_rung_is_right(ladder, name):
    climbed = getattr(ladder, name)(1, **LADDERS[name])
    for rung in climbed.rungs:
        assert ladder.error_of(rung, climbed) > 0, f"{rung.name}: float32 equals float64"


@pytest.mark.slow
def test_what_keeps_the_order_of_the_sum_has_the_bits_of_the_kernel(ladder):
    rungs = {rung.name: rung.run().copy() for rung in ladder.convolution_ladder(1, 13, 7, 96).rungs}
    names = list(rungs)
    for name in names[names.index("one vector") : names.index("kernels.linear")]:
        np.testing.assert_array_equal(rungs[name], rungs["kernels.linear"], err_msg=name)


@pytest.mark.slow
def test_the_command_prints_a_line_a_rung(ladder, monkeypatch, capsys):
    monkeypatch.setattr(ladder.peak, "STEPS", 1000)
    for name, sizes in LADDERS.items():
        monkeypatch.setattr(ladder, name, functools.partial(getattr(ladder, name), **sizes))
    assert ladder.main(["--rounds", "1"]) == 0
    printed = capsys.readouterr().out
    for name in LADDERS:
        small = getattr(ladder, name)(1)
        for line in (small.title, *[rung.name for rung in small.rungs]):
            assert re.search(rf"^{re.escape(line)}(  |$)", printed, re.MULTILINE), line
    assert printed.count("\npeak: ") == len(LADDERS)


def test_a_wrong_rung_is_named_and_nothing_is_timed(ladder, monkeypatch, capsys):
    wrong = ladder.Rung("halved", lambda: np.ones(3) / 2)
    monkeypatch.setattr(ladder, "convolution_ladder", lambda threads: ladder.Ladder("wrong", np.ones(3), 1, [wrong]))
    assert ladder.main([]) == 1
    assert capsys.readouterr().err == "ladder: halved is wrong: its largest error is 0.5, at most 2e-06 is expected\n"


@pytest.mark.parametrize(("option", "value"), [("--rounds", "0"), ("--threads", "0"), ("--threads", "many")])
def test_bad_options_are_one_line(ladder, option, value, capsys):
    with pytest.raises(SystemExit, match="2"):
        ladder.main([option, value])
    assert f"error: {'argument ' * (value == 'many')}{option}" in capsys.readouterr().err


def test_the_page_shows_the_code_that_runs():
    sources = [*SCRIPTS, *[path.read_text("utf-8") for path in (ROOT / "kernels").rglob("*.py")]]
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for block in blocks:
        assert any(f"\n{block}" in source for source in sources), f"no file has this code:\n{block}"
    shown = "".join(blocks)
    for name in ("convolution", "silu", "attention"):
        for node in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text("utf-8"))):
            assert not isinstance(node, ast.FunctionDef) or f"def {node.name}(" in shown, f"{name}.{node.name}"


def test_the_tables_of_the_page_have_the_rungs_of_the_script(ladder):
    for name in LADDERS:
        real = getattr(ladder, name)(1)
        table = PAGE[PAGE.index(f"    {real.title}\n") :]
        names = re.findall(r"^    (\S.*?)  +[\d.,]+  +[\d.,]+  +[\d.,]+  ", table[: table.index("peak:")], re.MULTILINE)
        assert [each for each in names if each != "PyTorch"] == [
            rung.name for rung in real.rungs if rung.name != "PyTorch"
        ], name
