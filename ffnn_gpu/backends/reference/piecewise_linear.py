"""Piecewise linear embeddings of columns of numbers, and their adjoints. Methods of `Backend`.

x (B, I) has F columns to embed, then others. Column f has up to T bins with the lower ends l_ft and the
widths 1/i_ft, so its encoding is p_ft = min(max((x_f − l_ft) i_ft, low_ft), high_ft). low is 0 but −∞ in the
first bin, high is 1 but ∞ in the last one. A column of fewer bins has i = 0 in the rest, where p is 0.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.arrays.precision import in_float32, underflow_is_zero, wide

if TYPE_CHECKING:
    from ffnn_gpu.backends.reference.backend import Backend


class Bins(NamedTuple):
    """The bins of F columns on a device: arrays (F, T) of the master type, and their numbers (F,)."""

    lower: Array
    inverse: Array
    low: Array
    high: Array
    counts: Array  # int64


def _encoding(xp: Any, x: Array, bins: Bins) -> tuple[Any, Any]:
    """Return p (B, F, T) and its derivative, which is the left-hand one at the end of a bin."""
    raw = (x[:, : len(bins.lower), None] - bins.lower) * bins.inverse
    inside = (raw > bins.low) & (raw <= bins.high)
    return xp.minimum(xp.maximum(raw, bins.low), bins.high), xp.where(inside, bins.inverse, 0 * bins.inverse)


@underflow_is_zero
@in_float32("out")
def piecewise_linear(
    self: "Backend", x: Array, w: Array, c: Array, V: Array, bins: Bins, out: Array
) -> Array:
    """out = (w_1 x_1 + c_1 + p_1 V_1, …, x_{F+1}, …)

    w, c (F D,), V (F T, D): the rows of V_1, then those of V_2, …        out (B, F D + I − F)
    """
    (F, T), D = bins.lower.shape, V.shape[1]
    e = self.map_columns(_encoding(self.xp, x, bins)[0], V.reshape(F, T, D))
    e = x[:, :F, None] * w.reshape(F, D) + c.reshape(F, D) + e
    out[:, : F * D] = e.reshape(len(x), F * D)
    out[:, F * D :] = x[:, F:]
    return out


@underflow_is_zero
@in_float32("dw", "dc", "dV", "dx")
def piecewise_linear_backward(
    self: "Backend",
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
    """dw_f = Σ_B x_f de_f,  dc = Σ_B de,  dV_f = p_fᵀ de_f,  dx_f = de_f · (w_f + p_f′ V_f)"""
    xp, (F, T), D, sums = self.xp, bins.lower.shape, V.shape[1], wide(x.dtype)
    p, slope = _encoding(xp, x, bins)
    de = da[:, : F * D].reshape(len(x), F, D)
    dw[...] = xp.sum(x[:, :F, None] * de, axis=0, dtype=sums).reshape(F * D)
    dc[...] = xp.sum(de, axis=0, dtype=sums).reshape(F * D)
    dp = self.map_columns_backward(de, p, V.reshape(F, T, D), dV.reshape(F, T, D))
    if dx is not None:
        dx[:, :F] = xp.sum(de * w.reshape(F, D), axis=2) + xp.sum(dp * slope, axis=2)
        dx[:, F:] = da[:, F * D :]
    return dx
