"""Emit LLVM code for tiles of a matrix product that stay in the processor's registers.

A tile of C = A B has ROWS rows and the width of a panel, which is ACROSS registers. It is a sum of outer
products: for each k, one column of A's rows times one row of B's panel. matrix_product.py puts tiles
together.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from ffnn_gpu.backends.cpu.loops.compiler import instruction
from ffnn_gpu.backends.cpu.loops.values import I32, I64, Like, llvm_type
from ffnn_gpu.backends.elementwise.lanes import REGISTER, X86, has

MANY = has("avx512f") or not X86  # 32 registers, else 16
# A tile uses ROWS × ACROSS registers for sums, ACROSS for B and one for A.
ROWS, ACROSS = (6, 4) if MANY else (6, 2)
PANEL = ACROSS * REGISTER  # bytes of a panel's row


class Vectors:
    """Emit loads, stores and sums of rows of `across` registers.

    With `width`, the last one of a row is partly used.
    """

    def __init__(self, builder: Any, number: Any, across: int, width: Any = None) -> None:
        self.builder, self.number, self.across = builder, number, across
        self.size = 4 if isinstance(number, ir.FloatType) else 8
        self.lanes = REGISTER // self.size
        self.kind = ir.VectorType(number, self.lanes)
        self.zero = ir.Constant(self.kind, [0.0] * self.lanes)
        self.mask: Any = None
        if width is not None:
            counted = ir.Constant(ir.VectorType(I64, self.lanes), list(range(self.lanes)))
            left = builder.sub(width, ir.Constant(I64, (across - 1) * self.lanes))
            self.mask = builder.icmp_signed("<", counted, self.spread(left))

    def spread(self, value: Any) -> Any:
        """Return one value in every lane."""
        kind = ir.VectorType(value.type, self.lanes)
        nothing, first = ir.Constant(kind, ir.Undefined), ir.Constant(I32, 0)
        lanes = ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(self.builder.insert_element(nothing, value, first), nothing, lanes)

    def broadcast(self, address: Any) -> Any:
        """Return the number at `address` in every lane."""
        place = self.builder.inttoptr(address, self.number.as_pointer())
        return self.spread(self.builder.load(place, align=self.size))

    def place(self, address: Any, j: int) -> Any:
        """Return a pointer to the j-th register of the row at `address`."""
        moved = self.builder.add(address, ir.Constant(I64, j * REGISTER))
        return self.builder.inttoptr(moved, self.kind.as_pointer())

    def partial(self, j: int) -> bool:
        """Return whether the j-th register of a row is only partly used."""
        return self.mask is not None and j == self.across - 1

    def load(self, address: Any, j: int, whole: bool = False) -> Any:
        """Return the j-th register of a row: `whole`, or with zeros after the end of the row."""
        place = self.place(address, j)
        if whole or not self.partial(j):
            return self.builder.load(place, align=self.size)
        return self._call("masked.load", self.kind, place, ir.Constant(I32, self.size), self.mask, self.zero)

    def store(self, value: Any, address: Any, j: int) -> None:
        place = self.place(address, j)
        if self.partial(j):
            self._call("masked.store", ir.VoidType(), value, place, ir.Constant(I32, self.size), self.mask)
        else:
            self.builder.store(value, place, align=self.size)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """Return a b + c, rounded once if the processor supports that."""
        return self._call("fmuladd", self.kind, a, b, c)

    def _call(self, name: str, result: Any, *args: Any) -> Any:
        """Call LLVM's function of that name for these vectors."""
        suffix = f"v{self.lanes}f{8 * self.size}" + (".p0" if name.startswith("masked") else "")
        kind = ir.FunctionType(result, [arg.type for arg in args])
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.{name}.{suffix}")
        return self.builder.call(function, args)


def _sums(
    builder: Any, v: Vectors, K: Any, A: Any, rows: list[Any], a_step: Any, panel: Any
) -> list[list[Any]]:
    """Return the variables with the sums Σ_k A[i, k] panel[k, j]; LLVM keeps them in registers."""
    sums = [[cgutils.alloca_once_value(builder, v.zero) for _ in range(v.across)] for _ in rows]
    places = [cgutils.alloca_once_value(builder, start) for start in (A, panel)]
    with cgutils.for_range(builder, K):
        a, b = map(builder.load, places)
        of_panel = [v.load(b, j, whole=True) for j in range(v.across)]
        for i, row in enumerate(rows):
            factor = v.broadcast(builder.add(a, row))
            for j, place in enumerate(sums[i]):
                builder.store(v.multiply_add(factor, of_panel[j], builder.load(place)), place)
        builder.store(builder.add(a, a_step), places[0])
        builder.store(builder.add(b, ir.Constant(I64, PANEL)), places[1])
    return sums


def tile(builder: Any, across: int, whole: bool, like: Like, *args: Any) -> None:
    """C (m, width) ← A (m, K) panel (K, width), or C + A panel if `more`; the arguments of `tiles`

    A tile is `across` registers wide, the last one partly used unless `whole`.
    """
    (m, width, K), (A, a_row, a_step), panel, (C, c_row), more = args
    v = Vectors(builder, llvm_type(like.dtype), across, None if whole else width)
    numbers = [ir.Constant(I64, i) for i in range(ROWS)]
    last = builder.sub(m, numbers[1])
    inside = [builder.select(builder.icmp_signed("<", i, m), i, last) for i in numbers]
    sums = _sums(builder, v, K, A, [builder.mul(i, a_row) for i in inside], a_step, panel)
    added = builder.icmp_signed("!=", more, numbers[0])
    for i, row in zip(numbers, sums, strict=True):
        with builder.if_then(builder.icmp_signed("<", i, m)):
            c = builder.add(C, builder.mul(i, c_row))
            with builder.if_then(added):
                for j, place in enumerate(row):
                    builder.store(builder.fadd(builder.load(place), v.load(c, j)), place)
            for j, place in enumerate(row):
                v.store(builder.load(place), c, j)


@instruction
def whole_tile(builder: Any, *args: Any) -> None:
    """Do a tile as wide as a panel."""
    tile(builder, ACROSS, True, *args)


@instruction
def narrow_tile(builder: Any, like: Like, shape: Any, *args: Any) -> None:
    """Do a tile narrower than a panel."""
    lanes, end = REGISTER // like.dtype.itemsize, builder.append_basic_block()
    for across in range(1, ACROSS + 1):
        with builder.if_then(builder.icmp_signed("<=", shape[1], ir.Constant(I64, across * lanes))):
            tile(builder, across, False, like, shape, *args)
            builder.branch(end)
    builder.branch(end)
    builder.position_at_end(end)


@instruction
def turn(builder: Any, like: Like, A: Any, a_row: Any, C: Any, c_row: Any) -> None:
    """C ← Aᵀ for a square A whose rows fill one register. Each stage swaps half the numbers of two rows."""
    v = Vectors(builder, llvm_type(like.dtype), 1)
    numbers = [ir.Constant(I64, i) for i in range(v.lanes)]
    rows = [v.load(builder.add(A, builder.mul(i, a_row)), 0) for i in numbers]
    half = 1
    while half < v.lanes:
        first = [lane if not lane & half else v.lanes + lane - half for lane in range(v.lanes)]
        second = [lane + half if not lane & half else v.lanes + lane for lane in range(v.lanes)]
        for i in (i for i in range(v.lanes) if not i & half):
            pair, kind = (rows[i], rows[i + half]), ir.VectorType(I32, v.lanes)
            rows[i], rows[i + half] = (
                builder.shuffle_vector(*pair, ir.Constant(kind, lanes)) for lanes in (first, second)
            )
        half *= 2
    for i, row in zip(numbers, rows, strict=True):
        v.store(row, builder.add(C, builder.mul(i, c_row)), 0)
