"""Emit LLVM code for tiles of a matrix product that stay in the processor's registers.

A tile of C = A B has ROWS rows and the width of a panel, which is ACROSS registers. It is a sum of outer
products: for each k, one column of A's rows times one row of B's panel. matrix_product.py puts tiles
together.
"""

from typing import Any

from llvmlite import ir

from ffnn_gpu.backends.cpu.loops.compiler import instruction
from ffnn_gpu.backends.cpu.loops.values import I32, I64, Like, llvm_type
from ffnn_gpu.backends.elementwise.emission import counted, declared, variable
from ffnn_gpu.backends.elementwise.lanes import REGISTER
from ffnn_gpu.backends.elementwise.machine_code import X86, has

MANY = has("avx512f") or not X86  # 32 registers, else 16
# A tile uses ROWS × ACROSS registers for sums, ACROSS for B and one for A.
ROWS, ACROSS = (6, 4) if MANY else (6, 2)
PANEL = ACROSS * REGISTER  # bytes of a panel's row
LINE = 64  # bytes of a cache line
UNROLLED = 2  # columns of A times rows of B per turn of the loop, in whole tiles
BYTES = ir.IntType(8).as_pointer()


class Vectors:
    """Emit loads, stores and sums of rows of `across` registers.

    With `width`, the last one of a row is partly used.
    """

    def __init__(self, builder: Any, number: Any, across: int, width: Any = None) -> None:
        self.builder, self.number, self.across = builder, number, across
        self.size = 4 if isinstance(number, ir.FloatType) else 8
        self.lanes = REGISTER // self.size
        self.kind = ir.VectorType(number, self.lanes)
        self.zero = ir.Constant(self.kind, None)
        self.mask: Any = None
        if width is not None:
            counted = ir.Constant(ir.VectorType(I64, self.lanes), list(range(self.lanes)))
            left = builder.sub(width, ir.Constant(I64, (across - 1) * self.lanes))
            self.mask = builder.icmp_signed("<", counted, self.spread(left))

    def spread(self, value: Any) -> Any:
        """Return one value in every lane."""
        kind = ir.VectorType(value.type, self.lanes)
        nothing, first = ir.Constant(kind, ir.Undefined), ir.Constant(I32, 0)
        lanes = ir.Constant(ir.VectorType(I32, self.lanes), None)
        return self.builder.shuffle_vector(self.builder.insert_element(nothing, value, first), nothing, lanes)

    def broadcast(self, address: Any, i: int) -> Any:
        """Return the i-th number from `address` on, in every lane."""
        place = self._place(address, i * self.size, self.number)
        return self.spread(self.builder.load(place, align=self.size))

    def place(self, address: Any, j: int) -> Any:
        """Return a pointer to the j-th register of the row at `address`."""
        return self._place(address, j * REGISTER, self.kind)

    def _place(self, address: Any, byte: int, kind: Any) -> Any:
        """Return a pointer to what is `byte` bytes after an address.

        Why not a sum of integers: LLVM would then keep an address in a register for each of a loop's loads.
        """
        start = address if address.type == BYTES else self.builder.inttoptr(address, BYTES)
        return self.builder.bitcast(self.builder.gep(start, [ir.Constant(I64, byte)]), kind.as_pointer())

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

    def fetch(self, address: Any) -> None:
        """Begin to load a row into the cache."""
        function = declared(self.builder, "llvm.prefetch.p0", ir.VoidType(), BYTES, *[I32] * 3)
        for byte in (*range(0, self.across * REGISTER, LINE), self.across * REGISTER - 1):
            place = self._place(address, byte, ir.IntType(8))
            self.builder.call(function, [place, *(ir.Constant(I32, each) for each in (0, 3, 1))])

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """Return a b + c, rounded once if the processor supports that."""
        return self._call("fmuladd", self.kind, a, b, c)

    def _call(self, name: str, result: Any, *args: Any) -> Any:
        """Call LLVM's function of that name for these vectors."""
        suffix = f"v{self.lanes}f{8 * self.size}" + (".p0" if name.startswith("masked") else "")
        function = declared(self.builder, f"llvm.{name}.{suffix}", result, *(arg.type for arg in args))
        return self.builder.call(function, args)


def _sums(builder: Any, v: Vectors, K: Any, strip: Any, panel: Any, unrolled: int) -> list[list[Any]]:
    """Return the variables with the sums Σ_k strip[k, i] panel[k, j]; LLVM keeps them in registers."""
    sums = [[variable(builder, v.zero) for _ in range(v.across)] for _ in range(ROWS)]
    starts = (builder.inttoptr(address, BYTES) for address in (strip, panel))
    places = [variable(builder, start) for start in starts]
    nothing, one, count = (ir.Constant(I64, n) for n in (0, 1, unrolled))
    loops = [(builder.sdiv(K, count), unrolled), (builder.srem(K, count), 1)] if unrolled > 1 else [(K, 1)]
    for turns, steps in loops:
        with counted(builder, nothing, turns, one):
            a, b = map(builder.load, places)
            for _ in range(steps):
                of_panel = [v.load(b, j, whole=True) for j in range(v.across)]
                for i, row in enumerate(sums):
                    factor = v.broadcast(a, i)
                    for j, place in enumerate(row):
                        builder.store(v.multiply_add(factor, of_panel[j], builder.load(place)), place)
                a = builder.gep(a, [ir.Constant(I64, ROWS * v.size)])
                b = builder.gep(b, [ir.Constant(I64, PANEL)])
            builder.store(a, places[0])
            builder.store(b, places[1])
    return sums


def tile(builder: Any, across: int, whole: bool, like: Like, *args: Any) -> None:
    """C (m, width) ← stripᵀ panel for strip (K, ROWS), panel (K, PANEL), or C + stripᵀ panel if `more`

    A tile is `across` registers wide, the last one partly used unless `whole`; shape = m, width, K.
    """
    (m, width, K), strip, panel, (C, c_row), more = args
    v = Vectors(builder, llvm_type(like.dtype), across, None if whole else width)
    numbers = [ir.Constant(I64, i) for i in range(ROWS)]
    rows = [builder.add(C, builder.mul(i, c_row)) for i in numbers]
    for row in rows:
        v.fetch(row)
    sums = _sums(builder, v, K, strip, panel, UNROLLED if whole else 1)
    added = builder.icmp_signed("!=", more, numbers[0])
    for i, c, row in zip(numbers, rows, sums, strict=True):
        with builder.if_then(builder.icmp_signed("<", i, m)):
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
def fetch(builder: Any, like: Like, address: Any) -> None:
    """Begin to load a panel's row into the cache. The address may be one that nothing has."""
    Vectors(builder, llvm_type(like.dtype), ACROSS).fetch(address)


@instruction
def move_strip(builder: Any, like: Like, source: Any, target: Any) -> None:
    """Copy as many numbers as a strip has rows."""
    move(builder, ROWS, like, source, target)


@instruction
def move_panel(builder: Any, like: Like, source: Any, target: Any) -> None:
    """Copy a row of a panel."""
    move(builder, PANEL // like.dtype.itemsize, like, source, target)


def move(builder: Any, count: int, like: Like, source: Any, target: Any) -> None:
    """Copy `count` numbers, all of which are read before one is written.

    Why no loop: LLVM would write one number before it reads the next, in case the two overlap.
    """
    kind = ir.VectorType(llvm_type(like.dtype), count).as_pointer()
    numbers = builder.load(builder.inttoptr(source, kind), align=like.dtype.itemsize)
    builder.store(numbers, builder.inttoptr(target, kind), align=like.dtype.itemsize)


@instruction
def turn_strip(builder: Any, like: Like, *args: Any) -> None:
    """Transpose as many rows as a strip has."""
    lanes = REGISTER // like.dtype.itemsize
    for first in reversed(range(0, ROWS, lanes)):  # a row's last numbers, then those before them
        turn(builder, (min(lanes, ROWS - first), ROWS), like, ir.Constant(I64, first), *args)


@instruction
def turn_panel(builder: Any, like: Like, *args: Any) -> None:
    """Transpose as many rows as a panel has columns."""
    across, lanes = PANEL // like.dtype.itemsize, REGISTER // like.dtype.itemsize
    with counted(builder, *(ir.Constant(I64, n) for n in (0, across, lanes))) as first:
        turn(builder, (lanes, across), like, first, *args)


def turn(
    builder: Any, shape: tuple[int, int], like: Like, first: Any, A: Any, a_row: Any, m: Any, C: Any
) -> None:
    """C (register, across) ← Aᵀ for A (across, register), only for `count` rows of A from the `first` on

    shape: count, at most as many as a register has numbers, and across.
    If A has only m rows, the last one takes the place of those that are missing.
    The rows of C lie beside each other. If `across` is no multiple of a register's numbers, the memory after
    them is overwritten too, as far as the last register reaches.
    """
    (count, across), v = shape, Vectors(builder, llvm_type(like.dtype), 1)
    last = builder.sub(m, ir.Constant(I64, 1))
    start = builder.add(C, builder.mul(first, ir.Constant(I64, v.size)))
    present = (_least(builder, builder.add(first, ir.Constant(I64, i)), last) for i in range(count))
    rows = [v.load(builder.add(A, builder.mul(i, a_row)), 0) for i in present]
    for k, row in enumerate(transposed(builder, v.lanes, rows + [v.zero] * (v.lanes - count))):
        v.store(row, builder.add(start, ir.Constant(I64, k * across * v.size)), 0)


def _least(builder: Any, i: Any, j: Any) -> Any:
    return builder.select(builder.icmp_signed("<", i, j), i, j)


def transposed(builder: Any, lanes: int, rows: list[Any]) -> list[Any]:
    """Transpose a square matrix of registers. Each stage swaps half the numbers of two rows."""
    half = 1
    while half < lanes:
        first = [lane if not lane & half else lanes + lane - half for lane in range(lanes)]
        second = [lane + half if not lane & half else lanes + lane for lane in range(lanes)]
        for i in (i for i in range(lanes) if not i & half):
            pair, kind = (rows[i], rows[i + half]), ir.VectorType(I32, lanes)
            rows[i], rows[i + half] = (
                builder.shuffle_vector(*pair, ir.Constant(kind, places)) for places in (first, second)
            )
        half *= 2
    return rows
