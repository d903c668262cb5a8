"""What a loss is: value and gradient together, in a frozen dataclass that is called as

    value = loss(backend, z, y, dz=None, sample_weight=None)

with z (B, O) the network's output, left unchanged; y the targets; dz (B, O) overwritten with ∂L/∂z, or None for the
value alone; sample_weight (B,) with the meaning  L = Σᵢ wᵢ ℓᵢ / Σᵢ wᵢ, so a weight of 2 counts a row twice. The value is
a 0-d array on z's device; `float()` of it waits for the device.

Besides, `targets` checks and converts targets on the host, once for a whole data set, and `decide` turns outputs into
decisions (a class, a number). The losses there are: `losses.py`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ffnn_gpu.arrays.precision import is_floating, master
from ffnn_gpu.backends.reference.backend import Backend
from ffnn_gpu.errors import DataError, ShapeError
from ffnn_gpu.nn.losses.targets import weights


@dataclass(frozen=True)
class Loss:
    """What every loss can do besides being called."""

    def __call__(self, backend: Backend, z: Any, y: Any, dz: Any = None, sample_weight: Any = None) -> Any:
        """The mean loss of outputs z (B, O) against targets y; ∂L/∂z into dz.

        Raises:
            ShapeError, DataError: z is not floating (B, O), or y, dz or sample_weight do not fit z or this loss.
        """
        if z.ndim != 2:
            raise ShapeError(f"z has shape {z.shape}; a loss reads a matrix (rows, outputs)")
        if z.dtype.kind != "c" and not is_floating(z.dtype):  # targets are rounded to z's dtype
            raise DataError(f"z has dtype {z.dtype}; a loss reads the floating outputs of a network")
        if dz is not None and dz.shape != z.shape:
            raise ShapeError(f"dz has shape {dz.shape}; z has {z.shape}")
        y = self._on_device(backend, y, z)
        if sample_weight is not None:
            real = master(z.dtype)
            sample_weight = backend.asarray(weights(backend.admit(sample_weight), len(z), real), real)
        return self.evaluate(backend, z, y, dz, sample_weight)

    def evaluate(self, backend: Backend, z: Any, y: Any, dz: Any, sample_weight: Any) -> Any:
        """The same for arguments that are known to be right: of z's device and, float32 for 16 bits, z's dtype, checked by
        `targets`."""
        raise NotImplementedError(f"{type(self).__name__} has no evaluate")

    def targets(self, y: Any, O: int, dtype: Any) -> np.ndarray:
        """Host targets checked and converted for a network with O outputs. Raises ShapeError or DataError."""
        raise NotImplementedError(f"{type(self).__name__} has no targets")

    def device_targets(self, backend: Backend, y: Any, O: int, dtype: Any) -> Any:
        """`targets` for an array of the device: shape and dtype are checked, values are not. Raises ShapeError."""
        if y.ndim != 2 or y.shape[1] != O:
            raise ShapeError(f"y has shape {y.shape}; the network has {O} outputs, so y must be (rows, {O})")
        return backend.asarray(y, dtype)

    def total_weight(self, backend: Backend, y: Any, sample_weight: Any) -> Any:
        """What the mean is taken over: the number of rows, or the sum of their weights as a 0-d array."""
        return len(y) if sample_weight is None else backend.total(sample_weight)

    def decide(self, z: np.ndarray) -> np.ndarray:
        """What outputs mean, in the form of the targets: class indices, 0/1, or the number itself."""
        return z

    def _on_device(self, backend: Backend, y: Any, z: Any) -> Any:
        if backend.owns(y) and not isinstance(
            y, np.ndarray
        ):  # on the GPU: looking at the values would wait for it
            y = self.device_targets(backend, y, z.shape[1], master(z.dtype))
        else:
            y = backend.asarray(self.targets(y, z.shape[1], master(z.dtype)))
        if len(y) != len(z):
            raise ShapeError(f"z has {len(z)} rows and y has {len(y)}")
        return y
