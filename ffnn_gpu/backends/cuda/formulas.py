"""Kernels of formulas: a template of formulas.cuh, and formulas over `xp` as CUDA function objects.

An activation or a pointwise loss of a user becomes a kernel like a built-in one. A formula that is no
elementwise expression has no kernel: it is logged once with the reason, and the reference's array functions
compute it.
"""

from collections.abc import Callable
from typing import Any

from ffnn_gpu.backends.cuda.kernels import CTYPE, Generated, NoKernelError
from ffnn_gpu.backends.elementwise.built_once import check, once
from ffnn_gpu.backends.elementwise.cuda_function import FunctionObject, function_object
from ffnn_gpu.backends.elementwise.trace import UntraceableError

Formula = Callable[..., Any]  # (xp, x0, …)


def bias_activation(S: str, phi: Any) -> Generated:
    """Return the kernel a ← φ(a + b) for the type of this suffix. Raises NoKernelError."""
    return _generated("bias_activation", S, phi.value)


def activation_backward(S: str, phi: Any) -> Generated:
    """Return the kernel da ← da ⊙ φ′ for the type of this suffix. Raises NoKernelError."""
    return _generated("activation_backward", S, phi.derivative)


def pointwise_loss(S: str, kind: Any) -> Generated:
    """Return the kernel of Σ w ℓ and w ∂ℓ/∂z for the type of this suffix. Raises NoKernelError."""
    return _generated("pointwise_loss", S, kind.value, kind.derivative, inputs=2)


def _generated(template: str, S: str, *formulas: Formula, inputs: int = 1) -> Generated:
    dtype = "float64" if S == "f64" else "float32"
    try:
        functions = [_function(dtype, formula, inputs) for formula in formulas]
    except UntraceableError as why:
        raise NoKernelError(str(why)) from None
    names = [function.name for function in functions]
    name = "_".join([template, names[0], *(each.rpartition("_")[-1] for each in names[1:]), S])
    entry = f"{template.upper()}({', '.join([name, *names, S, CTYPE[S]])})\n"
    return Generated(name, tuple(function.text for function in functions), entry)


@once
def _function(dtype: str, formula: Formula, inputs: int) -> FunctionObject:
    expression = check(formula, dtype, inputs)
    title = getattr(getattr(formula, "__self__", None), "name", "formula")
    return function_object(title, expression, tuple(f"x{k}" for k in range(inputs)))
