"""Instructions that Numba lacks: addresses, calls through them, and memory shared by threads.

Each function compiles to one or two instructions. Reference: LLVM Language Reference Manual, "Atomic Memory
Ordering Constraints".
"""

import os
import platform
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

I32, I64, F64 = ir.IntType(32), ir.IntType(64), ir.DoubleType()
X86, POSIX = platform.machine() in ("x86_64", "AMD64"), os.name == "posix"
instruction: Callable[[Callable[..., Any]], Callable[..., Any]] = intrinsic
integer, real, nothing = types.int64, types.float64, types.void

# ---------------------------------------------------------------------- numbers and addresses


@instruction
def pointer(context: Any, like: Any, address: Any) -> Any:
    """Return `address` as a pointer: of the type of `like`, or to `like` if that is a type."""
    kind = like if isinstance(like, types.CPointer) else types.CPointer(like.instance_type)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[1], context.get_value_type(kind))

    return kind(like, integer), code


@instruction
def as_real(context: Any, bits: Any) -> Any:
    """Return the float64 with these 64 bits."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], F64)

    return real(integer), code


@instruction
def size_of(context: Any, like: Any) -> Any:
    """Return the size in bytes of what the pointer `like` points to."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(I64, like.dtype.bitwidth // 8)

    return integer(like), code


# ---------------------------------------------------------------------- calls


@instruction
def call(context: Any, function: Any, operands: Any, chunk: Any, chunks: Any) -> Any:
    """Call function(null, operands, chunk, chunks), given the address of a command (see chunks.py)."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointers = I64.as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointers, pointers, I64, I64])
        command = builder.inttoptr(args[0], kind.as_pointer())
        builder.call(command, [ir.Constant(pointers, None), builder.inttoptr(args[1], pointers), *args[2:]])
        return context.get_dummy_value()

    return nothing(integer, integer, integer, integer), code


@instruction
def call_block(context: Any, function: Any, slots: Any, top: Any, bottom: Any, left: Any, right: Any) -> Any:
    """Call function(slots, 0, top, bottom, left, right), the block of a compiled loop, given its address."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointers = I64.as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointers, *[I64] * 5])
        block = builder.inttoptr(args[0], kind.as_pointer())
        builder.call(block, [builder.inttoptr(args[1], pointers), ir.Constant(I64, 0), *args[2:]])
        return context.get_dummy_value()

    return nothing(*[integer] * 6), code


@instruction
def place(context: Any, operands: Any, k: Any) -> Any:
    """Return the address of operands[k]."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ptrtoint(builder.gep(args[0], [args[1]]), I64)

    return integer(operands, integer), code


# ---------------------------------------------------------------------- memory that threads share


@instruction
def load(context: Any, address: Any) -> Any:
    """Return the int64 at `address`; whatever its writer wrote before is visible from then on."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(builder.inttoptr(args[0], I64.as_pointer()), "seq_cst", 8)

    return integer(integer), code


@instruction
def store(context: Any, address: Any, value: Any) -> Any:
    """Write the int64 at `address`, visible to every thread after all earlier writes."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store_atomic(args[1], builder.inttoptr(args[0], I64.as_pointer()), "seq_cst", 8)
        return context.get_dummy_value()

    return nothing(integer, integer), code


@instruction
def exchange(context: Any, address: Any, value: Any) -> Any:
    """Write the int64 at `address` and return the old one."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.atomic_rmw("xchg", builder.inttoptr(args[0], I64.as_pointer()), args[1], "seq_cst")

    return integer(integer, integer), code


@instruction
def add(context: Any, address: Any, value: Any) -> Any:
    """Add to the int64 at `address` and return the old one."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", builder.inttoptr(args[0], I64.as_pointer()), args[1], "seq_cst")

    return integer(integer, integer), code


@instruction
def pause(context: Any) -> Any:
    """Hint to the processor that this thread only waits."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if X86:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return nothing(), code


@instruction
def give_way(context: Any) -> Any:
    """Yield this core to another thread (on POSIX systems; elsewhere do nothing)."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if POSIX:
            kind = ir.FunctionType(I32, [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return nothing(), code
