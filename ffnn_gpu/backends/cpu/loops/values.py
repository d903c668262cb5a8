"""The values of a compiled function (see compiler.py), and arithmetic on them as LLVM code."""

import ast
import functools
import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from llvmlite import ir

I1, I32, I64, F32, F64 = ir.IntType(1), ir.IntType(32), ir.IntType(64), ir.FloatType(), ir.DoubleType()
INT64, FLOAT64, TRUTH = np.dtype(np.int64), np.dtype(np.float64), np.dtype(np.bool)
OF_LLVM = {I1: TRUTH, I32: np.dtype(np.int32), I64: INT64, F32: np.dtype(np.float32), F64: FLOAT64}
OF_PYTHON = {bool: TRUTH, int: INT64, float: FLOAT64}
Value: TypeAlias = Any
# operator → Python's function; LLVM's instruction for integers, and for real numbers
OPERATORS: dict[type, tuple[Callable[..., Any], str, str]] = {
    ast.Add: (operator.add, "add", "fadd"), ast.Sub: (operator.sub, "sub", "fsub"),
    ast.Mult: (operator.mul, "mul", "fmul"), ast.Div: (operator.truediv, "", "fdiv"),
    ast.FloorDiv: (operator.floordiv, "sdiv", ""), ast.Mod: (operator.mod, "srem", ""),
    ast.BitAnd: (operator.and_, "and_", ""), ast.BitOr: (operator.or_, "or_", ""),
    ast.BitXor: (operator.xor, "xor", ""), ast.RShift: (operator.rshift, "lshr", ""),
}  # fmt: skip
SIGNS: dict[type, tuple[Callable[..., Any], str]] = {
    ast.Lt: (operator.lt, "<"), ast.LtE: (operator.le, "<="), ast.Gt: (operator.gt, ">"),
    ast.GtE: (operator.ge, ">="), ast.Eq: (operator.eq, "=="), ast.NotEq: (operator.ne, "!="),
}  # fmt: skip


class CompileError(Exception):
    """A function is not written in the language of compiler.py."""


class Number(NamedTuple):
    """A number: its LLVM value, and its dtype."""

    value: Any
    dtype: np.dtype


class Like(NamedTuple):
    """Stands for arrays of a dtype."""

    dtype: np.dtype


class Pointer(NamedTuple):
    """The address of int64 numbers; None stands for any."""

    value: Any = None


class View(NamedTuple):
    """A C-contiguous vector or matrix: a pointer to its first element, and its shape."""

    pointer: Any
    dtype: np.dtype
    shape: tuple[Number, ...]

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize


def llvm_type(dtype: Any) -> Any:
    """Return LLVM's type of a number."""
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return {4: F32, 8: F64}[dtype.itemsize]
    return I1 if dtype == TRUTH else ir.IntType(8 * dtype.itemsize)


class Arithmetic:
    """Emits arithmetic. An operand is a Number or a constant; two constants give a constant."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def number(self, value: Value) -> Number:
        if isinstance(value, Number):
            return value
        dtype = OF_PYTHON.get(type(value))
        if dtype is None:
            raise CompileError(f"{value!r} is no number")
        return Number(ir.Constant(llvm_type(dtype), value), dtype)

    def integer(self, value: Value) -> Any:
        """Return the LLVM value of an int64."""
        return self.cast(value, INT64).value

    def truth(self, value: Value) -> Any:
        """Return the LLVM value that is true if the number is not 0."""
        number = self.number(value)
        return number.value if number.dtype == TRUTH else self.compared(ast.NotEq(), number, 0).value

    def cast(self, value: Value, dtype: np.dtype) -> Number:
        """Return a number in another dtype."""
        x = self.number(value)
        if x.dtype == dtype:
            return x
        signed, wider = x.dtype.kind == "i", dtype.itemsize > x.dtype.itemsize
        if x.dtype.kind == "f":
            to_real = self.builder.fpext if wider else self.builder.fptrunc
            emit = to_real if dtype.kind == "f" else self.builder.fptosi
        elif dtype.kind == "f":
            emit = self.builder.sitofp if signed else self.builder.uitofp
        elif wider or x.dtype == TRUTH:
            emit = self.builder.sext if signed else self.builder.zext
        elif x.dtype.itemsize == dtype.itemsize:
            return Number(x.value, dtype)
        else:
            emit = self.builder.trunc
        return Number(emit(x.value, llvm_type(dtype)), dtype)

    def promoted(self, a: Value, b: Value, real: bool = False) -> tuple[Number, Number]:
        """Return both as numbers of one dtype: NumPy's, but a constant integer takes an unsigned one's."""
        x, y = self.number(a), self.number(b)
        if "u" in (x.dtype.kind, y.dtype.kind) and int in (type(a), type(b)):
            dtype = y.dtype if type(a) is int else x.dtype
            return self.cast(x, dtype), self.cast(y, dtype)
        dtype = np.result_type(x.dtype, y.dtype)
        dtype = FLOAT64 if real and dtype.kind != "f" else dtype
        return self.cast(x, dtype), self.cast(y, dtype)

    def calculated(self, sign: ast.operator, a: Value, b: Value) -> Value:
        """Return a ∘ b."""
        if isinstance(sign, ast.Pow):
            square = type(b) is int and b == 2
            return self.calculated(ast.Mult(), a, a) if square else self.of_reals("pow", a, b)
        python, of_integers, of_reals = OPERATORS[type(sign)]
        if not isinstance(a, Number) and not isinstance(b, Number):
            return python(a, b)
        a, b = self.promoted(a, b, real=isinstance(sign, ast.Div))
        if a.dtype.kind == "f":
            return Number(getattr(self.builder, of_reals)(a.value, b.value), a.dtype)
        bounded = a.dtype.kind == "i" and of_integers in ("add", "sub", "mul")
        flags = {"flags": ["nsw"]} if bounded else {}
        return Number(getattr(self.builder, of_integers)(a.value, b.value, **flags), a.dtype)

    def compared(self, sign: ast.cmpop, a: Value, b: Value) -> Value:
        """Return a < b or the like; only != is true for NaN."""
        python, of_llvm = SIGNS[type(sign)]
        if not isinstance(a, Number) and not isinstance(b, Number):
            return python(a, b)
        a, b = self.promoted(a, b)
        if a.dtype.kind == "f":
            emit = self.builder.fcmp_unordered if of_llvm == "!=" else self.builder.fcmp_ordered
        else:
            emit = self.builder.icmp_unsigned if a.dtype.kind == "u" else self.builder.icmp_signed
        return Number(emit(of_llvm, a.value, b.value), TRUTH)

    def extreme(self, sign: ast.cmpop, a: Value, b: Value) -> Number:
        """Return b if it is less (or greater) than a, else a."""
        a, b = self.promoted(a, b)
        return Number(self.builder.select(self.truth(self.compared(sign, b, a)), b.value, a.value), a.dtype)

    def of_reals(self, name: str, *values: Value) -> Number:
        """Return LLVM's function of this name; of integers in float64."""
        x = [self.number(value) for value in values]
        dtype = np.result_type(*(each.dtype for each in x))
        dtype = dtype if dtype.kind == "f" else FLOAT64
        function = self.builder.module.declare_intrinsic(f"llvm.{name}", [llvm_type(dtype)])
        return Number(self.builder.call(function, [self.cast(each, dtype).value for each in x]), dtype)

    def is_finite(self, x: Value) -> Value:
        return self.compared(ast.Lt(), self.of_reals("fabs", x), math.inf)

    # ------------------------------------------------------------------ memory

    def element(self, array: Value, index: Value) -> tuple[Any, np.dtype]:
        """Return a pointer to array[index], and the element's dtype."""
        indices = [self.integer(each) for each in (index if type(index) is tuple else (index,))]
        if isinstance(array, Pointer):
            return self.builder.gep(array.value, indices, True), INT64
        if len(indices) == 2:
            indices = [self.builder.add(self.builder.mul(indices[0], array.shape[1].value), indices[1])]
        return self.builder.gep(array.pointer, indices, True), array.dtype

    def read(self, place: Any, dtype: np.dtype) -> Number:
        """Return the number at `place`; an integer becomes an int64."""
        found = Number(self.builder.load(place, align=dtype.itemsize), dtype)
        return found if dtype.kind == "f" else self.cast(found, INT64)

    def rows(self, view: View, part: slice) -> View:
        """Return view[start:stop]."""
        n, *others = view.shape
        start, stop = self.integer(part.start or 0), self.integer(n if part.stop is None else part.stop)
        moved = functools.reduce(self.builder.mul, (each.value for each in others), start)
        rows = Number(self.builder.sub(stop, start), INT64)
        return View(self.builder.gep(view.pointer, [moved], True), view.dtype, (rows, *others))

    def row(self, matrix: View, index: Value) -> View:
        """Return matrix[index]."""
        start = self.builder.mul(self.integer(index), matrix.shape[1].value)
        return View(self.builder.gep(matrix.pointer, [start], True), matrix.dtype, matrix.shape[1:])
