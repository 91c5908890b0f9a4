"""Every op has all its parts; a test that fails here says which one is missing. Nothing here lists the ops: they are
those of the files in tinymvit/ops/, and the examples are those of their tests."""

import ast
import json
import re
import runpy
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest

from op_cases import normal, weights_of
from oracle import KERNEL_FLOAT32, assert_same
from tinymvit import ops
from tinymvit.config import MobileViTConfig
from tinymvit.engine import lowering
from tinymvit.engine.memory import channels_first, engine_shape
from tinymvit.engine.optimize import optimize
from tinymvit.graph import Graph, Node
from tinymvit.inspection.summary import describe
from tinymvit.inspection.trace import attributes
from tinymvit.networks import mobilevit
from tinymvit.vectors import make

ROOT = Path(__file__).parent.parent.parent
NO_OPS = ("__init__", "op", "elementary")
FILES = sorted(path for path in (ROOT / "tinymvit" / "ops").glob("*.py") if path.stem not in NO_OPS)


def classes_in(path):
    """The ops among the classes of a file."""
    classes = [node for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.ClassDef)]
    return [node.name for node in classes if "Op" in map(ast.unparse, node.bases)]


HOMES = {name: path.stem for path in FILES for name in classes_in(path)}  # the file of each op


def examples(name):
    """The ops of this name, with the shapes of their inputs, that the test of their file gives as examples."""
    path = ROOT / "tests" / "ops" / f"test_{HOMES[name]}.py"
    assert path.exists(), f"{name}: there is no tests/ops/{path.name}"
    found = [(op, *shapes) for op, *shapes in runpy.run_path(str(path))["EXAMPLES"] if type(op).__name__ == name]
    assert found, f"{name}: EXAMPLES in tests/ops/{path.name} has none"
    return found


def every_op(test):
    return pytest.mark.parametrize("name", HOMES)(test)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_named_after_an_op_in_it(path):
    names = [re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower() for name in classes_in(path)]
    assert path.stem in names


@every_op
def test_it_is_a_frozen_dataclass_that_tinymvit_ops_exports(name):
    assert hasattr(ops, name), f"{name}: tinymvit/ops/__init__.py does not export it"
    op = getattr(ops, name)
    assert issubclass(op, ops.Op)
    assert is_dataclass(op)
    assert op.__dataclass_params__.frozen


@every_op
def test_its_meaning_is_documented(name):
    op = getattr(ops, name)
    assert "compute" in vars(op), f"{name}: it has no compute"
    for part in (op, op.compute):
        assert len((part.__doc__ or "").split()) > 5, f"{part.__qualname__}: it has no docstring"
    assert "->" in op.compute.__doc__, f"{name}.compute: its docstring gives no shapes"


@every_op
def test_it_has_a_section_in_the_operators_page(name):
    page = (ROOT / "docs" / "operators.md").read_text("utf-8")
    assert page.count(f"\n## `{name}`\n") == 1, f"{name}: docs/operators.md has no section"


@every_op
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_its_examples_have_the_shapes_that_it_says(name, dtype):
    for op, *shapes in examples(name):
        inputs = [normal(seed, *shape).astype(dtype) for seed, shape in enumerate(shapes)]
        weights = [weight.astype(dtype) for weight in weights_of(op, 9)]
        result = op.compute(*inputs, *weights)
        assert (result.shape, result.dtype) == (op.output_shape(*shapes), dtype), op
        assert op.multiply_adds(result.shape, *shapes) >= 0
        if op.only_moves:
            assert set(result.flat) <= {value for x in inputs for value in x.flat}, op


@every_op
def test_in_order_it_computes_the_same_in_float32(name):
    for op, *shapes in examples(name):
        inputs = [normal(seed, *shape) for seed, shape in enumerate(shapes)]
        weights = weights_of(op, 9)
        expected = op.compute(*inputs, *weights)
        actual = op.compute_in_order(*(x.astype(np.float32) for x in (*inputs, *weights)))
        assert_same(actual, expected, 0 if op.only_moves else KERNEL_FLOAT32, repr(op), np.float32)


def always_merged():
    """The ops that the passes leave none of, in all of the networks' graphs."""
    before, after = set(), set()
    for record in (mobilevit.image_classification, mobilevit.semantic_segmentation):
        graph = record(MobileViTConfig(), (1, 3, 65, 97)).select(["logits"])
        before |= {type(node.op) for node in graph}
        after |= {type(node.op) for node in optimize(graph, {})[0]}
    return {op.__name__ for op in before - after}


def runs_in_the_reference_alone(name):
    """The engine computes in float32; what int8 means is for ports and for the files of other runtimes."""
    return HOMES[name] == "quantised"


def test_the_passes_merge_something_away():
    assert {"BatchNorm", "Softmax"} <= always_merged()


@every_op
def test_the_engine_computes_it_or_merges_it_away(name):
    for op, *shapes in examples(name):
        graph = Graph()
        sources = [graph.append(Node(f"input_{i}", ops.Input(), (), (), shape)) for i, shape in enumerate(shapes)]
        node = graph.add("node", op, *sources)
        try:
            row = lowering.choose(graph, node)
        except TypeError:
            assert name in always_merged() or runs_in_the_reference_alone(name), (
                f"{name}: it has no row in engine/lowering.py, and no pass merges it away"
            )
            return
        inputs = [normal(seed, *shape) for seed, shape in enumerate(shapes)]
        weights = weights_of(op, 9)
        packed = row.packing.pack(op, [weight.astype(np.float32) for weight in weights])
        values = {each.name: np.full(engine_shape(each.shape), np.nan, np.float32) for each in graph}
        for source, x in zip(sources, inputs, strict=True):
            channels_first(values[source.name])[...] = x
        lowering.launch(node, row, values, packed)
        expected = op.compute(*inputs, *weights)
        assert_same(channels_first(values["node"]), expected, KERNEL_FLOAT32, repr(op), np.float32)
        assert [p.data.nbytes for p in row.packing.blank(op)] == [p.data.nbytes for p in packed], op
        assert 0 <= row.multiply_adds(op, node.shape, *shapes) <= graph.multiply_adds(node)


@every_op
def test_vectors_can_be_made_of_it(name):
    for op, *shapes in examples(name):
        case = make.shrunk(op, tuple(shapes))
        vector = make.op_vector(make.vector_name(*case), *case, ("node",))
        assert re.fullmatch(r"[a-z]\w*", vector.name), op
        assert list(vector.weights) == list(op.weight_shapes())
        expected = vector.outputs["output"]
        assert np.isfinite(expected.value).all()
        assert (expected.absolute == expected.relative == 0) == (op.only_moves or op.in_integers)


@every_op
def test_tables_and_manifests_can_name_it(name):
    for op, *_ in examples(name):
        assert describe(op)
        assert json.loads(json.dumps(attributes(op))).keys() == {field.name for field in fields(op)}


def test_the_base_computes_nothing():
    with pytest.raises(NotImplementedError, match="Input computes nothing"):
        ops.Input().compute()
