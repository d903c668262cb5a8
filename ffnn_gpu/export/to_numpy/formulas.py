"""An elementwise formula → a Python function on NumPy arrays, through its trace.

A result that is used twice gets a name, as does one whose text would be long; the rest is one expression.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from ffnn_gpu.backends.elementwise.built_once import check
from ffnn_gpu.backends.elementwise.expression import ARITHMETIC, COMPARISONS, FUNCTIONS, Expression, in_order
from ffnn_gpu.backends.elementwise.trace import MODULE, SymbolicModule, UntraceableError
from ffnn_gpu.backends.reference.special import erfc
from ffnn_gpu.errors import ConfigurationError

SIGNS = {
    "add": "{} + {}", "sub": "{} - {}", "mul": "{} * {}", "div": "{} / {}", "neg": "-{}", "lt": "{} < {}",
    "le": "{} <= {}", "gt": "{} > {}", "ge": "{} >= {}", "eq": "{} == {}", "ne": "{} != {}",
    "and": "{} & {}", "or": "{} | {}", "xor": "{} ^ {}", "not": "~{}",
}  # fmt: skip
CALLS = {name: f.__name__ for name, f in (ARITHMETIC | COMPARISONS | FUNCTIONS).items() if name not in SIGNS}
LONGEST = 60  # letters of an expression without a name


class WithoutErfc(SymbolicModule):
    """The functions of a trace but erfc, whose own formula is traced."""

    erfc = None


def functions(name: str, formula: Callable[..., Any], dtype: Any, what: str) -> dict[str, str]:
    """Return the source of a function called `name` that computes formula(np, s), and of what it calls.

    what: the formula's name in messages. Raises ConfigurationError if it has no trace.
    """
    traced = _trace(formula, dtype, MODULE, what)
    found = {name: _source(name, "s", traced, f"Return the activation {name}(s).")}
    if any(node.operation == "erfc" for node in in_order(traced)):
        own = _trace(erfc, dtype, WithoutErfc(), "erfc")
        found["erfc"] = _source("erfc", "x", own, "Return 1 - erf(x), by a Chebyshev series.")
    return found


def _trace(formula: Callable[..., Any], dtype: Any, module: Any, what: str) -> Expression:
    try:
        return check(formula, dtype, 1, module)
    except UntraceableError as error:
        raise ConfigurationError(
            f"{what} cannot be written as NumPy operations: {error.__cause__}"
        ) from error


def _source(name: str, argument: str, traced: Expression, said: str) -> str:
    lines = [f"def {name}({argument}):", f'    """{said}"""']
    nodes = in_order(traced)
    uses = Counter(arg for node in nodes for arg in node.args)
    texts: dict[Expression, str] = {}
    for node in nodes:
        text = _text(node, [texts[arg] for arg in node.args], argument)
        is_shared = uses[node] > 1 or len(text) > LONGEST
        if is_shared and node.args and node is not traced:
            variable = f"t{len(lines) - 1}"
            lines.append(f"    {variable} = {_bare(text)}")
            text = variable
        texts[node] = text
    result = _bare(texts[traced])
    if not any(node.operation == "input" for node in nodes):  # such as ones_like(s)
        result = f"np.full_like({argument}, {result})"
    return "\n".join([*lines, f"    return {result}"]) + "\n"


def _text(node: Expression, args: list[str], argument: str) -> str:
    dtype = np.dtype(node.graph.dtype if node.kind == "array" else np.float64).name
    if node.operation == "input":
        return argument
    if node.operation == "constant":
        return _number(node.value)
    if node.operation in ("rounded", "cast"):
        return args[0]
    if node.operation in SIGNS:
        return f"({SIGNS[node.operation].format(*args)})"
    if node.operation == "where":  # two Python numbers would become float64
        numbers = (f"np.{dtype}({text})" if arg.is_constant else text for arg, text in _pairs(node, args))
        return f"np.where({', '.join(numbers)})"
    if node.operation == "erfc":
        return f"erfc({_bare(args[0])})"
    return f"np.{CALLS[node.operation]}({', '.join(map(_bare, args))})"


def _pairs(node: Expression, args: list[str]) -> list[tuple[Expression, str]]:
    return [(arg, _bare(text)) for arg, text in zip(node.args, args, strict=True)]


def _number(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    text = repr(float(value))
    if text in ("inf", "-inf", "nan"):
        return text.replace("inf", "np.inf").replace("nan", "np.nan")
    return f"({text})" if text.startswith("-") else text


def _bare(text: str) -> str:
    """Return a text without the brackets around all of it."""
    if not (text.startswith("(") and text.endswith(")")):
        return text
    depth = 0
    for place, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if not depth and place < len(text) - 1:
            return text
    return text[1:-1]
