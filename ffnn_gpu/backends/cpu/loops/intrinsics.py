"""Instructions that Numba lacks: addresses, calls through them, and memory shared by threads.

Each function compiles to one or two instructions. Reference: LLVM Language Reference Manual, "Atomic Memory
Ordering Constraints".
"""

import os
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

from ffnn_gpu.backends.elementwise.lanes import X86

I32, I64, F64 = ir.IntType(32), ir.IntType(64), ir.DoubleType()
POSIX = os.name == "posix"
instruction: Callable[[Callable[..., Any]], Callable[..., Any]] = intrinsic
integer, real, nothing = types.int64, types.float64, types.void

# ---------------------------------------------------------------------- numbers and addresses


def _array(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """Emit an array of the memory at args[1], with the shape that follows; nothing frees that memory."""
    kind, (_, address, *shape) = signature.return_type, args
    found = make_array(kind)(context, builder)
    size = ir.Constant(I64, kind.dtype.bitwidth // 8)
    strides = [size] if len(shape) == 1 else [builder.mul(size, shape[1]), size]
    data = builder.inttoptr(address, found.data.type)
    populate_array(found, data=data, shape=shape, strides=strides, itemsize=size, meminfo=None)
    return found._getvalue()


@instruction
def vector(context: Any, like: Any, address: Any, n: Any) -> Any:
    """Return the array (n,) at this address, of what `like` points to, or of the type `like`."""
    return types.Array(_element(like), 1, "C")(like, integer, integer), _array


@instruction
def matrix(context: Any, like: Any, address: Any, rows: Any, columns: Any) -> Any:
    """Return the array (rows, columns) at this address, of what `like` points to, or of the type `like`."""
    return types.Array(_element(like), 2, "C")(like, integer, integer, integer), _array


def _element(like: Any) -> Any:
    return like.dtype if isinstance(like, types.CPointer) else like.instance_type


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


# ---------------------------------------------------------------------- memory of one call


@instruction
def allocate(context: Any, size: Any) -> Any:
    """Return the address of `size` new bytes of the C library."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(I64.as_pointer(), [I64])
        memory = builder.call(cgutils.get_or_insert_function(builder.module, kind, "malloc"), args)
        return builder.ptrtoint(memory, I64)

    return integer(integer), code


@instruction
def release(context: Any, address: Any) -> Any:
    """Give memory of `allocate` back."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [I64.as_pointer()])
        free = cgutils.get_or_insert_function(builder.module, kind, "free")
        builder.call(free, [builder.inttoptr(args[0], I64.as_pointer())])
        return context.get_dummy_value()

    return nothing(integer), code


@instruction
def sixteen(context: Any) -> Any:
    """Return the address of 16 float64 of the function under way, all 0."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.ArrayType(F64, 16)
        place = cgutils.alloca_once(builder, kind)
        builder.store(ir.Constant(kind, None), place)
        return builder.ptrtoint(place, I64)

    return integer(), code


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
