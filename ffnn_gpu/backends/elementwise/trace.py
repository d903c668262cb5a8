"""Run a formula once with symbolic arrays, and return it as an Expression.

    trace(lambda xp, s: s * xp.tanh(s), np.float32, {"s": "array"})

A formula is a function of an array module `xp` and of arrays. Here `xp` is a SymbolicModule, and each array
is a Symbol, whose operators make nodes. NumPy's own functions work on a Symbol too. UntraceableError is
raised for whatever is no elementwise expression: a Python `if` on a value, a sum over elements, another
array, a function that NumPy and CuPy do not share.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from ffnn_gpu.backends.elementwise.expression import (
    ARITHMETIC,
    COMPARISONS,
    FUNCTIONS,
    LOGIC,
    SPECIAL,
    Expression,
    Graph,
    Kind,
)
from ffnn_gpu.backends.elementwise.operators import Operators

# NumPy's name → operation
NAMES = {
    "add": "add", "subtract": "sub", "multiply": "mul", "divide": "div", "true_divide": "div",
    "negative": "neg", "absolute": "abs", "abs": "abs", "fabs": "abs", "maximum": "maximum",
    "minimum": "minimum", "less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge",
    "equal": "eq", "not_equal": "ne", "logical_and": "and", "logical_or": "or", "logical_xor": "xor",
    "logical_not": "not", "pow": "power", "acos": "arccos", "asin": "arcsin", "atan": "arctan",
    "acosh": "arccosh", "asinh": "arcsinh", "atanh": "arctanh", "atan2": "arctan2", "where": "where",
    **{name: name for name in (*FUNCTIONS, *SPECIAL)},
}  # fmt: skip
BITWISE = {"bitwise_and": "and", "bitwise_or": "or", "bitwise_xor": "xor", "invert": "not"}
UFUNCS = COMPARISONS | LOGIC | ARITHMETIC | FUNCTIONS
OPERANDS = {name: ufunc.nin for name, ufunc in UFUNCS.items()} | dict.fromkeys(SPECIAL, 1) | {"where": 3}
HIGHEST_POWER = 8  # of a whole exponent that becomes products
MOST_NODES = 4096  # of a graph; a loop of so many sums and products is compiled in 1 s


class UntraceableError(Exception):
    """A formula is no elementwise expression. The message says why, as a sentence without its subject."""


class Symbol(Operators):
    """A symbolic array. An in-place operator changes the array that the Symbol stands for.

    A Symbol that is `scalar` stands for one number, such as a learning rate. As for a NumPy scalar, an
    in-place operator returns a new Symbol and leaves this one unchanged.
    """

    def __init__(self, node: Expression, scalar: bool = False) -> None:
        self.node, self.scalar = node, scalar or node.kind == "number"

    def operate(self, operation: str, *operands: Any) -> "Symbol":
        return bitwise(operation, *operands) if operation in LOGIC else operate(operation, *operands)

    def _assign(self, operation: str, other: Any) -> "Symbol":
        changed = self.operate(operation, self, other)
        return changed if self.scalar else self.write(changed.node)

    def write(self, node: Expression) -> "Symbol":
        """Return this array after x[...] = node."""
        if self.scalar:
            raise UntraceableError("it writes to a number, which NumPy cannot change in place")
        if self.node.kind == "truth" and node.kind != "truth":
            raise UntraceableError("it writes numbers to an array of truth values")
        self.node = node if node.kind == self.node.kind else as_array(node)
        return self

    def __iadd__(self, other: Any) -> "Symbol":
        return self._assign("add", other)

    def __isub__(self, other: Any) -> "Symbol":
        return self._assign("sub", other)

    def __imul__(self, other: Any) -> "Symbol":
        return self._assign("mul", other)

    def __itruediv__(self, other: Any) -> "Symbol":
        return self._assign("div", other)

    def __ipow__(self, other: Any) -> "Symbol":
        return self._assign("power", other)

    def __iand__(self, other: Any) -> "Symbol":
        return self._assign("and", other)

    def __ior__(self, other: Any) -> "Symbol":
        return self._assign("or", other)

    def __ixor__(self, other: Any) -> "Symbol":
        return self._assign("xor", other)

    def __setitem__(self, index: Any, value: Any) -> None:
        """x[...] = value, which `x += …` and `out[...] = …` need"""
        if index is not Ellipsis and index != slice(None):
            raise UntraceableError(f"it writes to x[{index}]; only x[...] is every element")
        self.write(operand(self.node.graph, value))

    @property
    def dtype(self) -> np.dtype:
        kinds = {"truth": np.dtype(bool), "number": np.dtype(np.float64)}
        dtype: np.dtype = kinds.get(self.node.kind, self.node.graph.dtype)
        return dtype

    def astype(self, dtype: Any, *, copy: bool = True) -> "Symbol":
        """Return a copy of this array in the graph's dtype, the only one there is."""
        graph, wanted = self.node.graph, np.dtype(dtype)
        if wanted == self.dtype:
            return self.copy() if copy else self
        if self.node.kind != "array" and wanted == graph.dtype:
            return Symbol(as_array(self.node), self.scalar)
        raise UntraceableError(f"it converts {self.dtype} to {wanted}")

    def copy(self) -> "Symbol":
        return Symbol(self.node, self.scalar)

    def __pos__(self) -> "Symbol":
        return self.copy()

    def clip(self, min: Any = None, max: Any = None) -> "Symbol":
        clipped: Symbol = SymbolicModule.clip(self, min, max)
        return clipped

    def __bool__(self) -> bool:
        raise UntraceableError("it branches on a value of an array; use xp.where")

    def __float__(self) -> float:
        raise UntraceableError("it reads a value of an array")

    def __getitem__(self, index: Any) -> "Symbol":
        if not self.scalar and (index is Ellipsis or index == slice(None)):
            return self
        raise UntraceableError(f"it reads x[{index}]")

    def __getattr__(self, name: str) -> Any:
        raise UntraceableError(f"it reads the attribute {name!r} of an array")

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, out: Any = None, **named: Any) -> "Symbol":
        name: str = ufunc.__name__
        if method != "__call__" or named:
            raise UntraceableError(f"it calls np.{name} in a form that is not elementwise")
        if name in BITWISE:
            return bitwise(BITWISE[name], *args, out=out)
        return operate(NAMES.get(name, name), *args, out=out)

    def __array_function__(self, function: Any, types: Any, args: Any, named: Any) -> Any:
        return getattr(MODULE, function.__name__)(*args, **named)


def rounded(x: Symbol, to: str = "rounded") -> Symbol:
    """Return x, which no compiled loop computes to more digits on its way into a sum.

    to: "bfloat16" or "float16" for x rounded to this type.
    """
    return Symbol(x.node.graph.node(to, x.node))


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


def as_array(node: Expression) -> Expression:
    """Return a node as an "array"; truth values become 1 and 0."""
    if node.kind == "truth":
        return node.graph.node("where", node, node.graph.constant(1), node.graph.constant(0))
    return node.graph.node("cast", node) if node.kind == "number" else node


def operate(operation: str, *operands: Any, out: Any = None) -> Symbol:
    """Return the symbolic result of an operation, which is written to `out` if given, as by NumPy.

    A positional argument after the operands is `out`. Without a Symbol, NumPy computes the result.
    """
    count = OPERANDS.get(operation)
    if count is None:
        raise UntraceableError(f"it calls {operation}, which has no compiled form")
    if len(operands) == count + 1 and out is None and operation != "where":
        *operands, out = operands  # type: ignore[assignment]
    if len(operands) != count:
        raise UntraceableError(f"it calls {operation} with {len(operands)} operands instead of {count}")
    (out,) = out if isinstance(out, tuple) else (out,)
    symbols = [each for each in (*operands, out) if isinstance(each, Symbol)]
    if not symbols:
        computed: Any = (UFUNCS | {"where": np.where})[operation](*operands)
        return cast(Symbol, computed)
    graph = symbols[0].node.graph
    if graph.size > MOST_NODES:
        raise UntraceableError(f"it has more than {MOST_NODES} operations")
    nodes = [operand(graph, each) for each in operands]
    if operation == "power" and nodes[1].is_constant:
        node = power(graph, nodes[0], nodes[1].value)
    else:
        node = graph.node(operation, *nodes)
    if out is None:
        return Symbol(node, all(each.scalar for each in symbols))
    if not isinstance(out, Symbol):
        raise UntraceableError(f"it writes to a {type(out).__name__} that is none of its arguments")
    return out.write(node)


def bitwise(operation: str, *operands: Any, out: Any = None) -> Symbol:
    """Return operate(…) of truth values. The bits of a number are refused."""
    for each in operands:
        if not isinstance(each, bool | np.bool_) and not (
            isinstance(each, Symbol) and each.node.kind == "truth"
        ):
            raise UntraceableError(
                "it combines the bits of numbers; compare them first, as in (x > 0) & (y > 0)"
            )
    return operate(operation, *operands, out=out)


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
        if name in BITWISE:
            return functools.partial(bitwise, BITWISE[name])
        if name not in NAMES:
            raise UntraceableError(f"it uses xp.{name}, which has no compiled form")
        return functools.partial(operate, NAMES[name])

    @staticmethod
    def square(x: Any) -> Symbol:
        return operate("mul", x, x)

    @staticmethod
    def reciprocal(x: Any) -> Symbol:
        return operate("div", 1, x)

    @staticmethod
    def clip(x: Any, min: Any = None, max: Any = None) -> Any:
        x = +x if min is None else operate("maximum", x, min)
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
        filled: Symbol = +x
        return filled.write(operand(x.node.graph, value))

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
    return as_array(operand(graph, value))


def where_defined(formula: Callable[..., Any]) -> str:
    """Return a formula's name for messages: "mine.value" of an activation, else with file and line."""
    owner = getattr(getattr(formula, "__self__", None), "name", None)
    if owner is not None:
        return f"{owner}.{formula.__name__}"
    code = getattr(inspect.unwrap(formula), "__code__", None)
    name = getattr(formula, "__qualname__", repr(formula))
    return name if code is None else f"{name} ({code.co_filename}:{code.co_firstlineno})"
