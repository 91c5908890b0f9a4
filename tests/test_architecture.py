"""Who may import whom, told by folder: each part can be read, and replaced, by itself."""

import ast
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

import tinymvit

ROOT = Path(__file__).parent.parent
HOMES = {"tinymvit": ROOT / "tinymvit", "tinymvit.kernels": ROOT / "kernels", "tinymvit.weights": ROOT / "weights"}

# Each part, from the ground up, with all that it may load when it is imported, directly or through others. What it
# imports only when a function is called must stand above it in this table.
GROUND = {"errors", "version", "text", "labels", "numerics", "files", "checks"}
MODEL = {"ops", "graph", "reference", "config", "networks"}
WORK = GROUND | MODEL | {"weights", "kernels", "engine", "images", "inspection", "losses", "outputs"}
MAY_LOAD = {
    "errors": set(),
    "version": set(),
    "text": set(),
    "labels": set(),
    "numerics": set(),
    "ops": set(),
    "files": {"errors"},
    "checks": {"errors", "text"},  # text: "did you mean"
    "kernels": set(),
    "weights": {"errors", "files", "text"},
    "graph": {"ops"},
    "reference": {"graph", "ops"},
    "config": {"errors", "checks", "labels", "files", "text"},
    "networks": {"graph", "ops", "config", "errors", "checks", "labels", "files", "text"},
    "engine": {"graph", "ops", "kernels", "numerics"},
    "images": {"numerics", "errors", "files", "checks", "config", "labels", "kernels", "text", "weights"},
    "inspection": {"graph", "ops", "reference", "engine", "kernels", *GROUND, "weights"},
    "losses": {"numerics", "config", "errors", "checks", "labels", "files", "ops", "text"},
    "outputs": {"numerics"},
    "modeling": WORK,
    "pipeline": WORK | {"modeling"},
    "comparison": WORK | {"modeling"},
    "bench": WORK | {"modeling"},
    "vectors": WORK | {"modeling"},
    "error_budget": WORK | {"modeling"},
    "training": WORK | {"modeling", "pipeline"},
    "commands": WORK | {"modeling", "pipeline", "comparison", "bench", "vectors", "error_budget", "training"},
    "cli": WORK | {"modeling", "pipeline", "comparison", "bench", "vectors", "error_budget", "training", "commands"},
}


@cache
def modules():
    """Every module of the project by its name, with its file."""
    found = {}
    for home, folder in HOMES.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join([home, *(part for part in parts if part != "__init__")])] = path
    return found


def part_of(module):
    """`tinymvit.engine.passes` belongs to `engine`; the package itself to none."""
    return module.split(".")[1] if "." in module else None


@cache
def imports(module):
    """The project's modules that a module imports: when it is loaded, and later (in a function, or for types)."""
    tree = ast.parse(modules()[module].read_text("utf-8"))
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    loaded, called = set(), set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        above, deferred = node, False
        while above in parents:
            above = parents[above]
            types_only = isinstance(above, ast.If) and ast.unparse(above.test) == "TYPE_CHECKING"
            deferred = deferred or types_only or isinstance(above, ast.FunctionDef)
        (called if deferred else loaded).update(_named(node, module))
    return loaded, called


def _named(node, module):
    """The modules that an import statement names, and the packages that are loaded on the way to them."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    else:
        base = node.module or ""
        if node.level:
            package = module if modules()[module].name == "__init__.py" else module.rpartition(".")[0]
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*above, *([base] if base else [])])
        names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
    for name in names:
        steps = name.split(".")
        yield from (known for end in range(1, len(steps) + 1) if (known := ".".join(steps[:end])) in modules())


def loads(module):
    """All modules that are loaded with a module, itself included."""
    seen, todo = set(), [module]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += imports(name)[0]
    return seen


def test_every_file_belongs_to_a_part_of_the_table():
    parts = {part_of(name) for name in modules()} - {None}
    assert parts == set(MAY_LOAD)


@pytest.mark.parametrize("part", MAY_LOAD)
def test_a_part_loads_only_what_it_may(part):
    for module in modules():
        if part_of(module) == part:
            reached = {part_of(name): name for name in loads(module)}
            surplus = reached.keys() - MAY_LOAD[part] - {part, "version", None}  # the package itself loads its version
            assert not surplus, f"{module} loads {[reached[each] for each in surplus]}"


@pytest.mark.parametrize("part", MAY_LOAD)
def test_what_a_call_imports_is_on_a_lower_floor(part):
    floors = list(MAY_LOAD)
    for module in modules():
        if part_of(module) == part:
            for name in imports(module)[1]:
                below = part_of(name) in (None, part) or floors.index(part_of(name)) < floors.index(part)
                assert below, f"{module} imports {name}, which stands higher"


def test_the_table_itself_goes_downwards():
    floors = list(MAY_LOAD)
    for part, allowed in MAY_LOAD.items():
        assert all(floors.index(each) < floors.index(part) for each in allowed), part


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
            if path.parent != HOMES["tinymvit"]:
                missing = [words for words in ("In here:", "Left to", "new") if words not in " ".join(text.split())]
                assert not missing, f"{charter.relative_to(ROOT)}, of {home}, does not say: {missing}"


def test_the_wheel_has_every_folder():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    folders = {name for name, path in modules().items() if path.name == "__init__.py"}
    assert set(settings["packages"]) == folders


def test_importing_the_package_is_light_and_its_names_are_there():
    program = (
        "import sys, tinymvit\n"
        "assert not {'numba', 'numpy', 'PIL'} & set(sys.modules), 'import tinymvit imports too much'\n"
        "assert all(getattr(tinymvit, name) is not None for name in tinymvit.__all__)\n"
        "assert not {'torch', 'transformers', 'huggingface_hub', 'sklearn'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, cwd=ROOT / "tests")


def test_type_checkers_are_told_the_names_that_python_finds():
    """`tinymvit/__init__.py` imports its names when they are used, by a table, and shows them to type checkers."""
    tree = ast.parse(modules()["tinymvit"].read_text("utf-8"))
    [shown] = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    told = {alias.asname: node.module for node in shown.body for alias in node.names}
    assert told.keys() == tinymvit._HOMES.keys()
    for name, home in tinymvit._HOMES.items():
        assert f"{told[name]}.".startswith(f"tinymvit.{home}."), name


def test_type_checkers_find_in_a_clone_what_stands_elsewhere():
    """The two links of `.ci/types`; on Windows, Git makes links with `git clone -c core.symlinks=true`."""
    for name in ("kernels", "weights"):
        assert (ROOT / ".ci" / "types" / "tinymvit" / name).resolve() == HOMES[f"tinymvit.{name}"].resolve()
