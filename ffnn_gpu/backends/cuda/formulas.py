"""Kernels of formulas: a template of formulas.cuh, and formulas over `xp` as CUDA function objects.

An activation, a pointwise loss or an update rule of a user becomes a kernel like a built-in one. A formula
that is no elementwise expression has no kernel: it is logged once with the reason, and the reference's array
functions compute it.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from ffnn_gpu.backends.cuda.kernels import CTYPE, Generated, NoKernelError
from ffnn_gpu.backends.elementwise.built_once import MOMENT, NUMBER, check, check_rule, once, once_for_owner
from ffnn_gpu.backends.elementwise.cuda_function import FunctionObject, function_object, rule_object
from ffnn_gpu.backends.elementwise.expression import Expression
from ffnn_gpu.backends.elementwise.trace import MODULE, Symbol, UntraceableError, result, trace
from ffnn_gpu.backends.reference.backend import Backend
from ffnn_gpu.backends.reference.updates import PRODUCT, RATE, STEP, Update

SYMBOLIC = Backend(MODULE)
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


MOMENTS, NUMBERS = ("m", "v"), ("n0", "n1", "n2", "n3")  # the parameters of update_rule in formulas.cuh
MASTER = {"f32": "f32", "f64": "f64", "f32_f16": "f32", "f32_bf16": "f32"}  # types' suffix → that of θ


def update_rule(S: str, name: str, settings: tuple[Any, ...]) -> Generated:
    """Return the kernel of an update rule for the types of this suffix. Raises NoKernelError.

    settings: the arguments of the rule, with MOMENT and NUMBER in the places of vectors and floats.
    """
    dtype = np.dtype("float64" if S == "f64" else "float32")
    try:
        if name != "own_rule":
            function = _rule(dtype, name, settings)
        else:
            formula, *moments = settings
            key = "cuda", dtype, *moments
            function = once_for_owner(formula, key, lambda: _checked_rule(dtype, *settings))
    except UntraceableError as why:
        raise NoKernelError(str(why)) from None
    entry, types = f"{function.name}_{S}", (CTYPE[MASTER[S]], CTYPE[S.rpartition("_")[-1]])
    line = f"UPDATE_RULE({', '.join([entry, function.name, S, *types])})\n"
    return Generated(entry, (function.text,), line)


def _traced_rule(dtype: np.dtype, name: str, settings: tuple[Any, ...]) -> FunctionObject:
    """Return the reference's rule of this name, without what `rule` of reference/updates.py adds to it."""
    places: dict[str, list[int]] = {
        kind: [k for k, value in enumerate(settings) if value is kind] for kind in (MOMENT, NUMBER)
    }
    named = {k: MOMENTS[i] for i, k in enumerate(places[MOMENT][: len(MOMENTS)])}
    named |= {k: NUMBERS[i] for i, k in enumerate(places[NUMBER][: len(NUMBERS)])}
    if len(named) < len(places[MOMENT]) + len(places[NUMBER]):
        raise UntraceableError(f"it has more than {len(MOMENTS)} moments or {len(NUMBERS)} numbers")
    numbers = ("t", "lr", "product", *NUMBERS)
    inputs: dict[str, Any] = dict.fromkeys(("theta", "grad", *MOMENTS), "array") | dict.fromkeys(
        numbers, "number"
    )

    def program(*symbols: Symbol) -> dict[str, Expression]:
        given = dict(zip(inputs, symbols, strict=True))
        scalars: Any = {STEP: given["t"], RATE: given["lr"], PRODUCT: given["product"]}
        update = Update(cast(Any, given["theta"]), given["grad"].copy(), scalars)
        args = (given[named[k]] if k in named else value for k, value in enumerate(settings))
        getattr(SYMBOLIC, name)(update, *args)
        changed = ("theta", *(named[k] for k in places[MOMENT]))
        return {each: result(given[each].node.graph, given[each]) for each in changed}

    title = name if name != "own_rule" else type(getattr(settings[0], "__self__", settings[0])).__name__
    return rule_object(title, trace(program, dtype, inputs), numbers)


_rule = once(_traced_rule)


def _checked_rule(dtype: np.dtype, formula: Formula, *moments: Any) -> FunctionObject:
    check_rule(formula, dtype, moments)
    return _traced_rule(dtype, "own_rule", (formula, *moments))


def _generated(template: str, S: str, *formulas: Formula, inputs: int = 1) -> Generated:
    dtype = "float64" if S == "f64" else "float32"
    functions = [function(formula, inputs, dtype) for formula in formulas]
    names = [function.name for function in functions]
    name = "_".join([template, names[0], *(each.rpartition("_")[-1] for each in names[1:]), S])
    entry = f"{template.upper()}({', '.join([name, *names, S, CTYPE[S]])})\n"
    return Generated(name, tuple(function.text for function in functions), entry)


def function(formula: Formula, inputs: int = 1, dtype: str = "float32") -> FunctionObject:
    """Return the function object of a formula. Raises NoKernelError if it cannot be traced."""
    try:
        return _function(dtype, formula, inputs)
    except UntraceableError as why:
        raise NoKernelError(str(why)) from None


@once
def _function(dtype: str, formula: Formula, inputs: int) -> FunctionObject:
    expression = check(formula, dtype, inputs)
    title = getattr(getattr(formula, "__self__", None), "name", "formula")
    return function_object(title, expression, tuple(f"x{k}" for k in range(inputs)))
