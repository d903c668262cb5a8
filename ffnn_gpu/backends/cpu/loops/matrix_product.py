"""The command of matrix products, in tiles that stay in the processor's registers.

B is copied in panels as wide as a tile (see register_tiles.py), DEPTH rows of it at a time. So all tiles of a
panel read it from the first-level cache in memory order, whether B is row-major or transposed. Each number of
A is multiplied by a whole row of the panel, so a copy of A pays only if several panels read it. Its rows are
then beside each other, while rows 8 KiB apart share one set of the cache, and those of a transposed A need a
page each. GFLOP/s on one core of a Xeon with AVX-512, before → with DEPTH 128 and this copy: (2048, 1024)ᵀ
(1024, 2048) 82 → 139, (1024, 2048) (2048, 2048) 134 → 138, small products the same; OpenBLAS makes 165.

docs/cpu_kernels.md says why these are not the BLAS's products, and has the measurements.

A product may have a tail: the compiled loop of a formula (see formulas.py), applied to each chunk of the
result while it is in the cache. A command's operands end with the tail's address, or 0, and the tail's slots.

The order of additions does not depend on how C is split, so neither does any bit of it.

Reference: Goto, van de Geijn, Anatomy of High-Performance Matrix Multiplication (2008), section 4; Van Zee,
van de Geijn, BLIS: A Framework for Rapidly Instantiating BLAS Functionality (2015).
"""

from typing import Any, TypeAlias

from ffnn_gpu.backends.cpu.loops import register_tiles
from ffnn_gpu.backends.cpu.loops.chunks import bounds
from ffnn_gpu.backends.cpu.loops.intrinsics import allocate, call_block, place, release, size_of, vector
from ffnn_gpu.backends.cpu.loops.register_tiles import PANEL, ROWS
from ffnn_gpu.backends.elementwise.lanes import REGISTER

# Rows of panels copied at a time, and bytes of each row: 32 KiB, which fit the first-level cache.
DEPTH, WIDTH = 128, 256
COPIED_PANELS = 4  # A is copied too if at least as many panels are multiplied with it


Strided: TypeAlias = tuple[
    int, int, int
]  # of A: its address, and the bytes from row to row and column to column
Rows: TypeAlias = tuple[int, int]  # of C: its address, and the bytes from row to row


def tiles(like: Any, shape: tuple[int, int, int], A: Strided, panel: int, C: Rows, more: int) -> None:
    """C (M, width) ← A (M, K) panel (K, width), or C + A panel with `more`.        shape = M, width, K"""
    (M, width, K), (a, a_row, a_step), (c, c_row), size = shape, A, C, size_of(like)
    for top in range(0, M, ROWS):
        for left in range(0, width, PANEL // size):
            m, w = min(ROWS, M - top), min(PANEL // size, width - left)
            part, of_A, b = (m, w, K), (a + top * a_row, a_row, a_step), panel + left * size * K
            of_C = c + top * c_row + left * size, c_row
            if size * w == PANEL:
                register_tiles.whole_tile(like, part, of_A, b, of_C, more)
            else:
                register_tiles.narrow_tile(like, part, of_A, b, of_C, more)


def fill_up(like: Any, depth: int, width: int, panel: int) -> None:
    """Fill the register that has the last of `width` columns with zeros.

    Why: tiles multiply whole registers. A processor takes about a hundred times as long for a product with a
    denormal number, and memory that nobody has written may hold many: a product (512, 64) (64, 8) took 304 µs
    instead of 14 µs.
    """
    lanes = REGISTER // size_of(like)
    if width % lanes:
        for k in range(depth):
            last = vector(like, panel + k * PANEL + width // lanes * REGISTER, lanes)
            for j in range(lanes):
                last[j] = 0


def copy_rows(like: Any, B: int, b_row: int, depth: int, width: int, copy: int, row: int) -> None:
    """copy (depth, width) ← B (depth, width), with `row` bytes from row to row"""
    for k in range(depth):
        source, target = vector(like, B + k * b_row, width), vector(like, copy + k * row, width)
        for j in range(width):
            target[j] = source[j]


def copy_columns(like: Any, B: int, b_row: int, depth: int, width: int, copy: int, row: int) -> None:
    """copy (depth, width) ← the transpose of B (width, depth), with `row` bytes from row to row"""
    size = size_of(like)
    lanes = REGISTER // size
    columns, rows = width // lanes * lanes, depth // lanes * lanes
    for j in range(0, columns, lanes):
        for k in range(0, rows, lanes):
            register_tiles.turn(like, B + j * b_row + k * size, b_row, copy + k * row + j * size, row)
    for j in range(width):
        source = vector(like, B + j * b_row, depth)
        for k in range(rows if j < columns else 0, depth):
            vector(like, copy + k * row, width)[j] = source[k]


def finish(n: Any, tail: int, top: int, bottom: int, left: int, right: int) -> None:
    """Apply the tail whose address is n[tail], if there is one."""
    if n[tail]:
        call_block(n[tail], place(n, tail + 1), top, bottom, left, right)


TAIL_OF_PRODUCT = 12  # place of the tail in the operands of the next command


def product_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """C (M, N) ← A (M, K) B with B (K, N), or Bᵀ of B (N, K) if `turned`, then the tail

    A chunk is one of `side` blocks side by side, and of chunks / side on top of each other.
    """
    (a, a_row, a_step), (b, b_row, turned), (c, c_row) = (n[0], n[1], n[2]), (n[3], n[4], n[5]), (n[6], n[7])
    M, N, K, side, size = n[8], n[9], n[10], n[11], size_of(like)
    top, bottom = bounds(M, ROWS, chunk // side, chunks // side)
    first, last = bounds(N, PANEL // size, chunk % side, side)
    copied = last - first >= COPIED_PANELS * PANEL // size
    of_panels = min(DEPTH, K) * WIDTH
    memory = allocate(REGISTER + of_panels + ((bottom - top) * min(DEPTH, K) * size if copied else 0))
    panels = (memory + REGISTER - 1) // REGISTER * REGISTER
    blocks, across = (K + DEPTH - 1) // DEPTH, PANEL // size
    for block in range(blocks):
        start, depth = K * block // blocks, K * (block + 1) // blocks - K * block // blocks
        of_A = a + top * a_row + start * a_step, a_row, a_step
        if copied:
            if a_step == size:
                copy_rows(like, of_A[0], a_row, bottom - top, depth, panels + of_panels, depth * size)
            else:
                copy_columns(like, of_A[0], a_step, bottom - top, depth, panels + of_panels, depth * size)
            of_A = panels + of_panels, depth * size, size
        for left in range(first, last, WIDTH // size):
            width = min(WIDTH // size, last - left)
            for j in range(0, width, across):
                w, panel = min(across, width - j), panels + j * size * depth
                fill_up(like, depth, w, panel)
                if turned:
                    copy_columns(like, b + (left + j) * b_row + start * size, b_row, depth, w, panel, PANEL)
                else:
                    copy_rows(like, b + start * b_row + (left + j) * size, b_row, depth, w, panel, PANEL)
            of_C = c + top * c_row + left * size, c_row
            tiles(like, (bottom - top, width, depth), of_A, panels, of_C, block)
    release(memory)
    finish(n, TAIL_OF_PRODUCT, top, bottom, first, last)
