"""Who may import whom, told by folder: each part can be read, and replaced, by itself."""

import ast
import subprocess
import sys
import tomllib
from importlib import import_module

import pytest

from project import HOMES, PROJECT, ROOT, Project

# Each part, from the ground up, with all that it may load when it is imported, directly or through others. A right that
# no module needs is taken from its row.
GROUND = {"errors", "limits", "text", "labels", "presets", "numerics", "files", "checks"}
GRAPHS = {"ops", "graph", "reference", "config", "networks", "passes"}
WORK = GROUND | GRAPHS | {"weights", "kernels", "engine", "inspection"}
MODEL = WORK | {"modeling"}
MAY_LOAD = {
    "version": set(),
    "text": set(),
    "errors": {"text"},
    "limits": {"errors", "text"},
    "labels": set(),
    "presets": {"labels"},
    "numerics": {"errors", "limits", "text"},
    "ops": set(),
    "files": {"errors", "text"},
    "checks": {"errors", "text"},
    "kernels": set(),
    "weights": {"errors", "files", "limits", "numerics", "text", "checks", "labels", "presets"},
    "graph": {"ops"},
    "reference": {"graph", "ops", "errors", "limits", "text"},
    "config": {"errors", "checks", "labels", "presets", "files", "text"},
    "passes": {"graph", "ops"},
    "networks": {"graph", "ops", "config", "errors", "limits", "checks", "labels", "presets", "files", "text"},
    "engine": {"graph", "ops", "passes", "kernels", "errors", "limits", "text"},
    "images": {
        "numerics",
        "errors",
        "limits",
        "files",
        "checks",
        "config",
        "labels",
        "presets",
        "kernels",
        "text",
        "weights",
    },
    "inspection": {
        "graph",
        "ops",
        "reference",
        "engine",
        "passes",
        "kernels",
        "weights",
        "numerics",
        "errors",
        "limits",
        "files",
        "text",
        "checks",
        "labels",
        "presets",
    },
    "modeling": WORK,
    "pipeline": MODEL | {"images"},
    "quantisation": MODEL | {"images"},
    "comparison": MODEL,
    "bench": GROUND - {"labels", "presets", "checks"} | {"graph", "ops", "passes", "engine", "kernels", "inspection"},
    "conversion": MODEL | {"images"},
    "vectors": MODEL | {"images", "quantisation"},
    "exporters": MODEL | {"images", "vectors", "quantisation"},
    "error_budget": MODEL | {"images", "quantisation"},
    "training": MODEL | {"images", "pipeline"},
    "commands": {"errors", "text", "images"},  # `images.folders`, which loads nothing
    "cli": {"commands", "errors", "text", "images"},
}
# What a function, or an annotation, may import beside that, with all that is then loaded.
MAY_LOAD_LATER = {
    "config": {"limits", "numerics", "weights"},  # only `from_pretrained` needs them
    "bench": MODEL,
    "commands": MODEL
    | {"pipeline", "conversion", "comparison", "bench", "vectors", "exporters", "error_budget", "quantisation"},
    "cli": {"files"},  # to clean up
}


def test_every_file_belongs_to_a_part_of_the_table():
    assert {PROJECT.part(name) for name in PROJECT.modules} - {None} == set(MAY_LOAD)


def test_a_part_loads_only_what_it_may():
    assert not list(PROJECT.surplus(MAY_LOAD, MAY_LOAD_LATER))


def test_a_part_may_load_only_what_it_needs():
    assert not list(PROJECT.unused(MAY_LOAD, MAY_LOAD_LATER))


def test_the_table_itself_goes_downwards():
    floors = list(MAY_LOAD)
    for part, allowed in MAY_LOAD.items():
        below = allowed | MAY_LOAD_LATER.get(part, set())
        assert all(floors.index(each) < floors.index(part) for each in below), part


def test_the_front_is_for_those_outside():
    """What stands inside would load, through it, any part. It loads nothing but its version."""
    assert not list(PROJECT.through_the_front())
    assert PROJECT.loads("tinymvit") == {"tinymvit", "tinymvit.version"}


def test_imports_are_written_out():
    """Else no table could be held against them. Two packages import their names by a table, a process its peer."""
    assert PROJECT.computed() == {"tinymvit", "tinymvit.comparison", "tinymvit.bench.contestant"}


SMALL = {
    "__init__.py": "from importlib import import_module\n_HOMES = {'Model': 'high'}\n",
    "low.py": "",
    "middle.py": "from house import low\n",
    "high/__init__.py": "from ..middle import x\nclass Model: pass\n",
}
ROWS = {"low": set(), "middle": {"low"}, "high": {"low", "middle"}}


@pytest.fixture
def house(tmp_path):
    """A small project in which one file is another."""

    def build(**changes):
        for name, text in (SMALL | {f"{name}.py": text for name, text in changes.items()}).items():
            path = tmp_path / "house" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        return Project({"house": tmp_path / "house"})

    return build


def test_a_house_in_order_passes(house):
    assert not list(house().surplus(ROWS, {}))
    assert not list(house().unused(ROWS, {}))
    assert not list(house().through_the_front())


UPWARDS = [
    "from house.high import Model",
    "from .high import Model",
    "from . import high",
    "from house import Model",  # the front's name for it
    "import house.high as high",
    "import_module('house.high')",
    "importlib.import_module('.high', __package__)",
    "__import__('house.high')",
    "if TYPE_CHECKING:\n        pass\n    else:\n        from house import high",
]


@pytest.mark.parametrize("statement", UPWARDS)
@pytest.mark.parametrize("head", ["if True:", "def f():", "async def f():"])
def test_an_import_of_what_stands_higher_is_seen(house, head, statement):
    found = list(house(low=f"{head}\n    {statement}\n").surplus(ROWS, {}))
    later = " when a function is called" if "def" in head else ""
    assert f"low loads house.high{later}" in " ".join(found)
    assert any(each.startswith("house.middle loads house.high") for each in found) == (not later)


@pytest.mark.parametrize(
    "statement",
    ["import house", "import house.low", "from house import Model", "from house import *", "import_module('house')"],
)
def test_what_comes_through_the_front_is_seen(house, statement):
    if "*" not in statement:
        statement = f"def f():\n    {statement}"
    assert len(list(house(middle=statement).through_the_front())) == 1


def test_a_function_may_import_only_what_its_row_says_and_what_it_may_load_later(house):
    found = house(**{"high/__init__": "def f():\n    from house import low\n"})
    assert not list(found.surplus(ROWS, {}))
    assert list(found.surplus(ROWS | {"high": set()}, {})) == ["house.high loads house.low when a function is called"]
    assert not list(found.surplus(ROWS | {"high": set()}, {"high": {"low"}}))


def test_what_is_loaded_with_what_a_function_imports_counts(house):
    found = house(**{"high/__init__": "def f():\n    from house import middle\n"})
    assert list(found.surplus(ROWS | {"high": set()}, {"high": {"middle"}})) == [
        "house.high loads house.low when a function is called"
    ]


def test_a_right_that_nothing_needs_is_seen(house):
    assert list(house(middle="").unused(ROWS, {})) == ["middle need not load low", "high need not load low"]
    assert list(house().unused(ROWS, {"high": {"low"}})) == ["high need not load low later"]


def test_a_computed_import_is_seen(house):
    assert house(low="def f(name):\n    return import_module(f'house.{name}')\n").computed() == {"house.low"}


def test_the_first_level_fits_on_a_screen():
    entries = [path for path in (ROOT / "tinymvit").iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 32, sorted(path.name for path in entries)


def test_every_folder_opens_with_its_charter():
    """What is in it, what is left to others, where a new thing goes."""
    for home, folder in HOMES.items():
        for path in folder.rglob("*.py"):
            charter = path.parent / "__init__.py"
            assert charter.exists(), f"{path.parent} has no __init__.py"
            text = ast.get_docstring(ast.parse(charter.read_text("utf-8"))) or ""
            missing = [words for words in ("In here:", "Left to", "new") if words not in " ".join(text.split())]
            assert not missing, f"{charter.relative_to(ROOT)}, of {home}, does not say: {missing}"


def test_the_wheel_has_every_folder():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    folders = {name for name, path in PROJECT.modules.items() if path.name == "__init__.py"}
    assert set(settings["packages"]) == folders


def test_importing_the_package_is_light_and_its_names_are_there():
    program = (
        "import sys, tinymvit\n"
        "assert not {'numba', 'numpy', 'PIL'} & set(sys.modules), 'import tinymvit imports too much'\n"
        "assert all(getattr(tinymvit, name) is not None for name in tinymvit.__all__)\n"
        "assert not {'torch', 'transformers', 'huggingface_hub', 'sklearn'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, cwd=ROOT / "tests")


@pytest.mark.parametrize("package", ["tinymvit", "tinymvit.comparison"])
def test_type_checkers_are_told_the_names_that_python_finds(package):
    """Both packages import their names when they are used, by a table, and show them to type checkers."""
    module = import_module(package)
    [shown] = [
        node
        for node in PROJECT.tree(package).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    told = {alias.asname: (node.module, alias.name) for node in shown.body for alias in node.names}
    assert told.keys() == PROJECT.lazy_names(package).keys()
    for name, home in PROJECT.lazy_names(package).items():
        assert f"{told[name][0]}.".startswith(f"{home}."), name
        assert told[name][1] == name
        assert getattr(module, name) is getattr(import_module(home), name)
    assert {name for name in module.__all__ if not name.startswith("_")} == told.keys()
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'missing'"):
        _ = module.missing


def test_type_checkers_find_in_a_clone_what_stands_elsewhere():
    """The two links of `.ci/types`; on Windows, Git makes links with `git clone -c core.symlinks=true`."""
    for name in ("kernels", "weights"):
        assert (ROOT / ".ci" / "types" / "tinymvit" / name).resolve() == HOMES[f"tinymvit.{name}"].resolve()
