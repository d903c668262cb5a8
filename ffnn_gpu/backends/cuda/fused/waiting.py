"""Operations of a pass that wait, because together they may be one kernel.

A step and a prediction are written as operations, and run as written. While one runs, the operations that
a stack of Dense layers issues are collected instead of launched. At the first other operation, or at the
end, they are launched: as the kernel of the stack if they are one and it is faster, else one by one, in their
order.

Why nothing sees the difference: only Dense, Dropout and losses of this package are collected, and only if the
optimizer's step is of this package too. Their code reads no values between operations, and each operation
returns an array that exists before it is launched.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.arrays.precision import master
from ffnn_gpu.backends.cuda.branches import bound
from ffnn_gpu.backends.cuda.fused import launches
from ffnn_gpu.backends.cuda.fused.recognition import LOSSES, Operation, loss_fits, recognized
from ffnn_gpu.backends.cuda.fused.stack import MOST_LAYERS, WIDEST, WIDEST_INPUT

if TYPE_CHECKING:
    from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend

HALF, COLLECTED = ("float16", "bfloat16"), ("Dense", "Dropout")
# Operations that neither wait nor end the waiting: they touch nothing that the others write. An optimizer
# makes its state by some of them, before the backward pass of its first step.
PASSED = (
    "run_step", "run_forward", "empty", "output", "constant", "batch_rows", "may_wait", "zeros", "asarray",
    "write", "duplicate",
)  # fmt: skip
RETURNED = {  # operation that may wait → the argument that it returns
    "affine": "out", "softmax_cross_entropy": "", "pointwise_loss": "", "scaled": "out",
    "activation_backward": "da", "affine_gradients": "", "gemm": "out",
    "dropout_forward": "out", "dropout_backward": "da",
}  # fmt: skip


def run_step(self: "CupyBackend", code: Callable[..., Any], *args: Any) -> Any:
    """Return code(*args), with the operations of its forward and backward pass as one kernel if they fit."""
    network, loss, optimizer = args[:3]
    ours = loss is not None and _is_ours(type(loss)) and not loss.reads_values
    if not (ours and _launches_first(optimizer) and _fits(self, network)):
        return code(*args)
    return _collected(self, True, code, *args)


def run_forward(self: "CupyBackend", code: Callable[..., Any], network: Any, x: Any, ws: Any) -> Any:
    """Return code(network, x, ws), with the operations of a prediction as one kernel if they fit."""
    if ws.training or not _fits(self, network):
        return code(network, x, ws)
    return _collected(self, False, code, network, x, ws)


def _collected(self: "CupyBackend", trains: bool, code: Callable[..., Any], *args: Any) -> Any:
    if self.waiting is not None:
        return code(*args)
    waiting = self.waiting = Waiting(self, trains)
    try:
        result = code(*args)
        waiting.end()
        return result
    finally:
        self.waiting = None


def _fits(self: "CupyBackend", network: Any) -> bool:
    """Return whether this may be a stack: Dense and Dropout of this package, narrow and in 16 bits."""
    narrow = network.n_in <= WIDEST_INPUT and max(network.widths[1:]) <= WIDEST
    narrow = narrow and network.compute_dtype.name in HALF
    few = len(network.layers) <= 2 * MOST_LAYERS and network.members is None
    dense = all(_is_ours(type(layer)) and type(layer).__name__ in COLLECTED for layer in network.layers)
    return bool(self.use_fused and self.use_kernels and narrow and few and dense)


def _launches_first(optimizer: Any) -> bool:
    """Return whether the optimizer's step begins with an operation that ends the waiting; None has no step.

    A `step` or `state` from elsewhere may read ∇θ as an array, before it is written.
    """
    step = getattr(optimizer, "step", None)
    return optimizer is None or (_is_ours(step) and _is_ours(getattr(optimizer, "state", step)))


def _is_ours(code: Any) -> bool:
    """Return whether a class or function is defined in this package."""
    return str(getattr(code, "__module__", "")).startswith("ffnn_gpu.")


@dataclass(eq=False)
class Waiting:
    """The operations that wait, in their order.

    trains: True for a step, whose backward pass reads what its layers write.
    value: the loss that has been returned; a launch is to write it.
    """

    backend: Any
    trains: bool
    issued: list[Operation] = field(default_factory=list)
    value: Array | None = None

    def take(self, name: str, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Let this operation wait and return its result, or launch what waits and then this operation."""
        given = bound(name, self.backend, args, named)
        is_loss = name in LOSSES
        if name not in RETURNED or (is_loss and not loss_fits(self.backend, self.issued, (name, given))):
            self.end()
            return getattr(self.backend, name)(*args, **named)
        self.issued.append((name, given))
        if is_loss:
            self.value = self.backend.empty((), master(given["z"].dtype))
            return self.value
        return given.get(RETURNED[name])

    def end(self) -> None:
        """Launch what waits. Later operations do not wait."""
        if self.backend.waiting is not self:
            return
        self.backend.waiting = None
        incomplete = self.trains and self.value is None
        found = None if incomplete else recognized(self.backend, self.issued, self.value)
        if found is None:
            self._one_by_one()
        else:
            launches.run_faster(self.backend, *found, self._one_by_one)

    def _one_by_one(self) -> None:
        for name, given in self.issued:
            result = getattr(self.backend, name)(**given)
            if name in LOSSES:
                self.backend.copy(result, out=self.value)
