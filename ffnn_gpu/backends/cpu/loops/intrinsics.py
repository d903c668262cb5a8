"""What Numba has no words for: addresses, calls through them, and memory that two threads share.

Each is an instruction or two. Reference: LLVM Language Reference Manual, "Atomic Memory Ordering Constraints".
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
    """`address` as a pointer of the type of `like`, or to the type that `like` is."""
    kind = like if isinstance(like, types.CPointer) else types.CPointer(like.instance_type)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[1], context.get_value_type(kind))

    return kind(like, integer), code


@instruction
def as_real(context: Any, bits: Any) -> Any:
    """The float64 of these 64 bits."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], F64)

    return real(integer), code


@instruction
def size_of(context: Any, like: Any) -> Any:
    """Bytes of what the pointer `like` shows to."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(I64, like.dtype.bitwidth // 8)

    return integer(like), code


# ---------------------------------------------------------------------- calls


@instruction
def call(context: Any, function: Any, numbers: Any, chunk: Any, chunks: Any) -> Any:
    """function(null, numbers, chunk, chunks) for the address of a command, see `commands`."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointers = I64.as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointers, pointers, I64, I64])
        numbers = builder.inttoptr(args[1], pointers)
        builder.call(
            builder.inttoptr(args[0], kind.as_pointer()), [ir.Constant(pointers, None), numbers, *args[2:]]
        )
        return context.get_dummy_value()

    return nothing(integer, integer, integer, integer), code


# ---------------------------------------------------------------------- memory that threads share


@instruction
def load(context: Any, address: Any) -> Any:
    """The int64 there, and all that its writer wrote before."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(builder.inttoptr(args[0], I64.as_pointer()), "seq_cst", 8)

    return integer(integer), code


@instruction
def store(context: Any, address: Any, value: Any) -> Any:
    """Write the int64 there, for every thread after all that was written before."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store_atomic(args[1], builder.inttoptr(args[0], I64.as_pointer()), "seq_cst", 8)
        return context.get_dummy_value()

    return nothing(integer, integer), code


@instruction
def exchange(context: Any, address: Any, value: Any) -> Any:
    """Write the int64 there; the old one."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.atomic_rmw("xchg", builder.inttoptr(args[0], I64.as_pointer()), args[1], "seq_cst")

    return integer(integer, integer), code


@instruction
def add(context: Any, address: Any, value: Any) -> Any:
    """Add to the int64 there; the old one."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", builder.inttoptr(args[0], I64.as_pointer()), args[1], "seq_cst")

    return integer(integer, integer), code


@instruction
def pause(context: Any) -> Any:
    """A hint to the processor that this thread only waits."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if X86:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return nothing(), code


@instruction
def give_way(context: Any) -> Any:
    """Let another thread have this core, where the system's name for that is known."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if POSIX:
            builder.call(
                cgutils.get_or_insert_function(builder.module, ir.FunctionType(I32, []), "sched_yield"), []
            )
        return context.get_dummy_value()

    return nothing(), code
