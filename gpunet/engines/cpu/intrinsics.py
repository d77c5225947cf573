"""What the compiled engine's loops need from LLVM directly: addresses, calls, and atomic operations for threads."""

from __future__ import annotations

from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

Value = Any  # an llvmlite value; llvmlite has no type hints


def _pointer_to(kind: Any) -> Any:
    """A Numba function from an address, an integer, to a pointer."""

    @intrinsic
    def pointer(typing, address):
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
            return builder.inttoptr(arguments[0], context.get_value_type(kind).as_pointer())

        return types.CPointer(kind)(types.int64), generate

    return pointer


floats, ints, ints_of_32, bytes_at = (
    _pointer_to(kind) for kind in (types.float32, types.int64, types.int32, types.uint8)
)


@intrinsic
def at(typing, pointer, offset):
    """A pointer to pointer[offset]."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
        return builder.gep(arguments[0], [arguments[1]])

    return pointer(pointer, types.int64), generate


@intrinsic
def call(typing, address, *kinds):
    """Call the C function at an address; its result, if any, is ignored."""
    given = [types.int64 if isinstance(kind, types.Integer) else kind for kind in kinds]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
        values = cgutils.unpack_tuple(builder, arguments[1], len(given))
        kind = ir.FunctionType(ir.VoidType() if values else ir.IntType(32), [value.type for value in values])
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), values)
        return context.get_dummy_value()

    return types.void(types.int64, types.StarArgTuple(given)), generate


@intrinsic
def atomic_add(typing, pointer, amount):
    """*pointer += amount, for an int64 that other threads change too; returns the old value."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
        return builder.atomic_rmw("add", *arguments, "seq_cst")

    return types.int64(pointer, types.int64), generate


@intrinsic
def atomic_set(typing, pointer, value):
    """*pointer = value, for an int64 that other threads read; they also see everything written before it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
        builder.store_atomic(arguments[1], arguments[0], "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(pointer, types.int64), generate


@intrinsic
def atomic_get(typing, pointer):
    """*pointer as it is in memory now; everything that another thread wrote before it is visible afterwards."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
        return builder.load_atomic(arguments[0], "seq_cst", 8)

    return types.int64(pointer), generate


@intrinsic
def atomic_swap_if(typing, pointer, expected, value):
    """*pointer = value if it still is the expected one; returns whether it was."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
        return builder.extract_value(builder.cmpxchg(*arguments, "seq_cst", "seq_cst"), 1)

    return types.boolean(pointer, types.int64, types.int64), generate


@intrinsic
def pause(typing):
    """A short pause in a polling loop, if the processor has an instruction for it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
        if llvmlite.binding.get_process_triple().startswith("x86_64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), generate
