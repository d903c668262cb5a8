"""Names of arrays in signatures."""

from typing import Any, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = Any
"""An array of the device that a backend computes on: numpy.ndarray or cupy.ndarray.

Why Any: CuPy ships no type stubs, and both kinds have far more methods than a protocol could list.
"""

HostArray: TypeAlias = NDArray[Any]
"""A NumPy array."""

Device: TypeAlias = Any
"""A Backend; Rows call its `take`, `asarray`, `empty`, …. Why Any: `backends` imports this package."""
