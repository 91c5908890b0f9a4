"""Test vectors for porters: each distinct op of a model with inputs, weights and what must come out of them; and the
whole model with its input and its results.

Two nodes share a vector if their ops have the same attributes and read the same shapes up to the spatial size. The
input maps are small by default, yet large enough that every weight of a dilated kernel meets a pixel. A map's height
and width differ, unless it is one pixel, so a port that exchanges them fails. Unfold and fold get two images, so a port
that puts the images in another order among the sequences fails. The graph is recorded at a size that no patch of two
divides, so that it resizes.

Same bits everywhere: inputs and weights are random integers (PCG64's raw bits, which NumPy promises to keep) times a
power of two, short enough that a product of an input and a weight, and any sum of such products, is exact in float64.
So the order in which a machine's BLAS adds them cannot show. What is left to the machine is the last bit of the C
library's exp (tanh, erfc) in float64, which survives the rounding to float32 about once in 2^28 values; the whole
model's result, where float64 does round on the way; and the measured tolerances, rounded up to a power of two.

In int8 there is a vector for each distinct op that `passes.quantise` computes in integers, and for the two at its
border. Their numbers are whole ones, so a port must give them to the bit. Scales and zero points are drawn too: such
that results fill int8 and a few exceed it, and that a zero point left out shows.

The formulas are the float64 reference's; here they are only given something to compute. Files are left to `write`.
"""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from tinymvit import ops, reference
from tinymvit.errors import CheckpointError
from tinymvit.graph import Graph
from tinymvit.modeling import MobileViTPreTrainedModel
from tinymvit.numerics import UNIT, Array, rms
from tinymvit.ops import Shape
from tinymvit.passes.quantise import computed_in_int8
from tinymvit.quantisation.ranges import folded

OpOnShapes = tuple[ops.Op, tuple[Shape, ...]]  # an op and the shapes of its inputs

ODD_SIZE = (65, 129)  # every map below is odd on both sides, so that a patch of 2 x 2 needs the resizing
FACTOR = 8  # tolerance over the measured float32 error; docs/operators.md says what ports were measured to need


@dataclass(frozen=True)
class Expected:
    """A result: the float64 reference's, rounded to float32, and how far a port may be from it.

    A value of the port passes if |value - expected| <= absolute + relative |expected|.
    """

    value: Array
    absolute: float
    relative: float


@dataclass(frozen=True)
class Vector:
    """What a port is given and what it must make of it; every array is in the public shapes, and float32 but for ops in
    integers.

    `op` is None for the whole model, whose weights are the checkpoint's and not repeated here. `nodes` names the nodes
    of the graph that this vector stands for. `derived` is what a port would make of op and weights before it runs:
    multipliers and shifts, a table.
    """

    name: str
    op: ops.Op | None
    nodes: tuple[str, ...]
    inputs: dict[str, Array]
    weights: dict[str, Array]
    outputs: dict[str, Expected]
    derived: dict[str, Array] = field(default_factory=dict)

    @property
    def tensors(self) -> dict[str, Array]:
        """All the arrays by name: inputs, weights by their role, what is derived, results."""
        return (
            self.inputs
            | self.weights
            | self.derived
            | {name: expected.value for name, expected in self.outputs.items()}
        )


# ---- making them ----


def vectors(model: MobileViTPreTrainedModel, size: tuple[int, int] | None = None) -> Iterator[Vector]:
    """One vector for each distinct op in the graph's order, then the whole model's, named "model".

    size: height and width of the input whose maps the ops then have; by default small maps.
    """
    graph = model_graph(model, size)
    for (op, shapes), (name, nodes) in distinct(graph, shrink=size is None).items():
        yield op_vector(name, op, shapes, tuple(nodes))
    yield model_vector(graph, model.weights)


def int8_vectors(model: MobileViTPreTrainedModel, size: tuple[int, int] | None = None) -> Iterator[Vector]:
    """One vector for each distinct op that int8 computes in integers, in the graph's order, between that from real
    numbers and that back to them. size: as for `vectors`."""
    border = ops.Quantisation(2.0**-5, -7)
    yield op_vector("quantise", ops.Quantise(border), ((1, 4, 3, 50),), ())
    for (op, shapes), (name, nodes) in distinct_in_int8(model, size).items():
        name = f"int8_{name}"
        yield op_vector(name, in_integers(op, name), shapes, tuple(nodes))
    yield op_vector("dequantise", ops.Dequantise(border), ((1, 4, 3, 50),), ())


def distinct_in_int8(
    model: MobileViTPreTrainedModel, size: tuple[int, int] | None
) -> dict[OpOnShapes, tuple[str, list[str]]]:
    """As `distinct`, for the ops that int8 computes in integers, as they are in float."""
    graph, _ = folded(model_graph(model, size), model.weights)
    return distinct(graph, size is None, computed_in_int8(graph))


def in_integers(op: ops.Op, name: str) -> ops.Op:
    """A convolution, linear layer or activation in int8. Its scales and zero points depend on the name alone."""
    stream = np.random.PCG64(zlib.crc32(name.encode()))
    zero_x, zero_y = (int(zero) for zero in uniform(stream, (2,), -64, 64, 7))
    x = ops.Quantisation(2.0**-5, zero_x)
    if isinstance(op, ops.Activation):
        return ops.QuantisedActivation(op.function, x, ops.Quantisation(2.0**-6 * 1.5, zero_y))
    assert isinstance(op, ops.Conv2d | ops.Linear)
    terms = math.prod(op.weight_shapes()["weight"][1:])
    largest = x.scale * 2.0**-7 * 128 * 127 * math.sqrt(terms)  # of a sum, as far as random signs let it grow
    return ops.Quantised(op, x, ops.Quantisation(float(np.float32(largest / 256)), zero_y))


def model_graph(model: MobileViTPreTrainedModel, size: tuple[int, int] | None) -> Graph:
    """The graph of one image for the model's results, without the hidden states."""
    graph = model.graph((1, model.config.num_channels, *(size or ODD_SIZE)))
    graph = graph.select([name for name in graph.outputs if not name.startswith("hidden_states")])
    reference.check_memory(graph)
    return graph


def distinct(
    graph: Graph, shrink: bool, among: Container[str] | None = None
) -> dict[OpOnShapes, tuple[str, list[str]]]:
    """Each distinct op with the shapes of its inputs: a name for it, and the nodes that it stands for. among: the names
    of the nodes that count, by default all."""
    found: dict[OpOnShapes, tuple[str, list[str]]] = {}
    stems: Counter[str] = Counter()
    for node in graph:
        if isinstance(node.op, ops.Input) or (among is not None and node.name not in among):
            continue
        shapes = tuple(source.shape for source in graph.inputs_of(node))
        op_on_shapes = shrunk(node.op, shapes) if shrink else (node.op, shapes)
        if op_on_shapes not in found:
            stem = vector_name(*op_on_shapes)
            stems[stem] += 1
            found[op_on_shapes] = stem if stems[stem] == 1 else f"{stem}_v{stems[stem]}", []
        found[op_on_shapes][1].append(node.name)
    return found


def op_vector(name: str, op: ops.Op, shapes: tuple[Shape, ...], nodes: tuple[str, ...]) -> Vector:
    """The vector of one op on inputs of these shapes. Its numbers depend on the name alone."""
    stream = np.random.PCG64(zlib.crc32(name.encode()))
    inputs = draw_inputs(op, shapes, stream)
    weights = {role: draw_weight(op, role, shape, stream) for role, shape in op.weight_shapes().items()}
    exact, single = (
        reference.compute(
            op,
            [x.astype(dtype) for x in inputs],
            [reference.as_operand(w, dtype) for w in weights.values()],
        )
        for dtype in (np.float64, np.float32)
    )
    names = ["input"] if len(inputs) == 1 else [f"input_{i}" for i in range(len(inputs))]
    derived: dict[str, Array] = {}
    if isinstance(op, ops.Quantised):
        derived = dict(zip(("multiplier", "shift"), op.multipliers(weights["scale"]), strict=True))
    elif isinstance(op, ops.QuantisedActivation):
        derived = {"table": op.table()}
    if op.in_integers:
        result = Expected(single.astype(np.int8), 0.0, 0.0)
    else:
        result = Expected(_rounded(exact), 0.0, 0.0) if op.only_moves else expected(exact, single)
    if takes_int8(op):
        inputs = [x.astype(np.int8) for x in inputs]
    return Vector(name, op, nodes, dict(zip(names, inputs, strict=True)), weights, {"output": result}, derived)


def takes_int8(op: ops.Op) -> bool:
    """Whether an op's input is whole numbers."""
    return isinstance(op, ops.Quantised | ops.QuantisedActivation | ops.Dequantise)


def model_vector(graph: Graph, weights: Mapping[str, Array]) -> Vector:
    """The vector of the whole graph on noise from 0 to 1, with the weights that it has. Raises CheckpointError if these
    give no numbers."""
    pixels = graph["pixel_values"]
    given = noise(pixels.shape)
    exact, single = (reference.run(graph, weights, given, dtype) for dtype in (np.float64, np.float32))
    for name, result in exact.items():
        if not np.isfinite(result).all():
            raise CheckpointError(f"{name}: not finite for pixels from 0 to 1; expected finite weights")
    results = {name: expected(exact[name], single[name]) for name in exact}
    return Vector("model", None, tuple(graph.outputs.values()), {pixels.name: given}, {}, results)


def expected(exact: Array, single: Array) -> Expected:
    """The float64 result rounded to float32, with the tolerance that the float32 result `single` suggests.

    float32 itself errs by half a unit in the last place: that sets the relative part. What `single` errs beyond it,
    where terms cancel, sets the absolute part, which is rounded up to a power of two. The absolute part allows at least
    one rounding of a number of the usual size, since a sum that happens to be exact in one order is not in another.
    """
    excess = float((np.abs(single - exact) - UNIT * np.abs(exact)).max())
    error = FACTOR * max(excess, UNIT * rms(exact))
    absolute = 2.0 ** math.ceil(math.log2(error)) if error else 0.0
    return Expected(_rounded(exact), absolute, FACTOR * UNIT)


def _rounded(exact: Array) -> Array:
    return np.ascontiguousarray(exact, np.float32)  # contiguous, since safetensors writes the memory as it lies


# ---- numbers ----

INPUT_BITS = 12  # one of them a sign: exact in float16 too
WEIGHT_BITS = 23


def uniform(stream: np.random.PCG64, shape: Shape, low: float, high: float, bits: int) -> Array:
    """float32 numbers from low to high in 2^bits equal steps; exact if the step and low are powers of two."""
    raw = stream.random_raw(math.prod(shape)) >> np.uint64(64 - bits)
    return (low + raw * ((high - low) / 2**bits)).astype(np.float32).reshape(shape)


def noise(shape: Shape) -> Array:
    """Random pixels from 0 to 1, for those who have no picture: `shape`, float32."""
    return uniform(np.random.PCG64(0), shape, 0, 1, INPUT_BITS - 1)


def draw_inputs(op: ops.Op, shapes: tuple[Shape, ...], stream: np.random.PCG64) -> list[Array]:
    """Numbers from -4 to 4, and probabilities from 0 to 1; among them those that this op is known to fail on."""
    inputs = [uniform(stream, shape, -4, 4, INPUT_BITS) for shape in shapes]
    x = inputs[0]
    match op:
        case ops.Activation():
            edges = [0, -0.0, 2**-14, -(2**-14), 3, -3, 6, -6, 20, -20, 100, -100]
            x.reshape(-1)[: len(edges)] = edges[: x.size]
        case ops.Softmax():  # rows that overflow unless the maximum is subtracted; one that is all zeros
            rows = x[0, 0]
            rows[0:1] = 100
            rows[1:2] = -100
            rows[1:2, :1] = 100
            rows[2:3] = 0
        case ops.LayerNorm():  # no variance at all, and one as small as the epsilon
            x[0, 0:1] = 1
            x[0, 1:2] *= 2.0**-10
        case ops.Context():
            inputs[0] = np.abs(x) / 4
        case ops.Quantise():  # halves, which are rounded to the even one; and what int8 does not hold
            edges = [*(op.by.scale * (np.arange(-4, 5) + 0.5)), 0, -0.0, 1e30, -1e30]
            x.reshape(-1)[: len(edges)] = edges[: x.size]
        case ops.Quantised() | ops.QuantisedActivation() | ops.Dequantise():  # the ends of int8 among them
            inputs = [uniform(stream, shape, -128, 128, 8) for shape in shapes]
            inputs[0].reshape(-1)[:2] = [-128, 127][: x.size]
    return inputs


def draw_weight(op: ops.Op, role: str, shape: Shape, stream: np.random.PCG64) -> Array:
    """Numbers of the size that trained weights have, so that results are of the inputs' size. Some scales are far from
    1 and some biases far from 0, so a port that leaves them out fails."""
    if isinstance(op, ops.Quantised):
        drawn = draw_quantised_weight(role, shape, stream)
        return drawn if role != "bias" or op.op.bias else np.zeros_like(drawn)
    if len(shape) > 1:
        bound = 2.0 ** -round(math.log2(math.prod(shape[1:])) / 2)
        return uniform(stream, shape, -bound, bound, WEIGHT_BITS)
    if role == "running_var":
        return uniform(stream, shape, 0.25, 1.25, WEIGHT_BITS)
    if role == "weight":
        return uniform(stream, shape, 0.5, 1.5, WEIGHT_BITS)
    return uniform(stream, shape, -1, 1, WEIGHT_BITS)


def draw_quantised_weight(role: str, shape: Shape, stream: np.random.PCG64) -> Array:
    """The weights of an op in integers, in their own dtypes; -127 and 127 are among them, and scales that differ."""
    if role == "scale":
        return uniform(stream, shape, 2.0**-9, 2.0**-7, WEIGHT_BITS)
    if role == "bias":
        return uniform(stream, shape, -(2.0**12), 2.0**12, 13).astype(np.int32)
    weight = np.maximum(uniform(stream, shape, -128, 128, 8), -127)
    weight.reshape(-1)[:2] = [-127, 127][: weight.size]
    return weight.astype(np.int8)


# ---- shapes and names ----


def shrunk(op: ops.Op, shapes: tuple[Shape, ...]) -> OpOnShapes:
    """The op and the shapes of its inputs, on the smallest maps on which a wrong port still gives wrong numbers."""
    match op:
        case ops.Quantised():
            return op, shrunk(op.op, shapes)[1]
        case ops.Conv2d():
            side = max(5, op.dilation * (op.kernel_size // 2) + 1)  # the outermost weights meet pixels
            return op, ((*shapes[0][:2], side, side + 1),)
        case ops.Resize():
            height, new_height = _shrunk_sides(shapes[0][2], op.height, 3)
            width, new_width = _shrunk_sides(shapes[0][3], op.width, 5)
            return replace(op, height=new_height, width=new_width), ((*shapes[0][:2], height, width),)
        case ops.Unfold():
            return op, ((2, shapes[0][1], 2 * op.patch_height, 3 * op.patch_width),)
        case ops.Fold():
            small = replace(op, height=2 * op.patch_height, width=3 * op.patch_width)
            return small, ((2 * op.patch_height * op.patch_width, 6, shapes[0][2]),)
        case ops.Softmax():
            return op, ((2, shapes[0][1], 5, 5),)
        case ops.Context():
            return op, ((2, shapes[0][1], 5, 5), (2, 5, shapes[1][2]))
    return op, tuple(_shrunk_shape(shape) for shape in shapes)


def _shrunk_shape(shape: Shape) -> Shape:
    match shape:
        case batch, channels, _, _:
            return batch, channels, 3, 4
        case _, _, width:
            return 2, 5, width
    return shape


def _shrunk_sides(side: int, new_side: int, least: int) -> tuple[int, int]:
    """A side before and after resizing, made smaller: the lesser of the two becomes `least`, their difference stays. A
    side of 1 stays 1."""
    if side == 1:
        return 1, min(new_side, least)
    less = min(side, new_side) - least
    return side - less, new_side - less


def vector_name(op: ops.Op, shapes: tuple[Shape, ...]) -> str:
    """A name in words that C accepts, such as conv2d_3x3_16_to_32_stride2."""
    width = shapes[0][-1] if len(shapes[0]) == 3 else shapes[0][1]  # of a token, or channels
    kind = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(op).__name__).lower()
    match op:
        case ops.Quantised():
            return f"{kind}_{vector_name(op.op, shapes)}"
        case ops.QuantisedActivation():
            return f"quantised_{vector_name(ops.Activation(op.function), shapes)}"
        case ops.Conv2d():
            words = [f"depthwise_{kind}" if op.depthwise else kind, f"{op.kernel_size}x{op.kernel_size}"]
            words += [str(width)] if op.depthwise else [f"{width}_to_{op.out_channels}"]
            words += [f"stride{op.stride}"] if op.stride > 1 else []
            words += [f"dilation{op.dilation}"] if op.dilation > 1 else []
            words += ["bias"] if op.bias else []
            return "_".join(words)
        case ops.Linear():
            return f"{kind}_{op.in_features}_to_{op.out_features}" + ("" if op.bias else "_no_bias")
        case ops.Activation():
            function = op.function if isinstance(op.function, str) else getattr(op.function, "__name__", "activation")
            function = re.sub(r"\W", "_", function)  # a lambda's name has brackets
            return f"{function}_{_layout(shapes[0])}_{width}"
        case ops.Resize():
            return f"{kind}_{shapes[0][2]}x{shapes[0][3]}_to_{op.height}x{op.width}_{width}"
        case ops.Concat():
            return f"{kind}_{'_'.join(str(shape[1]) for shape in shapes)}"
        case ops.Scores():
            return f"{kind}_{op.heads}_heads_{width}"
        case ops.Softmax():
            return f"{kind}_{width}_heads"
        case ops.Context():
            return f"{kind}_{width}_heads_{shapes[1][2]}"
        case ops.Add():
            return f"{kind}_{_layout(shapes[0])}_{width}"
    return f"{kind}_{width}"


def _layout(shape: Shape) -> str:
    return "map" if len(shape) == 4 else "tokens"
