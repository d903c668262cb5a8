"""Record a training step on a CPU as a list of commands (why: docs/cpu_kernels.md).

The step's own code runs once with a `Recorder` as its backend, which computes nothing. If a recording is
given up, nothing has changed, and the step runs unrecorded. Like a CUDA graph (see `graphs`), a recording
freezes every Python number and address. Only the addresses of the call's arguments are set at each call.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ffnn_gpu.arrays.array_types import Array, HostArray
from ffnn_gpu.backends.cpu.loops import formulas
from ffnn_gpu.backends.cpu.recording.arguments import NotRecordedError, address, place_of, word
from ffnn_gpu.backends.cpu.recording.called_back import Argument, PythonCall
from ffnn_gpu.backends.cpu.recording.commands import command, tail_place
from ffnn_gpu.backends.cpu.recording.operations import Operations
from ffnn_gpu.backends.cpu.recording.partition import SHARES, Partition
from ffnn_gpu.backends.reference.members import Pack


class Command(NamedTuple):
    """One call of a compiled function: its operands, and the number of chunks that its work is split into."""

    function: Any
    operands: list[int]
    chunks: int


class Recorder(Operations):
    """Appends the commands of each operation to a list, and computes nothing.

    Args:
        compute_dtype: the type of the activations.
        threads: the number of threads that will share the commands.
        known: arrays that keep their address as long as the recording lives.
        arguments: arrays whose address differs in each call, or None.

    Attributes:
        commands: what has been recorded.
        calls: Python code that runs between two commands.
        patches: (operands, place, index, offset): where a command reads the argument of this index, `offset`
            bytes from its start.
        masks: the operands of the commands that read the index of the batch's first row.
        losses_of_members: what the losses of a pack of several members write; else None.
        passes: see PackRecorder.
    """

    losses_of_members: HostArray | None = None
    passes = 0

    def __init__(
        self,
        backend: Any,
        compute_dtype: np.dtype,
        threads: int,
        known: list[HostArray],
        arguments: list[Any],
    ) -> None:
        self.require_own, self.admit = backend.require_own, backend.admit
        self.backend = backend
        self._constant = backend.constant
        self.asarray = backend.asarray  # a copy is refused later, as memory that is not known
        self.dtype, self.compute_dtype, self.known = known[0].dtype, compute_dtype, known
        self.partition = Partition(threads, self.dtype.itemsize)
        self.places = [place_of(array) for array in known]
        self._arguments = {place_of(array): k for k, array in enumerate(arguments) if array is not None}
        pairs = ((argument, place) for argument in self._arguments for place in self.places)
        if any(start < last and first < stop for (start, stop), (first, last) in pairs):
            raise NotRecordedError("an argument lies in the network's own memory")
        if len(self._arguments) < sum(array is not None for array in arguments):
            raise NotRecordedError("two arguments are the same array")
        if arguments[0] is not None and not arguments[0].size:
            raise NotRecordedError("there is no row")
        self._copies, self._current, self._bfloat16 = {}, set(), set()
        self.commands: list[Command] = []
        self.calls: list[PythonCall] = []
        self.patches: list[tuple[list[int], int, int, int]] = []
        self.masks: list[list[int]] = []
        self.losses, self.failed = self._scratch(SHARES * threads, np.float64), self._scratch(1, np.int64)

    def __getattr__(self, name: str) -> Any:
        raise NotRecordedError(f"there is no command for {name}")

    # ------------------------------------------------------------------ called by a step before it computes

    def owns(self, array: Any) -> bool:
        return isinstance(array, np.ndarray)

    def require_kept(self, output: Array) -> Array:
        """Return the output of a pass. Raises NotRecordedError if it may lie elsewhere in the next pass."""
        start, stop = place_of(output)
        if not any(first <= start and stop <= last for first, last in self.places):
            raise NotRecordedError("the output is not the last layer's own")
        return output

    def constant(self, values: tuple[float, ...], dtype: Any) -> Array:
        return self._keep(self._constant(values, dtype))

    def all_finite(self, array: Array) -> bool:
        """Record that the commands fail if a number is not finite."""
        self._require_finite(array)
        return True

    def run_forward(self, code: Callable[..., Any], network: Any, x: Array, ws: Any) -> Array:
        return code(network, x, ws)

    def batch_rows(self, here: int) -> int:
        return here

    # ------------------------------------------------------------------ packs

    def pack(self, R: int) -> Pack:
        return Pack(self, R)  # type: ignore[arg-type]

    def member(self, r: int) -> "Recorder":
        return self

    def in_lanes(self, buffers: list[Any]) -> list[Any]:
        """Return a workspace's buffers in memory that members share; without several members as they are."""
        return buffers

    def gather(self) -> None:
        """Append what members have recorded apart from the others."""

    def as_vector(self, values: list[Any]) -> Array:
        """Return what the loss of a pack is read from."""
        return self.losses

    # ------------------------------------------------------------------ how an operation is recorded

    def _use(self, dtype: np.dtype) -> None:
        if dtype != self.dtype:
            raise NotRecordedError(f"an array is {dtype}")

    def _run(self, function: Any, operands: tuple[Any, ...], chunks: int) -> None:
        numbers: list[int] = []
        for value in operands:
            numbers.append(self._operand(value, numbers, len(numbers)))
        if function is command("dropout_mask", self.dtype):
            self.masks.append(numbers)
        self.commands.append(Command(function, numbers, chunks))

    def _fused_with_product(self, da: Array, loop: Any, of: Array) -> bool:
        """Make the adjoint of φ the tail of the product that was just recorded, if its result is `da`.

        Return whether it is.
        """
        if not self.commands or (self.calls and self.calls[-1].commands == len(self.commands)):
            return False
        last, result = self.commands[-1], [address(da), da.strides[0], *da.shape]
        tail = tail_place(last.function, self.dtype)
        if tail is None or last.operands[4:8] != result or last.operands[tail]:
            return False
        del last.operands[tail:]
        for value in (loop.block, *formulas.slots(loop, da=da, of=of)):
            last.operands.append(self._operand(value, last.operands, len(last.operands)))
        return True

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        """Record a call of Python code. Its arrays are the workspace's, or arguments of the step."""
        places = ((place_of(arg) if isinstance(arg, np.ndarray) else None) for arg in args)
        indices = (self._arguments.get(place) if place else None for place in places)
        given = (arg if index is None else Argument(index) for arg, index in zip(args, indices, strict=True))
        self.calls.append(PythonCall(len(self.commands), function, tuple(given)))
        self._current.clear()  # the call may write to any 16-bit array

    def output_of_call(self, rows: int, columns: int) -> HostArray:
        """Return memory for what a call returns."""
        return self._scratch(rows * columns, self.compute_dtype).reshape(rows, columns)

    def _operand(self, value: Any, operands: list[int], place: int) -> int:
        """Return the int64 that a command reads as an operand; note where it reads an argument's address."""
        found = word(value)
        if not isinstance(value, np.ndarray):
            return found
        start, stop = place_of(value)
        for (first, last), which in self._arguments.items():
            if first <= start and stop <= last:  # of a pack, each member may read its own part
                self.patches.append((operands, place, which, start - first))
                return found
        self._require_known(start, stop)
        return found

    def _require_known(self, start: int, stop: int) -> None:
        """Raise NotRecordedError unless this memory keeps its address."""
        if not any(first <= start and stop <= last for first, last in self.places):
            raise NotRecordedError("an array may lie elsewhere in the next step")

    def _scratch(self, size: int, dtype: Any) -> HostArray:
        return self._keep(super()._scratch(size, dtype))

    def _keep(self, array: HostArray) -> HostArray:
        self.known.append(array)
        self.places.append(place_of(array))
        return array
