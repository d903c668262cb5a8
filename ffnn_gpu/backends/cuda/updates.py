"""The operations of reference/updates.py and step_control.py as kernels: one pass over θ, ∇θ and the moments.

See operations.py.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from numpy import float32, float64, inf, int64

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.arrays.precision import master
from ffnn_gpu.backends.cuda import formulas
from ffnn_gpu.backends.cuda.kernels import NoKernelError
from ffnn_gpu.backends.elementwise.built_once import MOMENT, NUMBER
from ffnn_gpu.backends.reference.muon import COEFFICIENTS, ITERATIONS, normalized, one_by_one
from ffnn_gpu.backends.reference.updates import Update

if TYPE_CHECKING:
    from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend

PACK = 16  # bytes of each vector that one thread of a rule reads at a time
OF_SHADOW = {"float16": "f32_f16", "bfloat16": "f32_bf16"}


def advance(self: "CupyBackend", scalars: Array, step: Array, control: Array, lr: Array = None) -> None:
    self.require_kernels()
    self.kernels.once("advance", scalars, step, control, lr)


def advance_product(self: "CupyBackend", scalars: Array, beta1: float, psi: float, control: Array) -> None:
    self.require_kernels()
    self.kernels.once("advance_product", scalars, float64(beta1), float64(psi), control)


def clip_by_value(self: "CupyBackend", grad: Array, limit: float, loss_scale: Array | None) -> None:
    S, n = self.suffix(grad), grad.size
    self.kernels.each(f"clip_by_value_{S}", n, grad, int64(n), float64(limit), loss_scale)


def gradient_factor(
    self: "CupyBackend", grad: Array, limit: float | None, control: Array, loss_scale: Array | None
) -> None:
    S, n, bound = self.suffix(grad), grad.size, float64(inf if limit is None else limit)
    self.kernels.total(f"gradient_factor_{S}", n, grad, int64(n), bound, control, loss_scale)


def average(self: "CupyBackend", mean: Array, values: Array, decay: float) -> None:
    S, n = self.suffix(mean, values), mean.size
    self.kernels.each(f"average_{S}", n, mean, values, int64(n), mean.dtype.type(1 - decay))


def sgd(self: "CupyBackend", update: Update, velocity: Array | None, momentum: float, nesterov: bool) -> None:
    _launch(self, "sgd", update, velocity, momentum, nesterov)


def rmsprop(
    self: "CupyBackend", update: Update, v: Array, velocity: Array, rho: float, eps: float, momentum: float
) -> None:
    _launch(self, "rmsprop", update, v, velocity, rho, eps, momentum)


def adagrad(self: "CupyBackend", update: Update, v: Array, eps: float) -> None:
    _launch(self, "adagrad", update, v, eps)


def adam(
    self: "CupyBackend", update: Update, m: Array, v: Array, beta1: float, beta2: float, eps: float
) -> None:
    _launch(self, "adam", update, m, v, beta1, beta2, eps)


def nadam(
    self: "CupyBackend", update: Update, m: Any, v: Any, beta1: float, beta2: float, eps: float, psi: float
) -> None:
    _launch(self, "nadam", update, m, v, beta1, beta2, eps, psi)


def lion(self: "CupyBackend", update: Update, m: Array, beta1: float, beta2: float) -> None:
    _launch(self, "lion", update, m, beta1, beta2)


def own_rule(self: "CupyBackend", update: Update, formula: Callable[..., None], *moments: Array) -> None:
    _launch(self, "own_rule", update, formula, *moments)


def muon_direction(
    self: "CupyBackend", update: Update, m: Array, U: Array, momentum: float, nesterov: bool
) -> None:
    _launch(self, "muon_direction", update, m, U, momentum, nesterov)


def muon_step(self: "CupyBackend", update: Update, X: Array, factor: float) -> None:
    _launch(self, "muon_step", update, X, factor)


def orthogonalized(self: "CupyBackend", G: Array) -> Array:
    """Compute the products of float32 matrices in bfloat16, on tensor cores, and their sums in float32."""
    if G.dtype != float32:
        raise NoKernelError
    self.require_kernels()
    (n, I, O), (a, b, c) = G.shape, COEFFICIENTS
    X, k = normalized(self, G), min(I, O)
    sizes = (k, k), (k, k), (I, O), (I, O)
    A, B, Y, narrow = (self.empty((n, *size), self.dtype("bfloat16")) for size in sizes)
    self.copy(X, out=narrow)
    for _ in range(ITERATIONS):
        turned = narrow.transpose(0, 2, 1)
        _products(self, *((narrow, turned) if I <= O else (turned, narrow)), A)
        _products(self, A, A, B)
        blend(self, b, A, c, B, out=B)
        _products(self, *((B, narrow) if I <= O else (narrow, B)), Y)
        blend(self, a, X, 1.0, Y, out=narrow)
    return X


def blend(self: "CupyBackend", p: float, x: Array, q: float, y: Array, out: Array) -> None:
    """out = p x + q y, where x of out's master dtype receives the sum too, before it is rounded"""
    S = self.suffix(out, y)
    wide, narrow = (None, x) if x.dtype == out.dtype else (x, None)
    of_x, of_y = (master(out.dtype).type(number) for number in (p, q))
    self.kernels.each(f"blend_{S}", -(-out.size // 4), wide, narrow, y, out, int64(out.size), of_x, of_y)


def _products(self: "CupyBackend", A: Array, B: Array, out: Array) -> None:
    """out_i = A_i B_i, by one call of cublasLt if it computes several products."""
    lt = self.cublaslt
    if lt is None or lt.attempt(A, B, out):
        one_by_one(self, A, B, out)


def _launch(self: "CupyBackend", rule: str, u: Update, *settings: Any) -> None:
    """Launch the kernel of a rule. A setting is a vector (a moment), a float, or a constant of the rule."""
    moments = [value for value in settings if isinstance(value, self.xp.ndarray)]
    numbers = [float64(value) for value in settings if type(value) is float]
    S, real = self.suffix(u.theta, u.grad, *moments), u.theta.dtype.type
    if u.shadow is not None:
        if S != "f32" or u.shadow.dtype.name not in OF_SHADOW or not u.shadow.flags.c_contiguous:
            raise NoKernelError
        S = OF_SHADOW[u.shadow.dtype.name]
    if S not in formulas.MASTER:
        raise NoKernelError
    kernel = formulas.update_rule(S, rule, tuple(_kind(self, value) for value in settings))
    moments += [None] * (len(formulas.MOMENTS) - len(moments))
    numbers += [float64(0)] * (len(formulas.NUMBERS) - len(numbers))
    sizes = int64(u.theta.size), int64(u.n_decayed)
    penalties = real(u.l2), real(u.l1), float64(u.weight_decay), float64(u.lr_factor), u.decay
    arguments = u.theta, u.grad, u.shadow, *sizes, u.scalars, u.control, *penalties
    self.kernels.each(kernel, -(-u.theta.nbytes // PACK), *arguments, *moments, *numbers)


def _kind(self: "CupyBackend", value: Any) -> Any:
    """Return what stands for a setting in a trace."""
    if isinstance(value, self.xp.ndarray):
        return MOMENT
    return NUMBER if type(value) is float else value
