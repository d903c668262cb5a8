"""Write expressions as a CUDA function object: one line for each operation.

    struct gelu_1f2e3d4c {
      __device__ __forceinline__ float operator()(float x0) const {
        const float v0 = x0 * -0.70710677f;
        …

Numbers of the kind "array" have the type of the graph, and numbers of the kind "number" are double. NaN is
propagated as by NumPy. Why lines instead of one formula: a part that is used twice is computed once.
"""

import hashlib
import math
import re
from typing import NamedTuple

import numpy as np

from ffnn_gpu.backends.elementwise.expression import FUNCTIONS, SPECIAL, Expression, in_order

TYPES = {"float32": "float", "float64": "double"}
# The text of an operation on {0}, {1}, {2}.
OPERATIONS = {
    "add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}", "div": "{0} / {1}", "neg": "-{0}",
    "lt": "{0} < {1}", "le": "{0} <= {1}", "gt": "{0} > {1}", "ge": "{0} >= {1}", "eq": "{0} == {1}",
    "ne": "{0} != {1}", "and": "{0} && {1}", "or": "{0} || {1}", "xor": "{0} != {1}", "not": "!{0}",
    "where": "{0} ? {1} : {2}", "rounded": "{0}",
    # Why not fmin and fmax: they return the number if the other argument is NaN.
    "minimum": "{0} < {1} || {0} != {0} ? {0} : {1}", "maximum": "{0} > {1} || {0} != {0} ? {0} : {1}",
}  # fmt: skip
# The same if {1} is a constant, which is no NaN: one comparison less.
WITH_CONSTANT = {"minimum": "{0} > {1} ? {1} : {0}", "maximum": "{0} < {1} ? {1} : {0}"}
# The C function of an operation if it is not named like the operation; with an f at its end for float.
C_NAMES = {
    "abs": "fabs", "power": "pow", "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2",
    "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh",
}  # fmt: skip
CALLS = {name: C_NAMES.get(name, name) for name in ("abs", *FUNCTIONS, *SPECIAL)}
INFINITY, NAN = "__int_as_float(0x7f800000)", "__int_as_float(0x7fffffff)"


class FunctionObject(NamedTuple):
    """A struct with `operator()`.

    Attributes:
        name: of the struct; its digits differ if the computation differs.
        text: its definition.
    """

    name: str
    text: str


def function_object(title: str, result: Expression, inputs: tuple[str, ...]) -> FunctionObject:
    """Return the function (inputs) → result.

    Args:
        title: the struct's name begins with it.
        inputs: names of all inputs of kind "array", in the order of the arguments.
    """
    real = TYPES[result.graph.dtype.name]
    parameters = ", ".join(f"{real} {name}" for name in inputs)
    lines, names = _lines(in_order(result), {})
    head = f"__device__ __forceinline__ {real} operator()({parameters}) const"
    return _struct(title, _method(head, [*lines, f"return {names[result]};"]))


def rule_object(title: str, results: dict[str, Expression], numbers: tuple[str, ...]) -> FunctionObject:
    """Return an update rule: prepare(numbers, out) and operator()(out, theta, grad, m, v).

    The first computes what is the same for all elements, and the second sets theta, m and v.

    Args:
        results: new values of theta, m and v, which are also inputs, as is grad.
        numbers: names of all inputs of kind "number", in the order of the arguments.
    """
    graph = results["theta"].graph
    real = TYPES[graph.dtype.name]
    nodes = in_order(*results.values())
    per_element: set[Expression] = set()
    for node in nodes:
        if (node.operation == "input" and node.kind == "array") or not per_element.isdisjoint(node.args):
            per_element.add(node)
    needed = {each for node in per_element for each in node.args} | set(results.values())
    shared = [node for node in nodes if node in needed - per_element and not node.is_constant]
    before, names = _lines([node for node in nodes if node not in per_element], {})
    stores = [f"out[{k}] = {names[node]};" for k, node in enumerate(shared)] or ["out[0] = 0;"]
    known = {node: f"number[{k}]" for k, node in enumerate(shared)}
    lines, names = _lines([node for node in nodes if node in per_element or node.is_constant], known)
    # Why first a copy of each result: it may be the old value of another one.
    copies = [f"const {real} new_{name} = {names[node]};" for name, node in results.items()]
    assigned = [f"{name} = new_{name};" for name in results]
    arguments = ", ".join(f"double {name}" for name in numbers)
    prepare = f"__device__ __forceinline__ void prepare({arguments}, {real}* out) const"
    apply = f"__device__ __forceinline__ void operator()(const {real}* number, {real}& theta, {real} grad,"
    return _struct(
        title,
        f"  static const int numbers = {len(stores)};\n",
        _method(prepare, [*before, *stores]),
        _method(f"{apply} {real}& m, {real}& v) const", [*lines, *copies, *assigned]),
    )


def _struct(title: str, *members: str) -> FunctionObject:
    """Return a struct whose name consists of a title and digits of a hash of its members."""
    digits = hashlib.sha256("".join(members).encode()).hexdigest()[:8]
    word = re.sub(r"\W", "_", title, flags=re.ASCII).lstrip("_0123456789").replace("__", "_") or "formula"
    name = f"{word}_{digits}"
    return FunctionObject(name, f"struct {name} {{\n{''.join(members)}}};\n")


def _method(head: str, lines: list[str]) -> str:
    return f"  {head} {{\n" + "".join(f"    {line}\n" for line in lines) + "  }\n"


def _lines(nodes: list[Expression], names: dict[Expression, str]) -> tuple[list[str], dict[Expression, str]]:
    """Return a definition for every operation, and the name or the digits of every node.

    names: of nodes that are defined elsewhere.
    """
    lines: list[str] = []
    names = dict(names)
    for node in nodes:
        if node.operation == "input":
            names[node] = node.value
        elif node.is_constant:
            names[node] = constant(node)
        else:
            names[node] = f"v{len(lines)}"
            lines.append(f"const {_type(node)} {names[node]} = {_operation(node, names)};")
    return lines, names


def _type(node: Expression) -> str:
    return {"truth": "bool", "number": "double"}.get(node.kind) or TYPES[node.graph.dtype.name]


def _operation(node: Expression, names: dict[Expression, str]) -> str:
    """Return the text of an operation on names."""
    operation, args = node.operation, [names[each] for each in node.args]
    if operation == "cast":
        return f"({_type(node)}){args[0]}"
    if operation in CALLS:
        return f"{CALLS[operation]}{'f' * (_type(node) == 'float')}({', '.join(args)})"
    if operation == "rounded" and node.args[0].operation == "mul":  # the one product that no sum may absorb
        intrinsic = "__fmul_rn" if _type(node) == "float" else "__dmul_rn"
        return f"{intrinsic}({', '.join(names[each] for each in node.args[0].args)})"
    if operation in WITH_CONSTANT:
        constants = [each for each in node.args if each.is_constant and not math.isnan(each.value)]
        if constants:
            args.sort(key=names[constants[0]].__eq__)
            return WITH_CONSTANT[operation].format(*args)
    return OPERATIONS[operation].format(*args)


def constant(node: Expression) -> str:
    """Return a constant as a C++ literal that is read back as the same number."""
    if node.kind == "truth":
        return "true" if node.value else "false"
    real = _type(node)
    if not math.isfinite(node.value):
        digits = NAN if math.isnan(node.value) else INFINITY
        return (
            f"{'-' * (node.value < 0)}{digits}"
            if real == "float"
            else f"({'-' * (node.value < 0)}(double){digits})"
        )
    return f"{np.float32(node.value)!s}f" if real == "float" else repr(float(node.value))
