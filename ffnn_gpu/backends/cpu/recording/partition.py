"""Into how many parts a command is cut, so that threads share it.

A part must be worth its handing out, and there are more of them than threads where that costs little: one core may be slower
than another, or busy with something else.
"""

from typing import Any

from ffnn_gpu.backends.cpu.loops.chunks import UNIT
from ffnn_gpu.backends.cpu.loops.matrix_product import PANEL, ROWS

WORTH_SHARING = (
    1 << 13
)  # elements of a loop, of W for few rows, or a 32nd of the multiplications of another product
SHARES, MANY_TIMES = 4, 32  # how many parts of a loop each thread has where it is so many times larger
MOST_PARTS, COPIED = (
    8,
    6,
)  # of a product for each thread; copying a panel takes as long as so many rows of the product


class Cuts:
    """The parts of commands on arrays whose numbers have so many bytes, for so many threads."""

    def __init__(self, threads: int, itemsize: int) -> None:
        self.threads, self.itemsize = threads, itemsize

    def parts(self, work: int, most: int) -> int:
        """Of a command that does so much, and cannot be cut into more than `most`."""
        if work < WORTH_SHARING or self.threads == 1:
            return 1
        shares = 1 if work < MANY_TIMES * WORTH_SHARING else SHARES  # several, in case one thread is slower
        return max(1, min(self.threads * shares, most))

    def by_rows(self, array: Any) -> int:
        return self.parts(array.size, len(array))

    def by_columns(self, array: Any) -> int:
        return self.parts(array.size, array.shape[1] // UNIT)

    def by_elements(self, array: Any) -> int:
        return self.parts(array.size, array.size // UNIT)

    def grid(self, M: int, N: int, K: int) -> tuple[int, int]:
        """Into how many parts an (M, N) product is cut, and how many of them lie side by side: what is done soonest.

        A part takes as long as its rows, and COPIED more for the panel of B that each part copies. The slower thread is on
        average half a part behind.
        """
        if self.threads == 1 or M * N * K < 32 * WORTH_SHARING:
            return 1, 1
        strips, panels = -(-M // ROWS), -(-N * self.itemsize // PANEL)

        def seconds(grid: tuple[int, int]) -> float:
            down, across = grid
            part = (-(-strips // down) * ROWS + COPIED) * -(-panels // across)
            return (-(-down * across // self.threads) + 0.5) * part

        most = MOST_PARTS * self.threads
        sides = [(across, min(strips, most // across)) for across in range(1, min(panels, most) + 1)]
        down, across = min(
            ((down, across) for across, deep in sides for down in range(1, deep + 1)), key=seconds
        )
        return down * across, across
