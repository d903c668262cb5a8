"""The commands of matrix products in the tile registers of AMX: as accurate as those in register tiles.

Units of C are computed from copies of strips of A and panels of B (see amx_copies.py), DEPTH numbers k at a
time, a block:

- All of A is copied first, by a command of its own, if chunks side by side read the same strips. Else each
  chunk copies GROUP rows at a time.
- B is copied by each chunk, WIDTH columns at a time. These panels stay in the second-level cache.

A unit whose numbers have not the range for this is computed by `product_command` instead. Neither units nor
blocks depend on how C is split, so neither does any bit of it.
"""

from typing import Any, TypeAlias

import numpy as np

from ffnn_gpu.backends.cpu.loops import amx_copies, amx_tiles
from ffnn_gpu.backends.cpu.loops.amx_copies import HEADER, Factor, steps_of
from ffnn_gpu.backends.cpu.loops.amx_tiles import BOTH, LINE, STEP, TILE, UNIT
from ffnn_gpu.backends.cpu.loops.chunks import bounds
from ffnn_gpu.backends.cpu.loops.intrinsics import allocate, call, release, size_of, vector
from ffnn_gpu.backends.cpu.loops.matrix_product import TAIL_OF_PRODUCT, finish, size_of_strips

DEPTH, WIDTH, GROUP = 512, 256, 256
TAIL_OF_AMX_PRODUCT = 14  # place of the tail in the operands of a product

Part: TypeAlias = tuple[int, int, int, int, int]  # the chunk's first row; first and last row and column
Room: TypeAlias = tuple[
    int, int, int, int
]  # for a block of A, of B, and a unit's sums; bytes of a copy of a block


def blocks_of(K: int) -> int:
    return (K + DEPTH - 1) // DEPTH


def place_of_block(start: int, block: int, pieces: int) -> int:
    """Return where in a copy the block is that begins at k = start."""
    return block * HEADER + steps_of(start) * pieces * BOTH


def size_of_copy(K: int, pieces: int) -> int:
    """Return the bytes of a copied strip or panel."""
    return place_of_block(K, blocks_of(K), pieces)


def size_of_amx_strips(M: int, K: int, pieces: int) -> int:
    """Return the bytes for the strips of A (M, K)."""
    return units(M) * size_of_copy(K, pieces) + LINE


def aligned(address: int) -> int:
    return (address + LINE - 1) // LINE * LINE


def units(n: int) -> int:
    return (n + UNIT - 1) // UNIT


def factor_of_a(address: int, row: int, step: int) -> Factor:
    """Return A, given the bytes from row to row and from column to column: it may be transposed."""
    turned = 0 if step == 4 else 1
    return address, step if turned else row, turned, turned


def copy_strips(like: Any, n: Any, chunk: int, chunks: int, pieces: int) -> None:
    """Copy all strips of A (M, K)."""
    A, K, size, scratch = factor_of_a(n[0], n[1], n[2]), n[5], size_of_copy(n[5], pieces), allocate(2 * TILE)
    top, bottom = bounds(n[4], UNIT, chunk, chunks)
    for block in range(blocks_of(K)):
        start, stop = bounds(K, STEP, block, blocks_of(K))
        target = aligned(n[3]) + top // UNIT * size + place_of_block(start, block, pieces)
        amx_copies.copy(like, A, (top, bottom), (start, stop), target, size, scratch, pieces)
    release(scratch)


def compute_unit(
    like: Any, a: int, b: int, steps: int, of_C: tuple[int, int, int, int], more: int, sums: int, pieces: int
) -> None:
    """C ← A B for the copies of a block of A and B, or C + A B with `more`

    of_C: its address, the bytes from row to row, and how many rows and columns exist. sums: room for a unit.
    """
    c, c_row, rows, columns = of_C
    whole = rows >= UNIT and columns >= UNIT and more == 0
    target, row = (c if whole else sums), (c_row if whole else 2 * LINE)
    amx_tiles.fetch_unit(c, c_row)
    amx_tiles.multiply(pieces, steps, a + HEADER, b + HEADER, target, row)
    if not whole:
        amx_tiles.add_unit(like, sums, c, c_row, (min(rows, UNIT), columns), more)


def by_register_tiles(like: Any, n: Any, rows: tuple[int, int], columns: tuple[int, int]) -> None:
    """Compute a part of C by `product_command`."""
    (top, bottom), (left, right), size, count = rows, columns, size_of(like), TAIL_OF_PRODUCT + 1
    memory = allocate(count * 8 + size_of_strips(bottom - top, n[8]) * size)
    m = vector(np.int64, memory, count)
    m[0], m[1], m[2], m[3] = memory + count * 8, n[1] + left * (n[2] if n[3] else size), n[2], n[3]
    m[4], m[5], m[6], m[7] = n[4] + top * n[5] + left * size, n[5], bottom - top, right - left
    m[8], m[9], m[10], m[11], m[12], m[TAIL_OF_PRODUCT] = n[8], 1, n[10] + top * n[11], n[11], n[12], 0
    call(n[13], memory, 0, 1)
    release(memory)


def recompute(like: Any, n: Any, rows: tuple[int, int], columns: tuple[int, int], refused: Any) -> None:
    """Compute the refused units of a part of C, as few parts as there are: its rows, or runs in a strip."""
    (top, bottom), (first, last) = rows, columns
    across, count = units(last - first), 0
    for unit in range(len(refused)):
        count += refused[unit]
    height = UNIT if count < len(refused) else max(UNIT, bottom - top)
    for row in range(top, bottom, height):
        begin, end = 0, 0
        while begin < across:
            unit = (row - top) // UNIT * across
            while end < across and refused[unit + end]:
                end += 1
            if end > begin:
                left, right = first + begin * UNIT, min(last, first + end * UNIT)
                by_register_tiles(like, n, (row, min(bottom, row + height)), (left, right))
            end += 1
            begin = end


def add_block(like: Any, n: Any, part: Part, block: int, room: Room, refused: Any, pieces: int) -> None:
    """Add the products of a block to the units of C in a part; refused: whether a unit cannot be computed."""
    (top, begin, end, first, last), (of_A, of_B, sums, size), K = part, room, n[8]
    (start, stop), scratch, across = (
        bounds(K, STEP, block, blocks_of(K)),
        sums + 4 * TILE,
        units(last - first),
    )
    if n[0] == 0:
        A = factor_of_a(n[10], n[11], n[12])
        amx_copies.copy(like, A, (begin, end), (start, stop), of_A, size, scratch, pieces)
    for left in range(first, last, WIDTH):
        right = min(last, left + WIDTH)
        B = n[1], n[2], 0 if n[3] else 1, n[3]
        amx_copies.copy(like, B, (left, right), (start, stop), of_B, size, scratch, pieces)
        for i in range(begin, end, UNIT):
            a = of_A + (i - begin) // UNIT * size
            if n[0]:
                strip = aligned(n[0]) + i // UNIT * size_of_copy(K, pieces)
                a = strip + place_of_block(start, block, pieces)
            for j in range(left, right, UNIT):
                b, unit = of_B + (j - left) // UNIT * size, (i - top) // UNIT * across + (j - first) // UNIT
                if not amx_copies.in_range(a, b):
                    refused[unit] = 1
                if refused[unit] == 0:
                    of_C, steps = (n[4] + i * n[5] + j * 4, n[5], end - i, right - j), steps_of(stop - start)
                    compute_unit(like, a, b, steps, of_C, block, sums, pieces)


def compute(like: Any, n: Any, chunk: int, chunks: int, pieces: int) -> None:
    """C (M, N) ← A B, then the tail

    n: the operands of `product_command`, with its address before the tail. n[0] is the address of A's strips,
    or 0 if A is not copied yet.
    """
    M, N, K, side = n[6], n[7], n[8], n[9]
    top, bottom = bounds(M, UNIT, chunk // side, chunks // side)
    first, last = bounds(N, UNIT, chunk % side, side)
    down, across, size = units(bottom - top), units(last - first), place_of_block(min(DEPTH, K), 1, pieces)
    own, panels = (0 if n[0] else min(GROUP // UNIT, down)), min(WIDTH // UNIT, across)
    memory = allocate(LINE + (own + panels) * size + 6 * TILE + 8 * down * across)
    of_A = aligned(memory)
    of_B, sums = of_A + own * size, of_A + (own + panels) * size
    refused = vector(np.int64, sums + 6 * TILE, down * across)
    for unit in range(down * across):
        refused[unit] = 0
    amx_tiles.configure()
    for begin in range(top, bottom, M if n[0] else GROUP):
        end = bottom if n[0] else min(bottom, begin + GROUP)
        for block in range(blocks_of(K)):
            part, room = (top, begin, end, first, last), (of_A, of_B, sums, size)
            add_block(like, n, part, block, room, refused, pieces)
    amx_tiles.unconfigure()
    recompute(like, n, (top, bottom), (first, last), refused)
    release(memory)
    finish(n, TAIL_OF_AMX_PRODUCT, top, bottom, first, last)


def amx_strips_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """Copy all strips of A (M, K)."""
    copy_strips(like, n, chunk, chunks, 3)


def amx_product_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """C (M, N) ← A B, then the tail"""
    compute(like, n, chunk, chunks, 3)


def amx_bfloat16_strips_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """Copy all strips of A (M, K), whose numbers are bfloat16."""
    copy_strips(like, n, chunk, chunks, 1)


def amx_bfloat16_product_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """C (M, N) ← A B, then the tail, for numbers that are bfloat16"""
    compute(like, n, chunk, chunks, 1)
