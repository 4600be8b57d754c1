"""A SIMD vector as a value inside numba functions.

Compilers turn loops over arrays into vector instructions only where they can prove that nothing overlaps.
Here vectors are values of their own, of 64 bytes: what is written is what the machine does. On processors
with shorter registers LLVM splits them.

    a = load(x, i)            # x[i : i + width]
    store(x, i, a * b + c)    # multiply-adds are fused where the machine can
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import extending, njit, types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import lower_builtin, register_model, type_callable

BYTES = 64
# Untyped: a decorated function is called without its first argument.
intrinsic: Any = extending.intrinsic
_FAST = ("contract",)


def kernel(function: Any) -> Any:
    """Compile, keep the machine code for the next process where there is a place for it, release the GIL."""
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no folder that can be written
        return njit(nogil=True)(function)


class Vector(types.Type):  # type: ignore[misc, unused-ignore]
    """64 bytes of one floating type."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        self.width = 8 * BYTES // dtype.bitwidth
        super().__init__(name=f"Vector({dtype} x {self.width})")


@register_model(Vector)
class _Model(models.PrimitiveModel):  # type: ignore[misc, unused-ignore]
    def __init__(self, manager: Any, vector: Vector) -> None:
        scalar = manager.lookup(vector.dtype).get_value_type()
        super().__init__(manager, vector, ir.VectorType(scalar, vector.width))


class Mask(types.Type):  # type: ignore[misc, unused-ignore]
    """What a comparison of vectors gives, one bit per lane."""

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__(name=f"Mask({width})")


@register_model(Mask)
class _MaskModel(models.PrimitiveModel):  # type: ignore[misc, unused-ignore]
    def __init__(self, manager: Any, mask: Mask) -> None:
        super().__init__(manager, mask, ir.VectorType(ir.IntType(1), mask.width))


def _common(a: Any, b: Any) -> Vector | None:
    """The vector type of an operation on two vectors, or a vector and a number."""
    if isinstance(a, Vector) and (a == b or isinstance(b, types.Number)):
        return a
    return b if isinstance(b, Vector) and isinstance(a, types.Number) else None


def _broadcast(context: Any, builder: Any, value: Any, kind: Any, vector: Vector) -> Any:
    """A number of any type in every lane; vectors as they are."""
    if isinstance(kind, Vector):
        return value
    scalar = context.cast(builder, value, kind, vector.dtype)
    whole = context.get_value_type(vector)
    empty = ir.Constant(whole, ir.Undefined)
    first = builder.insert_element(empty, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(
        first, empty, ir.Constant(ir.VectorType(ir.IntType(32), vector.width), [0] * vector.width)
    )


def _define(operation: Any, generate: Any, result: Any = lambda vector: vector) -> None:
    """An operation on two vectors, or a vector and a number, in either order."""

    @type_callable(operation)
    def typer(context: Any) -> Any:
        def resolve(a: Any, b: Any) -> Any:
            vector = _common(a, b)
            return None if vector is None else result(vector)

        return resolve

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = _common(*signature.args)
        assert vector is not None
        pair = [
            _broadcast(context, builder, value, kind, vector)
            for value, kind in zip(arguments, signature.args, strict=True)
        ]
        return generate(builder, *pair)

    for kinds in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
        lower_builtin(operation, *kinds)(lower)


def _instruction(name: str) -> Any:
    return lambda builder, a, b: getattr(builder, name)(a, b, flags=_FAST)


def _comparison(sign: str) -> Any:
    return lambda builder, a, b: builder.fcmp_ordered(sign, a, b)


for _operation, _name in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _define(_operation, _instruction(_name))
for _operation, _name in ((operator.lt, "<"), (operator.gt, ">")):
    _define(_operation, _comparison(_name), lambda vector: Mask(vector.width))


def smaller(a: Any, b: Any) -> Any:
    """The smaller of two, lane by lane, in compiled code only; b where either is not a number."""
    raise TypeError("smaller is there for compiled code.")


def larger(a: Any, b: Any) -> Any:
    """The larger of two, lane by lane, in compiled code only; b where either is not a number."""
    raise TypeError("larger is there for compiled code.")


_define(smaller, lambda builder, a, b: builder.select(builder.fcmp_ordered("<", a, b), a, b))
_define(larger, lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))


@intrinsic
def choose(typing: Any, mask: Any, a: Any, b: Any) -> Any:
    """a where the mask is set, else b; vectors or numbers, at least one a vector."""
    vector = _common(a, b)
    if vector is None or not isinstance(mask, Mask):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pair = [
            _broadcast(context, builder, value, kind, vector)
            for value, kind in zip(arguments[1:], signature.args[1:], strict=True)
        ]
        return builder.select(arguments[0], *pair)

    return vector(mask, a, b), generate


def _unary(name: str) -> Any:
    """The function of LLVM of this name, lane by lane."""

    def typed(typing: Any, a: Any) -> Any:
        if not isinstance(a, Vector):
            return None

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kind = context.get_value_type(a)
            symbol = f"llvm.{name}.v{a.width}f{a.dtype.bitwidth}"
            function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind]), symbol)
            return builder.call(function, arguments)

        return a(a), generate

    typed.__name__ = name
    return intrinsic(typed)


root = _unary("sqrt")
magnitude = _unary("fabs")


@intrinsic
def largest(typing: Any, a: Any) -> Any:
    """The largest lane of a vector; what is not a number may be passed over."""
    if not isinstance(a, Vector):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, count = arguments[0], a.width
        while count > 1:
            count //= 2
            kind = ir.VectorType(ir.IntType(32), count)
            halves = [
                builder.shuffle_vector(
                    value, value, ir.Constant(kind, [half * count + j for j in range(count)])
                )
                for half in (0, 1)
            ]
            value = builder.select(builder.fcmp_ordered(">", *halves), *halves)
        return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))

    return a.dtype(a), generate


@type_callable(operator.neg)
def _negative_type(context: Any) -> Any:
    return lambda a: a if isinstance(a, Vector) else None


@lower_builtin(operator.neg, Vector)
def _negative(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    return builder.fneg(arguments[0])


def _element(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    field = context.data_model_manager[array_type].get_field_position("data")
    return builder.gep(builder.extract_value(array, field), [index])


def _load(builder: Any, element: Any, vector: Any, dtype: Any) -> Any:
    return builder.load(builder.bitcast(element, vector.as_pointer()), align=dtype.bitwidth // 8)


def _store(builder: Any, value: Any, element: Any, dtype: Any) -> None:
    builder.store(value, builder.bitcast(element, value.type.as_pointer()), align=dtype.bitwidth // 8)


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Any:
    """array[index : index + width] of a contiguous one-dimensional array, unchecked."""
    vector = Vector(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        element = _element(context, builder, signature.args[0], arguments[0], arguments[1])
        return _load(builder, element, context.get_value_type(vector), array.dtype)

    return vector(array, types.intp), generate


@intrinsic
def store(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """array[index : index + width] = value, unchecked."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        element = _element(context, builder, signature.args[0], arguments[0], arguments[1])
        _store(builder, arguments[2], element, array.dtype)
        return context.get_dummy_value()

    return types.void(array, types.intp, Vector(array.dtype)), generate


@intrinsic
def splat(typing: Any, array: Any, index: Any) -> Any:
    """A vector whose lanes are all array[index], unchecked."""
    vector = Vector(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        scalar = builder.load(_element(context, builder, signature.args[0], arguments[0], arguments[1]))
        return _broadcast(context, builder, scalar, array.dtype, vector)

    return vector(array, types.intp), generate


@intrinsic
def zero(typing: Any, array: Any) -> Any:
    """A vector of zeros of the type of an array's elements."""
    vector = Vector(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(context.get_value_type(vector), None)

    return vector(array), generate


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """log2(width) perfect shuffles of a square tile."""
    width = len(rows)
    kind = ir.VectorType(ir.IntType(32), width)
    halves = [
        ir.Constant(kind, [half + j // 2 + width * (j % 2) for j in range(width)])
        for half in (0, width // 2)
    ]
    for _ in range(width.bit_length() - 1):
        rows = [
            builder.shuffle_vector(rows[i], rows[i + width // 2], half)
            for i in range(width // 2)
            for half in halves
        ]
    return rows


def _tile(scattered: bool) -> Any:
    """A transposition of one tile between equally spaced vectors and vectors listed by an index array."""

    def typed(typing: Any, source: Any, target: Any, start: Any, step: Any, places: Any, first: Any) -> Any:
        width = Vector(source.dtype).width

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            from_, to, start, step, places, first = arguments
            kinds = signature.args
            vector = context.get_value_type(Vector(source.dtype))
            spaced = [
                builder.add(start, builder.mul(step, ir.Constant(step.type, i))) for i in range(width)
            ]
            listed = [
                builder.load(
                    _element(
                        context, builder, kinds[4], places, builder.add(first, ir.Constant(first.type, i))
                    )
                )
                for i in range(width)
            ]
            read, write = (spaced, listed) if scattered else (listed, spaced)
            rows = [
                _load(builder, _element(context, builder, kinds[0], from_, at), vector, source.dtype)
                for at in read
            ]
            for row, at in zip(_transposed(builder, rows), write, strict=True):
                _store(builder, row, _element(context, builder, kinds[1], to, at), source.dtype)
            return context.get_dummy_value()

        return types.void(source, target, types.intp, types.intp, places, types.intp), generate

    return typed


@intrinsic
def scatter_tile(
    typing: Any, source: Any, target: Any, start: Any, step: Any, places: Any, first: Any
) -> Any:
    """Transpose the vectors at source[start + i step] to target[places[first + j]], i, j < width, unchecked."""
    return _tile(True)(typing, source, target, start, step, places, first)


@intrinsic
def gather_tile(
    typing: Any, source: Any, target: Any, start: Any, step: Any, places: Any, first: Any
) -> Any:
    """Transpose the vectors at source[places[first + i]] to target[start + j step], i, j < width, unchecked."""
    return _tile(False)(typing, source, target, start, step, places, first)
