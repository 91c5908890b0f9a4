"""The vector vocabulary: explicit SIMD from Python, with no C and no assembly. What the kernels say in it is theirs.

Numba leaves vectorisation to LLVM, which rarely keeps the accumulators of a matrix product in registers, and whose
choices differ between machines. Here a *vector*, 16 float32 lanes, is a Numba value whose LLVM type is <16 x float>:

    y = fma(load(x, at, LANES, 0.0), load(weight, k, LANES, 0.0), y)

The vector is 16 lanes wide whatever the machine: one AVX-512 register, two of AVX2, four of NEON. LLVM does the
splitting. Each lane sees the same operations in the same order everywhere, so results agree bit for bit.

Each function below marked `@instruction` exists twice under one name. In this file it is Python that emits LLVM
instructions: it takes the IR builder first, then LLVM values. In a kernel it is the operation itself, without the
builder, typed as the decorator says. Where a vector is wanted a number will do; it fills all lanes. The operators
+ - * / and unary - work on vectors too. Offsets count float32 elements of a flat array; nothing checks them.

NaN: arithmetic hands it on. What compares does so as its description says; `max_lanes` may lose it.
"""

import itertools
import operator
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model

from ..runtime.jit import FLOATS, inline, jit

LANES = 16
_FLOAT, _INT32 = ir.FloatType(), ir.IntType(32)
_VECTOR, _INT_VECTOR = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INT32, LANES)
_DOUBLE_VECTOR = ir.VectorType(ir.DoubleType(), LANES)


class VectorType(types.Type):
    def __init__(self, name, llvm_type):
        super().__init__(name=f"{name}x{LANES}")
        self.llvm_type = llvm_type


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, fe_type.llvm_type)


vector = VectorType("float32", _VECTOR)
double_vector = VectorType("float64", _DOUBLE_VECTOR)


def instruction(*arguments, returns=vector, symbol=None):
    """Make `emit(builder, *values)` callable from compiled code, as itself or as the operator `symbol`.

    `emit` gets a pointer for an array and a list for a tuple, and returns a list for a tuple.
    """

    def register(emit):
        def lower(context, builder, call, values):
            pairs = zip(arguments, call.args, values, strict=True)
            result = emit(builder, *[_unwrap(context, builder, *pair) for pair in pairs])
            if isinstance(result, list):
                return context.make_tuple(builder, returns, result)
            return context.get_dummy_value() if result is None else result

        choices = [(each, types.float64) if each is vector else (each,) for each in arguments]
        forms = [form for form in itertools.product(*choices) if vector in form or not symbol]
        key = symbol or emit
        template = {"key": key, "cases": [signature(returns, *form) for form in forms]}
        infer_global(key, types.Function(type(f"Typing_{emit.__name__}", (ConcreteTemplate,), template)))
        for form in forms:
            lower_builtin(key, *form)(lower)
        return emit

    return register


def _unwrap(context, builder, wanted, given, value):
    if isinstance(given, types.Array):
        return context.make_array(given)(context, builder, value).data
    if isinstance(given, types.UniTuple):
        return cgutils.unpack_tuple(builder, value)
    if wanted is vector and given is types.float64:
        return _splat(builder, builder.fptrunc(value, _FLOAT))
    return value


# ---- Arithmetic, lane by lane ----

instruction(vector, vector, symbol=operator.add)(ir.IRBuilder.fadd)
instruction(vector, vector, symbol=operator.sub)(ir.IRBuilder.fsub)
instruction(vector, vector, symbol=operator.mul)(ir.IRBuilder.fmul)
instruction(vector, vector, symbol=operator.truediv)(ir.IRBuilder.fdiv)
instruction(vector, symbol=operator.neg)(ir.IRBuilder.fneg)


@instruction(types.float64)
def splat(builder, number):
    """All lanes `number`, rounded to float32."""
    return _splat(builder, builder.fptrunc(number, _FLOAT))


@instruction(vector, vector, vector)
def fma(builder, a, b, c):
    """a * b + c, rounded once."""
    return _intrinsic(builder, "llvm.fma.v16f32", _VECTOR, a, b, c)


@instruction(vector, returns=double_vector)
def widen(builder, a):
    """The lanes in float64."""
    return builder.fpext(a, _DOUBLE_VECTOR)


@instruction(double_vector)
def narrow(builder, a):
    """The lanes, rounded to float32."""
    return builder.fptrunc(a, _VECTOR)


@instruction(vector, vector, double_vector, returns=double_vector)
def fma_double(builder, a, b, c):
    """a * b + c in float64, where a * b is exact."""
    wide = [builder.fpext(each, _DOUBLE_VECTOR) for each in (a, b)]
    return _intrinsic(builder, "llvm.fma.v16f64", _DOUBLE_VECTOR, *wide, c)


@instruction(vector, vector)
def maximum(builder, a, b):
    """a if a > b else b, so a NaN in b stays."""
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


@instruction(vector, vector)
def minimum(builder, a, b):
    """a if a < b else b, so a NaN in b stays."""
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)


@instruction(vector, vector, vector, vector)
def where_less(builder, a, b, yes, no):
    """yes if a < b else no."""
    return builder.select(builder.fcmp_ordered("<", a, b), yes, no)


@instruction(vector)
def magnitude(builder, a):
    """|a|"""
    return _intrinsic(builder, "llvm.fabs.v16f32", _VECTOR, a)


@instruction(vector, vector)
def with_sign(builder, a, b):
    """|a| with the sign of b."""
    return _intrinsic(builder, "llvm.copysign.v16f32", _VECTOR, a, b)


POWER_OF_ONE = 1.5 * 2.0**23 + 127  # added to a small float32, rounds it to a whole number and biases that by 127


@instruction(vector)
def power_of_two(builder, shifted):
    """2^n for `shifted` = n + POWER_OF_ONE, n in [-127, 128]: the low bits are an exponent. 2^-127 is 0, 2^128 inf."""
    bits = builder.bitcast(shifted, _INT_VECTOR)
    return builder.bitcast(builder.shl(bits, _constant(_INT_VECTOR, 23)), _VECTOR)


# ---- Across the lanes: a fixed tree, lane i with lane i + 8, then 4, 2, 1 ----


@instruction(vector, returns=types.float32)
def sum_lanes(builder, a):
    """The sum of all lanes."""
    return _tree(builder, a, builder.fadd)


@instruction(vector, returns=types.float32)
def max_lanes(builder, a):
    """The largest lane."""
    return _tree(builder, a, lambda low, high: builder.select(builder.fcmp_ordered(">", low, high), low, high))


class Matrix(NamedTuple):
    """Rows in a flat array: where the first begins, and how many elements further each next one does."""

    array: Any
    at: int
    row: int


# ---- Memory. `lanes` says how many lanes are there; LANES or more makes a plain load or store ----


@instruction(FLOATS, types.int64, types.int64, vector)
def load(builder, array, at, lanes, fill):
    """array[at : at + lanes], `fill` in the lanes beyond."""
    cells = [(_vector_pointer(builder, array, at), lanes)]
    return _load(builder, cells, _is_whole(builder, lanes, LANES), fill)[0]


@instruction(FLOATS, types.int64, types.int64, vector, returns=types.void)
def store(builder, array, at, lanes, value):
    """array[at : at + lanes] = value"""
    cells = [(_vector_pointer(builder, array, at), lanes)]
    _store(builder, cells, _is_whole(builder, lanes, LANES), [value])


@instruction(types.int64, returns=types.int64)
def opaque(builder, n):
    """The number n, but LLVM does not know that it is.

    Where LLVM knows that an offset grows by the same amount in each step, it makes a counter for each load that uses
    the offset. If the counters outnumber the registers, they live in memory: the filter of an inverted residual then
    took 26 cycles a vector; with opaque offsets it takes 11.
    """
    function_type = ir.FunctionType(n.type, [n.type])
    return builder.call(ir.InlineAsm(function_type, "", "=r,0"), [n])


@inline
def copy(source, at, target, target_at, count):
    """target[target_at : target_at + count] = source[at : at + count]"""
    whole = count - count % LANES
    for i in range(0, whole, LANES):
        store(target, target_at + i, LANES, load(source, at + i, LANES, 0.0))
    if whole < count:
        store(target, target_at + whole, count - whole, load(source, at + whole, count - whole, 0.0))


@inline
def fill(target, at, count, value):
    """target[at : at + count] = value"""
    whole = count - count % LANES
    for i in range(0, whole, LANES):
        store(target, at + i, LANES, splat(value))
    if whole < count:
        store(target, at + whole, count - whole, splat(value))


# ---- Tiles: the accumulators of a matrix product, a tuple of rows x vectors that LLVM keeps in registers ----


def tile_instructions(rows, vectors):
    """The functions (zeros, load, step, add, store) for tiles of this shape.

    All work for a tile of which only `used` rows are there: those beyond are the last row again.
    """
    tile = types.UniTuple(vector, rows * vectors)

    @instruction(FLOATS, types.int64, types.int64, types.int64, types.int64, returns=tile)
    def tile_load(builder, array, at, stride, used, columns):
        """tile[i, j] = array[at + i * stride + 16 j : + 16], up to `columns`"""
        cells = _cells(builder, array, at, stride, used, columns)
        return _load(builder, cells, _is_whole(builder, columns, vectors * LANES), _constant(_VECTOR, 0.0))

    @instruction(tile, FLOATS, types.int64, types.int64, types.int64, FLOATS, types.int64, returns=tile)
    def tile_step(builder, tile, a, a_at, a_stride, used, b, b_at):
        """tile[i, j] += a[a_at + i * a_stride] * b[b_at + 16 j : + 16]"""
        row = [
            builder.load(_vector_pointer(builder, b, _add(builder, b_at, j * LANES)), align=4) for j in range(vectors)
        ]
        result = []
        for i, offset in enumerate(_row_offsets(builder, a_stride, used)):
            scalar = _splat(builder, builder.load(builder.gep(a, [builder.add(a_at, offset)])))
            result += [fma(builder, scalar, row[j], tile[i * vectors + j]) for j in range(vectors)]
        return result

    @instruction(returns=tile)
    def tile_zeros(builder):
        return [_constant(_VECTOR, 0.0)] * (rows * vectors)

    @instruction(tile, tile, returns=tile)
    def tile_add(builder, a, b):
        return [builder.fadd(*pair) for pair in zip(a, b, strict=True)]

    @instruction(tile, FLOATS, types.int64, types.int64, types.int64, types.int64, returns=types.void)
    def tile_store(builder, tile, array, at, stride, used, columns):
        """array[at + i * stride + 16 j : + 16] = tile[i, j], up to `columns`"""
        cells = _cells(builder, array, at, stride, used, columns)
        _store(builder, cells, _is_whole(builder, columns, vectors * LANES), tile)

    def _cells(builder, array, at, stride, used, columns):
        """Where each vector of each row is, and how many of its lanes are there."""
        lanes = [_add(builder, columns, -j * LANES) for j in range(vectors)]
        starts = [builder.add(at, offset) for offset in _row_offsets(builder, stride, used)]
        return [
            (_vector_pointer(builder, array, _add(builder, start, j * LANES)), lanes[j])
            for start in starts
            for j in range(vectors)
        ]

    def _row_offsets(builder, stride, used):
        """How far each row is from the first; those beyond the `used` rows lie on the last of them."""
        offsets = [ir.Constant(stride.type, 0)]
        for i in range(1, rows):
            there = builder.icmp_signed("<", ir.Constant(used.type, i), used)
            offsets.append(builder.add(offsets[-1], builder.select(there, stride, offsets[0])))
        return offsets

    return tile_zeros, tile_load, tile_step, tile_add, tile_store


# ---- Transposing ----

SQUARE = LANES * LANES


@instruction(FLOATS, types.int64, returns=types.void)
def transpose_square(builder, array, at):
    """Transpose LANES x LANES values that lie side by side, in place: in four rounds, rows that are 8, 4, 2 and 1 apart
    exchange half of what they hold."""
    pointers = [_vector_pointer(builder, array, _add(builder, at, i * LANES)) for i in range(LANES)]
    rows = [builder.load(pointer, align=4) for pointer in pointers]
    distance = LANES // 2
    while distance:
        keep = [j if not j & distance else LANES + j - distance for j in range(LANES)]
        give = [j + distance if not j & distance else LANES + j for j in range(LANES)]
        for i in (i for i in range(LANES) if not i & distance):
            pair = rows[i], rows[i + distance]
            rows[i] = builder.shuffle_vector(*pair, ir.Constant(_INT_VECTOR, keep))
            rows[i + distance] = builder.shuffle_vector(*pair, ir.Constant(_INT_VECTOR, give))
        distance //= 2
    for row, pointer in zip(rows, pointers, strict=True):
        builder.store(row, pointer, align=4)


@jit
def transpose(source, rows, columns, target, room, square):
    """target[j, i] = source[i, j] for rows and columns of the source; both are a `Matrix`.

    The target's rows are filled up to `room` with copies of the last element. `square`, a `Matrix` too, has room for
    SQUARE values to work in.
    """
    work, work_at = square.array, square.at
    for i in range(0, rows, LANES):
        for j in range(0, columns, LANES):
            for row in range(LANES):
                place = source.at + min(i + row, rows - 1) * source.row + j
                taken = load(source.array, place, columns - j, 0.0)
                store(work, work_at + row * LANES, LANES, taken)
            transpose_square(work, work_at)
            for column in range(min(LANES, columns - j)):
                taken = load(work, work_at + column * LANES, LANES, 0.0)
                store(target.array, target.at + (j + column) * target.row + i, room - i, taken)


# ---- What the emitters above are made of ----


def _intrinsic(builder, name, returns, *values):
    function_type = ir.FunctionType(returns, [value.type for value in values])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), values)


def _constant(vector_type, value):
    return ir.Constant(vector_type, [value] * LANES)


def _add(builder, value, number):
    return builder.add(value, ir.Constant(value.type, number))


def _splat(builder, scalar):
    vector_type = ir.VectorType(scalar.type, LANES)
    undefined = ir.Constant(vector_type, ir.Undefined)
    one = builder.insert_element(undefined, scalar, ir.Constant(_INT32, 0))
    return builder.shuffle_vector(one, undefined, _constant(_INT_VECTOR, 0))


def _vector_pointer(builder, array, at):
    return builder.bitcast(builder.gep(array, [at]), _VECTOR.as_pointer())


def _is_whole(builder, lanes, count):
    return builder.icmp_signed(">=", lanes, ir.Constant(lanes.type, count))


def _load(builder, cells, whole, fill):
    """The vectors at `cells`, (pointer, lanes) each. Masked only if not all are whole: not every CPU does that fast."""
    results = []
    with builder.if_else(whole) as (plain, masked):
        with plain:
            results.append([builder.load(pointer, align=4) for pointer, _ in cells])
            blocks = [builder.block]
        with masked:
            name, align = "llvm.masked.load.v16f32.p0", ir.Constant(_INT32, 4)
            masks = [_first_lanes(builder, lanes) for _, lanes in cells]
            pairs = zip(cells, masks, strict=True)
            results.append([_intrinsic(builder, name, _VECTOR, cell[0], align, mask, fill) for cell, mask in pairs])
            blocks.append(builder.block)
    vectors = []
    for values in zip(*results, strict=True):
        vectors.append(builder.phi(_VECTOR))
        for value, block in zip(values, blocks, strict=True):
            vectors[-1].add_incoming(value, block)
    return vectors


def _store(builder, cells, whole, values):
    """Store vectors at `cells`, as `_load`."""
    with builder.if_else(whole) as (plain, masked):
        with plain:
            for (pointer, _), value in zip(cells, values, strict=True):
                builder.store(value, pointer, align=4)
        with masked:
            name, align = "llvm.masked.store.v16f32.p0", ir.Constant(_INT32, 4)
            for (pointer, lanes), value in zip(cells, values, strict=True):
                _intrinsic(builder, name, ir.VoidType(), value, pointer, align, _first_lanes(builder, lanes))


def _first_lanes(builder, lanes):
    """The mask whose first `lanes` lanes are set."""
    numbers = ir.Constant(ir.VectorType(lanes.type, LANES), list(range(LANES)))
    return builder.icmp_signed("<", numbers, _splat(builder, lanes))


def _tree(builder, a, combine):
    width = LANES
    while width > 1:
        width //= 2
        halves = [ir.Constant(ir.VectorType(_INT32, width), [start + i for i in range(width)]) for start in (0, width)]
        a = combine(*[builder.shuffle_vector(a, ir.Constant(a.type, ir.Undefined), half) for half in halves])
    return builder.extract_element(a, ir.Constant(_INT32, 0))
