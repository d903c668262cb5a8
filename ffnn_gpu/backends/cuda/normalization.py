"""The operations of reference/normalization.py as kernels, with statistics in float64. See operations.py."""

from typing import TYPE_CHECKING, Any

from numpy import float64, int32, int64

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.arrays.precision import master

if TYPE_CHECKING:
    from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend


def layer_norm(
    self: "CupyBackend", x: Array, gain: Array, bias: Array, eps: float, out: Array, xhat: Array, rstd: Array
) -> Array:
    S = self.suffix(x, gain, bias, out, xhat, wide=(rstd,))
    B, I = x.shape
    self.kernels.rows(f"layer_norm_{S}", B, x, gain, bias, out, xhat, rstd, int32(B), int32(I), float64(eps))
    return out


def layer_norm_backward(
    self: "CupyBackend", da: Any, gain: Any, xhat: Any, rstd: Any, dgain: Any, dbias: Any, dx: Any | None
) -> Array | None:
    S = self.suffix(da, gain, xhat, dx, wide=(rstd, dgain, dbias))
    _gain_and_bias(self, S, da, xhat, dgain, dbias)
    if dx is not None:
        B, I = da.shape
        self.kernels.rows(f"layer_norm_backward_{S}", B, da, gain, xhat, rstd, dx, int32(B), int32(I))
    return dx


def batch_norm(
    self: "CupyBackend",
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
    S = self.suffix(x, gain, bias, out, xhat, wide=(rstd, mean, variance))
    k, (B, I), slabs = self.kernels, x.shape, self.kernels.slabs(*x.shape)[0]
    partial, mu, factor = k.scratch("columns", slabs * I), k.scratch("first", I), k.scratch("second", I)
    k.columns(S, x, None, None, partial, None)  # μ = Σ x / B
    k.rows(f"slab_sums_{S}", I, partial, int32(slabs), int32(I), float64(1 / B), mu, None)
    k.columns(S, x, None, mu, None, partial)  # σ² = Σ (x − μ)² / B
    statistics = int32(slabs), mu, factor, mean, variance, rstd, int64(B), int32(I), float64(eps)
    k.rows(f"batch_norm_finish_{S}", I, partial, *statistics)
    k.each(f"batch_norm_apply_{S}", x.size, x, mu, factor, gain, bias, out, xhat, int64(x.size), int32(I))
    return out


def batch_norm_inference(
    self: "CupyBackend", x: Any, gain: Any, bias: Any, eps: float, out: Any, mean: Any, variance: Any
) -> Array:
    S = self.suffix(x, gain, bias, out, wide=(mean, variance))
    scalars = int64(x.size), int32(x.shape[1]), master(x.dtype).type(eps)
    self.kernels.each(f"batch_norm_inference_{S}", x.size, x, gain, bias, mean, variance, out, *scalars)
    return out


def batch_norm_backward(
    self: "CupyBackend", da: Any, gain: Any, xhat: Any, rstd: Any, dgain: Any, dbias: Any, dx: Any | None
) -> Array | None:
    S = self.suffix(da, gain, xhat, dx, wide=(rstd, dgain, dbias))
    sums = _gain_and_bias(self, S, da, xhat, dgain, dbias)
    if dx is not None:
        B, I = da.shape
        arrays = da, gain, xhat, rstd, *sums, dx
        self.kernels.each(f"batch_norm_backward_{S}", da.size, *arrays, int64(B), int32(I))
    return dx


def _gain_and_bias(
    self: "CupyBackend", S: str, da: Array, xhat: Array, dgain: Array, dbias: Array
) -> tuple[Array, Array]:
    """dbias = Σ_B da, dgain = Σ_B da ⊙ x̂. Return the same sums in float64."""
    k, I, slabs = self.kernels, da.shape[1], self.kernels.slabs(*da.shape)[0]
    sums = k.scratch("first", I), k.scratch("second", I)
    partials = k.scratch("columns", slabs * I), k.scratch("products", slabs * I)
    k.columns(S, da, xhat, None, *partials)
    for partial, wide, out in zip(partials, sums, (dbias, dgain), strict=True):
        k.rows(f"slab_sums_{S}", I, partial, int32(slabs), int32(I), float64(1), wide, out)
    return sums
