"""Compiled loops of the operations that are elementwise formulas. The formulas are the reference's own.

Each function returns the compiled loop of a formula, built at the first request (about 50 ms). It raises
UntraceableError for a user's formula that is no elementwise expression.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ffnn_gpu.backends.elementwise.built_once import MOMENT, NUMBER, check, check_rule, once, once_for_owner
from ffnn_gpu.backends.elementwise.compiled_loop import CompiledLoop, Loop, compiled
from ffnn_gpu.backends.elementwise.lanes import STORED
from ffnn_gpu.backends.elementwise.loop_code import MATRICES, Axes
from ffnn_gpu.backends.elementwise.trace import MODULE, Symbol, rounded
from ffnn_gpu.backends.reference.backend import Backend
from ffnn_gpu.backends.reference.step_control import FACTOR, SKIP
from ffnn_gpu.backends.reference.updates import PRODUCT, RATE, STEP, Update

symbolic = Backend(MODULE)


def loop(dtype: np.dtype, operands: dict[str, Axes], program: Callable[..., Any]) -> CompiledLoop:
    return compiled(Loop.of(dtype, operands, program))


# ---------------------------------------------------------------------- activations and losses


@once
def activation(
    dtype: np.dtype, value: Callable[..., Any], biased: bool, keeps_input: bool, scaled: bool = False
) -> CompiledLoop:
    """out ← φ(factor out + b), and s ← factor out + b if it is kept        value: (xp, s) → φ(s)

    factor is 1 unless `scaled`.
    """
    check(value, dtype, 1)

    def program(out: Any, *others: Any) -> dict[str, Any]:
        s = out * others[-1].astype(dtype) if scaled else out
        s = s + others[0] if biased else s
        return {"out": value(MODULE, s)} | ({"s": s} if keeps_input else {})

    operands: dict[str, Axes] = {"out": "both"}
    operands |= {"b": "columns"} if biased else {}
    operands |= {"s": "both"} if keeps_input else {}
    return loop(dtype, operands | ({"factor": "value"} if scaled else {}), program)


@once
def adjoint(dtype: np.dtype, derivative: Callable[..., Any]) -> CompiledLoop:
    """da ← da ⊙ φ′(of)        derivative: (xp, of) → φ′"""
    check(derivative, dtype, 1)
    return loop(dtype, {"da": "both", "of": "both"}, lambda da, of: {"da": da * derivative(MODULE, of)})


@once
def parametric(dtype: np.dtype, value: Callable[..., Any]) -> CompiledLoop:
    """out = x + α ⊙ (φ(x) − x)        value: (xp, x) → φ(x)"""
    check(value, dtype, 1)
    operands: dict[str, Axes] = {"x": "both", "alpha": "columns", "out": "both"}
    return loop(dtype, operands, lambda x, alpha, out: {"out": x + alpha * (value(MODULE, x) - x)})


@once
def parametric_adjoint(
    dtype: np.dtype, value: Callable[..., Any], derivative: Callable[..., Any], of_x: bool, reads_dx: bool
) -> CompiledLoop:
    """da ← da ⊙ (φ(x) − x), the terms of dα, and dx = da ⊙ (1 + α ⊙ (φ′ − 1)) if it is needed

    derivative: (xp, of) → φ′, a function of x if `of_x`, else of φ(x).
    """
    check(value, dtype, 1)
    check(derivative, dtype, 1)

    def program(da: Any, x: Any, alpha: Any, *dx: Any) -> dict[str, Any]:
        a = value(MODULE, x)
        slope = derivative(MODULE, x if of_x else a)
        return {"da": da * (a - x)} | ({"dx": da * (1 + alpha * (slope - 1))} if dx else {})

    operands: dict[str, Axes] = {"da": "both", "x": "both", "alpha": "columns"}
    return loop(dtype, operands | ({"dx": "both"} if reads_dx else {}), program)


@once
def pointwise_loss(
    dtype: np.dtype, value: Callable[..., Any], derivative: Callable[..., Any], weights: Axes | None
) -> CompiledLoop:
    """dz = share w ∂ℓ/∂z, and Σ share w ℓ        w with these axes, 1 if None"""
    check(value, dtype, 2)
    check(derivative, dtype, 2)

    def program(z: Any, y: Any, dz: Any, share: Any, *weight: Any) -> Any:
        scale = share.astype(dtype) * weight[0] if weight else share.astype(dtype)
        return {"dz": derivative(MODULE, z, y) * scale}, [value(MODULE, z, y) * scale]

    operands: dict[str, Axes] = {"z": "both", "y": "both", "dz": "both", "share": "value"}
    return loop(dtype, operands | ({"w": weights} if weights else {}), program)


# ---------------------------------------------------------------------- update rules


def rule_parts(
    name: str, update: Update, settings: tuple[Any, ...]
) -> Iterator[tuple[CompiledLoop, int, dict[str, Any]]]:
    """Yield the loop of an update rule, its length and its operands: for the matrices, and for the rest of θ.

    Only the matrices have penalties; without penalties there is one loop for all of θ.
    """
    theta, grad, scalars, n, l2, l1, weight_decay, control, shadow, lr_factor, decay = update
    penalties = {"l2": float(l2), "l1": float(l1), "weight_decay": float(weight_decay)}
    end, rated = n if any(penalties.values()) else 0, lr_factor != 1
    named = {f"s{k}": value for k, value in enumerate(settings)}
    moments = {key: value for key, value in named.items() if isinstance(value, np.ndarray)}
    numbers = {key: value for key, value in named.items() if type(value) is float}
    kinds = tuple(MOMENT if s in moments else NUMBER if s in numbers else value for s, value in named.items())
    numbers |= {"t": scalars[STEP:][:1], "lr": scalars[RATE:][:1], "product": scalars[PRODUCT:][:1]}
    numbers |= penalties | {"lr_factor": float(lr_factor), "decay": decay}
    if control is not None:
        numbers |= {"factor": control[FACTOR:][:1], "skip": control[SKIP:][:1]}
    copy, kind = ({}, "") if shadow is None else ({"shadow": shadow}, shadow.dtype.name)
    build = rule if name != "own_rule" else functools.partial(_users_rule, settings[0])
    for part, held in (
        (slice(0, end), (*map(bool, penalties.values()), rated, decay is not None and weight_decay != 0)),
        (slice(end, None), (False, False, False, rated, False)),
    ):
        vectors = {"theta": theta[part], "grad": grad[part]}
        vectors |= {key: vector[part] for key, vector in (moments | copy).items()}
        if len(vectors["theta"]):
            code = build(theta.dtype, name, held, control is not None, kind, kinds)
            yield code, len(vectors["theta"]), vectors | numbers


def _users_rule(formula: Callable[..., Any], *key: Any) -> CompiledLoop:
    """Return rule(*key) for a user's optimizer, which owns the formula. Its loops go with it."""
    dtype, *others, settings = key

    def build() -> CompiledLoop:
        check_rule(formula, dtype, settings[1:])
        return build_rule(*key)

    return once_for_owner(formula, ("loop", dtype, *others, settings[1:]), build)


class Penalty(Symbol):
    """λ₂, λ₁ or λ of an Update, which is not 0."""

    def __bool__(self) -> bool:
        return True


FACTORS = ("l2", "l1", "weight_decay", "lr_factor")


def build_rule(
    dtype: np.dtype,
    name: str,
    factors: tuple[bool, ...],
    controlled: bool,
    shadow: Any,
    settings: tuple[Any, ...],
) -> CompiledLoop:
    """Update θ and its moments by the reference's rule of this name, unless skipped.

    Args:
        factors: whether λ₂, λ₁ and λ of Update are not 0, lr_factor is not 1, and a number on the device
            multiplies λ.
        controlled: whether there is a factor on ∇θ, and the update may be skipped.
        shadow: the type of the 16-bit copy of θ; "" if there is none.
        settings: the rule's arguments, MOMENT and NUMBER in the places of vectors and floats.
    """
    moments = [f"s{k}" for k, value in enumerate(settings) if value is MOMENT]
    operands: dict[str, Axes] = dict.fromkeys(("theta", "grad", *moments), "both")
    operands |= {"shadow": shadow} if shadow else {}
    operands |= dict.fromkeys(("t", "lr", "product", *(["factor", "skip"] if controlled else [])), "address")
    names = [name for name, held in zip(FACTORS, factors[:-1], strict=True) if held]
    numbers = (f"s{k}" for k, value in enumerate(settings) if value is NUMBER)
    operands |= dict.fromkeys((*names, *numbers), "value")
    if factors[-1]:
        operands["decay"] = "address"

    def program(*symbols: Any) -> dict[str, Any]:
        given = dict(zip(operands, symbols, strict=True))
        given |= {name: Penalty(given[name].node) for name in names}
        before = {name: given[name].copy() for name in ("theta", *moments)}
        # rounded: a loss scale that is a power of two must change no bit of the update
        g = rounded(given["grad"] * given["factor"].astype(dtype)) if controlled else given["grad"].copy()
        lr = given["lr"] * given["lr_factor"] if "lr_factor" in given else given["lr"]
        scalars: Any = {STEP: given["t"], RATE: lr, PRODUCT: given["product"]}
        # θ[:None] is all of θ: where there are penalties, every element belongs to a matrix.
        everything: Any = None
        if "decay" in given:
            given["weight_decay"] = Penalty((given["weight_decay"] * given["decay"]).node)
        of_matrices = (given.get(name, 0.0) for name in ("l2", "l1", "weight_decay"))
        update = Update(given["theta"], g, scalars, everything, *of_matrices)
        args = (given.get(f"s{k}", value) for k, value in enumerate(settings))
        getattr(symbolic, name)(update, *args)
        after = {name: given[name] for name in before}
        if controlled:
            skip = given["skip"] != 0
            after = {name: MODULE.where(skip, before[name], value) for name, value in after.items()}
        return after | ({"shadow": after["theta"]} if shadow else {})

    return loop(dtype, operands, program)


rule = once(build_rule)


# ---------------------------------------------------------------------- other formulas

FORMULAS: dict[str, tuple[dict[str, Axes], Callable[..., Any]]] = {
    "add": ({"x": "both", "y": "both", "out": "both"}, lambda x, y, out: {"out": x + y}),
    "multiply": ({"x": "both", "y": "both", "out": "both"}, lambda x, y, out: {"out": x * y}),
    "scale columns": (
        {"x": "both", "gain": "columns", "out": "both"},
        lambda x, gain, out: {"out": x * gain},
    ),
    "copy": ({"x": "both", "out": "both"}, lambda x, out: {"out": x}),
    "scale": ({"x": "both", "factor": "address", "out": "both"}, lambda x, factor, out: {"out": x * factor}),
    "blend": (
        {"out": "both", "x": "both", "of_out": "value", "of_x": "value"},
        lambda out, x, of_out, of_x: {"out": of_out * out + of_x * x},
    ),
    "add scaled": (
        {"total": "both", "x": "both", "factor": "address"},
        lambda total, x, factor: {"total": total + x * factor},
    ),
    "clip": ({"x": "both", "limit": "value"}, lambda x, limit: {"x": MODULE.clip(x, -limit, limit)}),
    "clip scaled": (
        {"x": "both", "limit": "value", "scale": "address"},
        lambda x, limit, scale: {
            "x": MODULE.where(MODULE.isfinite(x), MODULE.clip(x, -limit * scale, limit * scale), x)
        },
    ),
    "non_finite": ({"x": "both"}, lambda x: ({}, [MODULE.where(abs(x) < math.inf, 0.0, 1.0)])),
    "squares": ({"x": "both"}, lambda x: ({}, [x * x])),
    "average": (  # mean ← mean + share (factor x − mean)
        {"mean": "both", "x": "both", "share": "value", "factor": "value"},
        lambda mean, x, share, factor: {"mean": mean + share * (factor * x - mean)},
    ),
}
for _type in STORED:
    FORMULAS[f"widen {_type}"] = {"x": _type, "out": "both"}, lambda x, out: {"out": x}
    FORMULAS[f"round {_type}"] = (  # to 16 bits, in both
        {"x": "both", "out": _type},
        lambda x, out, to=_type: dict.fromkeys(("x", "out"), rounded(x, to)),
    )


@functools.cache
def elementwise(dtype: np.dtype, name: str) -> CompiledLoop:
    """Return the loop of a formula of FORMULAS."""
    return loop(dtype, *FORMULAS[name])


# ---------------------------------------------------------------------- operands


def slots(code: CompiledLoop, **operands: Any) -> list[Any]:
    """Return the two entries of each operand: an array or a float, and the bytes from row to row."""
    values = ((operands[name], axes) for name, axes in code.operands.items())
    return [
        entry
        for x, axes in values
        for entry in (float(x) if axes == "value" else x, x.strides[0] if axes in MATRICES else 0)
    ]


def of_one_kind(update: Update, settings: tuple[Any, ...]) -> bool:
    """Return whether commands can read ∇θ, the moments and the numbers on the device, and write θ."""
    theta, scalars, control, shadow = update.theta, update.scalars, update.control, update.shadow
    vectors = theta, update.grad, *(s for s in settings if isinstance(s, np.ndarray))
    numbers = [(scalars, 3)] + [(v, n) for v, n in ((control, 2), (update.decay, 1)) if v is not None]
    if shadow is not None and not (theta.itemsize == 4 and _is_stored(shadow) and shadow.flags.writeable):
        return False
    return all(
        v.dtype == theta.dtype and v.shape == theta.shape and v.flags.c_contiguous and v.flags.writeable
        for v in vectors
    ) and all(v.dtype == np.float64 and v.shape == (n,) and v.flags.c_contiguous for v, n in numbers)


def _is_stored(array: np.ndarray) -> bool:
    """Return whether a loop in float32 can read and write this array as one of 16 bits."""
    return array.dtype.isnative and array.dtype.name in STORED
