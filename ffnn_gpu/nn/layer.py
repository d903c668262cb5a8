"""What a layer is: mathematics in a frozen dataclass, with the contract every layer keeps.

Contract
- A layer holds configuration only, no array. So it can be compared, printed, saved, and shared by networks and threads.
- Argument order is `backend, p, x | da, buf`: who computes, with which numbers, on what, into where. Everything a
  pass reads or writes is in that list.
- `forward` writes only `buf`, keeps in it what `backward` will read, and leaves `x` alone; `backward` writes only `p.d*`,
  `buf.dx` and, where a layer has them, its running statistics in `p`; it may overwrite `da`.
- Gradients are assigned in place, `p.dW[...] = …` or `out=p.dW`, not accumulated: what they held before means nothing.
- `backward` is the exact vector–Jacobian product of `forward`. It returns dx, or None if `buf.dx` is None, which means
  that nobody reads it.
- Training is a property of the workspace: for inference every buffer but `a` is None.

To add a layer: a frozen dataclass in a file of its own here, deriving from `Layer`, with `forward`, `backward` and the
shapes it needs; `check_gradients` in ffnn_gpu.testing then proves it.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ffnn_gpu.backends.reference.backend import Backend
from ffnn_gpu.nn.parameters import Shapes, Views
from ffnn_gpu.nn.workspace import Buffers


@dataclass(frozen=True, repr=False)
class Layer:
    """A map of rows from width I to width `output_width(I)`, with its adjoint."""

    def __repr__(self) -> str:
        """The call that makes this layer, defaults left out: Dense(128, relu)."""
        said, by_position = [], True
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, np.generic):
                value = value.item()  # np.int64(10) could not be read back
            if value == entry.default:
                by_position = False
            else:
                said.append(repr(value) if by_position else f"{entry.name}={value!r}")
        return f"{type(self).__name__}({', '.join(said)})"

    def output_width(self, I: int) -> int:
        """O, the number of columns of the output."""
        return I

    def parameter_shapes(self, I: int) -> Shapes:
        """Name → shape of what is learnt with a gradient; arrays of two dimensions are subject to weight decay."""
        return {}

    def state_shapes(self, I: int) -> Shapes:
        """Name → shape of what is learnt without a gradient."""
        return {}

    def buffer_shapes(self, B: int, I: int) -> Shapes:
        """Name → shape of the scratch of one pass: `a` the output, `dx` the gradient at the input, the rest free.

        For inference every buffer but `a` is None: what forward needs there besides, it allocates by `backend.empty`.
        """
        return {"a": (B, self.output_width(I)), "dx": (B, I)}

    def initial_values(self, rng: np.random.Generator, I: int) -> dict[str, Any]:
        """Name → initial array for every parameter and running statistic."""
        return {}

    def flops(self, I: int) -> int:
        """Floating-point operations of forward for one row."""
        return self.output_width(I)

    def forward(self, backend: Backend, p: Views, x: Any, buf: Buffers) -> Any:
        """The output (B, O) for the input x (B, I)."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, backend: Backend, p: Views, da: Any, buf: Buffers) -> Any:
        """dx (B, I) from da (B, O), after the forward pass that filled buf."""
        raise NotImplementedError(f"{type(self).__name__} has no backward")
