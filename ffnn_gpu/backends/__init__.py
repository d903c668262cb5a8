"""Every operation on arrays, and the backends that compute it.

choice         get_backend: the one place where a device is chosen
reference/     the specification: each operation once, for NumPy and CuPy alike
cpu/           NumPy, and compiled loops where llvmlite is installed
cuda/          CuPy, with kernels of our own and matrix products by cublasLt
"""

from ffnn_gpu.backends.choice import SYNONYMS, from_environment, get_backend
from ffnn_gpu.backends.cpu.recording import cores
from ffnn_gpu.backends.cuda.probe import load_cupy, probe
from ffnn_gpu.backends.reference.backend import ALIGNMENT, Array, Backend

__all__ = [
    "ALIGNMENT", "SYNONYMS", "Array", "Backend", "cores", "from_environment", "get_backend", "load_cupy",
    "probe",
]  # fmt: skip
