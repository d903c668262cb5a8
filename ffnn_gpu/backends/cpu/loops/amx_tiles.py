"""Emit LLVM code for products in the tile registers of AMX, which only some x86 processors have.

An instruction adds to 16 × 16 float32 sums 32 products each, of bfloat16 numbers in two tiles of 16 rows of
64 bytes. A unit is UNIT × UNIT sums, in four tiles. amx_copies.py makes the tiles that are multiplied, and
amx_product.py puts units together.

Reference: Intel, Architecture Instruction Set Extensions Programming Reference, chapter 3: LDTILECFG,
TDPBF16PS; System V ABI, AMD64 Supplement, "Intel AMX"; Linux, Documentation/arch/x86/xstate.rst.
"""

import ctypes
import functools
import sys
from typing import Any

from llvmlite import ir

from ffnn_gpu.backends.cpu.loops.compiler import instruction
from ffnn_gpu.backends.cpu.loops.values import I1, I32, I64, Like
from ffnn_gpu.backends.elementwise.emission import counted, declared, memory
from ffnn_gpu.backends.elementwise.lanes import Lane, Lanes
from ffnn_gpu.backends.elementwise.machine_code import has

SIDE, STEP = 16, 32  # rows of a tile; products per sum of an instruction
UNIT = 32  # rows and columns of a unit
LINE, TILE, BOTH = 64, 1024, 2048  # bytes of a tile's row, of a tile, of the two tiles beside each other
# Pairs of pieces of A and B (see amx_copies.py): the small products, each with a piece of the one before, and
# the largest.
SMALL, LARGE = ((2, 0), (1, 0), (1, 1), (0, 1), (0, 2)), ((0, 0),)
OF_A, OF_B = (4, 5), (6, 7)  # tile registers; the sums are in those from 0 on
ARCH_PRCTL, REQUEST, TILE_DATA = 158, 0x1023, 18  # Linux, arch/x86/include/uapi/asm/prctl.h
I8, I16, VOID = ir.IntType(8), ir.IntType(16), ir.VoidType()
BYTES = I8.as_pointer()


@functools.cache
def available() -> bool:
    """Return whether the processor has these registers, and the system lets this process use them.

    Linux must be asked first: without its permission, the first instruction ends the process.
    """
    if sys.platform != "linux" or not (has("amx-bf16") and has("avx512bw")):
        return False
    return bool(ctypes.CDLL(None).syscall(ARCH_PRCTL, REQUEST, TILE_DATA) == 0)


def constant(number: int) -> Any:
    return ir.Constant(I64, number)


def mask(builder: Any, count: Any) -> Any:
    """Return the bits of the mask of the first `count` of 16 lanes; none if it is negative."""
    inside = builder.select(builder.icmp_signed("<", count, constant(SIDE)), count, constant(SIDE))
    inside = builder.select(builder.icmp_signed(">", inside, constant(0)), inside, constant(0))
    return builder.trunc(builder.sub(builder.shl(constant(1), inside), constant(1)), I16)


def lanes_of(v: Lanes, bits: Any) -> Lane:
    """Return the mask with these bits."""
    return Lane(v, v.builder.bitcast(bits, ir.VectorType(I1, SIDE)), "truth")


def fetch(builder: Any, address: Any, write: bool = False) -> None:
    """Begin to load a line into the cache. The address may be one that nothing has."""
    function = declared(builder, "llvm.prefetch.p0", VOID, BYTES, *[I32] * 3)
    hints = (ir.Constant(I32, hint) for hint in (int(write), 3, 1))
    builder.call(function, [builder.inttoptr(address, BYTES), *hints])


def _call(builder: Any, name: str, *args: Any) -> None:
    function = declared(builder, f"llvm.x86.{name}", VOID, *(arg.type for arg in args))
    builder.call(function, args)


@instruction
def configure(builder: Any) -> None:
    """Make all eight registers 16 rows of 64 bytes."""
    kind = ir.VectorType(I8, 64)
    palette, wide, rows = [1, *[0] * 15], [LINE, 0] * 8 + [0] * 16, [SIDE] * 8 + [0] * 8
    place = memory(builder, kind)
    builder.store(ir.Constant(kind, palette + wide + rows), place, align=1)
    _call(builder, "ldtilecfg", builder.bitcast(place, BYTES))


@instruction
def unconfigure(builder: Any) -> None:
    """Give the registers back, as a function must before it calls another one or returns."""
    _call(builder, "tilerelease")


@instruction
def multiply(builder: Any, pieces: Any, steps: Any, a: Any, b: Any, c: Any, c_row: Any) -> None:
    """C (UNIT, UNIT) ← A B for so many steps of the copies of A and B"""
    for sums in range(4):
        _call(builder, "tilezero", ir.Constant(I8, sums))
    for pairs in (SMALL, LARGE) if pieces.constant == 3 else (LARGE,):
        with counted(builder, constant(0), steps, constant(1)) as step:
            start = builder.mul(step, constant(pieces.constant * BOTH))
            _add_products(builder, pairs, builder.add(a, start), builder.add(b, start))
    for down in range(2):
        row = builder.add(c, builder.mul(c_row, constant(SIDE * down)))
        for across in range(2):
            place = builder.inttoptr(builder.add(row, constant(LINE * across)), BYTES)
            _call(builder, "tilestored64", ir.Constant(I8, 2 * down + across), place, c_row)


def _add_products(builder: Any, pairs: Any, a: Any, b: Any) -> None:
    """Add the products of these pairs of pieces, of one step of A and B."""
    before: Any = None, None
    for pair in pairs:
        for piece, last, registers, start in zip(pair, before, (OF_A, OF_B), (a, b), strict=True):
            for half, register in enumerate(registers if piece != last else ()):
                place = builder.inttoptr(builder.add(start, constant(BOTH * piece + TILE * half)), BYTES)
                _call(builder, "tileloadd64", ir.Constant(I8, register), place, constant(LINE))
        before = pair
        for down, of_A in enumerate(OF_A):
            for across, of_B in enumerate(OF_B):
                numbers = (ir.Constant(I8, each) for each in (2 * down + across, of_A, of_B))
                _call(builder, "tdpbf16ps", *numbers)


@instruction
def add_unit(builder: Any, like: Like, sums: Any, c: Any, c_row: Any, shape: Any, more: Any) -> None:
    """C ← sums (UNIT, UNIT), or C + sums with `more`; shape: rows and columns of C that exist"""
    v, (rows, columns) = Lanes(builder, like.dtype.itemsize, LINE), shape
    present = [mask(builder, builder.sub(columns, constant(SIDE * half))) for half in range(2)]
    added = builder.icmp_signed("!=", more, constant(0))
    before = [builder.select(added, each, ir.Constant(I16, 0)) for each in present]
    with counted(builder, constant(0), rows, constant(1)) as i:
        target = builder.add(c, builder.mul(i, c_row))
        source = builder.add(sums, builder.mul(i, constant(2 * LINE)))
        for half in range(2):
            place, start = (builder.add(each, constant(LINE * half)) for each in (target, source))
            total = v.load(start) + v.load(place, lanes_of(v, before[half]))
            v.store(total, place, lanes_of(v, present[half]))


@instruction
def fetch_unit(builder: Any, c: Any, c_row: Any) -> None:
    """Begin to load a unit of C into the cache."""
    with counted(builder, constant(0), constant(UNIT), constant(1)) as i:
        row = builder.add(c, builder.mul(i, c_row))
        for half in range(2):
            fetch(builder, builder.add(row, constant(LINE * half)), write=True)
