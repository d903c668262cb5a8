"""Decide into how many chunks a command's work is split, so that threads share it.

A chunk must be worth the cost of handing it out. If it costs little, there are more chunks than threads,
because one core may be slower than another, or busy with other work.
"""

import functools
from typing import NamedTuple

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.backends.cpu.loops import amx_tiles
from ffnn_gpu.backends.cpu.loops.chunks import UNIT
from ffnn_gpu.backends.cpu.loops.register_tiles import PANEL, ROWS

# Elements of a loop, 1/8 of the elements of W for few rows, 1/16 of the multiplications of another product.
WORTH_SHARING = 1 << 14
SHARES, MANY_TIMES = 4, 16  # chunks per thread of a loop that is MANY_TIMES larger than WORTH_SHARING
COSTLY = 4  # products that take as long as an element of a dropout mask, or of layer normalization


class Tiles(NamedTuple):
    """How products of one kind are split.

    Attributes:
        rows, panel: rows of a strip; bytes of a panel's row.
        chunks: the most chunks per thread.
        wide: the least panels of a chunk that has others beside it.
        copied: the rows of a product that take as long as copying a panel.
        reread: the panels that take as long as reading strips which are not in the cache.
        separate: multiplications that take as long as one more command, which chunks side by side need for
            their strips. Two threads, µs per Adam step with 128 rows, in registers: 64-64-64-10 150 with 0,
            135 so; 128-128-128-10 350 → 320.
    """

    rows: int
    panel: int
    chunks: int
    wide: int
    copied: int
    reread: int
    separate: int


REGISTER_TILES = Tiles(ROWS, PANEL, chunks=8, wide=1, copied=6, reread=0, separate=1 << 19)
AMX_PANEL = 4 * amx_tiles.UNIT  # bytes
AMX_TILES = Tiles(amx_tiles.UNIT, AMX_PANEL, chunks=4, wide=4, copied=50, reread=1, separate=1 << 20)
AMX_BFLOAT16_TILES = AMX_TILES._replace(copied=200, separate=1 << 22)


class Partition:
    """The number of chunks of commands for `threads` threads, on numbers of `itemsize` bytes."""

    def __init__(self, threads: int, itemsize: int) -> None:
        self.threads, self.itemsize = threads, itemsize

    def chunks(self, work: int, most: int) -> int:
        """Return the number of chunks for `work` elements, at most `most`."""
        if work < WORTH_SHARING or self.threads == 1:
            return 1
        shares = 1 if work < MANY_TIMES * WORTH_SHARING else SHARES  # several, in case one thread is slower
        return max(1, min(self.threads * shares, most))

    def by_rows(self, array: HostArray, cost: int = 1) -> int:
        """Return the number of chunks of rows; an element costs as much as `cost` products."""
        return self.chunks(cost * array.size, len(array))

    def by_columns(self, array: HostArray) -> int:
        return self.chunks(array.size, array.shape[1] // UNIT)

    def of_few_rows(self, B: int, W: HostArray) -> int:
        """Return the number of chunks of W's rows for a product of B rows with W.

        Why 8: one row through 784-256-256-10 takes 38 µs on 2 threads and 50 µs on one, so it should be
        shared; through 784-128-10 it takes 40 µs and 32 µs.
        """
        return self.chunks(B * W.size // 8, len(W) // UNIT)

    def of_strips(self, M: int, K: int, tiles: Tiles = REGISTER_TILES) -> int:
        """Return the number of chunks of strips for the copy of A (M, K). A number takes as long as four."""
        return self.chunks(4 * M * K, -(-M // tiles.rows))

    def grid(self, M: int, N: int, K: int, tiles: Tiles = REGISTER_TILES) -> tuple[int, int]:
        """Return the chunks of an (M, N) product, and how many of them are side by side, for the least time.

        A chunk takes as long as its rows, plus those for the panel of B that each chunk copies. The slower
        thread is on average half a chunk behind. Chunks that lie only on top of each other copy their strips
        of A themselves; else this is a command of its own.
        """
        if self.threads == 1 or M * N * K < 16 * WORTH_SHARING:
            return 1, 1
        separate = tiles.separate * self.itemsize // (K * tiles.panel)
        return _grid(self.threads, tiles, -(-M // tiles.rows), -(-N * self.itemsize // tiles.panel), separate)


@functools.lru_cache(1024)
def _grid(threads: int, tiles: Tiles, strips: int, panels: int, separate: int) -> tuple[int, int]:
    """Return the grid for a product of so many strips and panels.

    separate: the rows of a panel that take as long as one more command.
    """

    def seconds(grid: tuple[int, int]) -> float:
        down, across = grid
        rows, columns = -(-strips // down) * tiles.rows, -(-panels // across)
        chunk = (rows + tiles.copied) * columns + rows * tiles.reread * (across > 1)
        return (-(-down * across // threads) + 0.5) * chunk + separate * (across > 1)

    most = tiles.chunks * threads
    widest = max(1, min(panels // tiles.wide, most))
    sides = [(across, min(strips, most // across)) for across in range(1, widest + 1)]
    grids = ((down, across) for across, deep in sides for down in range(1, deep + 1))
    down, across = min(grids, key=seconds)
    return down * across, across
