"""How an operation becomes commands, which `Recorder` keeps and `Immediate` runs at once."""

import functools
import inspect
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array, HostArray
from ffnn_gpu.backends.cpu.loops import (
    amx_product,
    cosines,
    cross_entropy,
    embedding,
    formulas,
    layers,
    losses,
    matrix_product,
    normalization,
    periodic,
    piecewise_linear,
    softmax,
    step_control,
)
from ffnn_gpu.backends.cpu.loops.chunks import UNIT, command_of
from ffnn_gpu.backends.cpu.loops.compiled_function import CompiledFunction
from ffnn_gpu.backends.cpu.numpy_backend import NumpyBackend
from ffnn_gpu.backends.cpu.recording.arguments import FLOAT32, NotRecordedError, place_of, word
from ffnn_gpu.backends.cpu.recording.partition import Partition
from ffnn_gpu.backends.elementwise.lanes import STORED
from ffnn_gpu.backends.elementwise.loop_code import MATRICES
from ffnn_gpu.backends.elementwise.trace import UntraceableError

FLOAT = np.dtype(np.float64)
# name → body of each function in loops/ whose name ends in _command
BODIES = {
    name.removesuffix("_command"): body
    for family in (
        layers,
        embedding,
        cosines,
        matrix_product,
        amx_product,
        normalization,
        periodic,
        piecewise_linear,
        softmax,
        losses,
        cross_entropy,
        step_control,
    )
    for name, body in vars(family).items()
    if name.endswith("_command")
}


# name of a product → place of the tail in its operands
TAILS = {
    "product": matrix_product.TAIL_OF_PRODUCT,
    "amx_product": amx_product.TAIL_OF_AMX_PRODUCT,
    "amx_bfloat16_product": amx_product.TAIL_OF_AMX_PRODUCT,
}


@functools.cache
def command(name: str, dtype: np.dtype) -> CompiledFunction:
    """Return the compiled command for arrays of `dtype`."""
    return command_of(BODIES[name], dtype)


def tail_place(function: Any, dtype: np.dtype) -> int | None:
    """Return the place of the tail in the operands of a product; None if the command is another one."""
    return next((place for name, place in TAILS.items() if function is command(name, dtype)), None)


class Commands(ABC):
    """The base class of operations on arrays of float32 or float64, or of these and a 16-bit type.

    A 16-bit array has a float32 copy, with which the commands compute. It is made when the array is first
    read, and rounded together with the array after each command that has written it.

    Attributes:
        dtype: the type in which the operations compute.
        partition: decides how many chunks a command has.
        losses: what the chunks of a loss write; their sum is the loss.
        failed: (1,), not 0 if a command has refused its arguments.
        backend: the CompiledBackend whose operations these are.
    """

    name = "numpy"
    dtype: np.dtype
    partition: Partition
    losses: HostArray
    failed: HostArray
    backend: Any
    _copies: dict[tuple[int, int], HostArray]  # place of a 16-bit array → its float32 copy
    _current: set[tuple[int, int]]  # places of the arrays that equal their copies
    _bfloat16: set[tuple[int, int]]  # places of the copies of bfloat16 arrays

    # ------------------------------------------------------------------ differs between the subclasses

    @abstractmethod
    def _use(self, dtype: np.dtype) -> None:
        """Prepare for arrays of this type. Raises NotRecordedError if there are no commands for it."""

    @abstractmethod
    def _run(self, function: Any, operands: tuple[Any, ...], chunks: int) -> None:
        """Run or record a command. An operand is an array, None, an integer, or a float."""

    @abstractmethod
    def call(self, function: Callable[..., Any], *args: Any) -> None:
        """Run or record a call of Python code."""

    def _scratch(self, size: int, dtype: Any) -> HostArray:
        """Return memory that lives as long as the commands."""
        return np.zeros(size, dtype)

    def _fused_with_product(self, da: Array, loop: Any, of: Array) -> bool:
        """Make the adjoint of φ the tail of the product whose result is `da`. Return whether it is."""
        return False

    # ------------------------------------------------------------------ 16-bit arrays

    def _float32(self, array: Array, read: bool) -> Array:
        """Return the float32 copy of a 16-bit array, equal to it if it is to be `read`."""
        whole = in_memory(array)
        place = place_of(whole)
        if array.dtype.name not in STORED:
            raise NotRecordedError(f"an array is {array.dtype}")
        word(whole)  # raises if it has gaps, before an array that is read and written has been rounded
        if place not in self._copies:
            if any(place[0] < stop and start < place[1] for start, stop in self._copies):
                raise NotRecordedError("two arrays overlap")
            self._copies[place] = self._scratch(whole.size, FLOAT32)
            if array.dtype.name == "bfloat16":
                self._bfloat16.add(place_of(self._copies[place]))
        copy = self._copies[place].reshape(whole.shape)
        if read and place not in self._current:
            loop = formulas.elementwise(FLOAT32, f"widen {array.dtype.name}")
            self._apply(loop, 1, copy.size, x=whole, out=copy)
            self._current.add(place)
        return copy if whole is array else copy.T

    def _round(self, copy: Array, array: Array) -> None:
        """Round the copy of a 16-bit array, and write it to the array."""
        loop = formulas.elementwise(FLOAT32, f"round {array.dtype.name}")
        self._apply(loop, 1, copy.size, x=copy, out=array)
        self._current.add(place_of(array))

    def _in_float32(self, operation: Any, given: dict[str, Any], narrow: dict[str, tuple[bool, bool]]) -> Any:
        """Return operation(self, **given) on float32 copies, of which those it writes are rounded.

        narrow: name of a 16-bit array → whether it is read, and whether it is written.
        """
        copies = {name: self._float32(given[name], read) for name, (read, _) in narrow.items()}
        result = operation(self, **(given | copies))
        for name, copy in copies.items():
            if narrow[name][1]:
                self._round(copy, given[name])
        return next((given[name] for name, copy in copies.items() if result is copy), result)

    # ------------------------------------------------------------------ loops, commands and calls

    def _record(self, name: str, chunks: int, *operands: Any) -> None:
        self._run(command(name, self.dtype), operands, chunks)

    def _apply(self, loop: Any, rows: int, columns: int, *sums: Array, **operands: Any) -> int:
        """Run a compiled loop over a matrix. Return the number of chunks, each of which writes a sum."""
        sizes = dict.fromkeys(MATRICES, rows * columns) | {"columns": columns, "rows": rows}
        for name, axes in loop.operands.items():
            if axes not in sizes:
                continue
            array, stored = operands[name], MATRICES.get(axes)
            same = array.dtype.name == stored if stored else array.dtype == loop.dtype
            if not same or array.size != sizes[axes]:
                raise NotRecordedError(f"{name} is {array.dtype} of {array.size} elements")
        most = rows if rows > 1 else columns // UNIT
        chunks = self.partition.chunks(loop.cost * rows * columns, most)
        self._run(loop, (rows, columns, *formulas.slots(loop, **operands), *sums), chunks)
        return chunks

    def _average(self, mean: Array, x: Array, decay: float, factor: float = 1.0) -> None:
        """mean ← decay mean + (1 − decay) factor x"""
        loop = formulas.elementwise(self.dtype, "average")
        self._apply(loop, 1, mean.size, mean=mean, x=x, share=1.0 - decay, factor=factor)

    def _fallback(self, name: str, *args: Any) -> None:
        """Call NumPy's operation of this name."""
        self.call(self._called, name, *map(_weak, args))

    def _called(self, name: str, *args: Any) -> None:
        strong = (each() if isinstance(each, weakref.WeakMethod) else each for each in args)
        found = getattr(NumpyBackend, name)(self.backend, *strong)
        if name == "pointwise_loss":
            self.losses[0] = found


def _weak(setting: Any) -> Any:
    """Return a reference to a method of a user's optimizer that does not keep it alive; else the setting."""
    return weakref.WeakMethod(setting) if inspect.ismethod(setting) else setting


def require_numbers(*arrays: Array) -> None:
    if not all(array.size for array in arrays):
        raise NotRecordedError("an array is empty")


def loop_of(build: Callable[..., Any], *key: Any) -> Any:
    """Return the compiled loop of a formula; None if it is no elementwise expression."""
    try:
        return build(*key)
    except UntraceableError:
        return None


def in_memory(matrix: Array) -> Array:
    """Return the matrix, or the row-major matrix that it is the transpose of."""
    return matrix if matrix.flags.c_contiguous else matrix.T
