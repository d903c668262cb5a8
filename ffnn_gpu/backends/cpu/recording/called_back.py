"""A user's own layers, losses and optimizers in a recording: Python code that runs between two commands.

Such code may compute with NumPy directly, which no backend would see. So it is not run while a step is
recorded. Each replay calls it, on the workspace's own buffers, as an unrecorded step does.
"""

import weakref
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.arrays.precision import underflow_is_zero
from ffnn_gpu.errors import ConfigurationError, ShapeError


class Argument(NamedTuple):
    """Stands for an array whose address differs in each call: its position among the arguments."""

    position: int


class PythonCall(NamedTuple):
    """function(*args), called after the first `commands` commands have run."""

    commands: int
    function: Callable[..., Any]
    args: tuple[Any, ...]

    def __call__(self, arguments: tuple[Any, ...]) -> None:
        self.function(*(arguments[arg.position] if isinstance(arg, Argument) else arg for arg in self.args))


def is_own(part: Any) -> bool:
    """Return whether this layer, loss or network, and every layer within it, is of this package's classes.

    A loss that computes with values, which a recording lacks, counts as one of the user's.
    """
    inner: Iterable[Any] = getattr(part, "layers", ())
    records = not getattr(part, "reads_values", False)
    return records and type(part).__module__.startswith("ffnn_gpu.") and all(map(is_own, inner))


def has_own_step(optimizer: Any) -> bool:
    """Return whether a step of this optimizer computes with the backend alone, apart from its formula."""
    classes = type(optimizer).__mro__
    names = "step", "update", "advance", "apply", "state", "_new_state"
    definers = (next(each for each in classes if name in vars(each)) for name in names)
    return all(each.__module__.startswith("ffnn_gpu.") for each in definers)


class CalledBackLayer:
    """A layer whose passes are calls of its own code.

    Args:
        layer: the user's layer.
        backend: computes in the calls; the recorder records them.
        first: whether it is the network's first layer, whose dx is not needed.
    """

    def __init__(self, layer: Any, backend: Any, first: bool) -> None:
        self.layer, self.backend, self.first, self.width = layer, backend, first, 0

    def forward(self, recorder: Any, p: Any, x: Array, buf: Any) -> Array:
        self.width = x.shape[1]
        out: Array = recorder.output_of_call(len(x), self.layer.output_width(self.width))
        recorder.call(self._forward, p, x, buf, out)
        return out

    def backward(self, recorder: Any, p: Any, da: Array, buf: Any) -> Array | None:
        shared = self.layer.buffer_shapes(len(da), self.width).get("dx") is not None
        needed = getattr(buf, "dx", None) is not None if shared else not self.first
        dx = recorder.output_of_call(len(da), self.width) if needed else None
        recorder.call(self._backward, p, da, buf, dx)
        return dx

    @underflow_is_zero
    def _forward(self, p: Any, x: Array, buf: Any, out: Array) -> None:
        self._write(self.layer.forward(self.backend, p, x, buf), out, "forward")

    @underflow_is_zero
    def _backward(self, p: Any, da: Array, buf: Any, dx: Array | None) -> None:
        found = self.layer.backward(self.backend, p, da, buf)
        if dx is None:
            return
        if found is None:
            raise ConfigurationError(
                f"{type(self.layer).__name__}.backward returned None; it must return dx, because the "
                "gradient at its input is needed"
            )
        self._write(found, dx, "backward")

    def _write(self, found: Array, out: Array, method: str) -> None:
        if found.shape != out.shape:
            raise ShapeError(
                f"{type(self.layer).__name__}.{method} returned an array of shape {found.shape}; it must "
                f"return {out.shape}"
            )
        self.backend.copy(found, out=out)


class CalledBackLoss:
    """A loss whose value and gradient are a call of its own code."""

    def __init__(self, loss: Any, backend: Any) -> None:
        self.loss, self.backend = loss, backend

    def __call__(self, recorder: Any, z: Array, y: Array, dz: Array, weight: Array, checked: bool) -> Array:
        of_members = recorder.losses_of_members
        values: Array = recorder.losses if of_members is None else of_members
        recorder.call(self._value, values, z, y, dz, weight)
        return values

    def _value(self, losses: Array, z: Array, y: Array, dz: Array, weight: Array) -> None:
        value = self.loss(self.backend, z, y, dz, weight, checked=True)
        if z.ndim == 3:  # of a pack
            losses[: len(z)] = value
        else:
            losses[0] = float(value)


class CalledBackOptimizer:
    """An optimizer whose step is a call of its own code. A recording does not keep it alive."""

    def __init__(self, optimizer: Any, params: Any) -> None:
        self.optimizer, self.params = weakref.ref(optimizer), params

    def state(self, params: Any) -> None:
        """Make the optimizer's state, if it has one."""
        optimizer: Any = self.optimizer()
        if hasattr(optimizer, "state"):
            optimizer.state(self.params)

    def step(self, params: Any, lr: Array | None) -> None:
        params.backend.call(self._step, lr)

    def _step(self, lr: Array | None) -> None:
        self.optimizer().step(self.params, lr)  # type: ignore[union-attr]
