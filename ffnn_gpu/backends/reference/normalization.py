"""Layer and batch normalization, forward and backward. Methods of `Backend`.

With x̂ = (x − μ)/√(σ² + ε) over an axis of N elements, both have the adjoint

    dx = (dx̂ − mean(dx̂) − x̂ mean(dx̂ ⊙ x̂)) / √(σ² + ε)        dx̂ = da ⊙ gain

Why statistics in float64: the float32 standard deviation of a constant column of 10⁴ is 131.7, not 0.
"""

from typing import TYPE_CHECKING, Any

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.arrays.precision import in_float32, wide

if TYPE_CHECKING:
    from ffnn_gpu.backends.reference.backend import Backend


def standardize(
    self: "Backend", x: Array, axis: int, eps: float, xhat: Array, rstd: Array | None
) -> tuple[Array, Array]:
    """xhat = (x − μ) rstd,  rstd = 1/√(σ² + ε) along `axis`, stored if not None. Return (μ, σ²) in float64.

    σ² is the biased variance, computed about the mean in a second pass.
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


def standardize_backward(
    self: "Backend", dxhat: Array, xhat: Array, rstd: Array, axis: int, out: Array
) -> Array:
    """out = (dx̂ − mean(dx̂) − x̂ mean(dx̂ ⊙ x̂)) rstd along `axis`; out may be dxhat."""
    xp, sums = self.xp, wide(xhat.dtype)
    mean = xp.mean(dxhat, axis=axis, keepdims=True, dtype=sums)
    slope = xp.mean(dxhat * xhat, axis=axis, keepdims=True, dtype=sums)
    out[...] = (dxhat - mean - xhat * slope) * (rstd if axis == 0 else rstd[:, None])
    return out


@in_float32("out", "xhat", "rstd")
def layer_norm(
    self: "Backend", x: Array, gain: Array, bias: Array, eps: float, out: Array, xhat: Array, rstd: Array
) -> Array:
    """out = x̂ ⊙ gain + bias with statistics over each row.        xhat (B, I), rstd (B,): stored if not None

    Reference: Ba, Kiros, Hinton: Layer Normalization (2016), eq. 3.
    """
    xhat = out if xhat is None else xhat
    self.standardize(x, 1, eps, xhat, rstd)
    out[...] = xhat * gain + bias
    return out


@in_float32("out", "xhat", "rstd", "mean", "variance")
def batch_norm(
    self: "Backend",
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
    """out = x̂ ⊙ gain + bias with statistics over the batch, which are stored in mean and variance (I,).

    Reference: Ioffe, Szegedy: Batch Normalization (2015), algorithm 1.
    """
    mu, sigma2 = self.standardize(x, 0, eps, xhat, rstd)
    mean[...], variance[...] = mu[0], sigma2[0]
    out[...] = xhat * gain + bias
    return out


@in_float32("out")
def batch_norm_inference(
    self: "Backend", x: Array, gain: Array, bias: Array, eps: float, out: Array, mean: Array, variance: Array
) -> Array:
    """out = (x − mean)/√(variance + ε) ⊙ gain + bias with the given statistics."""
    out[...] = (x - mean) * (gain / self.xp.sqrt(variance + eps)) + bias
    return out


@in_float32("da", "dgain", "dbias", "dx")
def layer_norm_backward(
    self: "Backend", da: Any, gain: Any, xhat: Any, rstd: Any, dgain: Any, dbias: Any, dx: Any | None
) -> Array | None:
    """dgain = Σ_B da ⊙ x̂,  dbias = Σ_B da,  dx by the module's formula over each row; da is overwritten."""
    return _backward(self, 1, da, gain, xhat, rstd, dgain, dbias, dx)


@in_float32("da", "dgain", "dbias", "dx")
def batch_norm_backward(
    self: "Backend", da: Any, gain: Any, xhat: Any, rstd: Any, dgain: Any, dbias: Any, dx: Any | None
) -> Array | None:
    """dgain = Σ_B da ⊙ x̂,  dbias = Σ_B da,  dx by the module's formula over the batch; da is overwritten."""
    return _backward(self, 0, da, gain, xhat, rstd, dgain, dbias, dx)


def _backward(
    self: "Backend", axis: int, da: Any, gain: Any, xhat: Any, rstd: Any, dgain: Any, dbias: Any, dx: Any
) -> Any:
    self.column_sum(da * xhat, out=dgain)
    self.column_sum(da, out=dbias)
    if dx is None:
        return None
    da *= gain
    return self.standardize_backward(da, xhat, rstd, axis, out=dx)


def batch_rows(self: "Backend", here: int) -> int:
    """Return the number of rows in the whole batch, `here` of which are on this rank."""
    return here


def running_statistics(
    self: "Backend", mean: Array, variance: Array, rows: int, momentum: float, *running: Array
) -> None:
    """running ← (1 − momentum) running + momentum batch, with the unbiased variance B/(B − 1) σ².

    rows: B, at least 2. running: the moving mean and variance.
    """
    running_mean, running_variance = running
    running_mean += momentum * (mean - running_mean)
    unbiased = rows / (rows - 1)
    running_variance += momentum * (unbiased * variance - running_variance)
