"""Matrix products as commands: in AMX's tiles where that is faster, else in register tiles."""

import math
from typing import Any, NamedTuple

import numpy as np

from ffnn_gpu.arrays.array_types import Array, HostArray
from ffnn_gpu.backends.cpu.loops import amx_product, amx_tiles
from ffnn_gpu.backends.cpu.loops.matrix_product import size_of_strips
from ffnn_gpu.backends.cpu.recording.arguments import FLOAT32, place_of
from ffnn_gpu.backends.cpu.recording.commands import Commands, command, in_memory
from ffnn_gpu.backends.cpu.recording.partition import AMX_BFLOAT16_TILES, AMX_TILES, Tiles

NO_TAIL = (0,)  # of a product


class Kind(NamedTuple):
    """Products in AMX's tiles, and which of them take less time than in register tiles.

    Attributes:
        name: what the names of the commands begin with.
        pieces: the bfloat16 numbers of each number.
        rows, depth: the least rows of A and B.
        multiplications: their least number.
        padding: how many times as many there are at most if A and B are filled up to whole units.
    """

    name: str
    pieces: int
    tiles: Tiles
    rows: int
    depth: int
    multiplications: int
    padding: int

    def suits(self, M: int, N: int, K: int) -> bool:
        """Return whether a product (M, K) (K, N) takes less time so."""
        count, sides = M * N * K, (-(-n // amx_tiles.UNIT) * amx_tiles.UNIT for n in (M, N, K))
        large = self.rows <= M and self.depth <= K and self.multiplications <= count
        return large and math.prod(sides) <= self.padding * count


# Time in registers / time in AMX's tiles of (M, K) (K, N) on one thread, float32 and bfloat16: M, N, K =
# 16, 64, 64 0.9 and 1.1; 64, 64, 64 1.2 and 1.7; 16, 512, 784 0.7 and 1.3; 128, 10, 128 1.0 and 1.6;
# 128, 64, 16 0.8 and 1.1.
FLOAT32_KIND = Kind("amx", 3, AMX_TILES, rows=32, depth=24, multiplications=1 << 17, padding=2)
BFLOAT16_KIND = Kind(
    "amx_bfloat16", 1, AMX_BFLOAT16_TILES, rows=8, depth=16, multiplications=1 << 16, padding=4
)


class ProductOperations(Commands):
    """Products of matrices."""

    _strips: HostArray = np.zeros(0)  # the copy of a product's A, whose memory the next product uses too

    def _product(self, A: Array, B: Array, out: Array, *tail: Any) -> None:
        """out = A B, then the tail; A and B may be transposed"""
        (M, K), N = A.shape, B.shape[1]
        if N == 1:
            chunks = self.partition.of_few_rows(1, A)
            transposed = not A.flags.c_contiguous
            self._record("one_column", chunks, in_memory(A), transposed, in_memory(B), out, M, K, *tail)
        elif self.dtype == FLOAT32 and (kind := self._kind(A, B)).suits(M, N, K) and amx_tiles.available():
            self._by_amx(kind, A, B, out, *tail)
        else:
            self._by_register_tiles(A, B, out, *tail)

    def _kind(self, A: Array, B: Array) -> Kind:
        """Return the kind of a product: of copies of bfloat16 arrays, or of other float32 arrays."""
        return BFLOAT16_KIND if {place_of(A), place_of(B)} <= self._bfloat16 else FLOAT32_KIND

    def _by_register_tiles(self, A: Array, B: Array, out: Array, *tail: Any) -> None:
        (M, K), N, turned = A.shape, B.shape[1], not B.flags.c_contiguous
        strips, (chunks, across) = self._reserve(size_of_strips(M, K)), self.partition.grid(M, N, K)
        of_A = in_memory(A), *A.strides
        if across > 1:  # several chunks read the same strips
            self._record("strips", self.partition.of_strips(M, K), *of_A, strips, M, K)
            of_A = 0, 0, 0
        factors = strips, in_memory(B), B.strides[turned], turned
        self._record("product", chunks, *factors, out, N * out.itemsize, M, N, K, across, *of_A, *tail)

    def _by_amx(self, kind: Kind, A: Array, B: Array, out: Array, *tail: Any) -> None:
        (M, K), N, turned = A.shape, B.shape[1], not B.flags.c_contiguous
        chunks, across = self.partition.grid(M, N, K, kind.tiles)
        of_A, strips = (in_memory(A), *A.strides), None
        if across > 1:
            size = amx_product.size_of_amx_strips(M, K, kind.pieces)
            strips = self._reserve(-(-size // self.dtype.itemsize))
            parts = self.partition.of_strips(M, K, kind.tiles)
            self._record(f"{kind.name}_strips", parts, *of_A, strips, M, K)
        factors = strips, in_memory(B), B.strides[turned], turned
        otherwise = command("product", self.dtype).address
        operands = *factors, out, N * out.itemsize, M, N, K, across, *of_A, otherwise
        self._record(f"{kind.name}_product", chunks, *operands, *tail)

    def _reserve(self, count: int) -> HostArray:
        """Return room for so many numbers of strips."""
        if self._strips.size < count:
            self._strips = self._scratch(count, self.dtype)
        return self._strips
