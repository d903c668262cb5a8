"""Expressions: elementwise formulas as data, with constants folded and common parts shared.

An Expression is a node of a Graph: an operation and the nodes it reads. There are three kinds.

- "array": a number of the graph's dtype that differs from element to element, or may.
- "number": one float64 for all elements, such as a learning rate. `cast` makes an "array" of it.
- "truth": the result of a comparison.

`rounded` is its argument. A compiled loop may round a b + c once, but rounded(a b) + c twice. `bfloat16` and
`float16` are their argument rounded to that type.

A node is made once: `graph.node("exp", x)` twice is the same object.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

Kind: TypeAlias = Literal["array", "number", "truth"]

COMPARISONS = {
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal,
    "ne": np.not_equal,
}  # fmt: skip
LOGIC = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor, "not": np.logical_not}
ARITHMETIC = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative,
    "minimum": np.minimum, "maximum": np.maximum, "abs": np.abs,
}  # fmt: skip
# Functions with the name they have in NumPy, CuPy and C. A compiled loop has vector code for some of them.
FUNCTIONS = {
    name: getattr(np, name)
    for name in (
        "sqrt", "exp", "expm1", "exp2", "log", "log1p", "log2", "log10", "tanh", "sinh", "cosh", "sin", "cos",
        "tan", "arcsin", "arccos", "arctan", "arcsinh", "arccosh", "arctanh", "cbrt", "floor", "ceil",
        "trunc", "rint", "power", "arctan2", "hypot", "copysign", "fmod",
    )
}  # fmt: skip
SPECIAL = ("erf", "erfc")  # which NumPy lacks
ROUNDED = ("rounded", "bfloat16", "float16")


@dataclass(frozen=True, eq=False)
class Expression:
    """One node: an input (`value` is its name), a constant (`value` is the number), or an operation."""

    operation: str
    args: tuple["Expression", ...]
    kind: Kind
    value: Any = None
    graph: "Graph" = field(repr=False, default=None)  # type: ignore[assignment]

    @property
    def is_constant(self) -> bool:
        return self.operation == "constant"


class Graph:
    """Makes nodes for one dtype: float32 or float64."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self._nodes: dict[Any, Expression] = {}

    @property
    def size(self) -> int:
        return len(self._nodes)

    def input(self, name: str, kind: Kind = "array") -> Expression:
        return self._node("input", (), kind, name)

    def constant(self, value: Any, kind: Kind = "array") -> Expression:
        """Return a constant, rounded to the graph's dtype if it is an "array"."""
        rounded = {"truth": bool, "number": float}.get(kind, self.dtype.type)
        return self._node("constant", (), kind, rounded(value).item() if kind == "array" else rounded(value))

    def node(self, operation: str, *args: Expression) -> Expression:
        """Return operation(args), computed now if all args are constants."""
        if operation == "where":
            return self._where(*args)
        if operation == "cast":
            (number,) = args
            return self.constant(number.value) if number.is_constant else self._node("cast", args, "array")
        if operation in ROUNDED or operation in SPECIAL:
            return self._node(operation, args, args[0].kind)
        args = self._alike(operation, args)
        kind: Kind = "truth" if operation in COMPARISONS or operation in LOGIC else args[0].kind
        computed = (COMPARISONS | LOGIC | ARITHMETIC | FUNCTIONS).get(operation)
        if computed is not None and all(each.is_constant for each in args):
            dtype = {"array": self.dtype, "number": np.dtype(np.float64)}.get(args[0].kind, np.dtype(bool))
            with np.errstate(all="ignore"):
                return self.constant(computed(*(dtype.type(each.value) for each in args)), kind)
        if operation == "div" and kind == "array" and _has_inverse(args[1]):
            return self._product_with_inverse(*args)
        same = self._identity(operation, args)
        return self._node(operation, args, kind) if same is None else same

    # ------------------------------------------------------------------ inside

    def _node(
        self, operation: str, args: tuple[Expression, ...], kind: Kind, value: Any = None
    ) -> Expression:
        # Why repr: −0.0 == 0.0, and NaN ≠ NaN
        key = operation, tuple(map(id, args)), kind, repr(value)
        if key not in self._nodes:
            self._nodes[key] = Expression(operation, args, kind, value, self)
        return self._nodes[key]

    def _alike(self, operation: str, args: tuple[Expression, ...]) -> tuple[Expression, ...]:
        """Return the arguments as arrays, or as numbers if all are and the result is a number.

        Those of a logical operation become truth values: x ≠ 0.
        """
        if operation in LOGIC:
            return tuple(map(self._as_truth, args))
        args = tuple(self._as_number(each) if each.kind == "truth" else each for each in args)
        if all(each.kind == "number" for each in args) and operation not in (*COMPARISONS, "where"):
            return args
        return tuple(self.node("cast", each) if each.kind == "number" else each for each in args)

    def _as_number(self, truth: Expression) -> Expression:
        return self.node("where", truth, self.constant(1), self.constant(0))

    def _as_truth(self, x: Expression) -> Expression:
        return x if x.kind == "truth" else self.node("ne", x, self.constant(0, x.kind))

    def _where(self, condition: Expression, a: Expression, b: Expression) -> Expression:
        condition = self._as_truth(condition)
        if (a.kind, b.kind) != ("truth", "truth"):
            a, b = self._alike("where", (a, b))
        if condition.is_constant:
            return a if condition.value else b
        return a if a is b else self._node("where", (condition, a, b), a.kind)

    def _product_with_inverse(self, x: Expression, y: Expression) -> Expression:
        """x · (1/y) for a y that is the same for all elements; 1/y is computed in float64, once."""
        number = self.constant(y.value, "number") if y.is_constant else y.args[0]
        inverse = self.node("cast", self.node("div", self.constant(1, "number"), number))
        return self.node("mul", x, inverse)

    def _identity(self, operation: str, args: tuple[Expression, ...]) -> Expression | None:
        """Return the argument that the operation leaves unchanged bit for bit; None if there is none."""
        for each, other in (args, args[::-1]) if len(args) == 2 else ():
            if not each.is_constant:
                continue
            if operation == "mul" and each.value == 1:
                return other
            if operation == "mul" and each.value == -1:
                return self.node("neg", other)
        return args[0].args[0] if operation == "neg" and args[0].operation == "neg" else None


def _has_inverse(y: Expression) -> bool:
    """Return whether y is the same for all elements, and not a constant whose inverse is rounded."""
    return y.operation == "cast" or (y.is_constant and abs(math.frexp(y.value)[0]) == 0.5)


def in_order(*results: Expression) -> list[Expression]:
    """Return every node that the results need, each after its arguments."""
    found: dict[Expression, None] = {}
    waiting = list(results[::-1])
    while waiting:
        first = [each for each in waiting[-1].args if each not in found]
        if not first:
            found[waiting.pop()] = None
        waiting += first[::-1]
    return list(found)


def listing(*results: Expression) -> str:
    """Return the results as text, one node a line: equal texts compute equal numbers."""
    nodes = in_order(*results)
    number = {node: k for k, node in enumerate(nodes)}
    lines = [
        f"{k} = {node.operation} {node.kind} {[number[each] for each in node.args]} {node.value!r}"
        for k, node in enumerate(nodes)
    ]
    return "\n".join((str(results[0].graph.dtype), *lines, str([number[each] for each in results])))


def evaluate(result: Expression, inputs: dict[str, Any], special: dict[str, Any]) -> Any:
    """Return the value of an expression for arrays of the graph's dtype, computed by NumPy.

    Args:
        special: functions that NumPy lacks, such as erfc, by name.
    """
    known = COMPARISONS | LOGIC | ARITHMETIC | FUNCTIONS | special
    known |= {"where": np.where, "rounded": lambda x: x}
    values: dict[Expression, Any] = {}
    for node in in_order(result):
        if node.operation == "input":
            values[node] = inputs[node.value]
        elif node.operation == "constant":
            values[node] = node.graph.dtype.type(node.value) if node.kind == "array" else node.value
        elif node.operation == "cast":
            values[node] = node.graph.dtype.type(values[node.args[0]])
        else:
            values[node] = known[node.operation](*(values[each] for each in node.args))
    return values[result]
