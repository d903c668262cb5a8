"""A matrix that is standardized where its rows are read, so that only the rows it is made of take memory."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array, Device, HostArray
from ffnn_gpu.arrays.boundary import require_finite
from ffnn_gpu.arrays.precision import largest, underflow_is_zero
from ffnn_gpu.arrays.rows import Rows


@dataclass(frozen=True, eq=False)
class Standardized(Rows):
    """(rows − mean) / scale in float64, clipped to [−limit, limit] if there is a limit.

    Args:
        rows: (n, d), any type of number; bytes stay bytes.
        mean, scale: (d,) float64, on the host; on the device in what `on` returns.
    """

    rows: Rows
    mean: Array
    scale: Array
    limit: float | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.rows.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float64)

    @property
    def stays_in_files(self) -> bool:
        return self.rows.stays_in_files

    @property
    def stored(self) -> Any:
        return self.rows.stored

    def __getitem__(self, index: Any) -> Array:
        return self.values(index, np)

    @underflow_is_zero
    def values(self, index: Any, xp: Any) -> Array:
        """The standardized numbers of some rows, where the rows lie. xp: their array module."""
        x = self.rows[index].astype(np.float64)  # a copy
        x -= xp.asarray(self.mean)
        x /= xp.asarray(self.scale)
        return x if self.limit is None else xp.clip(x, -self.limit, self.limit)

    def admitted(self, admit: Callable[[Any], Array]) -> "Standardized":
        return replace(self, rows=self.rows.admitted(admit))

    def unmapped(self) -> "Standardized":
        return replace(self, rows=self.rows.unmapped())

    def select(self, index: HostArray, device: Device | None = None) -> "Standardized":
        return replace(self, rows=self.rows.select(index, device))

    def require_finite(self, device: Device, what: str, dtype: Any = None) -> None:
        self.rows.require_finite(device, what)
        if not self._stays_below(largest(dtype or self.dtype)):
            xp = device.xp if device.owns(self.stored) else np
            require_finite(xp, self, f"{what}, standardized,", dtype, partial(self.values, xp=xp))

    def _stays_below(self, limit: float) -> bool:
        """True if no standardized value can reach `limit`, for any values of the integer type of the rows."""
        if self.rows.dtype.kind not in "iu":
            return False
        least, most = np.iinfo(self.rows.dtype).min, np.iinfo(self.rows.dtype).max
        furthest = np.maximum(np.abs(least - self.mean), np.abs(most - self.mean))
        return bool((furthest / self.scale < limit).all())

    def matrix(self, device: Device, part: slice, dtype: Any) -> Array:
        long = self.rows.dtype.itemsize > 8  # a long double, a type that only the host has
        rows = self.rows.matrix(device, part, np.float64 if long else None)
        out, index = device.empty(rows.shape, dtype), device.xp.arange(len(rows), dtype=np.int64)
        device.take(rows, index, out, device.asarray(self.mean), device.asarray(self.scale))
        return self._clipped(device, out)

    def on(self, device: Device, dtype: Any) -> "Standardized":
        mean, scale = device.asarray(self.mean), device.asarray(self.scale)
        return replace(self, rows=self.rows.on(device, np.float64), mean=mean, scale=scale)

    def take(self, device: Device, index: Array, out: Array, *scaling: Array) -> None:
        self.rows.take(device, index, out, self.mean, self.scale)
        self._clipped(device, out)

    def _clipped(self, device: Device, x: Array) -> Array:
        if self.limit is not None:
            device.clip(x, self.limit)
        return x
