"""Who may import whom, so that each part can be read, and replaced, by itself."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {  # what a part may import of the project
    "kernels": {"tinymvit.kernels"},
    "weights": {"tinymvit.weights", "tinymvit.errors"},
    "tinymvit/graph.py": set(),
    "tinymvit/errors.py": set(),
    "tinymvit/model.py": {"tinymvit.graph", "tinymvit.config", "tinymvit.errors"},
    "tinymvit/reference.py": {"tinymvit.graph"},
    "tinymvit/passes.py": {"tinymvit.graph"},
    "tinymvit/engine.py": {"tinymvit.graph", "tinymvit.kernels", "tinymvit.engine.passes", "tinymvit.reference"},
    "tinymvit/summary.py": {"tinymvit.graph", "tinymvit.text"},
    "tinymvit/table.py": set(),
    "tinymvit/peers.py": {"tinymvit.kernels", "tinymvit.modeling"},
    "tinymvit/contestant.py": {"tinymvit.bench.peers"},
    "tinymvit/bench.py": {
        "tinymvit.bench.contestant",
        "tinymvit.errors",
        "tinymvit.graph",
        "tinymvit.bench.peers",
        "tinymvit.text",
    },
    "tinymvit/layer_times.py": {
        "tinymvit.engine",
        "tinymvit.graph",
        "tinymvit.kernels",
        "tinymvit.inspection.summary",
        "tinymvit.text",
    },
    "tinymvit/dump.py": {"tinymvit.errors", "tinymvit.version", "tinymvit.weights"},
    "tinymvit/trace.py": {"tinymvit.inspection.dump", "tinymvit.engine", "tinymvit.graph", "tinymvit.reference"},
    "tinymvit/attention_map.py": {"tinymvit.graph", "tinymvit.inspection.trace"},
    "tinymvit/layouts.py": {"tinymvit.graph"},
    "tinymvit/formats.py": set(),
    "tinymvit/mistakes.py": {"tinymvit.numerics", "tinymvit.graph", "tinymvit.reference"},
    "tinymvit/matching.py": {"tinymvit.graph", "tinymvit.errors"},
    "tinymvit/tolerance.py": {"tinymvit.numerics"},
    "tinymvit/verdict.py": {"tinymvit.graph", "tinymvit.comparison.tolerance"},
    "tinymvit/port.py": {
        "tinymvit.inspection.dump",
        "tinymvit.graph",
        "tinymvit.comparison.layouts",
        "tinymvit.comparison.pairing",
        "tinymvit.reference",
        "tinymvit.inspection.summary",
        "tinymvit.text",
        "tinymvit.comparison.tolerance",
        "tinymvit.comparison.verdict",
    },
    "tinymvit/isolation.py": {
        "tinymvit.graph",
        "tinymvit.comparison.mistakes",
        "tinymvit.comparison.port",
        "tinymvit.reference",
    },
    "tinymvit/hints.py": {
        "tinymvit.graph",
        "tinymvit.comparison.isolation",
        "tinymvit.comparison.layouts",
        "tinymvit.comparison.mistakes",
        "tinymvit.inspection.summary",
        "tinymvit.comparison.tolerance",
        "tinymvit.comparison.verdict",
    },
    "tinymvit/conversions.py": {
        "tinymvit.graph",
        "tinymvit.comparison.hints",
        "tinymvit.comparison.layouts",
        "tinymvit.comparison.mistakes",
        "tinymvit.text",
        "tinymvit.comparison.tolerance",
        "tinymvit.comparison.verdict",
    },
    "tinymvit/report.py": {"tinymvit.text", "tinymvit.comparison.verdict", "tinymvit.files"},
    "tinymvit/feature_map.py": {"tinymvit.graph", "tinymvit.reference"},
    "tinymvit/vectors.py": {
        "tinymvit.graph",
        "tinymvit.reference",
        "tinymvit.modeling",
        "tinymvit.inspection.trace",
        "tinymvit.errors",
        "tinymvit.version",
    },
    "tinymvit/error_budget.py": {
        "tinymvit.graph",
        "tinymvit.reference",
        "tinymvit.engine",
        "tinymvit.numerics",
        "tinymvit.modeling",
        "tinymvit.inspection.summary",
        "tinymvit.text",
        "tinymvit.errors",
        "tinymvit.files",
    },
}
TRAINING = ("weights/train.py", "weights/digit_scenes.py", "weights/model_card.py")  # scripts, not part of the library


def imports(path):
    package = "tinymvit." + path.parent.name if path.parent.name in ("kernels", "weights") else "tinymvit"
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield package
        elif isinstance(node, ast.ImportFrom) and node.module == "tinymvit":
            yield from (f"tinymvit.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.mark.parametrize("part", ALLOWED)
def test_a_part_imports_only_what_it_may(part):
    paths = [ROOT / part] if part.endswith(".py") else sorted((ROOT / part).glob("*.py"))
    for path in paths:
        if str(path.relative_to(ROOT)) in TRAINING:
            continue
        for name in imports(path):
            if name.split(".")[0] in ("tinymvit", "kernels", "weights"):
                assert any(name == ok or name.startswith(ok + ".") for ok in ALLOWED[part]), f"{path.name}: {name}"


def test_importing_the_package_is_light_and_its_names_are_there():
    program = (
        "import sys, tinymvit\n"
        "assert not {'numba', 'numpy', 'PIL'} & set(sys.modules), 'import tinymvit imports too much'\n"
        "assert all(getattr(tinymvit, name) is not None for name in tinymvit.__all__)\n"
        "assert not {'torch', 'transformers', 'huggingface_hub', 'sklearn'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, cwd=ROOT / "tests")
