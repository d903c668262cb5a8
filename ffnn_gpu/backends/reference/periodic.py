"""Periodic embeddings of columns of numbers, and their adjoints. Methods of `Backend`.

x (B, I) has F columns to embed, then others. Column f has K frequencies w_f and phases b_f, so its waves are
z_fk = cos(2π w_fk x_f + b_fk). Neither form keeps the waves for the backward pass: computing them again takes
less time than reading them from memory.
"""

import math
from typing import TYPE_CHECKING, Any

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.arrays.precision import in_float32, underflow_is_zero, wide

if TYPE_CHECKING:
    from ffnn_gpu.backends.reference.backend import Backend

TURN = 2 * math.pi


def angles(x: Array, w: Array, b: Array) -> Any:
    """2π w x + b        (B, F, K)"""
    return x[:, : len(w), None] * (TURN * w) + b


@underflow_is_zero
@in_float32("out")
def periodic(self: "Backend", x: Array, w: Array, b: Array, A: Array, c: Array, out: Array) -> Array:
    """out = (z_1 A_1 + c_1, …, z_F A_F + c_F, x)        w, b (F, K), A (F K, D), c (F, D), out (B, F D + I)

    A_f are the rows f K … (f + 1) K of A.
    """
    F, D = c.shape
    z = self.xp.cos(angles(x, w, b))
    e = self.map_columns(z, A.reshape(*w.shape, D)) + c
    out[:, : F * D], out[:, F * D :] = e.reshape(len(x), F * D), x
    return out


@underflow_is_zero
@in_float32("dw", "db", "dA", "dc", "dx")
def periodic_backward(
    self: "Backend",
    da: Array,
    x: Array,
    w: Array,
    b: Array,
    A: Array,
    dw: Array,
    db: Array,
    dA: Array,
    dc: Array,
    dx: Array | None,
) -> Array | None:
    """With da = (de_1, …, de_F, dx̃) and the angles θ_f: dA_f = z_fᵀ de_f,  dc = Σ_B de,

    dθ_f = −sin θ_f ⊙ (de_f A_fᵀ),  db = Σ_B dθ,  dw_f = 2π Σ_B x_f dθ_f,  dx_f = dx̃_f + 2π dθ_f w_f
    """
    xp, (F, D) = self.xp, dc.shape
    theta, de = angles(x, w, b), da[:, : F * D].reshape(len(x), F, D)
    dc[...] = xp.sum(de, axis=0, dtype=wide(x.dtype))
    dz = self.map_columns_backward(de, xp.cos(theta), A.reshape(*w.shape, D), dA.reshape(*w.shape, D))
    dtheta = -xp.sin(theta) * dz
    slopes(self, x, w, dtheta, dw, db)
    return gradient_of_columns(self, da[:, F * D :], w, dtheta, dx)


def slopes(self: "Backend", x: Array, w: Array, dtheta: Array, dw: Array, db: Array) -> None:
    """db = Σ_B dθ        dw_f = 2π Σ_B x_f dθ_f"""
    sums = wide(x.dtype)
    db[...] = self.xp.sum(dtheta, axis=0, dtype=sums)
    dw[...] = TURN * self.xp.sum(dtheta * x[:, : len(w), None], axis=0, dtype=sums)


def gradient_of_columns(
    self: "Backend", direct: Array, w: Array, dtheta: Array, dx: Array | None
) -> Array | None:
    """dx = direct, and for the F columns also 2π Σ_k w_k dθ_k; return dx"""
    if dx is not None:
        dx[...] = direct
        dx[:, : len(w)] += TURN * self.xp.sum(dtheta * w, axis=2)
    return dx


@underflow_is_zero
@in_float32("out")
def cosines(self: "Backend", x: Array, w: Array, b: Array, gain: Array, bias: Array, out: Array) -> Array:
    """out = (gain_1 ⊙ v_1 + bias_1, …, x_{F+1}, …)        v_f = (x_f, cos 2π(w_f x_f + b_f))

    w (F, K), b (F K,), gain (F, D), D = K + 1, bias (F D,), out (B, F D + I − F)
    """
    F, D = gain.shape
    v = _with_column(self, x, self.xp.cos(angles(x, w, TURN * b.reshape(w.shape))))
    out[:, : F * D] = (gain * v + bias.reshape(F, D)).reshape(len(x), F * D)
    out[:, F * D :] = x[:, F:]
    return out


@underflow_is_zero
@in_float32("dw", "db", "dgain", "dbias", "dx")
def cosines_backward(
    self: "Backend",
    da: Array,
    x: Array,
    w: Array,
    b: Array,
    gain: Array,
    dw: Array,
    db: Array,
    dgain: Array,
    dbias: Array,
    dx: Array | None,
) -> Array | None:
    """With da = (de_1, …, de_F, dx̃) and the angles θ_f: dgain_f = Σ_B de_f ⊙ v_f,  dbias = Σ_B de,

    dθ_fk = −sin θ_fk gain_fk de_fk,  db = 2π Σ_B dθ,  dw_f = 2π Σ_B x_f dθ_f,
    dx_f = gain_f0 de_f0 + 2π dθ_f w_f
    """
    xp, (F, D), sums = self.xp, gain.shape, wide(x.dtype)
    theta, de = angles(x, w, TURN * b.reshape(w.shape)), da[:, : F * D].reshape(len(x), F, D)
    dgain[...] = xp.sum(de * _with_column(self, x, xp.cos(theta)), axis=0, dtype=sums)
    dbias[...] = xp.sum(de, axis=0, dtype=sums).reshape(F * D)
    dtheta = -xp.sin(theta) * (gain[:, 1:] * de[:, :, 1:])
    db[...] = TURN * xp.sum(dtheta, axis=0, dtype=sums).reshape(db.shape)
    dw[...] = TURN * xp.sum(dtheta * x[:, :F, None], axis=0, dtype=sums)
    if dx is not None:
        dx[:, :F] = gain[:, 0] * de[:, :, 0] + TURN * xp.sum(dtheta * w, axis=2)
        dx[:, F:] = da[:, F * D :]
    return dx


def _with_column(self: "Backend", x: Array, z: Array) -> Any:
    """v_f = (x_f, z_f)        (B, F, 1 + K)"""
    return self.xp.concatenate([x[:, : z.shape[1], None], z], axis=2)
