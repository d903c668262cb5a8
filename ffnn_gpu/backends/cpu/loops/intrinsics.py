"""Instructions that Python lacks: calls of addresses, memory of the C library, and memory shared by threads.

Each function emits one or two instructions. Addresses are int64. Reference: LLVM Language Reference Manual,
"Atomic Memory Ordering Constraints".
"""

import os
from typing import Any

import numpy as np
from llvmlite import ir

from ffnn_gpu.backends.cpu.loops.compiler import instruction
from ffnn_gpu.backends.cpu.loops.values import F64, I32, I64, INT64, Like, Number, View, llvm_type
from ffnn_gpu.backends.elementwise.emission import declared
from ffnn_gpu.backends.elementwise.machine_code import X86

POSIX = os.name == "posix"
POINTER, VOID = I64.as_pointer(), ir.VoidType()


def c_function(builder: Any, name: str, result: Any, *args: Any) -> Any:
    """Return a function of the C library, or of LLVM."""
    return declared(builder, name, result, *args)


# ---------------------------------------------------------------------- numbers and addresses


def view(builder: Any, like: Any, address: Any, *shape: Any) -> View:
    """Return the array of this shape at this address."""
    dtype = like.dtype if isinstance(like, Like) else np.dtype(like)
    pointer = builder.inttoptr(address, llvm_type(dtype).as_pointer())
    return View(pointer, dtype, tuple(Number(n, INT64) for n in shape))


@instruction
def vector(builder: Any, like: Any, address: Any, n: Any) -> View:
    """Return the array (n,) at this address, of the dtype of `like`, or of the type `like`."""
    return view(builder, like, address, n)


@instruction
def matrix(builder: Any, like: Any, address: Any, rows: Any, columns: Any) -> View:
    """Return the array (rows, columns) at this address, of the dtype of `like`, or of the type `like`."""
    return view(builder, like, address, rows, columns)


@instruction
def address_of(builder: Any, array: View) -> Any:
    """Return the address of an array."""
    return builder.ptrtoint(array.pointer, I64)


@instruction
def as_real(builder: Any, bits: Any) -> Any:
    """Return the float64 with these 64 bits."""
    return builder.bitcast(bits, F64)


@instruction
def size_of(builder: Any, like: Like) -> int:
    """Return the size in bytes of a number of the dtype of `like`."""
    return like.dtype.itemsize


# ---------------------------------------------------------------------- calls


@instruction
def call(builder: Any, function: Any, operands: Any, chunk: Any, chunks: Any) -> None:
    """Call function(null, operands, chunk, chunks), given the address of a command (see chunks.py)."""
    kind = ir.FunctionType(VOID, [POINTER, POINTER, I64, I64])
    command = builder.inttoptr(function, kind.as_pointer())
    builder.call(command, [ir.Constant(POINTER, None), builder.inttoptr(operands, POINTER), chunk, chunks])


@instruction
def call_block(builder: Any, function: Any, slots: Any, *bounds: Any) -> None:
    """Call function(slots, 0, top, bottom, left, right), the block of a compiled loop, given its address."""
    kind = ir.FunctionType(VOID, [POINTER, *[I64] * 5])
    block = builder.inttoptr(function, kind.as_pointer())
    builder.call(block, [builder.inttoptr(slots, POINTER), ir.Constant(I64, 0), *bounds])


@instruction
def place(builder: Any, operands: Any, k: Any) -> Any:
    """Return the address of operands[k]."""
    return builder.ptrtoint(builder.gep(operands, [k]), I64)


# ---------------------------------------------------------------------- memory of one call


@instruction
def allocate(builder: Any, size: Any) -> Any:
    """Return the address of `size` new bytes of the C library."""
    return builder.ptrtoint(builder.call(c_function(builder, "malloc", POINTER, I64), [size]), I64)


@instruction
def release(builder: Any, address: Any) -> None:
    """Give memory of `allocate` back."""
    builder.call(c_function(builder, "free", VOID, POINTER), [builder.inttoptr(address, POINTER)])


# ---------------------------------------------------------------------- memory that threads share


@instruction
def load(builder: Any, address: Any) -> Any:
    """Return the int64 at `address`; whatever its writer wrote before is visible from then on."""
    return builder.load_atomic(builder.inttoptr(address, POINTER), "seq_cst", 8)


@instruction
def store(builder: Any, address: Any, value: Any) -> None:
    """Write the int64 at `address`, visible to every thread after all earlier writes."""
    builder.store_atomic(value, builder.inttoptr(address, POINTER), "seq_cst", 8)


@instruction
def exchange(builder: Any, address: Any, value: Any) -> Any:
    """Write the int64 at `address` and return the old one."""
    return builder.atomic_rmw("xchg", builder.inttoptr(address, POINTER), value, "seq_cst")


@instruction
def add(builder: Any, address: Any, value: Any) -> Any:
    """Add to the int64 at `address` and return the old one."""
    return builder.atomic_rmw("add", builder.inttoptr(address, POINTER), value, "seq_cst")


@instruction
def pause(builder: Any) -> None:
    """Hint to the processor that this thread only waits."""
    if X86:
        builder.call(c_function(builder, "llvm.x86.sse2.pause", VOID), [])


@instruction
def give_way(builder: Any) -> None:
    """Yield this core to another thread (on POSIX systems; elsewhere do nothing)."""
    if POSIX:
        builder.call(c_function(builder, "sched_yield", I32), [])
