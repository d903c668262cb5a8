"""An elementwise formula → ONNX operators, through its trace.

So every activation that can be traced is exported, also a user's own. What opset 17 lacks is composed of what
it has; the compositions keep the relative accuracy near 0.

Why erfc is not `1 − Erf` in float64: onnxruntime has Erf in float32 only. There the Chebyshev series of the
reference is traced instead. For the same reason the functions in FLOAT32 are refused in float64.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ffnn_gpu.backends.elementwise.built_once import check
from ffnn_gpu.backends.elementwise.expression import Expression, in_order
from ffnn_gpu.backends.elementwise.trace import MODULE, SymbolicModule, UntraceableError
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.export.to_onnx.graph import Graph

OPERATORS = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "neg": "Neg", "minimum": "Min", "maximum": "Max",
    "abs": "Abs", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual", "eq": "Equal",
    "and": "And", "or": "Or", "xor": "Xor", "not": "Not", "where": "Where", "sqrt": "Sqrt", "exp": "Exp",
    "log": "Log", "tanh": "Tanh", "sin": "Sin", "floor": "Floor", "ceil": "Ceil",
    "rint": "Round", "power": "Pow", "rounded": "Identity", "erf": "Erf", "tan": "Tan", "arcsin": "Asin",
    "arccos": "Acos", "arctan": "Atan", "arcsinh": "Asinh", "arccosh": "Acosh", "arctanh": "Atanh",
    "sinh": "Sinh", "cosh": "Cosh",
}  # fmt: skip
FLOAT32 = ("erf", "tan", "arcsin", "arccos", "arctan", "arcsinh", "arccosh", "arctanh", "sinh", "cosh")


class Elementary(SymbolicModule):
    """The functions of a trace but erf and erfc, which are traced as the operations they consist of."""

    erf = erfc = None


def apply(graph: Graph, formula: Callable[..., Any], x: str, dtype: Any, what: str) -> str:
    """Return the name of formula(xp, x).

    dtype: of x, float32 or float64. what: the formula's name in messages.

    Raises ConfigurationError if the formula has no trace, or an operation that ONNX lacks.
    """
    narrow = np.dtype(dtype) == np.float32
    try:
        traced = check(formula, dtype, 1, MODULE if narrow else Elementary())
    except UntraceableError as error:
        raise ConfigurationError(f"{what} cannot be written as ONNX operators: {error.__cause__}") from error
    lacking = {node.operation for node in in_order(traced)} - OPERATORS.keys() - COMPOSED.keys()
    lacking = (lacking - {"input", "constant", "cast"}) | (set() if narrow else _narrow(traced))
    if lacking:
        raise ConfigurationError(
            f"{what} cannot be written as ONNX operators: it calls {', '.join(sorted(lacking))}, which has "
            f"no operator in {np.dtype(dtype)}"
        )
    return _write(graph, traced, x)


def _narrow(traced: Expression) -> set[str]:
    return {node.operation for node in in_order(traced)} & {*FLOAT32}


def _write(graph: Graph, traced: Expression, x: str) -> str:
    dtype = traced.graph.dtype
    names: dict[Expression, str] = {}
    for node in in_order(traced):
        args = [names[each] for each in node.args]
        if node.operation == "input":
            names[node] = x
        elif node.operation == "constant":
            kind = {"truth": np.dtype(bool), "number": np.dtype(np.float64)}.get(node.kind, dtype)
            names[node] = graph.constant(node.value, kind)
        elif node.operation == "cast":
            names[node] = graph.cast(args[0], dtype)
        elif node.operation in COMPOSED:
            numbers = np.dtype(np.float64) if node.kind == "number" else dtype
            names[node] = COMPOSED[node.operation](_Composer(graph, numbers), *args)
        else:
            names[node] = graph.node(OPERATORS[node.operation], *args)
    # a formula such as ones_like(s) does not depend on s, but its result has the shape of s
    return names[traced] if _reads_input(traced) else _filled(graph, names[traced], x)


def _reads_input(traced: Expression) -> bool:
    return any(node.operation == "input" for node in in_order(traced))


def _filled(graph: Graph, value: str, x: str) -> str:
    return graph.node("Expand", value, graph.node("Shape", x))


class _Composer:
    """Writes operators on values and Python numbers."""

    def __init__(self, graph: Graph, dtype: np.dtype[Any]) -> None:
        self.graph, self.dtype = graph, dtype

    def __call__(self, operator: str, *args: str | float) -> str:
        names = (a if isinstance(a, str) else self.graph.constant(a, self.dtype) for a in args)
        return self.graph.node(operator, *names)


def cosine(graph: Graph, x: str, dtype: Any) -> str:
    """Return the name of 1 − 2 sin²(x/2). Why: onnxruntime 1.20 has Cos in float32 only."""
    half = graph.node("Sin", graph.node("Mul", x, graph.constant(0.5, dtype)))
    twice = graph.node("Mul", graph.node("Mul", half, half), graph.constant(2, dtype))
    return graph.node("Sub", graph.constant(1, dtype), twice)


def _expm1(do: _Composer, x: str) -> str:  # tanh(x/2) (e^x + 1)
    return do("Mul", do("Tanh", do("Mul", x, 0.5)), do("Add", do("Exp", x), 1.0))


def _log1p(do: _Composer, x: str) -> str:
    """log u · x/(u − 1) with u = 1 + x, which has the rounding error of u in both factors."""
    u = do("Add", x, 1.0)
    rest = do("Sub", u, 1.0)
    is_tiny, is_large = do("Equal", rest, 0.0), do("Greater", x, 1.0)
    ratio = do("Div", x, do("Where", is_tiny, 1.0, rest))
    near = do("Where", is_tiny, x, do("Mul", do("Log", u), ratio))
    return do("Where", is_large, do("Log", u), near)


def _copysign(do: _Composer, x: str, sign: str) -> str:
    size, is_zero = do("Abs", x), do("Equal", sign, 0.0)
    below = do("Or", do("Less", sign, 0.0), do("And", is_zero, do("Less", do("Div", 1.0, sign), 0.0)))
    return do("Where", below, do("Neg", size), size)


COMPOSED: dict[str, Callable[..., str]] = {
    "ne": lambda do, x, y: do("Not", do("Equal", x, y)),
    "erfc": lambda do, x: do("Sub", 1.0, do("Erf", x)),
    "expm1": _expm1,
    "log1p": _log1p,
    "exp2": lambda do, x: do("Pow", 2.0, x),
    "log2": lambda do, x: do("Div", do("Log", x), math.log(2)),
    "log10": lambda do, x: do("Div", do("Log", x), math.log(10)),
    "cos": lambda do, x: cosine(do.graph, x, do.dtype),
    "cbrt": lambda do, x: do("Mul", do("Sign", x), do("Pow", do("Abs", x), 1 / 3)),
    "trunc": lambda do, x: do("Mul", do("Sign", x), do("Floor", do("Abs", x))),
    "copysign": _copysign,
}
