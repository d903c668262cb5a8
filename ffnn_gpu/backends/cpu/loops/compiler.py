"""Compile a Python function of numbers and memory to LLVM code, in one walk over its syntax tree.

A function consists of assignments, `for … in range(…)`, `while`, `if` and `return`. Its values are:

| value    | at run time                              | from                                                |
|----------|------------------------------------------|-----------------------------------------------------|
| Number   | a number of one dtype                    | arithmetic, math.sqrt, np.float64(x), x.dtype.type  |
| View     | a C-contiguous vector or matrix          | vector(…), matrix(…), rows of a View                |
| Pointer  | the address of int64 numbers             | a parameter                                         |
| Like     | nothing: it names a dtype                | a parameter                                         |
| tuple    | its elements                             | (a, b), or a function that returns one              |
| anything | nothing: a constant, a type, a function  | global and nonlocal names                           |

Functions that it calls are compiled in its place, except for each `instruction`, which emits its own code.
A variable has the dtype of its first value. If that is a constant, and the only value, it stays a constant.
An `if` on a constant compiles only what it chooses. Operands are promoted as by NumPy: int64 with float32 is
float64. Integers beside `//` and `%` must not be negative. Nothing is checked at run time; x/0 is ∞ or NaN.
Whatever else a function contains raises a CompileError with its text.

Why not Numba's own compiler: it infers types in several passes over each function, and first loads the types
of all NumPy functions. Seconds from `import ffnn_gpu` to the end of the first Adam step of 784-128-10,
without a cache, on a shared core of an AMD EPYC with AVX2: 6.7 before, 2.1 with this file.
"""

import ast
import builtins
import functools
import inspect
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

from ffnn_gpu.backends.cpu.loops.values import (
    I64,
    INT64,
    OF_LLVM,
    OF_PYTHON,
    TRUTH,
    Arithmetic,
    CompileError,
    Like,
    Number,
    Pointer,
    Value,
    View,
    llvm_type,
)
from ffnn_gpu.backends.elementwise.emission import memory

FUNCTIONS = {
    math.sqrt: "sqrt", np.sqrt: "sqrt", math.log: "log", np.log: "log", np.exp: "exp", np.rint: "rint",
}  # fmt: skip
EXTREMES: dict[Any, ast.cmpop] = {min: ast.Lt(), max: ast.Gt()}


class Variable(NamedTuple):
    """The memory of a variable; LLVM turns it into a register."""

    place: Any
    dtype: np.dtype


class Instruction(NamedTuple):
    """emit(builder, *operands) emits code, and returns an LLVM value, a View or None.

    Numbers are LLVM values among the operands; all other operands are as they are.
    """

    emit: Callable[..., Any]


def instruction(emit: Callable[..., Any]) -> Any:
    """Decorator: make this function, which emits code, one that compiled functions can call."""
    return Instruction(emit)


def write_function(module: Any, name: str, function: Callable[..., Any], result: Any, params: Any) -> None:
    """Write a Python function to an LLVM module.

    Args:
        result: dtype of what it returns; None for nothing.
        params: for each parameter its dtype, or a Like or Pointer for a pointer.
    """
    kinds = [I64.as_pointer() if isinstance(p, Like | Pointer) else llvm_type(p) for p in params]
    kind = ir.FunctionType(ir.VoidType() if result is None else llvm_type(result), kinds)
    written = ir.Function(module, kind, name)
    emitter = Emitter(ir.IRBuilder(written.append_basic_block("entry")))
    args = [
        p if isinstance(p, Like) else Pointer(arg) if isinstance(p, Pointer) else Number(arg, p)
        for p, arg in zip(params, written.args, strict=True)
    ]
    found = emitter.inline(function, args)
    if result is None:
        emitter.builder.ret_void()
    else:
        emitter.builder.ret(emitter.cast(found, result).value)


@functools.cache
def _definitions(module: str) -> dict[tuple[str, int], ast.FunctionDef]:
    """Return the functions of a module's source by name and first line."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    return {(f.name, min([f.lineno, *(each.lineno for each in f.decorator_list)])): f for f in functions}


class Frame:
    """One call of a function: its variables, the meaning of its other names, and where it returns to."""

    def __init__(self, function: Callable[..., Any]) -> None:
        code = function.__code__
        self.node = _definitions(function.__module__).get((code.co_name, code.co_firstlineno))
        if self.node is None:
            raise CompileError(f"the source of {code.co_name} has changed since it was imported")
        cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
        nonlocals = {name: cell.cell_contents for name, cell in cells}
        self.names = vars(builtins) | function.__globals__ | nonlocals
        self.variables: dict[str, Value] = {}
        names = (each for each in ast.walk(self.node) if isinstance(each, ast.Name))
        self.assignments = Counter(each.id for each in names if isinstance(each.ctx, ast.Store))
        self.assignments.update(each.arg for each in self.node.args.args)
        self.end: Any = None  # the block after the call, if a `return` is not its last statement
        self.result: Value = None


class Emitter(Arithmetic):
    """Emits the code of one function with everything that it calls."""

    def __init__(self, builder: Any) -> None:
        super().__init__(builder)
        self.frame: Any = None  # the call under way

    # ------------------------------------------------------------------ functions

    def inline(self, function: Callable[..., Any], args: list[Value]) -> Value:
        """Emit the body of a Python function in place of a call, and return its result."""
        caller, self.frame = self.frame, Frame(function)
        frame = self.frame
        for parameter, arg in zip(frame.node.args.args, args, strict=True):
            self.define(parameter.arg, arg)
        *others, last = frame.node.body
        self.block(others)
        if frame.end is None and isinstance(last, ast.Return):
            found = None if last.value is None else self.evaluated(last.value)
        else:
            self.statement(last)
            if frame.end is not None:
                self.leave(frame.end)
            found = self.loaded(frame.result)
        self.frame = caller
        return found

    def leave(self, block: Any) -> None:
        """Go on in this block after the current one."""
        self.builder.branch(block)
        self.builder.position_at_end(block)

    def new_blocks(self, count: int) -> list[Any]:
        return [self.builder.append_basic_block() for _ in range(count)]

    # ------------------------------------------------------------------ variables

    def stored(self, value: Value) -> Value:
        """Return new variables with the numbers of this value. What is no number needs none."""
        if type(value) is tuple:
            return tuple(map(self.stored, value))
        if not isinstance(value, Number) and type(value) not in OF_PYTHON:
            return value
        number = self.number(value)
        variable = Variable(memory(self.builder, llvm_type(number.dtype)), number.dtype)
        self.builder.store(number.value, variable.place)
        return variable

    def define(self, name: str, value: Value) -> None:
        """Give a name its first value."""
        constant = type(value) in OF_PYTHON and self.frame.assignments[name] == 1
        self.frame.variables[name] = value if constant else self.stored(value)

    def loaded(self, value: Value) -> Value:
        if type(value) is tuple:
            return tuple(map(self.loaded, value))
        if isinstance(value, Variable):
            return Number(self.builder.load(value.place), value.dtype)
        return value

    def overwrite(self, variable: Value, value: Value) -> None:
        if type(variable) is tuple:
            for each, new in zip(variable, value, strict=True):
                self.overwrite(each, new)
        else:
            self.builder.store(self.cast(value, variable.dtype).value, variable.place)

    def assign(self, target: ast.expr, value: Value) -> None:
        if isinstance(target, ast.Tuple):
            for each, part in zip(target.elts, value, strict=True):
                self.assign(each, part)
        elif isinstance(target, ast.Subscript):
            place, dtype = self.element(self.evaluated(target.value), self.evaluated(target.slice))
            self.builder.store(self.cast(value, dtype).value, place)
        elif isinstance(target, ast.Name):
            known = self.frame.variables.get(target.id)
            if isinstance(known, Variable) or type(known) is tuple:
                self.overwrite(known, value)
            else:
                self.define(target.id, value)
        else:
            raise CompileError(f"an assignment to {ast.unparse(target)}")

    # ------------------------------------------------------------------ statements

    def block(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            self.statement(statement)

    def statement(self, node: ast.stmt) -> None:
        self._emitter(node)(node)

    def _emitter(self, node: Any) -> Callable[[Any], Value]:
        """Return the method that emits this kind of statement or expression."""
        emit = getattr(self, f"_{type(node).__name__.lower()}", None)
        if emit is None:
            raise CompileError(f"{self.frame.node.name} has {ast.unparse(node)!r}")
        found: Callable[[Any], Value] = emit
        return found

    def _expr(self, node: Any) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring
            self.evaluated(node.value)

    def _assign(self, node: Any) -> None:
        value = self.evaluated(node.value)
        for target in node.targets:
            self.assign(target, value)

    def _annassign(self, node: Any) -> None:
        self.assign(node.target, self.evaluated(node.value))

    def _augassign(self, node: Any) -> None:
        if isinstance(node.target, ast.Name):
            before = self.evaluated(node.target)
            self.assign(node.target, self.calculated(node.op, before, self.evaluated(node.value)))
        else:
            place, dtype = self.element(self.evaluated(node.target.value), self.evaluated(node.target.slice))
            after = self.calculated(node.op, self.read(place, dtype), self.evaluated(node.value))
            self.builder.store(self.cast(after, dtype).value, place)

    def _return(self, node: Any) -> None:
        frame = self.frame
        if frame.end is None:
            (frame.end,) = self.new_blocks(1)
        if node.value is not None and frame.result is None:
            frame.result = self.stored(self.evaluated(node.value))
        elif node.value is not None:
            self.overwrite(frame.result, self.evaluated(node.value))
        self.builder.branch(frame.end)
        self.builder.position_at_end(*self.new_blocks(1))  # which nothing reaches

    def _if(self, node: Any) -> None:
        test = self.evaluated(node.test)
        if not isinstance(test, Number):
            self.block(node.body if test else node.orelse)
            return
        yes, no, end = self.new_blocks(3)
        self.builder.cbranch(self.truth(test), yes, no)
        self.builder.position_at_end(yes)
        self.block(node.body)
        self.builder.branch(end)
        self.builder.position_at_end(no)
        self.block(node.orelse)
        self.leave(end)

    def _while(self, node: Any) -> None:
        with self.repeated(lambda: self.truth(self.evaluated(node.test))):
            self.block(node.body)

    def _for(self, node: Any) -> None:
        if not (isinstance(node.iter, ast.Call) and self.evaluated(node.iter.func) is range):
            raise CompileError(f"{self.frame.node.name} has a loop over {ast.unparse(node.iter)!r}")
        args = [self.integer(self.evaluated(arg)) for arg in node.iter.args]
        start, stop, step = [*[self.integer(0)][len(args) - 1 :], *args, self.integer(1)][:3]
        counter, builder = memory(self.builder, I64), self.builder
        builder.store(start, counter)
        with self.repeated(lambda: builder.icmp_signed("<", builder.load(counter), stop)):
            self.assign(node.target, Number(builder.load(counter), INT64))
            self.block(node.body)
            builder.store(builder.add(builder.load(counter), step, flags=["nsw"]), counter)

    @contextmanager
    def repeated(self, test: Callable[[], Any]) -> Iterator[None]:
        """Emit the body of `with`, repeated while the LLVM value of test() is true."""
        before, body, end = self.new_blocks(3)
        self.leave(before)
        self.builder.cbranch(test(), body, end)
        self.builder.position_at_end(body)
        yield
        self.builder.branch(before)
        self.builder.position_at_end(end)

    # ------------------------------------------------------------------ expressions

    def evaluated(self, node: ast.expr) -> Value:
        return self._emitter(node)(node)

    def _constant(self, node: Any) -> Value:
        return node.value

    def _name(self, node: Any) -> Value:
        if node.id in self.frame.variables:
            return self.loaded(self.frame.variables[node.id])
        if node.id not in self.frame.names:
            raise CompileError(f"{self.frame.node.name} has no value for {node.id}")
        return self.frame.names[node.id]

    def _tuple(self, node: Any) -> Value:
        return tuple(map(self.evaluated, node.elts))

    def _slice(self, node: Any) -> Value:
        return slice(*(each and self.evaluated(each) for each in (node.lower, node.upper)))

    def _attribute(self, node: Any) -> Value:
        return getattr(self.evaluated(node.value), node.attr)

    def _subscript(self, node: Any) -> Value:
        value, index = self.evaluated(node.value), self.evaluated(node.slice)
        if type(value) is tuple:
            return value[index]
        if isinstance(index, slice):
            return self.rows(value, index)
        if isinstance(value, View) and len(value.shape) == 2 and type(index) is not tuple:
            return self.row(value, index)
        return self.read(*self.element(value, index))

    def _binop(self, node: Any) -> Value:
        return self.calculated(node.op, self.evaluated(node.left), self.evaluated(node.right))

    def _unaryop(self, node: Any) -> Value:
        value = self.evaluated(node.operand)
        if isinstance(node.op, ast.Not):
            return Number(self.builder.not_(self.truth(value)), TRUTH)
        if not isinstance(value, Number):
            return -value
        emit = self.builder.fneg if value.dtype.kind == "f" else self.builder.neg
        return Number(emit(value.value), value.dtype)

    def _compare(self, node: Any) -> Value:
        values = [self.evaluated(each) for each in (node.left, *node.comparators)]
        found = [self.compared(sign, a, b) for sign, a, b in zip(node.ops, values, values[1:], strict=False)]
        return functools.reduce(lambda a, b: self.calculated(ast.BitAnd(), a, b), found)

    def _boolop(self, node: Any) -> Value:
        *others, last = node.values
        value = functools.partial(self.evaluated, last)
        for each in reversed(others):
            value = functools.partial(self._and_or, isinstance(node.op, ast.And), each, value)
        return value()

    def _and_or(self, both: bool, first: ast.expr, second: Callable[[], Value]) -> Value:
        def truth() -> Value:
            return Number(self.truth(second()), TRUTH)

        test = Number(self.truth(self.evaluated(first)), TRUTH)
        return self.chosen(test, truth, lambda: False) if both else self.chosen(test, lambda: True, truth)

    def _ifexp(self, node: Any) -> Value:
        branches = (functools.partial(self.evaluated, each) for each in (node.body, node.orelse))
        return self.chosen(self.evaluated(node.test), *branches)

    def chosen(self, test: Value, yes: Callable[[], Value], no: Callable[[], Value]) -> Value:
        """Return yes() if the test holds, else no(). Only the chosen one is computed."""
        if not isinstance(test, Number):
            return yes() if test else no()
        *starts, end = self.new_blocks(3)
        self.builder.cbranch(self.truth(test), *starts)
        values, exits = [], []
        for start, emit in zip(starts, (yes, no), strict=True):
            self.builder.position_at_end(start)
            values.append(self.number(emit()))
            exits.append(self.builder.block)
        dtype = np.result_type(*(value.dtype for value in values))
        for k, block in enumerate(exits):
            self.builder.position_at_end(block)
            values[k] = self.cast(values[k], dtype)
            self.builder.branch(end)
        self.builder.position_at_end(end)
        found = self.builder.phi(llvm_type(dtype))
        for value, block in zip(values, exits, strict=True):
            found.add_incoming(value.value, block)
        return Number(found, dtype)

    # ------------------------------------------------------------------ calls

    def _call(self, node: Any) -> Value:
        function, args = self.evaluated(node.func), [self.evaluated(arg) for arg in node.args]
        if isinstance(function, Instruction):
            found = function.emit(self.builder, *map(self.operand, args))
            return Number(found, OF_LLVM[found.type]) if isinstance(found, ir.Value) else found
        if isinstance(function, type) and issubclass(function, np.generic):
            return self.cast(args[0], np.dtype(function))
        if function is len:
            return args[0].shape[0]
        if function in EXTREMES:
            return self.extreme(EXTREMES[function], *args)
        if function in FUNCTIONS:
            return self.of_reals(FUNCTIONS[function], *args)
        if function is math.isfinite:
            return self.is_finite(*args)
        if not inspect.isfunction(function):
            raise CompileError(f"{self.frame.node.name} calls {ast.unparse(node.func)!r}")
        return self.inline(function, args)

    def operand(self, value: Value) -> Any:
        """Return what an instruction receives."""
        if type(value) is tuple:
            return tuple(map(self.operand, value))
        if isinstance(value, Number | Pointer):
            return value.value
        return self.number(value).value if type(value) in OF_PYTHON else value
