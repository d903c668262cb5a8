"""A sharded optimizer: each of n ranks stores and updates the moments of 1/n of θ.

    ∇θ_r ← reduce_scatter(∇θ)        θ_r ← rule(θ_r, ∇θ_r)        θ ← all_gather(θ_r)

An optimizer uses a `Shard` like `Parameters`, because its rule is elementwise. Only ‖∇θ‖ needs other ranks.
Reference: Rajbhandari et al.: ZeRO: Memory Optimizations Toward Training Trillion Parameter Models (2020),
section 5.1.
"""

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ffnn_gpu.arrays.array_types import Array, HostArray
from ffnn_gpu.backends.reference.backend import ALIGNMENT, Backend
from ffnn_gpu.distributed.communicator import Communicator, piece_bounds
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.nn.parameters import Parameters
from ffnn_gpu.optim.optimizers import Optimizer, OptimizerState


class NormOverRanks:
    """The operations of `backend`, with ‖∇θ‖₂ taken over all ranks' pieces."""

    def __init__(self, backend: Backend, communicator: Communicator) -> None:
        self._backend, self._communicator = backend, communicator
        self._square = backend.zeros((1,), np.float64)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def gradient_factor(
        self, grad: Array, limit: float | None, control: Array, loss_scale: Array | None
    ) -> None:
        """Compute Backend.gradient_factor from ‖∇θ‖₂ over all ranks, passed as a vector of one number."""
        self._backend.write(self._square, 0, self._backend.squared_norm(grad))
        self._communicator.all_reduce(self._square)
        self._backend.gradient_factor(self._square**0.5, limit, control, loss_scale)


class Shard:
    """This rank's piece of the parameters, with the attributes of `Parameters` that an optimizer reads.

    Attributes:
        bounds: rank r has θ[bounds[r] : bounds[r + 1]]; pieces begin at addresses aligned for vector loads.
        optimizer_states: optimizer → its vectors, of the piece's length; they live as long as the parameters.
    """

    members = factors_of_members = None
    piece = Parameters.piece

    def __init__(self, params: Parameters, communicator: Communicator, optimizer: Optimizer) -> None:
        if not optimizer.elementwise:
            raise ConfigurationError(
                f"{type(optimizer).__name__} updates whole matrices, and shard_optimizer=True splits them; "
                "use shard_optimizer=False"
            )
        self.whole, self.communicator = params, communicator
        unit = ALIGNMENT // params.compute_dtype.itemsize
        self.bounds = piece_bounds(len(params.theta), communicator.size, unit)
        start, stop = self.bounds[communicator.rank : communicator.rank + 2]
        self.backend: Any = NormOverRanks(params.backend, communicator)
        self.operations = self.backend
        self.dtype, self.step, self.state = params.dtype, params.step, params.state
        self.loss_scale, self.factor, self.control = params.loss_scale, params.factor, params.control
        self.mine = slice(start, stop)
        self.theta, self.grad = params.theta[self.mine], params.grad[self.mine]
        self.shadow = None if params.shadow is None else params.shadow[self.mine]
        self.groups = [part for group in params.groups if (part := group.within(start, stop))]
        if (start, stop) not in params.pieces:
            params.pieces = {(start, stop): WeakKeyDictionary()}
        self.optimizer_states = params.pieces[start, stop]
        whole = params.optimizer_states.pop(optimizer, None)
        if whole is not None:
            self.optimizer_states[optimizer] = self._piece_of(whole, optimizer)

    def sum_gradient(self) -> None:
        """Sum this piece of ∇θ over the ranks; the other pieces stay as they are."""
        self.communicator.reduce_scatter(self.whole.grad, self.bounds)

    def refresh(self) -> None:
        """Gather every rank's piece of θ. Call it after writing this rank's piece."""
        self.communicator.all_gather(self.whole.theta, self.bounds)
        self.whole.refresh()

    def gathered(self, vector: Array) -> HostArray:
        """Gather the pieces of a vector from all ranks and return the whole vector on the host."""
        out: HostArray = np.zeros(self.bounds[-1], vector.dtype)
        out[self.mine] = self.whole.backend.to_host(vector)
        self.communicator.all_gather(out, self.bounds)
        return out

    def _piece_of(self, whole: OptimizerState, optimizer: Optimizer) -> OptimizerState:
        """Return this rank's piece of the state that an earlier run without shards left."""
        copy, vectors = self.whole.backend.duplicate, vars(whole)
        mine = {name: copy(v[self.mine]) if is_cut(name, optimizer) else v for name, v in vectors.items()}
        state = OptimizerState(**mine)
        state.control = whole.control
        return state


def is_cut(name: str, optimizer: Optimizer) -> bool:
    """Return whether this vector of the optimizer has θ's length, so that each rank stores a piece of it."""
    return name in (*optimizer.moments, "mean")
