"""Layer and batch normalization as commands."""

from typing import Any

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.cpu.loops.normalization import BLOCK
from ffnn_gpu.backends.cpu.recording.arguments import checked
from ffnn_gpu.backends.cpu.recording.commands import FLOAT, Commands, require_numbers
from ffnn_gpu.backends.cpu.recording.partition import COSTLY


class NormalizationOperations(Commands):
    """Operations of normalization layers."""

    @checked(x="BI", gain="I", bias="I", out="BI!", xhat="BI!?", rstd="B!?")
    def layer_norm(self, x: Any, gain: Any, bias: Any, eps: float, out: Any, xhat: Any, rstd: Any) -> Array:
        xhat = out if xhat is None else xhat
        operands = x, gain, bias, float(eps), out, xhat, rstd, *x.shape
        self._record("layer_norm", self.partition.by_rows(x, COSTLY), *operands)
        return out

    @checked(x="BI", gain="I", bias="I", out="BI!", xhat="BI!", rstd="I!", mean="I!", variance="I!")
    def batch_norm(
        self,
        x: Array,
        gain: Array,
        bias: Array,
        eps: float,
        out: Array,
        xhat: Array,
        rstd: Array,
        mean: Array,
        variance: Array,
    ) -> Array:
        require_numbers(x)
        sums, across, blocks = self._sums_of_blocks(x)
        self._record("moments", across * blocks, x, sums, across, *x.shape)
        self._record("merge_moments", 1, sums, float(eps), rstd, mean, variance, x, *x.shape)
        self._record("batch_norm", self.partition.by_rows(x), x, gain, bias, out, xhat, sums, *x.shape)
        return out

    def _sums_of_blocks(self, x: Array) -> tuple[Array, int, int]:
        """Return memory for two sums over the columns of each block, the parts of a block, and the blocks."""
        blocks = max(1, -(-len(x) // BLOCK))
        return (
            self._scratch(2 * blocks * x.shape[1], FLOAT),
            -(-self.partition.by_columns(x) // blocks),
            blocks,
        )

    def _sums_of_columns(self, da: Array, xhat: Array, dgain: Array, dbias: Array) -> None:
        sums, across, blocks = self._sums_of_blocks(da)
        self._record("sums_of_columns", across * blocks, da, xhat, sums, across, *da.shape)
        self._record("merge_sums", 1, sums, dgain, dbias, *da.shape)

    @checked(x="BI", gain="I", bias="I", out="BI!", mean="I", variance="I")
    def batch_norm_inference(
        self, x: Array, gain: Array, bias: Array, eps: float, out: Array, mean: Array, variance: Array
    ) -> Array:
        operands = x, gain, bias, float(eps), out, mean, variance, *x.shape
        self._record("batch_norm_inference", self.partition.by_rows(x), *operands)
        return out

    @checked(da="BI!", gain="I", xhat="BI", rstd="B", dgain="I!", dbias="I!", dx="BI!?")
    def layer_norm_backward(
        self, da: Array, gain: Array, xhat: Array, rstd: Array, dgain: Array, dbias: Array, dx: Array
    ) -> Array | None:
        self._sums_of_columns(da, xhat, dgain, dbias)
        if dx is not None:
            operands = da, gain, xhat, rstd, dx, *da.shape
            self._record("layer_norm_backward", self.partition.by_rows(da, COSTLY), *operands)
        return dx

    @checked(da="BI!", gain="I", xhat="BI", rstd="I", dgain="I!", dbias="I!", dx="BI!?")
    def batch_norm_backward(
        self, da: Array, gain: Array, xhat: Array, rstd: Array, dgain: Array, dbias: Array, dx: Array
    ) -> Array | None:
        self._sums_of_columns(da, xhat, dgain, dbias)
        if dx is not None:
            operands = da, gain, xhat, rstd, dgain, dbias, dx, *da.shape
            self._record("batch_norm_backward", self.partition.by_rows(da), *operands)
        return dx

    def running_statistics(
        self, mean: Array, variance: Array, rows: int, momentum: float, *running: Array
    ) -> None:
        unbiased = rows / (rows - 1)
        for average, of_batch, factor in zip(running, (mean, variance), (1.0, unbiased), strict=True):
            self._average(average, of_batch, 1.0 - momentum, factor)
