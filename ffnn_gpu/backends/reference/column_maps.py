"""A linear map for each column, and its adjoint. Methods of `Backend`, which the embeddings of numbers share.

Why no matrix product here: a CUDA graph cannot contain CuPy's, and these are small. There are D sums instead.
"""

from typing import TYPE_CHECKING

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.arrays.precision import wide

if TYPE_CHECKING:
    from ffnn_gpu.backends.reference.backend import Backend


def map_columns(self: "Backend", z: Array, maps: Array) -> Array:
    """e_bf = z_bf M_f        z (B, F, K), maps (F, K, D); return a new array (B, F, D)"""
    e = self.empty((*z.shape[:2], maps.shape[2]), z.dtype)
    for d in range(maps.shape[2]):
        e[:, :, d] = self.xp.sum(z * maps[:, :, d], axis=2)
    return e


def map_columns_backward(self: "Backend", de: Array, z: Array, maps: Array, dmaps: Array) -> Array:
    """dM_f = Σ_b z_bfᵀ de_bf        return dz_bf = de_bf M_fᵀ, a new array (B, F, K)"""
    dz = self.zeros(z.shape, z.dtype)
    for d in range(maps.shape[2]):
        dmaps[:, :, d] = self.xp.sum(z * de[:, :, d, None], axis=0, dtype=wide(z.dtype))
        dz += de[:, :, d, None] * maps[:, :, d]
    return dz
