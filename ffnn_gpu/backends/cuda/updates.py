"""The operations of reference/updates.py and step_control.py as kernels: one pass over θ, ∇θ and the moments.

See operations.py.
"""

from typing import TYPE_CHECKING, Any

from numpy import float64, inf, int32, int64

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.reference.backend import Backend
from ffnn_gpu.backends.reference.updates import Update

if TYPE_CHECKING:
    from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend

PACK = 16  # bytes of each vector that one thread of a rule reads at a time
OF_SHADOW = {"float16": "f32_f16", "bfloat16": "f32_bf16"}


def advance(
    self: "CupyBackend", scalars: Array, step: Array, control: Array | None, lr: Array | None = None
) -> None:
    if not self.use_kernels:
        return Backend.advance(self, scalars, step, control, lr)
    return self.kernels.once("advance", scalars, step, control, lr)


def advance_product(
    self: "CupyBackend", scalars: Array, beta1: float, psi: float, control: Array | None
) -> None:
    if not self.use_kernels:
        return Backend.advance_product(self, scalars, beta1, psi, control)
    return self.kernels.once("advance_product", scalars, float64(beta1), float64(psi), control)


def clip_by_value(self: "CupyBackend", grad: Array, limit: float, loss_scale: Array | None) -> None:
    S, n = self.suffix(grad), grad.size
    if S is None:
        return Backend.clip_by_value(self, grad, limit, loss_scale)
    return self.kernels.each(f"clip_by_value_{S}", n, grad, int64(n), float64(limit), loss_scale)


def gradient_factor(
    self: "CupyBackend", grad: Array, limit: float | None, control: Array, loss_scale: Array | None
) -> None:
    S, n, bound = self.suffix(grad), grad.size, float64(inf if limit is None else limit)
    if S is None:
        return Backend.gradient_factor(self, grad, limit, control, loss_scale)
    return self.kernels.total(f"gradient_factor_{S}", n, grad, int64(n), bound, control, loss_scale)


def average(self: "CupyBackend", mean: Array, values: Array, decay: float) -> None:
    S, n = self.suffix(mean, values), mean.size
    if S is None:
        return Backend.average(self, mean, values, decay)
    return self.kernels.each(f"average_{S}", n, mean, values, int64(n), mean.dtype.type(1 - decay))


def sgd(self: "CupyBackend", update: Update, velocity: Array | None, momentum: float, nesterov: bool) -> None:
    S, real = _suffix(self, update, velocity), update.theta.dtype.type
    if S is None:
        return Backend.sgd(self, update, velocity, momentum, nesterov)
    return _launch(self, "sgd", S, update, velocity, real(momentum), int32(nesterov))


def rmsprop(
    self: "CupyBackend",
    update: Update,
    v: Array,
    velocity: Array | None,
    rho: float,
    eps: float,
    momentum: float,
) -> None:
    S, real = _suffix(self, update, v, velocity), update.theta.dtype.type
    if S is None:
        return Backend.rmsprop(self, update, v, velocity, rho, eps, momentum)
    return _launch(self, "rmsprop", S, update, v, velocity, real(1 - rho), real(eps), real(momentum))


def adagrad(self: "CupyBackend", update: Update, v: Array, eps: float) -> None:
    S = _suffix(self, update, v)
    if S is None:
        return Backend.adagrad(self, update, v, eps)
    return _launch(self, "adagrad", S, update, v, update.theta.dtype.type(eps))


def adam(
    self: "CupyBackend", update: Update, m: Array, v: Array, beta1: float, beta2: float, eps: float
) -> None:
    S, real = _suffix(self, update, m, v), update.theta.dtype.type
    if S is None:
        return Backend.adam(self, update, m, v, beta1, beta2, eps)
    return _launch(self, "adam", S, update, m, v, float64(beta1), float64(beta2), real(eps))


def nadam(
    self: "CupyBackend",
    update: Update,
    m: Array,
    v: Array,
    beta1: float,
    beta2: float,
    eps: float,
    psi: float,
) -> None:
    S, real = _suffix(self, update, m, v), update.theta.dtype.type
    if S is None:
        return Backend.nadam(self, update, m, v, beta1, beta2, eps, psi)
    return _launch(self, "nadam", S, update, m, v, float64(beta1), float64(beta2), real(eps), float64(psi))


def lion(self: "CupyBackend", update: Update, m: Array, beta1: float, beta2: float) -> None:
    S = _suffix(self, update, m)
    if S is None:
        return Backend.lion(self, update, m, beta1, beta2)
    return _launch(self, "lion", S, update, m, float64(beta1), float64(beta2))


def _suffix(self: "CupyBackend", update: Update, *moments: Array) -> str | None:
    """Return the suffix of a rule's kernel, such as "f32_f16" with a float16 shadow; None if none fits."""
    S, shadow = self.suffix(update.theta, update.grad, *moments), update.shadow
    if S is None or shadow is None:
        return S
    return OF_SHADOW.get(shadow.dtype.name) if S == "f32" and shadow.flags.c_contiguous else None


def _launch(self: "CupyBackend", rule: str, S: str, u: Update, *own: Any) -> None:
    real = u.theta.dtype.type
    sizes = int64(u.theta.size), int64(u.n_decayed)
    penalties = real(u.l2), real(u.l1), float64(u.weight_decay)
    arguments = u.theta, u.grad, u.shadow, *sizes, u.scalars, u.control, *penalties
    self.kernels.each(f"{rule}_{S}", -(-u.theta.nbytes // PACK), *arguments, *own)
