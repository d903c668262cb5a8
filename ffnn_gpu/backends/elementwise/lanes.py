"""Vectors of numbers as values in LLVM code, with the operators of Python.

    v = Lanes(builder, 4, 64)         # float32 in registers of 64 bytes: 16 lanes
    y = v.where(x > 0, x, x * 0.5)    # emits a comparison, a product and a selection

A Lane is a vector of real numbers ("real"), of integers as wide as they ("bits"), or of truth values
("truth"). A Python number beside a Lane is a constant of the Lane's kind. No operation is rearranged or
contracted: every written operation is rounded on its own.

bfloat16 and float16 are types of numbers in memory: they are widened to float32 when they are loaded, and
rounded to nearest, ties to even, when they are stored.
"""

from typing import Any, Literal, TypeAlias

from llvmlite import ir

from ffnn_gpu.backends.elementwise.emission import declared
from ffnn_gpu.backends.elementwise.machine_code import X86, has
from ffnn_gpu.backends.elementwise.operators import Operators

I1, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 16, 32, 64))
F16, F32, F64 = ir.HalfType(), ir.FloatType(), ir.DoubleType()
Kind: TypeAlias = Literal["real", "bits", "truth"]
Stored: TypeAlias = Literal["bfloat16", "float16"]


REGISTER = 64 if has("avx512f") else 32 if has("avx") else 16  # bytes of a vector register
# 16-bit types in memory. Without the instructions for float16, LLVM calls functions that are not linked.
STORED: tuple[Stored, ...] = ("bfloat16", "float16") if has("f16c") or not X86 else ("bfloat16",)
# operation → LLVM's instruction for real numbers, and for bits and truth values
INSTRUCTIONS = {
    "add": ("fadd", "add"), "sub": ("fsub", "sub"), "mul": ("fmul", "mul"), "div": ("fdiv", ""),
    "neg": ("fneg", "neg"), "and": ("", "and_"), "or": ("", "or_"), "xor": ("", "xor"), "not": ("", "not_"),
    "shl": ("", "shl"), "shr": ("", "lshr"),
}  # fmt: skip
SIGNS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}


class Lane(Operators):
    """One vector; its operators emit instructions."""

    def __init__(self, lanes: "Lanes", value: Any, kind: Kind) -> None:
        self.lanes, self.value, self.kind = lanes, value, kind

    def operate(self, operation: str, *operands: Any) -> "Lane":
        if operation == "abs":
            return self.lanes.call("fabs", self)
        values = [self.lanes.like(self, each).value for each in operands]
        if operation in SIGNS:
            return self._compare(SIGNS[operation], values)
        instruction = INSTRUCTIONS[operation][self.kind != "real"]
        return Lane(self.lanes, getattr(self.lanes.builder, instruction)(*values), self.kind)

    def _compare(self, sign: str, values: list[Any]) -> "Lane":
        """Compare signed. If a value is NaN, only != is true."""
        builder = self.lanes.builder
        if self.kind != "real":
            return Lane(self.lanes, builder.icmp_signed(sign, *values), "truth")
        compare = builder.fcmp_unordered if sign == "!=" else builder.fcmp_ordered
        return Lane(self.lanes, compare(sign, *values), "truth")

    def __lshift__(self, places: int) -> "Lane":
        return self.operate("shl", self, places)

    def __rshift__(self, places: int) -> "Lane":
        """Shift zeros in from the left."""
        return self.operate("shr", self, places)


Number: TypeAlias = Lane | float | int


class Lanes:
    """Emit operations on vectors of float32 (size 4) or float64 (size 8).

    Args:
        builder: where the code goes.
        size: bytes of a number.
        register: bytes of a vector; a multiple of `size`.
    """

    def __init__(self, builder: Any, size: int, register: int) -> None:
        self.builder, self.size, self.count = builder, size, register // size
        self.number: Any = F32 if size == 4 else F64
        self.real_type = ir.VectorType(self.number, self.count)
        self.bits_type = ir.VectorType(I32 if size == 4 else I64, self.count)

    # ------------------------------------------------------------------ constants

    def constant(self, number: float) -> Lane:
        """Return a real number in every lane."""
        return Lane(self, ir.Constant(self.real_type, [float(number)] * self.count), "real")

    def integer(self, number: int) -> Lane:
        """Return an integer in every lane."""
        return Lane(self, ir.Constant(self.bits_type, [number] * self.count), "bits")

    def truth(self, value: bool) -> Lane:
        """Return a truth value in every lane."""
        return Lane(self, ir.Constant(ir.VectorType(I1, self.count), [value] * self.count), "truth")

    def like(self, lane: Lane, number: Number) -> Lane:
        """Return `number` as a Lane of the kind of `lane`."""
        if isinstance(number, Lane):
            return number
        if lane.kind == "truth":
            return self.truth(bool(number))
        return self.constant(number) if lane.kind == "real" else self.integer(int(number))

    def spread(self, value: Any) -> Lane:
        """Return one number in every lane."""
        nothing, zeros = ir.Constant(self.real_type, ir.Undefined), ir.VectorType(I32, self.count)
        first = self.builder.insert_element(nothing, value, ir.Constant(I32, 0))
        lanes = ir.Constant(zeros, None)
        return Lane(self, self.builder.shuffle_vector(first, nothing, lanes), "real")

    # ------------------------------------------------------------------ memory

    def first(self, n: Any) -> Lane:
        """Return the mask of the first n lanes."""
        kind, places = ir.VectorType(I64, self.count), ir.VectorType(I32, self.count)
        one = self.builder.insert_element(ir.Constant(kind, ir.Undefined), n, ir.Constant(I32, 0))
        limit = self.builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(places, None))
        numbered = ir.Constant(kind, list(range(self.count)))
        return Lane(self, self.builder.icmp_signed("<", numbered, limit), "truth")

    def load(self, address: Any, mask: Lane | None = None, stored: str = "") -> Lane:
        """Return the vector at an address; zeros where the mask is false. `stored`: "" or one of STORED."""
        kind, size = self._in_memory(stored)
        place = self.builder.inttoptr(address, kind.as_pointer())
        if mask is None:
            found = self.builder.load(place, align=size)
        else:
            others = ir.Constant(I32, size), mask.value, ir.Constant(kind, None)
            found = self._masked("load", kind, kind, place, *others)
        return self.widened(found, stored) if stored else Lane(self, found, "real")

    def store(self, lane: Lane, address: Any, mask: Lane | None = None, stored: str = "") -> None:
        """Write a vector to an address, only where the mask is true. `stored` as for `load`."""
        kind, size = self._in_memory(stored)
        place = self.builder.inttoptr(address, kind.as_pointer())
        value = self.narrowed(lane, stored) if stored else lane.value
        if mask is None:
            self.builder.store(value, place, align=size)
        else:
            self._masked("store", kind, ir.VoidType(), value, place, ir.Constant(I32, size), mask.value)

    def _in_memory(self, stored: str) -> tuple[Any, int]:
        """Return the type of a vector in memory, and the bytes of a number."""
        return (ir.VectorType(I16, self.count), 2) if stored else (self.real_type, self.size)

    def _masked(self, name: str, vector: Any, result: Any, *args: Any) -> Any:
        of = "i16" if vector.element == I16 else f"f{8 * self.size}"
        full = f"llvm.masked.{name}.v{self.count}{of}.p0"
        return self.builder.call(declared(self.builder, full, result, *(arg.type for arg in args)), args)

    def widened(self, bits: Any, stored: str) -> Lane:
        """Return a vector of 16-bit numbers as float32. A bfloat16 is the upper half of a float32."""
        if stored == "float16":
            half = self.builder.bitcast(bits, ir.VectorType(F16, self.count))
            return Lane(self, self.builder.fpext(half, self.real_type), "real")
        return self.real(Lane(self, self.builder.zext(bits, self.bits_type), "bits") << 16)

    def narrowed(self, lane: Lane, stored: str) -> Any:
        """Return a vector of float32 as 16-bit numbers, each the nearest, of two equally near the even one.

        NaN stays NaN: without the selection, rounding up would make ∞ of one whose set bits are all low.
        """
        kind = ir.VectorType(I16, self.count)
        if stored == "float16":
            half = self.builder.fptrunc(lane.value, ir.VectorType(F16, self.count))
            return self.builder.bitcast(half, kind)
        bits = self.bits(lane)
        nearest = self.where(lane != lane, bits | 0x400000, bits + (((bits >> 16) & 1) + 0x7FFF))
        return self.builder.trunc((nearest >> 16).value, kind)

    def wide(self, lane: Lane) -> Any:
        """Return the vector's numbers as float64."""
        wide = ir.VectorType(F64, self.count)
        return self.builder.fpext(lane.value, wide) if self.size == 4 else lane.value

    def sum(self, vector: Any) -> Any:
        """Return the sum of a vector of float64: of its halves, of their halves, …"""
        return self._folded(vector, self.builder.fadd)

    def largest(self, lane: Lane) -> Any:
        """Return the largest number of a vector without NaN."""

        def larger(a: Any, b: Any) -> Any:
            return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)

        return self._folded(lane.value, larger)

    def _folded(self, vector: Any, join: Any) -> Any:
        """Return the one number that is left when halves are joined until nothing can be halved."""
        count = self.count
        while count > 1:
            count //= 2
            kind, nothing = ir.VectorType(I32, count), ir.Constant(vector.type, ir.Undefined)
            places = (ir.Constant(kind, list(range(start, start + count))) for start in (0, count))
            vector = join(*(self.builder.shuffle_vector(vector, nothing, each) for each in places))
        return self.builder.extract_element(vector, ir.Constant(I32, 0))

    # ------------------------------------------------------------------ operations

    def fma(self, a: Number, b: Number, c: Number) -> Lane:
        """a b + c, rounded once if the processor has such an instruction, else twice"""
        given = next(each for each in (a, b, c) if isinstance(each, Lane))
        return self.call("fmuladd", *(self.like(given, each) for each in (a, b, c)))

    def where(self, condition: Lane, a: Number, b: Number) -> Lane:
        """Return a where the condition holds, else b."""
        given = a if isinstance(a, Lane) else b if isinstance(b, Lane) else self.constant(0)
        a, b = self.like(given, a), self.like(given, b)
        return Lane(self, self.builder.select(condition.value, a.value, b.value), a.kind)

    def sqrt(self, x: Lane) -> Lane:
        return self.call("sqrt", x)

    def rint(self, x: Lane) -> Lane:
        """Return the nearest whole number, an even one if two are equally near."""
        return self.call("nearbyint", x)

    def floor(self, x: Lane) -> Lane:
        return self.call("floor", x)

    def ceil(self, x: Lane) -> Lane:
        return self.call("ceil", x)

    def bits(self, x: Lane) -> Lane:
        """Return the bits of a real number as an integer."""
        return Lane(self, self.builder.bitcast(x.value, self.bits_type), "bits")

    def real(self, bits: Lane) -> Lane:
        """Return the real number that has these bits."""
        return Lane(self, self.builder.bitcast(bits.value, self.real_type), "real")

    def to_integer(self, x: Lane) -> Lane:
        """Return a real number, rounded towards 0, as an integer. Undefined if it does not fit."""
        return Lane(self, self.builder.fptosi(x.value, self.bits_type), "bits")

    def to_real(self, n: Lane) -> Lane:
        """Return an integer as a real number."""
        return Lane(self, self.builder.sitofp(n.value, self.real_type), "real")

    def polynomial(self, x: Lane, coefficients: tuple[float, ...]) -> Lane:
        """Σ_k c_k x^k by Horner's rule; the coefficients from c_0 on"""
        total = self.constant(coefficients[-1])
        for c in coefficients[-2::-1]:
            total = self.fma(total, x, c)
        return total

    def call(self, name: str, *args: Lane) -> Lane:
        """Return the result of LLVM's intrinsic of this name for these vectors of real numbers."""
        full = f"llvm.{name}.v{self.count}f{8 * self.size}"
        function = declared(self.builder, full, self.real_type, *[self.real_type] * len(args))
        return Lane(self, self.builder.call(function, [each.value for each in args]), "real")

    def call_each(self, name: str, *args: Lane) -> Lane:
        """Return the results of the C library's function of this name, called for one lane after another."""
        full = name + ("f" if self.size == 4 else "")
        function = declared(self.builder, full, self.number, *[self.number] * len(args))
        result = ir.Constant(self.real_type, ir.Undefined)
        for k in range(self.count):
            place = ir.Constant(I32, k)
            numbers = [self.builder.extract_element(each.value, place) for each in args]
            result = self.builder.insert_element(result, self.builder.call(function, numbers), place)
        return Lane(self, result, "real")
