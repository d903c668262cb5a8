"""The update rules of updates.py as kernels: one pass over θ, ∇θ and the moments."""

from typing import Any

from numpy import float64, int32, int64

from ffnn_gpu.backend.kernels import KernelBackend


class FusedUpdates(KernelBackend):
    """Update rules by kernels where they fit, else by their formulas."""

    def advance(self, scalars: Any, step: Any) -> None:
        if not self.use_kernels: return super().advance(scalars, step)
        return self.kernels.once("advance", scalars, step)

    def advance_product(self, scalars: Any, beta1: float, psi: float) -> None:
        if not self.use_kernels: return super().advance_product(scalars, beta1, psi)
        return self.kernels.once("advance_product", scalars, float64(beta1), float64(psi))

    def clip_by_norm(self, grad: Any, limit: float) -> None:
        S = self._suffix(grad)
        if S is None: return super().clip_by_norm(grad, limit)
        factor, n = self.kernels.scratch("factor", 1), int64(grad.size)
        self.kernels.total(f"norm_factor_{S}", grad.size, grad, n, float64(limit), factor)
        return self.kernels.each(f"scale_by_{S}", grad.size, grad, n, factor)

    def penalize(self, theta: Any, grad: Any, l2: float, l1: float) -> None:
        S = self._suffix(theta, grad)
        if S is None: return super().penalize(theta, grad, l2, l1)
        real = grad.dtype.type
        return self.kernels.each(f"penalize_{S}", grad.size, theta, grad, int64(grad.size), real(l2), real(l1))

    def decay(self, theta: Any, scalars: Any, rate: float) -> None:
        S = self._suffix(theta)
        if S is None: return super().decay(theta, scalars, rate)
        return self.kernels.each(f"decay_{S}", theta.size, theta, int64(theta.size), scalars, float64(rate))

    def _rule(self, name: str, S: str, theta: Any, grad: Any, scalars: Any, *own: Any) -> None:
        """The kernel of a rule, without a 16-bit copy of θ, a clipping factor or a mark of overflow."""
        n = theta.size
        self.kernels.each(f"{name}_{S}", n, theta, grad, None, int64(n), scalars, None, None, *own)

    def sgd(self, theta: Any, grad: Any, velocity: Any | None, scalars: Any, momentum: float, nesterov: bool) -> None:
        S, real = self._suffix(theta, grad, velocity), theta.dtype.type
        if S is None: return super().sgd(theta, grad, velocity, scalars, momentum, nesterov)
        return self._rule("sgd", S, theta, grad, scalars, velocity, real(momentum), int32(nesterov))

    def rmsprop(
        self, theta: Any, grad: Any, v: Any, velocity: Any | None, scalars: Any, rho: float, eps: float, momentum: float
    ) -> None:
        S, real = self._suffix(theta, grad, v, velocity), theta.dtype.type
        if S is None: return super().rmsprop(theta, grad, v, velocity, scalars, rho, eps, momentum)
        return self._rule("rmsprop", S, theta, grad, scalars, v, velocity, real(1 - rho), real(eps), real(momentum))

    def adagrad(self, theta: Any, grad: Any, v: Any, scalars: Any, eps: float) -> None:
        S = self._suffix(theta, grad, v)
        if S is None: return super().adagrad(theta, grad, v, scalars, eps)
        return self._rule("adagrad", S, theta, grad, scalars, v, theta.dtype.type(eps))

    def adam(
        self, theta: Any, grad: Any, m: Any, v: Any, scalars: Any, beta1: float, beta2: float, eps: float
    ) -> None:
        S, real = self._suffix(theta, grad, m, v), theta.dtype.type
        if S is None: return super().adam(theta, grad, m, v, scalars, beta1, beta2, eps)
        return self._rule("adam", S, theta, grad, scalars, m, v, float64(beta1), float64(beta2), real(eps))

    def nadam(
        self, theta: Any, grad: Any, m: Any, v: Any, scalars: Any, beta1: float, beta2: float, eps: float, psi: float
    ) -> None:
        S, real = self._suffix(theta, grad, m, v), theta.dtype.type
        if S is None: return super().nadam(theta, grad, m, v, scalars, beta1, beta2, eps, psi)
        constants = float64(beta1), float64(beta2), real(eps), float64(psi)
        return self._rule("nadam", S, theta, grad, scalars, m, v, *constants)

    def lion(self, theta: Any, grad: Any, m: Any, scalars: Any, beta1: float, beta2: float) -> None:
        S = self._suffix(theta, grad, m)
        if S is None: return super().lion(theta, grad, m, scalars, beta1, beta2)
        return self._rule("lion", S, theta, grad, scalars, m, float64(beta1), float64(beta2))
