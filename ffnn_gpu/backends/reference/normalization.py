"""Layer and batch normalization, forward and backward.

With x̂ = (x − μ)/√(σ² + ε) over an axis of N elements, both have the adjoint

    dx = (dx̂ − mean(dx̂) − x̂ mean(dx̂ ⊙ x̂)) / √(σ² + ε)        dx̂ = da ⊙ gain

Statistics are kept in float64: the float32 standard deviation of a constant column of 10⁴ is 131.7, not 0.
"""

from typing import Any

from ffnn_gpu.arrays.precision import in_float32, wide


class Normalizations:
    xp: Any
    column_sum: Any

    def standardize(self, x: Any, axis: int, eps: float, xhat: Any, rstd: Any | None) -> tuple[Any, Any]:
        """xhat = (x − μ) rstd,  rstd = 1/√(σ² + ε) along `axis`, kept if not None; returns (μ, σ²) in float64.

        σ² is the biased variance, taken about the mean in a second pass.
        """
        xp = self.xp
        mean = xp.mean(x, axis=axis, keepdims=True, dtype=wide(x.dtype))
        centred = x - mean
        variance = xp.mean(centred * centred, axis=axis, keepdims=True)
        factor = 1 / xp.sqrt(variance + eps)
        xhat[...] = centred * factor
        if rstd is not None:
            rstd[...] = factor.reshape(rstd.shape)
        return mean, variance

    def standardize_backward(self, dxhat: Any, xhat: Any, rstd: Any, axis: int, out: Any) -> Any:
        """out = (dx̂ − mean(dx̂) − x̂ mean(dx̂ ⊙ x̂)) rstd along `axis`; out may be dxhat."""
        xp, sums = self.xp, wide(xhat.dtype)
        mean = xp.mean(dxhat, axis=axis, keepdims=True, dtype=sums)
        slope = xp.mean(dxhat * xhat, axis=axis, keepdims=True, dtype=sums)
        out[...] = (dxhat - mean - xhat * slope) * (rstd if axis == 0 else rstd[:, None])
        return out

    @in_float32("out", "xhat", "rstd")
    def layer_norm(
        self, x: Any, gain: Any, bias: Any, eps: float, out: Any, xhat: Any | None, rstd: Any | None
    ) -> Any:
        """out = x̂ ⊙ gain + bias, statistics over each row.        xhat (B, I) and rstd (B,) are kept if not None.

        Reference: Ba, Kiros, Hinton, Layer Normalization (2016), eq. 3.
        """
        xhat = out if xhat is None else xhat
        self.standardize(x, 1, eps, xhat, rstd)
        out[...] = xhat * gain + bias
        return out

    @in_float32("da", "dgain", "dbias", "dx")
    def layer_norm_backward(
        self, da: Any, gain: Any, xhat: Any, rstd: Any, dgain: Any, dbias: Any, dx: Any | None
    ) -> Any:
        """dgain = Σ_B da ⊙ x̂,  dbias = Σ_B da,  dx as in the module's formula over each row; da is overwritten."""
        return self._normalization_backward(1, da, gain, xhat, rstd, dgain, dbias, dx)

    @in_float32("out", "xhat", "rstd", "mean", "variance")
    def batch_norm(
        self,
        x: Any,
        gain: Any,
        bias: Any,
        eps: float,
        out: Any,
        xhat: Any,
        rstd: Any,
        mean: Any,
        variance: Any,
    ) -> Any:
        """out = x̂ ⊙ gain + bias, statistics over the batch; mean and variance (I,) receive them.

        Reference: Ioffe, Szegedy, Batch Normalization (2015), algorithm 1.
        """
        mu, sigma2 = self.standardize(x, 0, eps, xhat, rstd)
        mean[...], variance[...] = mu[0], sigma2[0]
        out[...] = xhat * gain + bias
        return out

    @in_float32("out")
    def batch_norm_inference(
        self, x: Any, gain: Any, bias: Any, eps: float, out: Any, mean: Any, variance: Any
    ) -> Any:
        """out = (x − mean)/√(variance + ε) ⊙ gain + bias with the given statistics."""
        out[...] = (x - mean) * (gain / self.xp.sqrt(variance + eps)) + bias
        return out

    @in_float32("da", "dgain", "dbias", "dx")
    def batch_norm_backward(
        self, da: Any, gain: Any, xhat: Any, rstd: Any, dgain: Any, dbias: Any, dx: Any | None
    ) -> Any:
        """dgain = Σ_B da ⊙ x̂,  dbias = Σ_B da,  dx as in the module's formula over the batch; da is overwritten."""
        return self._normalization_backward(0, da, gain, xhat, rstd, dgain, dbias, dx)

    def batch_rows(self, here: int) -> int:
        """How many rows the batch has over which BatchNorm takes its statistics, of which `here` lie here."""
        return here

    def running_statistics(
        self, mean: Any, variance: Any, rows: int, momentum: float, running_mean: Any, running_variance: Any
    ) -> None:
        """running ← (1 − momentum) running + momentum batch, with the unbiased variance B/(B − 1) σ²."""
        running_mean += momentum * (mean - running_mean)
        unbiased = rows / (rows - 1) if rows > 1 else 1.0
        running_variance += momentum * (unbiased * variance - running_variance)

    def _normalization_backward(
        self, axis: int, da: Any, gain: Any, xhat: Any, rstd: Any, dgain: Any, dbias: Any, dx: Any | None
    ) -> Any:
        self.column_sum(da * xhat, out=dgain)
        self.column_sum(da, out=dbias)
        if dx is None:
            return None
        da *= gain
        return self.standardize_backward(da, xhat, rstd, axis, out=dx)
