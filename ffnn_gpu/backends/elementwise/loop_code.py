"""Write the LLVM code of a Loop: a block of a matrix, row by row and vector by vector."""

import functools
from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

from llvmlite import ir

from ffnn_gpu.backends.elementwise import functions
from ffnn_gpu.backends.elementwise.emission import counted, variable
from ffnn_gpu.backends.elementwise.expression import ROUNDED, Expression, in_order
from ffnn_gpu.backends.elementwise.lanes import F64, I32, I64, Lane, Lanes

Axes: TypeAlias = Literal["both", "bfloat16", "float16", "columns", "rows", "address", "value"]
MATRICES = {"both": "", "bfloat16": "bfloat16", "float16": "float16"}  # axes → how numbers are stored
WORD = 8  # bytes
UNIT = 16  # chunks of a single row are multiples of UNIT columns, so that no two write to one cache line
# function → LLVM's intrinsic, or the C library's function, which is called for one lane after another
INTRINSICS = {
    "sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "trunc": "trunc", "rint": "nearbyint", "sin": "sin",
    "cos": "cos", "power": "pow", "copysign": "copysign",
}  # fmt: skip
IN_C = {
    "exp2": "exp2", "log2": "log2", "log10": "log10", "sinh": "sinh", "cosh": "cosh", "tan": "tan",
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2", "arcsinh": "asinh",
    "arccosh": "acosh", "arctanh": "atanh", "cbrt": "cbrt", "hypot": "hypot", "fmod": "fmod",
}  # fmt: skip


class LoopCode:
    """The function block(slots, chunk, top, bottom, left, right) of one loop.

    It does rows top … bottom and columns left … right of `stores`, and writes their sums at `chunk`.

    Args:
        module: receives the function of this name.
        operands, stores, sums: those of the Loop.
        register: bytes of a vector.
    """

    def __init__(
        self,
        module: Any,
        name: str,
        operands: dict[str, str],
        stores: dict[str, Expression],
        sums: tuple[Expression, ...],
        register: int,
    ) -> None:
        self.operands, self.stores, self.sums = operands, stores, sums
        self.nodes = in_order(*stores.values(), *sums)
        self.uses = Counter(each for node in self.nodes for each in node.args)
        self.uses.update((*stores.values(), *sums))
        self.size = self.nodes[0].graph.dtype.itemsize
        kind = ir.FunctionType(ir.VoidType(), [I64.as_pointer(), *[I64] * 5])
        self.function = ir.Function(module, kind, name)
        self.slots, self.chunk, self.top, self.bottom, self.left, self.right = self.function.args
        self.builder = ir.IRBuilder(self.function.append_basic_block())
        self.lanes, self.number = Lanes(self.builder, self.size, register), Lanes(self.builder, WORD, WORD)
        self._write()

    def _write(self) -> None:
        builder, step = self.builder, integer(self.lanes.count)
        slots = {name: self._slot(2 * k) for k, name in enumerate(self.operands)}
        strides = {name: self._slot(2 * k + 1) for k, name in enumerate(self.operands)}
        zero = ir.Constant(ir.VectorType(F64, self.lanes.count), None)
        self.totals = [variable(builder, zero) for _ in self.sums]
        known = self._numbers(slots)
        with counted(builder, self.top, self.bottom, integer(1)) as r:
            values, starts = dict(known), dict(slots)
            for name in self._of(*MATRICES):
                starts[name] = builder.add(slots[name], builder.mul(r, strides[name]))
            for name in self._of("rows"):
                place = builder.add(slots[name], builder.mul(r, integer(self.size)))
                values |= self._input(name, self.lanes.spread(self._load(place, self.lanes.number)))
            rest = builder.srem(builder.sub(self.right, self.left), step)
            whole = builder.sub(self.right, rest)
            with counted(builder, self.left, whole, step) as c:
                self._vector(values, starts, c)
            with builder.if_then(builder.icmp_signed("<", whole, self.right)):
                self._vector(values, starts, whole, rest)
        for k, total in enumerate(self.totals):
            place = builder.add(
                self._slot(2 * len(self.operands) + k), builder.mul(self.chunk, integer(WORD))
            )
            builder.store(self.lanes.sum(builder.load(total)), builder.inttoptr(place, F64.as_pointer()))
        builder.ret_void()

    def _slot(self, place: int) -> Any:
        return self.builder.load(self.builder.gep(self.slots, [integer(place)]))

    def _load(self, address: Any, kind: Any) -> Any:
        return self.builder.load(self.builder.inttoptr(address, kind.as_pointer()))

    def _of(self, *axes: str) -> Iterable[str]:
        return (name for name, each in self.operands.items() if each in axes)

    def _input(self, name: str, value: Lane) -> dict[Expression, Lane]:
        """Return the value of the node that reads this operand, if there is one."""
        return {node: value for node in self.nodes if node.operation == "input" and node.value == name}

    def _numbers(self, slots: dict[str, Any]) -> dict[Expression, Lane]:
        """Return the values of the nodes that are the same for all elements."""
        known: dict[Expression, Lane] = {}
        for name in self._of("address"):
            known |= self._input(name, self.number.spread(self._load(slots[name], F64)))
        for name in self._of("value"):
            known |= self._input(name, self.number.spread(self.builder.bitcast(slots[name], F64)))
        for node in self.nodes:
            if node.operation != "input" and (
                node.kind == "number" or node.operation in ("cast", "constant")
            ):
                known[node] = self._emit(node, known)
        return known

    def _vector(self, known: dict[Expression, Lane], starts: Any, c: Any, rest: Any = None) -> None:
        """Compute the vector of columns from c on, or its first `rest` columns."""
        builder, lanes = self.builder, self.lanes
        mask, values = None if rest is None else lanes.first(rest), dict(known)
        stored = {name: MATRICES.get(self.operands[name], "") for name in self._of(*MATRICES, "columns")}
        places = {
            name: builder.add(starts[name], builder.mul(c, integer(2 if kind else self.size)))
            for name, kind in stored.items()
        }
        for node in self.nodes:
            if node not in values and node.operation == "input":
                values[node] = lanes.load(places[node.value], mask, stored[node.value])
            elif node not in values:
                values[node] = self._emit(node, values)
        for name, result in self.stores.items():
            lanes.store(values[result], places[name], mask, stored[name])
        for total, result in zip(self.totals, self.sums, strict=True):
            builder.store(builder.fadd(builder.load(total), self._term(result, values, mask)), total)

    def _term(self, result: Expression, values: dict[Expression, Lane], mask: Lane | None) -> Any:
        """Return the numbers that a sum adds, in float64.

        A product is made in float64, because the square of a float32 above 1.8·10¹⁹ is ∞ in float32.
        """
        factors = result.args if result.operation == "mul" else (result,)
        term = functools.reduce(self.builder.fmul, (self.lanes.wide(values[each]) for each in factors))
        return term if mask is None else self.builder.select(mask.value, term, ir.Constant(term.type, None))

    def _emit(self, node: Expression, values: dict[Expression, Lane]) -> Lane:
        """Return the value of a node whose arguments have values."""
        v = self.number if node.kind == "number" else self.lanes
        args, name = [values[each] for each in node.args], node.operation
        if name == "constant":
            return v.truth(node.value) if node.kind == "truth" else v.constant(node.value)
        if name == "cast":
            return self._cast(args[0])
        if name == "where":
            return v.where(*args)
        if name in ROUNDED:
            return args[0] if name == "rounded" else v.widened(v.narrowed(args[0], name), name)
        if name in ("minimum", "maximum"):
            return _extreme(v, name, node.args[0].is_constant, *args)
        if name in functions.FUNCTIONS:
            return functions.FUNCTIONS[name](v, *args)
        if name in INTRINSICS:
            return v.call(INTRINSICS[name], *args)
        if name in IN_C:
            return v.call_each(IN_C[name], *args)
        fused = self._fused(v, node, values)
        computed: Lane = args[0].operate(name, *args) if fused is None else fused
        return computed

    def _fused(self, v: Lanes, node: Expression, values: dict[Expression, Lane]) -> Lane | None:
        """a b + c, a b − c and c − a b, rounded once; None for other operations

        Why not if the product is used elsewhere, or c is a product too: p − max(p, 0) and a b − b a would be
        rounding errors instead of 0, and their roots NaN.
        """
        if node.operation not in ("add", "sub") or all(map(_is_product, node.args)):
            return None
        first, second = node.args
        if first.operation == "mul" and self.uses[first] == 1:
            a, b = (values[each] for each in first.args)
            c = values[second]
            return v.fma(a, b, c if node.operation == "add" else -c)
        if second.operation == "mul" and self.uses[second] == 1:
            a, b = (values[each] for each in second.args)
            return v.fma(a if node.operation == "add" else -a, b, values[first])
        return None

    def _cast(self, number: Lane) -> Lane:
        """Return a number as an array with it in every element."""
        value = self.builder.extract_element(number.value, ir.Constant(I32, 0))
        return self.lanes.spread(self.builder.fptrunc(value, self.lanes.number) if self.size == 4 else value)


def write_command(module: Any, name: str, block: Any) -> None:
    """Write name(null, [rows, columns, *slots], chunk, chunks), which does one chunk by `block`."""
    pointers = I64.as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointers, pointers, I64, I64])
    function = ir.Function(module, kind, name)
    _, operands, chunk, chunks = function.args
    builder = ir.IRBuilder(function.append_basic_block())
    rows, columns = (builder.load(builder.gep(operands, [integer(k)])) for k in range(2))
    slots = builder.gep(operands, [integer(2)])
    following = builder.add(chunk, integer(1))
    one_row = builder.icmp_signed("==", rows, integer(1))
    with builder.if_else(one_row) as (split_columns, split_rows):
        with split_columns:
            bounds = (_bound(builder, columns, UNIT, k, chunks) for k in (chunk, following))
            builder.call(block, [slots, chunk, integer(0), rows, *bounds])
        with split_rows:
            bounds = (_bound(builder, rows, 1, k, chunks) for k in (chunk, following))
            builder.call(block, [slots, chunk, *bounds, integer(0), columns])
    builder.ret_void()


def integer(value: int) -> Any:
    return ir.Constant(I64, value)


def _bound(builder: Any, n: Any, unit: int, chunk: Any, chunks: Any) -> Any:
    """min(n, ⌊⌈n/unit⌉ chunk/chunks⌋ unit), as in cpu/loops/chunks.py"""
    units = builder.sdiv(builder.add(n, integer(unit - 1)), integer(unit))
    bound = builder.mul(builder.sdiv(builder.mul(units, chunk), chunks), integer(unit))
    return builder.select(builder.icmp_signed("<", bound, n), bound, n)


def _extreme(v: Lanes, name: str, constant_first: bool, a: Lane, b: Lane) -> Lane:
    """min(a, b) or max(a, b), NaN if one of them is NaN

    One comparison is enough beside a constant, which is no NaN here unless all is NaN.
    """
    if constant_first:
        a, b = b, a
    keeps_b = a >= b if name == "minimum" else a <= b
    return v.where(b != b, b, v.where(keeps_b, b, a))


def _is_product(node: Expression) -> bool:
    """Return whether a node is a b or −a b."""
    return (node.args[0] if node.operation == "neg" else node).operation == "mul"
