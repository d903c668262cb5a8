"""Scratch memory of one forward and backward pass, allocated once, owned by the caller.

Why not caches on the layers: two threads would overwrite each other's. A workspace is the captured variables of a pass,
written down; fixed addresses are also what a CUDA graph needs. One workspace per thread: a pass that begins while another
thread is in one is refused, but nothing tells whether the output has been read before the next pass overwrites it. And it
protects scratch, not θ: predicting while another thread trains needs a copy of the network.
"""

import copy
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np

from ffnn_gpu.arrays.precision import loss_gradient
from ffnn_gpu.backends.reference.backend import Backend
from ffnn_gpu.errors import ShapeError, WorkspaceError

Plan = list[dict[str, Any]]  # per layer: name → shape, or "layers" → a Plan


class Buffers(SimpleNamespace):
    """One layer's scratch: `a`, `dx`, …, None where the pass does not need it; `x` is set by forward.

    `stream` and `number`, the layer's place counted through nested layers, are what dropout's bits depend on.
    """


@dataclass
class RandomStream:
    """What dropout draws from: the seed, the device's count of updates, and the row where this batch starts."""

    seed: int
    step: Any
    row: int = 0


class Workspace:
    """Buffers for batches of up to B rows through one stack of layers: matrices in the type products are made in, vectors,
    which are statistics, in that of θ.

    Attributes:
        B: the number of rows.
        input_gradient: whether a backward pass ends with the gradient at the network's input.
        training: whether there is anything to differentiate with; an inference workspace has no masks and no gradients,
            and dropout is the identity in it.
        dz: (B, n_out), the gradient at the output; None for inference.
        scaled_dz: (B, n_out), S dz where the parameters have a loss scale S; else None.
        buffers: one `Buffers` per layer.
        recordings: the steps and predictions that a backend has recorded in this memory.
    """

    def __init__(
        self,
        backend: Backend,
        owner: Any,
        plan: Any,
        B: int,
        training: bool,
        input_gradient: bool,
        stream: RandomStream,
    ) -> None:
        """Made by `Network.workspace`, which knows `owner` (its parameters) and `plan` (rows → shapes)."""
        if isinstance(B, bool) or not isinstance(B, (int, np.integer)) or B < 0:
            raise ShapeError(f"a workspace has a number of rows, not {B!r}")
        self.B = B = int(B)
        self.training, self.input_gradient = training, input_gradient
        self.stream, self.owner = stream, owner
        self._plan, self._whole = plan, self
        self._parts: dict[int, Workspace] = {B: self}
        self._latest: Workspace | None = None
        self.recordings: list[Any] = []
        self._pass = threading.Lock()  # held during a pass
        shapes, n_out = plan(B)
        matrices, vectors = owner.compute_dtype, owner.dtype
        self._memory = _tree(
            shapes, lambda shape: backend.empty((math.prod(shape),), matrices if len(shape) > 1 else vectors)
        )
        scaled = training and owner.loss_scale is not None
        self._dz: Any = backend.empty((B * n_out,), loss_gradient(matrices)) if training else None
        self._scaled_dz: Any = backend.empty((B * n_out,), matrices) if scaled else None
        self._shape_buffers()

    def first(self, n: int) -> "Workspace":
        """A workspace for n ≤ B rows in the same memory; made once per n. Raises ShapeError for more rows than B."""
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

    def begin_forward(self, owner: Any, rows: int) -> None:
        """Note that a pass over `rows` rows starts here. Raises ShapeError or WorkspaceError if it cannot."""
        if owner is not self.owner:
            raise WorkspaceError(
                "this workspace was made by another network; make one with network.workspace(B)"
            )
        if rows != self.B:
            remedy = (
                f"pass workspace.first({rows})"
                if rows < self.B
                else f"make one with network.workspace({rows})"
            )
            raise ShapeError(f"x has {rows} rows and the workspace {self.B}; {remedy}")
        self._begin_pass()
        self._whole._latest = self

    def begin_backward(self, owner: Any) -> None:
        """Note that the pending pass is consumed. Raises WorkspaceError if there is none to differentiate."""
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
                "another thread is in a pass through this workspace; make one for each thread with network.workspace(B)"
            )

    def end_pass(self) -> None:
        """Let the next pass begin, this thread's or another's."""
        if not self.training:
            _forget(self.buffers)
        self._pass.release()

    def forget_pass(self) -> None:
        """`end_pass` of a forward pass that nobody will differentiate."""
        self._whole._latest = None
        self._pass.release()

    def forget(self) -> None:
        """Let go of a forward pass that was only recorded, and of its input."""
        self._whole._latest = None
        _forget(self.buffers)

    def arrays(self) -> list[Any]:
        """All its memory."""
        return [array for array in (*_leaves(self._memory), self._dz, self._scaled_dz) if array is not None]

    @property
    def nbytes(self) -> int:
        """Bytes of scratch."""
        return sum(array.nbytes for array in self.arrays())

    def _shape_buffers(self) -> None:
        shapes, n_out = self._plan(self.B)
        self.buffers = _views(shapes, self._memory, self.stream, count())
        self.dz, self.scaled_dz = (
            None if memory is None else memory[: self.B * n_out].reshape(self.B, n_out)
            for memory in (self._dz, self._scaled_dz)
        )


def _tree(plan: Plan, make: Any) -> list[dict[str, Any]]:
    return [
        {
            name: _tree(shape, make) if name == "layers" else shape and make(shape)
            for name, shape in layer.items()
        }
        for layer in plan
    ]


def _views(
    plan: Plan, memory: list[dict[str, Any]], stream: RandomStream, numbers: Iterator[int]
) -> list[Buffers]:
    out = []
    for shapes, arrays in zip(plan, memory, strict=True):
        buffers = Buffers(x=None, stream=stream, number=next(numbers))
        for name, shape in shapes.items():
            if name == "layers":
                buffers.layers = _views(shape, arrays[name], stream, numbers)
            else:
                setattr(buffers, name, shape and arrays[name][: math.prod(shape)].reshape(shape))
        out.append(buffers)
    return out


def _forget(buffers: list[Buffers]) -> None:
    """Let go of the inputs, which are the caller's arrays; nobody differentiates an inference pass."""
    for buf in buffers:
        buf.x = None
        if hasattr(buf, "layers"):
            _forget(buf.layers)


def _leaves(memory: list[dict[str, Any]]) -> Iterator[Any]:
    for layer in memory:
        for name, array in layer.items():
            if name == "layers":
                yield from _leaves(array)
            else:
                yield array
