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


def _define(operation: Any, instruction: str) -> None:
    @type_callable(operation)
    def typer(context: Any) -> Any:
        def resolve(a: Any, b: Any) -> Any:
            return a if isinstance(a, Vector) and a == b else None

        return resolve

    @lower_builtin(operation, Vector, Vector)
    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return getattr(builder, instruction)(*arguments, flags=_FAST)


for _operation, _instruction in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul")):
    _define(_operation, _instruction)


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
        kind = context.get_value_type(vector)
        scalar = builder.load(_element(context, builder, signature.args[0], arguments[0], arguments[1]))
        empty = ir.Constant(kind, ir.Undefined)
        first = builder.insert_element(empty, scalar, ir.Constant(ir.IntType(32), 0))
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), vector.width), [0] * vector.width)
        return builder.shuffle_vector(first, empty, lanes)

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
