"""Scratch memory of one forward and backward pass, allocated once, owned by the caller.

Why not caches on the layers: two threads would overwrite each other's. A workspace is the captured variables
of a pass, written down; a CUDA graph needs its fixed addresses too. Use one workspace per thread: a pass that
begins while another thread is in one raises. Nothing detects that the next pass overwrites an output that has
not been read. A workspace protects scratch, not θ: to predict while another thread trains, copy the network.
"""

import copy
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from types import SimpleNamespace
from typing import Any

from ffnn_gpu.arrays.precision import loss_gradient
from ffnn_gpu.backends import Backend
from ffnn_gpu.backends.reference.members import Members, PerMember, stacked
from ffnn_gpu.checks import is_whole
from ffnn_gpu.errors import ShapeError, WorkspaceError
from ffnn_gpu.nn.parameters import Shapes, leaves


class Buffers(SimpleNamespace):
    """One layer's scratch: `a`, `dx`, …, None where the pass does not need it; `x` is set by forward.

    Dropout's bits depend on `stream` and `number`, the index of the layer with nested layers counted too.
    """


@dataclass
class RandomStream:
    """The inputs of dropout's bits: the seed, the count of updates on the device, the batch's first row.

    seed: an int; in a pack, PerMember of them.
    rate_factors: of the members of a pack, on the rates.
    factor: `Parameters.factor`, schedule → the number on the device that follows it.
    """

    seed: Any
    step: Any
    row: int = 0
    factor: Callable[[Any], Any] | None = None
    rate_factors: tuple[float, ...] | None = None

    def rate(self, rate: float) -> Any:
        """Return the rate of a layer; in a pack, PerMember of them."""
        return rate if self.rate_factors is None else PerMember(rate * f for f in self.rate_factors)


class Workspace:
    """Buffers for batches of up to B rows through one stack of layers.

    Matrices have the type in which products are computed; vectors, which are statistics, have θ's.

    Attributes:
        input_gradient: True if a backward pass ends with the gradient at the network's input.
        training: True if there are masks and gradients; without them dropout is the identity.
        dz: (B, n_out), the gradient at the output; None for inference. In a pack of R members (R, B, n_out).
        scaled_dz: (B, n_out), S dz where the parameters have a loss scale S; else None.
        buffers: one `Buffers` per layer.
        recordings: the steps and predictions that a backend has recorded in this memory.
    """

    def __init__(
        self,
        backend: Backend,
        owner: Any,
        shapes_of: Callable[[int], tuple[list[Shapes], int]],
        B: int,
        training: bool,
        input_gradient: bool,
        stream: RandomStream,
    ) -> None:
        """Call `Network.workspace` instead. owner: its parameters. shapes_of: rows → (shapes, n_out)."""
        if not is_whole(B) or B < 0:
            raise ShapeError(f"a workspace has a number of rows, not {B!r}")
        self.B = B = int(B)
        self.training, self.input_gradient = training, input_gradient
        self.stream, self.owner = stream, owner
        self._shapes_of, self._whole = shapes_of, self
        self._parts: dict[int, Workspace] = {B: self}
        self._latest: Workspace | None = None
        self.recordings: list[Any] = []
        self._pass = threading.Lock()  # held during a pass
        shapes, n_out = shapes_of(B)
        matrices, vectors, R = owner.compute_dtype, owner.dtype, owner.members or 1
        self._memory = [
            backend.empty((R * math.prod(shape),), matrices if len(shape) > 1 else vectors)
            for _, shape in leaves(shapes)
            if shape
        ]
        scaled = training and owner.loss_scale is not None
        self._dz: Any = backend.empty((R * B * n_out,), loss_gradient(matrices)) if training else None
        self._scaled_dz: Any = backend.empty((B * n_out,), matrices) if scaled else None
        self._shape_buffers()

    def first(self, n: int) -> "Workspace":
        """Return a workspace for n ≤ B rows in the same memory; one per n. Raises ShapeError if n > B."""
        whole = self._whole
        if n not in whole._parts:
            if not 0 <= n <= whole.B:
                raise ShapeError(
                    f"this workspace holds {whole.B} rows, not {n}; make one with network.workspace({n})"
                )
            part = copy.copy(whole)  # shares the memory, the lock and the table of parts
            part.B, part.recordings = n, []
            part._shape_buffers()
            whole._parts[n] = part
        return whole._parts[n]

    def is_part_of(self, other: "Workspace | None") -> bool:
        """Return whether this workspace uses the memory of the other."""
        return self._whole is other

    def begin_forward(self, owner: Any, rows: int) -> None:
        """Begin a pass over `rows` rows. Raises ShapeError or WorkspaceError if it cannot begin."""
        if owner is not self.owner:
            raise WorkspaceError(
                "this workspace was made by another network; make one with network.workspace(B)"
            )
        if rows != self.B:
            smaller, larger = f"pass workspace.first({rows})", f"make one with network.workspace({rows})"
            remedy = smaller if rows < self.B else larger
            raise ShapeError(f"x has {rows} rows and the workspace {self.B}; {remedy}")
        self._begin_pass()
        self._whole._latest = self

    def begin_backward(self, owner: Any) -> None:
        """Begin the backward pass of the pending pass. Raises WorkspaceError if none is pending."""
        if not self.training:
            raise WorkspaceError(
                "this workspace was made with training=False; it holds nothing to differentiate. "
                "Use network.workspace(B) for a backward pass"
            )
        if owner is not self.owner or self._whole._latest is not self:
            raise WorkspaceError(
                "this workspace holds no forward pass to differentiate; call network.forward(x, ws) first"
            )
        self._begin_pass()
        self._whole._latest = None

    def _begin_pass(self) -> None:
        if not self._pass.acquire(blocking=False):
            raise WorkspaceError(
                "another thread is in a pass through this workspace; "
                "make one for each thread with network.workspace(B)"
            )

    def end_pass(self) -> None:
        """End the pass, so that this thread or another can begin the next one."""
        if not self.training:
            _forget(self.buffers)
        self._pass.release()

    def forget_pass(self) -> None:
        """End a forward pass that no backward pass follows."""
        self._whole._latest = None
        self._pass.release()

    def forget(self) -> None:
        """Drop the pending forward pass and the references to its input."""
        self._whole._latest = None
        _forget(self.buffers)

    def release(self) -> None:
        """Free the memory of the whole workspace, which cannot be used afterwards.

        Why: a workspace and its parts refer to each other, so otherwise the memory waits for Python's garbage
        collector, which counts objects and not bytes.
        """
        for part in [*self._whole._parts.values()]:
            vars(part).clear()

    def arrays(self) -> list[Any]:
        return [array for array in (*self._memory, self._dz, self._scaled_dz) if array is not None]

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays())

    def _shape_buffers(self) -> None:
        shapes, n_out = self._shapes_of(self.B)
        R, shape = self.owner.members, (self.B, n_out)
        self.buffers = _views(shapes, iter(self._memory), self.stream, count(), R)
        self.dz, self.scaled_dz = (
            None if memory is None else stacked(_shaped(memory, shape, R))
            for memory in (self._dz, self._scaled_dz)
        )


def _views(
    shapes_by_layer: list[Shapes],
    memory: Iterator[Any],
    stream: RandomStream,
    numbers: Iterator[int],
    R: int | None,
) -> list[Buffers]:
    out = []
    for shapes in shapes_by_layer:
        buffers = Buffers(x=None, stream=stream, number=next(numbers))
        for name, shape in shapes.items():
            if name == "layers":
                buffers.layers = _views(shape, memory, stream, numbers, R)
            else:
                setattr(buffers, name, shape and _shaped(next(memory), shape, R))
        out.append(buffers)
    return out


def _shaped(memory: Any, shape: tuple[int, ...], R: int | None) -> Any:
    """Return the first elements of the memory as an array of this shape, or as one for each member."""
    if R is None:
        return memory[: math.prod(shape)].reshape(shape)
    return Members(memory[: R * math.prod(shape)].reshape(R, *shape))


def _forget(buffers: list[Buffers]) -> None:
    """Drop the references to the inputs, which are the caller's arrays."""
    for buf in buffers:
        buf.x = None
        if hasattr(buf, "layers"):
            _forget(buf.layers)
