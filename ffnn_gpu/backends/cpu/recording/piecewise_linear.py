"""Piecewise linear embeddings as commands."""

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.cpu.recording.arguments import NotRecordedError, checked
from ffnn_gpu.backends.cpu.recording.commands import Commands, require_numbers
from ffnn_gpu.backends.reference.piecewise_linear import Bins


class PiecewiseLinearOperations(Commands):
    """Embeddings of columns of numbers by bins, and their adjoints."""

    @checked(apart=True, x="BI", w="P", c="P", V="QD", out="BO!")
    def piecewise_linear(self, x: Array, w: Array, c: Array, V: Array, bins: Bins, out: Array) -> Array:
        self._require_bins(x, w, V, bins, out)
        chunks = self.partition.chunks(2 * len(x) * w.size, len(bins.counts))
        operands = x, w, c, V, bins.lower, bins.inverse, bins.counts, out
        self._record("piecewise_linear", chunks, *operands, *x.shape, *bins.lower.shape, V.shape[1])
        return out

    @checked(apart=True, da="BO", x="BI", w="P", V="QD", dw="P!", dc="P!", dV="QD!", dx="BI!?")
    def piecewise_linear_backward(
        self,
        da: Array,
        x: Array,
        w: Array,
        V: Array,
        bins: Bins,
        dw: Array,
        dc: Array,
        dV: Array,
        dx: Array | None,
    ) -> Array | None:
        self._require_bins(x, w, V, bins, da)
        chunks = self.partition.chunks(4 * len(x) * w.size, len(bins.counts))
        operands = da, x, w, V, bins.lower, bins.inverse, bins.counts, dw, dc, dV, dx
        self._record("piecewise_linear_backward", chunks, *operands, *x.shape, *bins.lower.shape, V.shape[1])
        return dx

    def _require_bins(self, x: Array, w: Array, V: Array, bins: Bins, outer: Array) -> None:
        """Raise NotRecordedError unless the parameters, the output and the bins have sizes that fit."""
        (F, T), D = bins.lower.shape, V.shape[1]
        require_numbers(outer)
        fit = len(V) == F * T and w.size == F * D and outer.shape[1] == F * D + x.shape[1] - F
        if not fit or x.shape[1] < F or bins.lower.dtype != self.dtype:
            raise NotRecordedError(
                f"bins of shape {(F, T)} do not fit V {V.shape} and the output {outer.shape}"
            )
