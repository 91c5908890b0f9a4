"""The contributor's pages: recipes name places that exist, programs say how they are run."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from tinymvit import cli

ROOT = Path(__file__).parent.parent.parent
RECIPES = (ROOT / "docs" / "contributing" / "adding.md").read_text("utf-8")
GLOSSARY = (ROOT / "docs" / "contributing" / "glossary.md").read_text("utf-8")
PLACES = re.compile(r"`((?:tinymvit|kernels|weights|tests|docs)/[\w./-]*)`")


def rows(text):
    """The cells of each row of a page's tables, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if " | " in line]


@pytest.mark.parametrize("place", sorted(set(PLACES.findall(RECIPES))))
def test_a_place_that_a_recipe_names_exists(place):
    path = ROOT / place
    new = path.stem.removeprefix("test_") in ("x", "y")  # then its folder is there, with others of its kind
    assert next(path.parent.glob(f"*{path.suffix}"), None) if new else path.exists()


def test_every_kind_of_thing_has_its_recipe():
    """Each folder of the library where things are added, and each list that the tables of the code keep by hand."""
    for folder in ("ops", "networks", "engine", "commands", "comparison", "exporters", "bench"):
        assert f"tinymvit/{folder}/" in RECIPES, folder
    for folder in ("kernels", "weights/families", "weights/formats", "tests/ops", "tests/measures"):
        assert f"`{folder}/" in RECIPES, folder
    kinds = [row[0] for row in rows(RECIPES)[1:]]
    template = (ROOT / ".github" / "pull_request_template.md").read_text("utf-8")
    for kind in kinds[: kinds.index("a peer") + 1]:
        assert f"- [ ] {kind}: " in template, kind


def test_every_command_is_in_the_readme():
    readme = (ROOT / "README.md").read_text("utf-8")
    for command in cli.COMMANDS:
        assert f"tinymvit {command.__name__.rpartition('.')[2]} " in readme.replace("\n", " "), command.__name__


def test_a_word_has_one_row_in_the_glossary():
    words = [row[0] for row in rows(GLOSSARY)[1:]]
    assert len(words) > 30
    assert len(words) == len(set(words))


@pytest.mark.parametrize("program", sorted((ROOT / "tests" / "measures").glob("*.py")), ids=lambda path: path.name)
def test_a_program_says_how_it_is_run(program):
    assert f"python tests/measures/{program.name}" in program.read_text("utf-8")
    pages = [ROOT / "docs" / "contributing" / "adding.md", *ROOT.glob("docs/*.md"), *ROOT.glob("tests/engine/*.py")]
    assert any(program.name in page.read_text("utf-8") for page in pages), "no page has its figures"


@pytest.mark.parametrize("script", sorted((ROOT / "tests" / "measures").glob("*.sh")), ids=lambda path: path.name)
def test_a_script_says_how_it_is_run(script):
    assert f"#     tests/measures/{script.name} " in script.read_text("utf-8")
    assert script.name in (ROOT / "docs" / "platforms.md").read_text("utf-8")


def test_every_python_that_is_claimed_is_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    claimed = [each.rpartition(" ")[2] for each in project["classifiers"] if "Python :: 3." in each]
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text("utf-8")
    assert f"python: {json.dumps(claimed)}" in workflow
    assert project["requires-python"] == f">={claimed[0]}"


def test_the_extras_hold_one_another():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert "tinymvit[test-quick]" in extras["test"]
    assert not [each for each in extras["test-quick"] if re.match("torch|transformers|onnx", each)]
