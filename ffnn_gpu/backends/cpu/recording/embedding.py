"""Embedding of category codes as commands."""

from itertools import chain

import numpy as np

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.cpu.recording.arguments import NotRecordedError, checked
from ffnn_gpu.backends.cpu.recording.commands import Commands
from ffnn_gpu.backends.reference.embedding import Sizes


class EmbeddingOperations(Commands):
    """The embedding of codes and its adjoint."""

    @checked(apart=True, x="BI", E="P", out="BO!")
    def embedding(self, x: Array, E: Array, levels: Sizes, widths: Sizes, out: Array) -> Array:
        sizes = *x.shape, out.shape[1], len(levels), self.failed, *chain(*zip(levels, widths, strict=True))
        self._record("embedding", self.partition.by_rows(out), x, E, out, *sizes)
        return out

    @checked(apart=True, da="BO", x="BI", dE="P!")
    def embedding_backward(
        self, da: Array, x: Array, levels: Sizes, widths: Sizes, dE: Array, dx: Array | None
    ) -> Array | None:
        if dx is not None:
            raise NotRecordedError("there is no command for the gradient at x")
        (B, I), K, codes = x.shape, len(levels), sum(levels)
        sizes = [*chain(*zip(levels, widths, strict=True))]
        heads, links = self._scratch(codes, np.int64), self._scratch(K * B, np.int64)
        by_column = self.partition.chunks(codes + K * B, K)
        self._record("rows_of_codes", by_column, x, heads, links, B, I, K, self.failed, *sizes)
        shape = *da.shape, K, I - K, codes
        by_code = self.partition.chunks(dE.size + da.size, codes)
        self._record("embedding_backward", by_code, da, dE, heads, links, *shape, *sizes)
        return dx
