"""Rows, dense layers, sums of arrays and dropout as commands."""

from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.cpu.loops import formulas
from ffnn_gpu.backends.cpu.loops.gather import gather_of
from ffnn_gpu.backends.cpu.loops.layers import FEW
from ffnn_gpu.backends.cpu.recording.arguments import NotRecordedError, checked
from ffnn_gpu.backends.cpu.recording.commands import FLOAT, loop_of, require_numbers
from ffnn_gpu.backends.cpu.recording.partition import COSTLY, SHARES
from ffnn_gpu.backends.cpu.recording.products import NO_TAIL, ProductOperations
from ffnn_gpu.backends.reference.backend import Backend
from ffnn_gpu.backends.reference.philox import MASK, threshold


class LayerOperations(ProductOperations):
    """Operations of dense layers, residual connections and dropout."""

    @checked(out="BI!")
    def take(self, rows: Array, index: Array, out: Array, mean: Array = None, scale: Array = None) -> Array:
        index = np.asarray(index)
        if not _fit(rows, index, out, mean, scale):
            raise NotRecordedError("there is no command for such rows")
        if index.dtype.kind not in "iu" or not (index.size and index.min() >= 0 and index.max() < len(rows)):
            raise NotRecordedError("an index is out of range")
        rows, index = np.asarray(rows), np.asarray(index, np.int64)  # rows may be of a mapped file
        operands = rows, index, out, mean, scale, *out.shape
        chunks = 1 if mean is None else self.partition.by_rows(out)  # a cast takes less time than a helper
        self._run(gather_of(rows.dtype, out.dtype), operands, chunks)
        return out

    @checked(apart=True, x="BI", W="IO", b="O?", out="BO!", s="BO!?")
    def affine(
        self, x: Array, W: Array, b: Array, phi: Any, out: Array, s: Array = None, factor: float = 1.0
    ) -> Array:
        require_numbers(x, W)
        (B, I), O, loop = x.shape, W.shape[1], self._activation(phi, b, s, factor != 1)
        tail = self._tail(loop, phi, b, out, s, factor)
        if B <= FEW:
            chunks = self.partition.of_few_rows(B, W)
            sums = self._scratch(chunks * B * O, self.dtype)
            self._record("few_rows", chunks, x, W, sums, B, I, O)
            self._record("sum_of_few", 1, sums, chunks, out, B, O, *tail)
        else:
            self._product(x, W, out, *tail)
        if loop is None:
            self._fallback("activate", out, phi)
        return out

    def _tail(self, loop: Any, phi: Any, b: Array, out: Array, s: Array, factor: float) -> Any:
        """Return the address and the slots of out ← φ(factor out + b); NO_TAIL if it changes nothing."""
        if phi.name == "identity" and b is None and s is None and factor == 1:
            return NO_TAIL
        if loop is None:  # the tail adds b, and φ is a call
            loop = formulas.activation(self.dtype, unchanged, b is not None, s is not None, factor != 1)
        return loop.block, *formulas.slots(loop, out=out, b=b, s=s, factor=factor)

    def _activation(self, phi: Any, b: Array, s: Array, scaled: bool = False) -> Any:
        return loop_of(formulas.activation, self.dtype, phi.value, b is not None, s is not None, scaled)

    @checked(s="*!")
    def activate(self, s: Array, phi: Any) -> Array:
        if phi.name != "identity":
            loop = self._activation(phi, None, None)
            if loop is None:
                self._fallback("activate", s, phi)
            else:
                self._apply(loop, 1, s.size, out=s)
        return s

    @checked(da="*!", a="*", s="*?")
    def activation_backward(self, da: Array, a: Array, phi: Any, s: Array = None) -> Array:
        if phi.name == "identity":
            return da
        loop, of = loop_of(formulas.adjoint, self.dtype, phi.derivative), s if phi.needs_input else a
        if loop is None:
            self._fallback("activation_backward", da, a, phi, s)
        elif not self._fused_with_product(da, loop, of):
            self._apply(loop, 1, da.size, da=da, of=of)
        return da

    @checked(array="*")
    def _require_finite(self, array: Array) -> None:
        sums = self._scratch(SHARES * self.partition.threads, np.float64)
        loop = formulas.elementwise(self.dtype, "non_finite")
        self._record("refuse", 1, sums, self._apply(loop, 1, array.size, sums, x=array), self.failed)

    def affine_gradients(self, x: Array, delta: Array, dW: Array, db: Array) -> None:
        self.gemm(x.T, delta, out=dW)
        if db is not None:
            self.column_sum(delta, out=db)

    @checked(apart=True, A="BO", out="O!")
    def column_sum(self, A: Array, out: Array) -> Array:
        self._record("column_sum", self.partition.by_columns(A), A, out, *A.shape)
        return out

    @checked(apart=True, A="MK", B="KN", out="MN!")
    def gemm(self, A: Array, B: Array, out: Array) -> Array:
        require_numbers(A, B)
        self._product(A, B, out, *NO_TAIL)
        return out

    @checked(x="*", y="*", out="*!")
    def add(self, x: Array, y: Array, out: Array) -> Array:
        self._apply(formulas.elementwise(self.dtype, "add"), 1, out.size, x=x, y=y, out=out)
        return out

    @checked(array="*", out="*!")
    def copy(self, array: Array, out: Array) -> Array:
        self._apply(formulas.elementwise(self.dtype, "copy"), 1, out.size, x=array, out=out)
        return out

    @checked(total="*!", x="*")
    def add_scaled(self, total: Array, x: Array, factor: Any) -> None:
        _require_factor(factor)
        loop = formulas.elementwise(self.dtype, "add scaled")
        self._apply(loop, 1, total.size, total=total, x=x, factor=factor)

    @checked(x="*", out="*!")
    def scaled(self, x: Array, factor: Array, out: Array) -> Array:
        _require_factor(factor)
        self._apply(formulas.elementwise(self.dtype, "scale"), 1, out.size, x=x, factor=factor, out=out)
        return out

    @checked(out="BI!")
    def dropout_mask(
        self, rate: float, seed: int, step: Array, layer: int, row: int, out: Array, factor: Array = None
    ) -> Array:
        if not isinstance(step, np.ndarray) or (step.dtype, step.size) != (np.dtype(np.int64), 1):
            raise NotRecordedError("the step is no int64 (1,)")
        if factor is not None and (factor.shape, factor.dtype) != ((1,), FLOAT):
            raise NotRecordedError("the factor is no float64 (1,)")
        keep, key = float(1.0 / (1.0 - rate)), (seed & MASK, (seed >> 32) & MASK)
        operands = keep, threshold(rate), *key, step, layer, row, out, *out.shape, factor, float(rate)
        self._record("dropout_mask", self.partition.by_rows(out, COSTLY), *operands)
        return out

    @checked(x="*", mask="*", out="*!")
    def dropout(self, x: Array, mask: Array, out: Array) -> Array:
        self._apply(formulas.elementwise(self.dtype, "multiply"), 1, out.size, x=x, y=mask, out=out)
        return out

    dropout_forward, dropout_backward = Backend.dropout_forward, Backend.dropout_backward


def _require_factor(factor: Any) -> None:
    """Raise NotRecordedError unless a command can read this factor, which may change between two replays."""
    if not isinstance(factor, np.ndarray) or (factor.shape, factor.dtype) != ((1,), FLOAT):
        raise NotRecordedError("there is no command for a factor that is not float64 (1,)")


def _fit(rows: Any, index: Array, out: Array, *statistics: Array) -> bool:
    """Return whether the command of `take` can read these rows."""
    given = [each for each in statistics if each is not None]
    kind, size = rows.dtype.kind, rows.dtype.itemsize
    if not isinstance(rows, np.ndarray) or not rows.dtype.isnative:
        return False
    number, shape = kind in "iu" or (kind == "f" and size in (4, 8)), out.shape
    of_columns = all((each.dtype, each.shape) == (FLOAT, shape[1:]) for each in given)
    return number and of_columns and (rows.shape[1:], index.shape) == (shape[1:], shape[:1])


def unchanged(xp: Any, s: Array) -> Array:
    return s
