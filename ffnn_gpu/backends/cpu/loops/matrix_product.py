"""The command of matrix products, in tiles that stay in the processor's registers.

A tile reads each number of A and B in memory order, because both are copied first:

- A whole in strips as high as a tile, column by column. Chunks that lie only on top of each other copy the
  strips that they read. If chunks side by side read the same strips, a command of its own copies them first.
- B in panels as wide as a tile, DEPTH rows of it at a time, by each chunk. All tiles of a panel read it from
  the first-level cache.

Both may be transposed. Rows of B 8 KiB apart need a page each, so each is fetched before it is copied.

Shares of OpenBLAS's GFLOP/s on one core of an EPYC with AVX2, 16 chunks, with strips copied by each chunk if
it has at least 4 panels → so: (1024, 2048) (2048, 2048) 0.67 → 0.93, (1024, 2048) (2048, 2048)ᵀ 0.78 → 0.95,
(2048, 1024)ᵀ (1024, 2048) 0.73 → 0.92, (128, 784) (784, 512) 0.68 → 0.89, (784, 128)ᵀ (128, 512) 0.81 → 0.95.

docs/cpu_kernels.md says why these are not the BLAS's products, and has the measurements.

A product may have a tail: the compiled loop of a formula (see formulas.py), applied to each chunk of the
result while it is in the cache. A command's operands end with the tail's address, or 0, and the tail's slots.

The order of additions does not depend on how C is split, so neither does any bit of it.

Reference: Goto, van de Geijn, Anatomy of High-Performance Matrix Multiplication (2008), section 4; Van Zee,
van de Geijn, BLIS: A Framework for Rapidly Instantiating BLAS Functionality (2015).
"""

from typing import Any, TypeAlias

from ffnn_gpu.backends.cpu.loops import register_tiles
from ffnn_gpu.backends.cpu.loops.chunks import UNIT, bounds
from ffnn_gpu.backends.cpu.loops.intrinsics import allocate, call_block, place, release, size_of, vector
from ffnn_gpu.backends.cpu.loops.register_tiles import MANY, PANEL, ROWS
from ffnn_gpu.backends.elementwise.lanes import REGISTER

DEPTH = 128 if MANY else 256  # rows of B that are copied at a time: panels of 32 or 16 KiB
WIDTH = 512  # bytes of each of these rows that are copied at a time
GROUP = 8 * ROWS  # columns of a transposed A that are copied at a time
BEYOND = 2  # rows of a strip that `turn_strip` writes to at most, after those that it copies
AHEAD = 4  # rows between the one that is copied and the one that is fetched

Matrix: TypeAlias = tuple[int, int]  # its address, and the bytes from row to row


def copy_rows(like: Any, A: Matrix, depth: int, width: int, piece: int, copy: int, long: int) -> None:
    """copy ← A (depth, width), cut into pieces (depth, piece), whose numbers beyond A are any of A's, or 0

    long: the number of rows that each piece has in the copy.

    Why not what is there: tiles multiply whole registers. A processor takes about a hundred times as long for
    a product with a denormal number, and memory that nobody has written may hold many: a product
    (512, 64) (64, 8) took 304 µs instead of 14 µs.
    """
    size, whole, pieces = size_of(like), width // piece * piece, (width + piece - 1) // piece
    beyond = (pieces * piece - width) * size  # bytes of the last piece after the end of its row
    for k in range(depth):
        row, start = A[0] + k * A[1], copy + k * piece * size
        for left in range(0, width, PANEL // size):
            register_tiles.fetch(like, row + AHEAD * A[1] + left * size)
        end = width if (depth - 1 - k) * A[1] >= beyond else whole  # the last piece may end outside A
        for left in range(0, end, piece):
            if piece == ROWS:
                register_tiles.move_strip(like, row + left * size, start + left * long * size)
            else:
                register_tiles.move_panel(like, row + left * size, start + left * long * size)
        if end < width:
            source = vector(like, row + whole * size, piece)
            target = vector(like, start + whole * long * size, piece)
            for j in range(piece):
                target[j] = source[j] if whole + j < width else 0


def copy_columns(like: Any, A: Matrix, depth: int, width: int, piece: int, copy: int, long: int) -> None:
    """copy ← the transpose of A (width, depth), cut into pieces as by `copy_rows`

    Why the last rows of the last strip are copied one by one: `turn_strip` writes past the rows that it
    copies, and the memory there may be another thread's.
    """
    size = size_of(like)
    lanes = REGISTER // size
    for left in range(0, width, piece):
        source, target, count = A[0] + left * A[1], copy + left * long * size, min(piece, width - left)
        kept = BEYOND if piece == ROWS and left + piece >= width else 0
        begun = max(0, depth - kept) // lanes * lanes
        for k in range(0, begun, lanes):
            if piece == ROWS:
                register_tiles.turn_strip(like, source + k * size, A[1], count, target + k * piece * size)
            else:
                register_tiles.turn_panel(like, source + k * size, A[1], count, target + k * piece * size)
        for k in range(begun, depth):
            row = vector(like, target + k * piece * size, piece)
            for j in range(piece):
                row[j] = vector(like, source + min(j, count - 1) * A[1], depth)[k]


def size_of_strips(M: int, K: int) -> int:
    """Return how many numbers the strips of A (M, K) have."""
    return (M + ROWS - 1) // ROWS * ROWS * K


def copy_strips(like: Any, A: tuple[int, int, int], K: int, top: int, bottom: int, copy: int) -> None:
    """copy ← rows [top, bottom) of A (M, K), cut into strips (ROWS, K), which are stored column by column

    A: its address, and the bytes from row to row and from column to column: it may be transposed.
    """
    (a, a_row, a_step), size = A, size_of(like)
    if a_step == size:
        copy_columns(like, (a + top * a_row, a_row), K, bottom - top, ROWS, copy + top * K * size, K)
    else:
        for start in range(top, bottom, GROUP):
            width = min(GROUP, bottom - start)
            copy_rows(like, (a + start * size, a_step), K, width, ROWS, copy + start * K * size, K)


def strips_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """Copy all strips of A (M, K)."""
    top, bottom = bounds(n[4], ROWS, chunk, chunks)
    copy_strips(like, (n[0], n[1], n[2]), n[5], top, bottom, n[3])


def tiles(like: Any, shape: tuple[int, int, int], A: Matrix, panels: int, C: Matrix, more: int) -> None:
    """C (M, N) ← A B of copies of A (M, K) and B (K, N), or C + A B with `more`

    shape: M, N, K. A: the address of its first strip, and the bytes from strip to strip.
    """
    (M, N, K), (strips, a_strip), (c, c_row), size = shape, A, C, size_of(like)
    for left in range(0, N, PANEL // size):
        for top in range(0, M, ROWS):
            part = min(ROWS, M - top), min(PANEL // size, N - left), K
            strip, panel = strips + top // ROWS * a_strip, panels + left * K * size
            of_C = c + top * c_row + left * size, c_row
            if size * part[1] == PANEL:
                register_tiles.whole_tile(like, part, strip, panel, of_C, more)
            else:
                register_tiles.narrow_tile(like, part, strip, panel, of_C, more)


def finish(n: Any, tail: int, top: int, bottom: int, left: int, right: int) -> None:
    """Apply the tail whose address is n[tail], if there is one."""
    if n[tail]:
        call_block(n[tail], place(n, tail + 1), top, bottom, left, right)


def blocks_of(K: int) -> int:
    """Return the number of blocks of nearly equal length into which sums of K products are cut."""
    return (K + DEPTH - 1) // DEPTH


def parts_of_sum(K: int) -> list[tuple[int, int]]:
    """Return the ranges of k whose products are added one by one; these sums are added then, in order."""
    return [bounds(K, UNIT, block, blocks_of(K)) for block in range(blocks_of(K))]


TAIL_OF_PRODUCT = 13  # place of the tail in the operands of the next command


def product_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """C (M, N) ← A B for the strips of A (M, K), and B (K, N) or Bᵀ of B (N, K) if `turned`, then the tail

    A chunk is one of `side` blocks side by side, and of chunks / side on top of each other. The last operands
    before the tail are A, or 0 if its strips are copied already; else each chunk copies those that it reads.
    """
    strips, (b, b_row, turned), (c, c_row) = n[0], (n[1], n[2], n[3]), (n[4], n[5])
    M, N, K, side, A, size = n[6], n[7], n[8], n[9], (n[10], n[11], n[12]), size_of(like)
    top, bottom = bounds(M, ROWS, chunk // side, chunks // side)
    if n[10]:
        copy_strips(like, A, K, top, bottom, strips)
    first, last = bounds(N, PANEL // size, chunk % side, side)
    across = PANEL // size
    columns = (min(WIDTH // size, last - first) + across - 1) // across * across
    memory = allocate(2 * REGISTER + columns * min(DEPTH, K) * size)
    panels = (memory + REGISTER - 1) // REGISTER * REGISTER
    blocks = blocks_of(K)
    for block in range(blocks):
        start, stop = bounds(K, UNIT, block, blocks)
        depth, of_A = stop - start, (strips + (top * K + start * ROWS) * size, K * ROWS * size)
        for left in range(first, last, WIDTH // size):
            width = min(WIDTH // size, last - left)
            if turned:
                of_B = b + left * b_row + start * size, b_row
                copy_columns(like, of_B, depth, width, across, panels, depth)
            else:
                of_B = b + start * b_row + left * size, b_row
                copy_rows(like, of_B, depth, width, across, panels, depth)
            of_C = c + top * c_row + left * size, c_row
            tiles(like, (bottom - top, width, depth), of_A, panels, of_C, block)
    release(memory)
    finish(n, TAIL_OF_PRODUCT, top, bottom, first, last)
