"""The update rules of updates.py, and what a step begins with, as kernels: one pass over θ, ∇θ and the moments."""

from typing import Any

from numpy import float64, inf, int32, int64

from ffnn_gpu.backends.cuda.kernels import KernelBackend
from ffnn_gpu.backends.reference.updates import Update

PACK = 16  # bytes that a thread of a rule reads of each vector at a time
OF_SHADOW = {"float16": "f32_f16", "bfloat16": "f32_bf16"}


class FusedUpdates(KernelBackend):
    """Update rules by kernels where they fit, else by their formulas."""

    def advance(self, scalars: Any, step: Any, control: Any | None, lr: Any | None = None) -> None:
        if not self.use_kernels:
            return super().advance(scalars, step, control, lr)
        return self.kernels.once("advance", scalars, step, control, lr)

    def advance_product(self, scalars: Any, beta1: float, psi: float, control: Any | None) -> None:
        if not self.use_kernels:
            return super().advance_product(scalars, beta1, psi, control)
        return self.kernels.once("advance_product", scalars, float64(beta1), float64(psi), control)

    def clip_by_value(self, grad: Any, limit: float, loss_scale: Any | None) -> None:
        S = self._suffix(grad)
        if S is None:
            return super().clip_by_value(grad, limit, loss_scale)
        return self.kernels.each(
            f"clip_by_value_{S}", grad.size, grad, int64(grad.size), float64(limit), loss_scale
        )

    def gradient_factor(self, grad: Any, limit: float | None, control: Any, loss_scale: Any | None) -> None:
        S, bound = self._suffix(grad), float64(inf if limit is None else limit)
        if S is None:
            return super().gradient_factor(grad, limit, control, loss_scale)
        return self.kernels.total(
            f"gradient_factor_{S}", grad.size, grad, int64(grad.size), bound, control, loss_scale
        )

    def average(self, mean: Any, values: Any, decay: float) -> None:
        S = self._suffix(mean, values)
        if S is None:
            return super().average(mean, values, decay)
        return self.kernels.each(
            f"average_{S}", mean.size, mean, values, int64(mean.size), mean.dtype.type(1 - decay)
        )

    def _types(self, update: Update, *moments: Any) -> str | None:
        """The ending of a rule's kernel, "f32_f16" for a θ in float32 with a copy in float16; None where no kernel fits."""
        S, shadow = self._suffix(update.theta, update.grad, *moments), update.shadow
        if S is None or shadow is None:
            return S
        return OF_SHADOW.get(shadow.dtype.name) if S == "f32" and shadow.flags.c_contiguous else None

    def _rule(self, name: str, S: str, update: Update, *own: Any) -> None:
        u, n, real = update, update.theta.size, update.theta.dtype.type
        self.kernels.each(
            f"{name}_{S}",
            -(-u.theta.nbytes // PACK),
            u.theta,
            u.grad,
            u.shadow,
            int64(n),
            int64(u.n_decayed),
            u.scalars,
            u.control,
            real(u.l2),
            real(u.l1),
            float64(u.weight_decay),
            *own,
        )

    def sgd(self, update: Update, velocity: Any | None, momentum: float, nesterov: bool) -> None:
        S, real = self._types(update, velocity), update.theta.dtype.type
        if S is None:
            return super().sgd(update, velocity, momentum, nesterov)
        return self._rule("sgd", S, update, velocity, real(momentum), int32(nesterov))

    def rmsprop(
        self, update: Update, v: Any, velocity: Any | None, rho: float, eps: float, momentum: float
    ) -> None:
        S, real = self._types(update, v, velocity), update.theta.dtype.type
        if S is None:
            return super().rmsprop(update, v, velocity, rho, eps, momentum)
        return self._rule("rmsprop", S, update, v, velocity, real(1 - rho), real(eps), real(momentum))

    def adagrad(self, update: Update, v: Any, eps: float) -> None:
        S = self._types(update, v)
        if S is None:
            return super().adagrad(update, v, eps)
        return self._rule("adagrad", S, update, v, update.theta.dtype.type(eps))

    def adam(self, update: Update, m: Any, v: Any, beta1: float, beta2: float, eps: float) -> None:
        S, real = self._types(update, m, v), update.theta.dtype.type
        if S is None:
            return super().adam(update, m, v, beta1, beta2, eps)
        return self._rule("adam", S, update, m, v, float64(beta1), float64(beta2), real(eps))

    def nadam(
        self, update: Update, m: Any, v: Any, beta1: float, beta2: float, eps: float, psi: float
    ) -> None:
        S, real = self._types(update, m, v), update.theta.dtype.type
        if S is None:
            return super().nadam(update, m, v, beta1, beta2, eps, psi)
        return self._rule("nadam", S, update, m, v, float64(beta1), float64(beta2), real(eps), float64(psi))

    def lion(self, update: Update, m: Any, beta1: float, beta2: float) -> None:
        S = self._types(update, m)
        if S is None:
            return super().lion(update, m, beta1, beta2)
        return self._rule("lion", S, update, m, float64(beta1), float64(beta2))
