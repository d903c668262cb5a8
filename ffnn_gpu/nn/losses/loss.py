"""The contract of a loss: value and gradient together, in a frozen dataclass that is called as

    value = loss(backend, z, y, dz=None, sample_weight=None, checked=False)

with z (B, O) the network's output, left unchanged; y the targets; dz (B, O) overwritten with ∂L/∂z, or None for the
value alone; sample_weight (B,) with the meaning  L = Σᵢ wᵢ ℓᵢ / Σᵢ wᵢ, so a weight of 2 counts a row twice. The value
is a 0-d array on z's device; `float()` of it waits for the device.

Why `checked`: `fit` checks and converts the targets of a whole data set once, by `targets`. Checking them again at every
step would read their values, which on a GPU waits for the device.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.precision import is_floating, master
from ffnn_gpu.backends.reference.backend import Array, Backend
from ffnn_gpu.errors import ConfigurationError, DataError, ShapeError
from ffnn_gpu.nn.losses.targets import weights


@dataclass(frozen=True)
class Loss:
    """A loss. To write one, derive from this class and define `value_and_gradient` and `targets`.

    Attributes:
        counts_rows: whether an int that `total_weight` returns is always the number of rows. Ranks that train together
            then know the total without a sum over the ranks.
    """

    counts_rows: ClassVar[bool] = False

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "evaluate" in vars(cls):
            raise ConfigurationError(
                f"{cls.__name__} defines evaluate, which is called value_and_gradient now; rename the method"
            )

    def __call__(
        self,
        backend: Backend,
        z: Array,
        y: Any,
        dz: Array | None = None,
        sample_weight: Any = None,
        checked: bool = False,
    ) -> Array:
        """Return the mean loss of outputs z (B, O) against targets y; write ∂L/∂z to dz.

        Args:
            checked: whether y and sample_weight lie on z's device, have passed `targets` and `weights`, and have z's dtype
                (float32 for 16 bits). They are then used as they are.

        Raises:
            ShapeError, DataError: z is not floating (B, O), or y, dz or sample_weight do not fit z or this loss.
        """
        if not checked:
            y, sample_weight = self._checked(backend, z, y, dz, sample_weight)
        return self.value_and_gradient(backend, z, y, dz, sample_weight)

    def value_and_gradient(
        self, backend: Backend, z: Array, y: Array, dz: Array | None, sample_weight: Array | None
    ) -> Array:
        """Return the mean loss and write ∂L/∂z to dz, for arguments that have been checked."""
        raise NotImplementedError(f"{type(self).__name__} has no value_and_gradient")

    def targets(self, y: Any, O: int, dtype: Any) -> HostArray:
        """Return host targets, checked and converted for a network with O outputs. Raises ShapeError or DataError."""
        raise NotImplementedError(f"{type(self).__name__} has no targets")

    def device_targets(self, backend: Backend, y: Array, O: int, dtype: Any) -> Array:
        """Convert targets that lie on the device. Checks shape and dtype, not the values. Raises ShapeError."""
        if y.ndim != 2 or y.shape[1] != O:
            raise ShapeError(f"y has shape {y.shape}; the network has {O} outputs, so y must be (rows, {O})")
        return backend.asarray(y, dtype)

    def total_weight(self, backend: Backend, y: Array, sample_weight: Array | None) -> Any:
        """Return the denominator of the mean: the number of rows, or the sum of their weights as a 0-d array."""
        return len(y) if sample_weight is None else backend.total(sample_weight)

    def decide(self, z: HostArray) -> HostArray:
        """Turn outputs into decisions of the targets' form: class indices, 0/1, or the number itself."""
        return z

    def _checked(
        self, backend: Backend, z: Array, y: Any, dz: Array | None, sample_weight: Any
    ) -> tuple[Array, Array | None]:
        """Return y and sample_weight on the device, checked and converted."""
        if z.ndim != 2:
            raise ShapeError(f"z has shape {z.shape}; a loss reads a matrix (rows, outputs)")
        if z.dtype.kind != "c" and not is_floating(z.dtype):  # targets are rounded to z's dtype
            raise DataError(f"z has dtype {z.dtype}; a loss reads the floating outputs of a network")
        if dz is not None and dz.shape != z.shape:
            raise ShapeError(f"dz has shape {dz.shape}; z has {z.shape}")
        real = master(z.dtype)
        if backend.owns(y) and not isinstance(
            y, np.ndarray
        ):  # on the GPU: reading the values would wait for it
            y = self.device_targets(backend, y, z.shape[1], real)
        else:
            y = backend.asarray(self.targets(y, z.shape[1], real))
        if len(y) != len(z):
            raise ShapeError(f"z has {len(z)} rows and y has {len(y)}")
        if sample_weight is not None:
            sample_weight = backend.asarray(weights(backend.admit(sample_weight), len(z), real), real)
        return y, sample_weight
