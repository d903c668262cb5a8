"""Copies of the factors of a product as tiles of bfloat16 numbers.

A float32 number x is the sum of three bfloat16 numbers, its pieces: h is nearest to x, m nearest to x − h,
and l = x − h − m. The products of pieces are exact in float32, in which the processor adds them up:

    a b = h h + (h m + m h) + (h l + m m + l h) + …

What is left out is at most 2⁻²⁴ |a b|. A factor that is bfloat16 already has one piece.

A strip is UNIT rows of A, a panel UNIT columns of B. Both are copied STEP numbers k at a time, a step: for
each piece two tiles, whose rows are rows of A or numbers k of B. k and k + 16 lie beside each other, because
two registers can then be joined without moving numbers inside them. Numbers that do not exist are 0.

Before each copy is a header with the range of its exponents, because pieces and products that are denormal
count as 0, and h or h h may overflow where x or a b does not.

Reference: Henry, Tang, Heinecke, Leveraging the bfloat16 Artificial Intelligence Datatype For
Higher-Precision Computations (2019).
"""

from typing import Any, TypeAlias

import numpy as np
from llvmlite import ir

from ffnn_gpu.backends.cpu.loops.amx_tiles import (
    BOTH,
    I16,
    LINE,
    SIDE,
    STEP,
    TILE,
    UNIT,
    constant,
    fetch,
    lanes_of,
    mask,
)
from ffnn_gpu.backends.cpu.loops.compiler import instruction
from ffnn_gpu.backends.cpu.loops.intrinsics import vector
from ffnn_gpu.backends.cpu.loops.register_tiles import transposed
from ffnn_gpu.backends.cpu.loops.values import I32, I64, Like
from ffnn_gpu.backends.elementwise.emission import counted, declared, variable
from ffnn_gpu.backends.elementwise.lanes import Lane, Lanes

HEADER, PARTS = 192, 3  # bytes of a header, and registers
WORDS = ir.VectorType(I16, 2 * SIDE)
# Exponents, with a bias of 127: the least of h whose l is never denormal, the greatest that is finite after
# rounding, and one that says that a number is not the sum of its pieces.
LOWEST, HIGHEST, REFUSED = 25, 253, 1024
# Least and greatest sum of two exponents: products from 2⁻⁹⁸ on, and 512 of them below 2¹²⁷.
LEAST, MOST = 156, 369

# Address of the numbers, bytes from row to row, whether k counts rows, and whether tiles are transposed.
Factor: TypeAlias = tuple[int, int, int, int]


@instruction
def turn_block(builder: Any, like: Like, block: Any, row: Any, target: Any) -> None:
    """Copy the transpose of a block (16, 16): its address, and how many rows and columns exist."""
    _copy_block(builder, like, block, row, target, True)


@instruction
def fill_block(builder: Any, like: Like, block: Any, row: Any, target: Any) -> None:
    """Copy a block (16, 16) that is given as in `turn_block`."""
    _copy_block(builder, like, block, row, target, False)


def _copy_block(builder: Any, like: Like, block: Any, row: Any, target: Any, turned: bool) -> None:
    v, (address, rows, columns) = Lanes(builder, like.dtype.itemsize, LINE), block
    bits, found = mask(builder, columns), []
    for i in range(SIDE):
        exists = builder.icmp_signed("<", constant(i), rows)
        present = lanes_of(v, builder.select(exists, bits, ir.Constant(I16, 0)))
        found.append(v.load(builder.add(address, builder.mul(constant(i), row)), present).value)
    for k, value in enumerate(transposed(builder, SIDE, found) if turned else found):
        v.store(Lane(v, value, "real"), builder.add(target, constant(LINE * k)))


@instruction
def begin_header(builder: Any, like: Like, header: Any) -> None:
    """Prepare a header for `split_tile`: the least and the greatest h, the least minus 1, and bits of l."""
    v = Lanes(builder, like.dtype.itemsize, LINE)
    for part, number in enumerate((-1, 0, 0)):
        v.store(v.real(v.integer(number)), builder.add(header, constant(LINE * part)))


@instruction
def split_tile(
    builder: Any, pieces: Any, like: Like, blocks: Any, row: Any, target: Any, header: Any, ahead: Any
) -> None:
    """Copy two blocks (16, 16), given by their addresses, into a tile for each piece.

    ahead: bytes from what is copied to what is fetched into the cache.
    """
    v = Lanes(builder, like.dtype.itemsize, LINE)
    ends = [builder.add(header, constant(LINE * part)) for part in range(PARTS)]
    least, most, lost = (variable(builder, builder.bitcast(v.load(end).value, WORDS)) for end in ends)
    with counted(builder, constant(0), constant(SIDE), constant(1)) as i:
        pair = []
        for block in blocks:
            place = builder.add(block, builder.mul(i, row))
            fetch(builder, builder.add(place, ahead))
            pair.append(_pieces(v, v.load(place), pieces.constant))
        place = builder.add(target, builder.mul(i, constant(LINE)))
        joined = [(x >> 16) | y for x, y in zip(*pair, strict=True)]
        for piece, words in enumerate(joined):
            v.store(v.real(words), builder.add(place, constant(BOTH * piece)))
        magnitude = builder.bitcast((joined[0] & 0x7FFF7FFF).value, WORDS)
        _extend(builder, "umin", least, builder.sub(magnitude, ir.Constant(WORDS, [1] * 2 * SIDE)))
        _extend(builder, "umax", most, magnitude)
        last = builder.bitcast((pair[0][-1] | pair[1][-1]).value, WORDS)
        builder.store(builder.or_(builder.load(lost), last), lost)
    for end, found in zip(ends, (least, most, lost), strict=True):
        v.store(v.real(Lane(v, builder.bitcast(builder.load(found), v.bits_type), "bits")), end)


def _pieces(v: Lanes, x: Lane, count: int) -> list[Lane]:
    """Return the bits of h, m and l, or of x alone, each in the upper half of 32 bits."""
    found = []
    for _ in range(count - 1):
        piece = (v.bits(x) + 0x8000) & ~0xFFFF
        x = x - v.real(piece)
        found.append(piece)
    return [*found, v.bits(x)]


def _extend(builder: Any, name: str, place: Any, value: Any) -> None:
    function = declared(builder, f"llvm.{name}.v{2 * SIDE}i16", WORDS, WORDS, WORDS)
    builder.store(builder.call(function, [builder.load(place), value]), place)


@instruction
def end_header(builder: Any, like: Like, header: Any) -> None:
    """Replace what `split_tile` has found by two int64: the least and the greatest exponent but that of 0.

    The greatest is REFUSED if a number is not the sum of its pieces: it is infinite or NaN, h overflows, or a
    piece is denormal. l has low bits if h is 0 but x is not, or if x has one piece but is no bfloat16 number.
    """
    v = Lanes(builder, like.dtype.itemsize, LINE)
    least, most, lost = (
        _folded(builder, name, v.load(builder.add(header, constant(LINE * part))).value)
        for part, name in enumerate(("umin", "umax", "or"))
    )
    least = builder.lshr(builder.add(least, constant(1)), constant(7))
    most = builder.lshr(most, constant(7))
    small = builder.icmp_signed("<", least, constant(LOWEST))
    refused = builder.or_(small, builder.icmp_signed(">", most, constant(HIGHEST)))
    refused = builder.or_(refused, builder.icmp_signed("!=", lost, constant(0)))
    place = builder.inttoptr(header, I64.as_pointer())
    builder.store(least, place)
    greatest = builder.select(refused, constant(REFUSED), most)
    builder.store(greatest, builder.gep(place, [constant(1)]))


def _folded(builder: Any, name: str, register: Any) -> Any:
    """Return the least or greatest of 32 words, or the bits that occur in the lower halves of 16 numbers."""
    kind = ir.VectorType(I32, SIDE) if name == "or" else WORDS
    reduce = declared(
        builder, f"llvm.vector.reduce.{name}.v{kind.count}i{kind.element.width}", kind.element, kind
    )
    found = builder.zext(builder.call(reduce, [builder.bitcast(register, kind)]), I64)
    return builder.and_(found, constant(0xFFFF))


def copy_tile(
    like: Any,
    X: Factor,
    line: int,
    k: int,
    left: int,
    depth: int,
    target: int,
    header: int,
    scratch: int,
    pieces: int,
) -> None:
    """Copy 16 rows of A or columns of B, of which `left` exist, and a step of `depth` numbers from k on."""
    address, row, down, turned = X
    x = address + (k * row + line * 4 if down else line * row + k * 4)
    y, between = x + (SIDE * row if down else LINE), row
    if turned or left < SIDE or depth < STEP:
        for i in range(2):
            start, beyond = (y if i else x), i * SIDE
            rows, columns = (depth - beyond if down else left), (left if down else depth - beyond)
            if turned:
                turn_block(like, (start, rows, columns), row, scratch + i * TILE)
            else:
                fill_block(like, (start, rows, columns), row, scratch + i * TILE)
        x, y, between = scratch, scratch + TILE, LINE
    split_tile(pieces, like, (x, y), between, target, header, STEP * row if down else 2 * LINE)


def steps_of(K: int) -> int:
    return (K + STEP - 1) // STEP


def copy(
    like: Any,
    X: Factor,
    lines: tuple[int, int],
    ks: tuple[int, int],
    target: int,
    size: int,
    scratch: int,
    pieces: int,
) -> None:
    """Copy rows of A, or columns of B, in the range `lines`, and their numbers k in the range `ks`.

    size: bytes from strip to strip, or panel to panel, of the copy. scratch: (2, TILE) bytes.

    Why not one strip after the other if k counts rows: each row is in another page. 256 columns of
    W (2048, 2048) took twice as long.
    """
    (first, last), (start, stop), down = lines, ks, X[2]
    steps, halves = steps_of(stop - start), (last - first + UNIT - 1) // UNIT * 2
    for i in range(halves // 2):
        begin_header(like, target + i * size)
    inner = halves if down else steps
    for i in range(steps * halves):
        step, half = (i // inner if down else i % inner), (i % inner if down else i // inner)
        line, k, header = first + half * SIDE, start + step * STEP, target + half // 2 * size
        tile = header + HEADER + step * pieces * BOTH + half % 2 * TILE
        copy_tile(like, X, line, k, last - line, stop - k, tile, header, scratch, pieces)
    for i in range(halves // 2):
        end_header(like, target + i * size)


def in_range(a: int, b: int) -> bool:
    """Return whether the products of two copies can be computed from pieces, given their headers."""
    of_A, of_B = vector(np.int64, a, 2), vector(np.int64, b, 2)
    found: bool = of_A[0] + of_B[0] >= LEAST and of_A[1] + of_B[1] <= MOST
    return found
