"""Kernels of formulas: a template of formulas.cuh, and a formula over `xp` as a CUDA function object.

An activation of a user becomes a kernel like a built-in one. A formula that is no elementwise expression has
no kernel: it is logged once with the reason, and the reference's array functions compute it.
"""

from collections.abc import Callable
from typing import Any

from ffnn_gpu.backends.cuda.kernels import CTYPE, Generated, NoKernelError
from ffnn_gpu.backends.elementwise.built_once import check, once
from ffnn_gpu.backends.elementwise.cuda_function import FunctionObject, function_object
from ffnn_gpu.backends.elementwise.trace import UntraceableError


def bias_activation(S: str, phi: Any) -> Generated:
    """Return the kernel a ← φ(a + b) for the type of this suffix. Raises NoKernelError."""
    return _generated("bias_activation", S, phi.value)


def activation_backward(S: str, phi: Any) -> Generated:
    """Return the kernel da ← da ⊙ φ′ for the type of this suffix. Raises NoKernelError."""
    return _generated("activation_backward", S, phi.derivative)


def _generated(template: str, S: str, formula: Callable[..., Any]) -> Generated:
    try:
        function = _function("float64" if S == "f64" else "float32", formula)
    except UntraceableError as why:
        raise NoKernelError(str(why)) from None
    name = f"{template}_{function.name}_{S}"
    return Generated(name, function.text, f"{template.upper()}({name}, {function.name}, {S}, {CTYPE[S]})\n")


@once
def _function(dtype: str, formula: Callable[..., Any]) -> FunctionObject:
    expression = check(formula, dtype, 1)
    title = getattr(getattr(formula, "__self__", None), "name", "formula")
    return function_object(title, expression, ("x0",))
