"""Muon as commands. Its momentum and its step are update rules; its iterations are products with tails."""

import functools
import math

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.cpu.loops import formulas
from ffnn_gpu.backends.cpu.recording.arguments import checked
from ffnn_gpu.backends.cpu.recording.commands import FLOAT
from ffnn_gpu.backends.cpu.recording.layers import LayerOperations
from ffnn_gpu.backends.cpu.recording.partition import SHARES
from ffnn_gpu.backends.cpu.recording.products import NO_TAIL
from ffnn_gpu.backends.cpu.recording.updates import UpdateOperations
from ffnn_gpu.backends.reference.muon import COEFFICIENTS, ITERATIONS, SMALLEST_NORM, without_penalties
from ffnn_gpu.backends.reference.updates import Update


class MuonOperations(LayerOperations, UpdateOperations):
    """Operations of the optimizer Muon."""

    muon_direction = functools.partialmethod(UpdateOperations._rule, "muon_direction")
    muon_step = functools.partialmethod(UpdateOperations._rule, "muon_step")

    def muon(
        self, update: Update, m: Array, shape: tuple[int, int, int], momentum: float, nesterov: bool
    ) -> None:
        U, (_, I, O) = self._scratch(m.size, m.dtype), shape
        self.muon_direction(update, m, U, float(momentum), nesterov)
        X = self.orthogonalized(U.reshape(shape)).reshape(m.shape)
        self.muon_step(without_penalties(update), X, math.sqrt(max(1.0, O / I)))

    @checked(G="nIO")
    def orthogonalized(self, G: Array) -> Array:
        n, I, O = G.shape
        X, Y = (self._scratch(G.size, self.dtype).reshape(G.shape) for _ in range(2))
        k = min(I, O)
        A, B = (self._scratch(k * k, self.dtype).reshape(k, k) for _ in range(2))
        for i in range(n):
            self._normalize(G[i], X[i])
            for t in range(ITERATIONS):
                self._iteration(*((X[i], Y[i]) if t % 2 == 0 else (Y[i], X[i])), A, B)
        return X if ITERATIONS % 2 == 0 else Y

    def _normalize(self, G: Array, X: Array) -> None:
        """X = G / max(‖G‖_F, SMALLEST_NORM)"""
        sums, factor = self._scratch(SHARES * self.partition.threads, FLOAT), self._scratch(1, FLOAT)
        parts = self._apply(formulas.elementwise(self.dtype, "squares"), 1, G.size, sums, x=G)
        self._record("inverse_norm", 1, sums, parts, SMALLEST_NORM, factor)
        self._apply(formulas.elementwise(self.dtype, "scale"), 1, G.size, x=G, factor=factor, out=X)

    def _iteration(self, X: Array, out: Array, A: Array, B: Array) -> None:
        """out = a X + (b A + c A²) X with A = X Xᵀ, or X on the left of A = XᵀX if X has more rows

        A and B are scratch.
        """
        (a, b, c), tall = COEFFICIENTS, len(X) > X.shape[1]
        self._product(*((X.T, X) if tall else (X, X.T)), A, *NO_TAIL)
        self._product(A, A, B, *self._blend(B, A, b, c))
        self._product(*((X, B) if tall else (B, X)), out, *self._blend(out, X, a, 1.0))

    def _blend(self, out: Array, x: Array, of_x: float, of_out: float) -> tuple[object, ...]:
        """Return the tail out ← of_out out + of_x x of a product."""
        loop = formulas.elementwise(self.dtype, "blend")
        return loop.block, *formulas.slots(loop, out=out, x=x, of_out=of_out, of_x=of_x)
