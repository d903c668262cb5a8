"""BatchNorm over a batch whose rows lie on several ranks: the statistics of all rows.

    μ = Σ_r Σ x / N        σ² = Σ_r Σ (x − μ)² / N        N = rows of the whole batch

    dx = (dx̂ − gain ⊙ Σ_r Σ da / N − x̂ gain ⊙ Σ_r Σ da ⊙ x̂ / N) / √(σ² + ε)        dx̂ = da ⊙ gain

so two small sums forward and one backward. dgain and dbias stay this rank's share, like every other gradient.
"""

from collections.abc import Callable
from typing import Any

from ffnn_gpu.arrays.precision import in_float32, wide
from ffnn_gpu.backends.reference import normalization
from ffnn_gpu.backends.reference.backend import Array, Backend
from ffnn_gpu.distributed.communicator import Communicator
from ffnn_gpu.nn.network import Network


class GlobalBatch:
    """The operations of `backend`, with BatchNorm's sums taken over the ranks.

    Attributes:
        rows: the number of rows of the whole batch; set it before each pass. A rank without rows takes part
            in the sums.
    """

    def __init__(self, backend: Backend, communicator: Communicator) -> None:
        self._backend, self._communicator, self.rows = backend, communicator, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def run_step(self, code: Callable[..., Any], network: Network, *args: Any) -> Any:
        """Run the step, unrecorded if a layer has statistics: a recording would use this rank's rows."""
        if len(network.params.state):
            return code(network, *args)
        return self._backend.run_step(code, network, *args)

    def batch_rows(self, here: int) -> int:
        return self.rows

    batch_norm = normalization.batch_norm

    def standardize(self, x: Array, axis: int, eps: float, xhat: Array, rstd: Array) -> tuple[Array, Array]:
        """Compute Backend.standardize for axis 0 with the statistics of all ranks' rows, formula above."""
        mu = self._sum(x.sum(axis=0, dtype=wide(x.dtype))) / self.rows
        centred = x - mu
        sigma2 = self._sum((centred * centred).sum(axis=0)) / self.rows
        rstd[...] = factor = (sigma2 + eps) ** -0.5
        xhat[...] = centred * factor
        return mu[None], sigma2[None]

    @in_float32("da", "dgain", "dbias", "dx")
    def batch_norm_backward(
        self, da: Array, gain: Array, xhat: Array, rstd: Array, dgain: Array, dbias: Array, dx: Array | None
    ) -> Array:
        """Compute Backend.batch_norm_backward over all ranks' rows, formula above; da is overwritten."""
        kind = wide(da.dtype)
        sums = self._backend.zeros((2, da.shape[1]), kind)
        sums[0], sums[1] = da.sum(axis=0, dtype=kind), (da * xhat).sum(axis=0, dtype=kind)
        dbias[...], dgain[...] = sums[0], sums[1]
        if dx is None:
            return None
        means = self._sum(sums) * gain / self.rows
        dx[...] = (da * gain - means[0] - xhat * means[1]) * rstd
        return dx

    def _sum(self, sums: Array) -> Array:
        self._communicator.all_reduce(sums.reshape(-1))
        return sums
