"""Compile expressions to one loop over memory: a command for threads, and a block that a product calls.

A Loop reads and writes matrices (rows, columns). Each of its operands takes two int64 in memory, its slots:

| axes      | first int64                     | second int64            | value at (r, c)    |
|-----------|---------------------------------|-------------------------|--------------------|
| "both"    | address of the first element    | bytes from row to row   | x[r, c]            |
| a type    | the same: "bfloat16" and "float16" are "both", for numbers stored in 16 bits  |
| "columns" | address of the first element    | unused                  | x[c]               |
| "rows"    | address of the first element    | unused                  | x[r]               |
| "address" | address of one float64          | unused                  | the number there   |
| "value"   | the bits of one float64         | unused                  | this number        |

After the operands, each sum has the address of a float64 vector, of which each chunk writes one element.

Why the vectors are written out: LLVM does not vectorize calls of exp or tanh, and the last columns of a row
need masks.
"""

import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple

from ffnn_gpu.backends.elementwise import code_cache, machine_code
from ffnn_gpu.backends.elementwise.expression import FUNCTIONS, SPECIAL, Expression, Kind, in_order, listing
from ffnn_gpu.backends.elementwise.lanes import REGISTER
from ffnn_gpu.backends.elementwise.loop_code import Axes, LoopCode, write_command
from ffnn_gpu.backends.elementwise.trace import Symbol, result, trace

KINDS: dict[str, Kind] = {"address": "number", "value": "number"}
COSTLY = {*FUNCTIONS, *SPECIAL} - {"sqrt", "floor", "ceil", "trunc", "rint", "copysign"}
BLOCK = "_block"
MOST = 256  # loops that are kept
COST_OF_FUNCTION = 8  # of exp or tanh, in products


class Loop(NamedTuple):
    """out[r, c] = expression for each of `stores`, and Σ_rc expression in float64 for each of `sums`.

    operands: name → axes of every array and number, in the order of their slots.
    """

    operands: dict[str, Axes]
    stores: dict[str, Expression]
    sums: tuple[Expression, ...] = ()

    @classmethod
    def of(cls, dtype: Any, operands: dict[str, Axes], program: Callable[..., Any]) -> "Loop":
        """Return the loop that program(*symbols) describes, given a Symbol for each operand.

        It returns {name of an operand: what to write to it}, or that and a list of what to sum.
        Raises UntraceableError.
        """
        kinds: dict[str, Kind] = {name: KINDS.get(axes, "array") for name, axes in operands.items()}

        def results(*symbols: Symbol) -> "Loop":
            found, graph = program(*symbols), symbols[0].node.graph
            stores, sums = found if isinstance(found, tuple) else (found, ())
            written = {name: result(graph, value) for name, value in stores.items()}
            return cls(operands, written, tuple(result(graph, value) for value in sums))

        traced: Loop = trace(results, dtype, kinds)
        return traced

    def text(self) -> str:
        """Return a text that is equal for loops that compute the same."""
        results = *self.stores.values(), *self.sums
        return f"{list(self.operands.items())}\\n{list(self.stores)}\\n{listing(*results)}"


class CompiledLoop:
    """The machine code of a Loop.

    Attributes:
        address: of command(null, [rows, columns, *slots], chunk, chunks), the form of every command.
        block: address of block(slots, chunk, top, bottom, left, right), which does a part of the matrix.
        call: the command as a Python function.
        operands, dtype: of the Loop; dtype is that of the computation.
        cost: work per element, in units of a product's.
    """

    def __init__(self, loop: Loop, register: int = REGISTER) -> None:
        nodes = in_order(*loop.stores.values(), *loop.sums)
        self.operands, self.dtype = loop.operands, nodes[0].graph.dtype
        self.cost = 1 + sum(COST_OF_FUNCTION for node in nodes if node.operation in COSTLY)
        name = code_cache.name_of(f"{register} {loop.text()}")
        if not code_cache.load(name):
            _compile(name, loop, register)
        self.block, self.address = machine_code.address(name + BLOCK), machine_code.address(name)
        kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
        self.call = kind(self.address)


def _compile(name: str, loop: Loop, register: int) -> None:
    """Compile a loop. `name` is the command's, with BLOCK appended the block's."""

    def write(module: Any) -> None:
        block = LoopCode(module, name + BLOCK, dict(loop.operands), loop.stores, loop.sums, register).function
        write_command(module, name, block)

    code_cache.compile(name, write)


_compiled: dict[str, CompiledLoop] = {}  # the most recently used one last


def compiled(loop: Loop) -> CompiledLoop:
    """Return the machine code of a loop, compiled at the first request.

    Only the MOST loops that were requested last are kept. The machine code of the others stays in memory, as
    code is never unloaded, so a recorded step may still call it.
    """
    text = loop.text()
    found = _compiled.pop(text, None) or CompiledLoop(loop)
    _compiled[text] = found
    while len(_compiled) > MOST:
        _compiled.pop(next(iter(_compiled)), None)
    return found
