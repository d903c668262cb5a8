"""Run a formula once with symbolic arrays, and return it as an Expression.

    trace(lambda xp, s: s * xp.tanh(s), np.float32, {"s": "array"})

A formula is a function of an array module `xp` and of arrays. Here `xp` is a SymbolicModule, and each array
is a Symbol, whose operators make nodes. NumPy's own functions work on a Symbol too. UntraceableError is
raised for whatever is no elementwise expression: a Python `if` on a value, a sum over elements, another
array, a function that NumPy and CuPy do not share.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from ffnn_gpu.backends.elementwise.expression import FUNCTIONS, SPECIAL, Expression, Graph, Kind
from ffnn_gpu.backends.elementwise.operators import Operators

# NumPy's name → operation
NAMES = {
    "add": "add", "subtract": "sub", "multiply": "mul", "divide": "div", "true_divide": "div",
    "negative": "neg", "absolute": "abs", "abs": "abs", "fabs": "abs", "maximum": "maximum",
    "minimum": "minimum", "less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge",
    "equal": "eq", "not_equal": "ne", "logical_and": "and", "logical_or": "or", "logical_xor": "xor",
    "logical_not": "not", "bitwise_and": "and", "bitwise_or": "or", "bitwise_xor": "xor", "invert": "not",
    "pow": "power", "acos": "arccos", "asin": "arcsin", "atan": "arctan", "acosh": "arccosh",
    "asinh": "arcsinh", "atanh": "arctanh", "atan2": "arctan2", "where": "where",
    **{name: name for name in (*FUNCTIONS, *SPECIAL)},
}  # fmt: skip
OPERATIONS = frozenset(NAMES.values())
HIGHEST_POWER = 8  # of a whole exponent that becomes products


class UntraceableError(Exception):
    """A formula is no elementwise expression. The message says why, as a sentence without its subject."""


class Symbol(Operators):
    """A symbolic array. An in-place operator changes the array that the Symbol stands for."""

    def __init__(self, node: Expression) -> None:
        self.node = node

    def operate(self, operation: str, *operands: Any) -> "Symbol":
        return operate(operation, *operands)

    def _assign(self, operation: str, other: Any) -> "Symbol":
        node = operate(operation, self, other).node
        kind = self.node.kind
        self.node = node.graph.node("cast", node) if (kind, node.kind) == ("array", "number") else node
        return self

    def __iadd__(self, other: Any) -> "Symbol":
        return self._assign("add", other)

    def __isub__(self, other: Any) -> "Symbol":
        return self._assign("sub", other)

    def __imul__(self, other: Any) -> "Symbol":
        return self._assign("mul", other)

    def __itruediv__(self, other: Any) -> "Symbol":
        return self._assign("div", other)

    def __setitem__(self, index: Any, value: Any) -> None:
        """x[...] = value, which `x += …` and `out[...] = …` need"""
        if index is not Ellipsis and index != slice(None):
            raise UntraceableError(f"it writes to x[{index}]; only x[...] is every element")
        graph = self.node.graph
        node = operand(graph, value)
        self.node = graph.node("cast", node) if node.kind == "number" else node

    @property
    def dtype(self) -> np.dtype:
        kinds = {"truth": np.dtype(bool), "number": np.dtype(np.float64)}
        dtype: np.dtype = kinds.get(self.node.kind, self.node.graph.dtype)
        return dtype

    def astype(self, dtype: Any, **_: Any) -> "Symbol":
        """Return this array in the graph's dtype, the only one there is."""
        graph, wanted = self.node.graph, np.dtype(dtype)
        if wanted == self.dtype:
            return self
        if self.node.kind == "number" and wanted == graph.dtype:
            return Symbol(graph.node("cast", self.node))
        if self.node.kind == "truth" and wanted == graph.dtype:
            return Symbol(graph.node("where", self.node, graph.constant(1), graph.constant(0)))
        raise UntraceableError(f"it converts {self.dtype} to {wanted}")

    def copy(self) -> "Symbol":
        return Symbol(self.node)

    def clip(self, min: Any = None, max: Any = None) -> "Symbol":
        clipped: Symbol = SymbolicModule.clip(self, min, max)
        return clipped

    def __bool__(self) -> bool:
        raise UntraceableError("it branches on a value of an array; use xp.where")

    def __float__(self) -> float:
        raise UntraceableError("it reads a value of an array")

    def __getitem__(self, index: Any) -> "Symbol":
        if index is Ellipsis or index == slice(None):
            return self
        raise UntraceableError(f"it reads x[{index}]")

    def __getattr__(self, name: str) -> Any:
        raise UntraceableError(f"it reads the attribute {name!r} of an array")

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **named: Any) -> "Symbol":
        if method != "__call__" or named:
            raise UntraceableError(f"it calls np.{ufunc.__name__} in a form that is not elementwise")
        return operate(NAMES.get(ufunc.__name__, ufunc.__name__), *args)

    def __array_function__(self, function: Any, types: Any, args: Any, named: Any) -> Any:
        return getattr(MODULE, function.__name__)(*args, **named)


def rounded(x: Symbol) -> Symbol:
    """Return x, which no compiled loop computes to more digits on its way into a sum."""
    return Symbol(x.node.graph.node("rounded", x.node))


def operand(graph: Graph, value: Any) -> Expression:
    """Return the node of a Symbol, or of a Python or NumPy number."""
    if isinstance(value, Symbol):
        return value.node
    if isinstance(value, np.ndarray) and value.ndim:
        raise UntraceableError(f"it reads an array of shape {value.shape} that is none of its arguments")
    if isinstance(value, bool | np.bool_):
        return graph.constant(value, "truth")
    if isinstance(value, int | float | np.number | np.ndarray):
        return graph.constant(float(value), "number")
    raise UntraceableError(f"it computes with a {type(value).__name__}")


def operate(operation: str, *operands: Any) -> Symbol:
    """Return the symbolic result of an operation, at least one of whose operands is a Symbol."""
    graph = next(each.node.graph for each in operands if isinstance(each, Symbol))
    if operation not in OPERATIONS:
        raise UntraceableError(f"it calls {operation}, which has no compiled form")
    nodes = [operand(graph, each) for each in operands]
    if operation == "power" and nodes[1].is_constant:
        return Symbol(power(graph, nodes[0], nodes[1].value))
    return Symbol(graph.node(operation, *nodes))


def power(graph: Graph, x: Expression, exponent: float) -> Expression:
    """x^p as products if p is a small whole number, as a root if it is ½"""
    if exponent == 0.5:
        return graph.node("sqrt", x)
    if exponent != int(exponent) or not 0 < abs(exponent) <= HIGHEST_POWER:
        return graph.node("power", x, graph.constant(exponent, "number"))
    if exponent < 0:
        return graph.node("div", graph.constant(1, "number"), power(graph, x, -exponent))
    half = power(graph, x, exponent // 2) if exponent > 1 else None
    if half is None:
        return x
    square = graph.node("mul", half, half)
    return graph.node("mul", square, x) if exponent % 2 else square


class SymbolicModule:
    """The functions that NumPy and CuPy share, on Symbols."""

    pi, e, inf, nan = np.pi, np.e, np.inf, np.nan
    float32, float64, bool_ = np.float32, np.float64, np.bool_

    def __getattr__(self, name: str) -> Callable[..., Symbol]:
        if name not in NAMES:
            raise UntraceableError(f"it uses xp.{name}, which has no compiled form")
        return lambda *args: operate(NAMES[name], *args)

    @staticmethod
    def square(x: Any) -> Symbol:
        return operate("mul", x, x)

    @staticmethod
    def reciprocal(x: Any) -> Symbol:
        return operate("div", 1, x)

    @staticmethod
    def clip(x: Any, min: Any = None, max: Any = None) -> Any:
        x = x if min is None else operate("maximum", x, min)
        return x if max is None else operate("minimum", x, max)

    @staticmethod
    def sign(x: Any) -> Symbol:
        """−1, 0 or 1; NaN of NaN"""
        return operate("where", x > 0, 1, operate("where", x < 0, -1, x))

    @staticmethod
    def heaviside(x: Any, at_zero: Any) -> Symbol:
        return operate("where", x > 0, 1, operate("where", x < 0, 0, operate("where", x == 0, at_zero, x)))

    @staticmethod
    def logaddexp(x: Any, y: Any) -> Symbol:
        """log(e^x + e^y), also where both are the same infinity"""
        distance = operate("where", operate("eq", x, y), 0, operate("abs", operate("sub", x, y)))
        return operate("maximum", x, y) + operate("log1p", operate("exp", -distance))

    @staticmethod
    def isnan(x: Any) -> Symbol:
        return operate("ne", x, x)

    @staticmethod
    def isfinite(x: Any) -> Symbol:
        return operate("lt", operate("abs", x), np.inf)

    @staticmethod
    def isinf(x: Any) -> Symbol:
        return operate("eq", operate("abs", x), np.inf)

    @staticmethod
    def full_like(x: Any, value: Any) -> Symbol:
        graph = x.node.graph
        node = operand(graph, value)
        return Symbol(graph.node("cast", node) if node.kind == "number" and x.node.kind == "array" else node)

    @staticmethod
    def ones_like(x: Any, **_: Any) -> Symbol:
        return SymbolicModule.full_like(x, 1)

    @staticmethod
    def zeros_like(x: Any, **_: Any) -> Symbol:
        return SymbolicModule.full_like(x, 0)


MODULE = SymbolicModule()


def trace(program: Callable[..., Any], dtype: Any, inputs: dict[str, Kind]) -> Any:
    """Return program(*symbols), run once with a Symbol for each input, in order.

    Raises UntraceableError if the program is no elementwise expression, or raises an error.
    """
    graph = Graph(dtype)
    try:
        return program(*(Symbol(graph.input(name, kind)) for name, kind in inputs.items()))
    except UntraceableError:
        raise
    except Exception as error:
        raise UntraceableError(f"it raises {type(error).__name__} for a symbolic array: {error}") from error


def result(graph: Graph, value: Any) -> Expression:
    """Return what a formula returned, a Symbol or a number, as an "array"."""
    node = operand(graph, value)
    if node.kind == "truth":
        return graph.node("where", node, graph.constant(1), graph.constant(0))
    return graph.node("cast", node) if node.kind == "number" else node


def where_defined(formula: Callable[..., Any]) -> str:
    """Return a formula's name for messages: "mine.value" of an activation, else with file and line."""
    owner = getattr(getattr(formula, "__self__", None), "name", None)
    if owner is not None:
        return f"{owner}.{formula.__name__}"
    code = getattr(inspect.unwrap(formula), "__code__", None)
    name = getattr(formula, "__qualname__", repr(formula))
    return name if code is None else f"{name} ({code.co_filename}:{code.co_firstlineno})"
