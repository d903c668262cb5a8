"""Every operation on arrays, and who computes it.

choice         get_backend: the one place where a device is chosen
reference/     the specification: each operation once, for NumPy and CuPy alike
cpu/           NumPy, and compiled loops where Numba is installed
cuda/          CuPy, with kernels of our own and matrix products by cublasLt
"""

from ffnn_gpu.backends.choice import get_backend
from ffnn_gpu.backends.reference.backend import Backend

__all__ = ["Backend", "get_backend"]
