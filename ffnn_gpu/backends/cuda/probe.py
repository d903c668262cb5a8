"""Test whether a GPU can really be used, and if not, why.

Why stages: a successful `import cupy` does not prove that the driver works, and a working driver does not
prove that the compiler and cuBLAS, which CuPy loads later, do. Each stage does one thing that training will
do. The name of the first one that fails is reported.

The only `import cupy` of the backends is in `load_cupy`.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

INSTALL = 'pip install "ffnn_gpu[cuda12x]" or "ffnn_gpu[cuda13x]", whichever CUDA version nvidia-smi shows'
HINTS = {
    "import cupy": INSTALL,
    "count devices": "check that nvidia-smi lists a GPU, that its driver is as new as CuPy's CUDA version, "
    "and that CUDA_VISIBLE_DEVICES does not hide it",
    "find the device": "choose one of the devices nvidia-smi lists, counted from 0",
    "compile and run a kernel": f"CuPy lacks the CUDA compiler or headers of its version: {INSTALL}",
    "multiply matrices": f"CuPy could not use cuBLAS: {INSTALL}",
    "synchronize": "the GPU reports an earlier fault; check nvidia-smi and dmesg",
    "compare with the CPU": "the GPU computes wrong numbers; do not train on it",
}


def load_cupy() -> Any:
    """Return the module cupy. Raises whatever its import raises."""
    import cupy

    return cupy


@dataclass(frozen=True)
class Probe:
    """The result for one CUDA device: usable, or the stage that failed with the error and a hint."""

    index: int
    stage: str = ""
    error: str = ""

    @property
    def usable(self) -> bool:
        return not self.stage

    @property
    def reason(self) -> str:
        """One sentence: why the device can or cannot be used."""
        if self.usable:
            return f"CUDA device {self.index} compiled a kernel and multiplied matrices correctly"
        return f"CUDA device {self.index} cannot be used; it failed at the stage {self.stage!r}: {self.error}"

    @property
    def hint(self) -> str:
        return HINTS.get(self.stage, "")


@functools.cache
def probe(index: int = 0) -> Probe:
    """Test CUDA device `index`, stage by stage. The result is cached for the life of the process."""
    stage = ""
    try:
        for stage in stages(index):  # noqa: B007
            pass
    except Exception as error:  # any fault of any driver; it is reported
        words = " ".join(word for word in str(error).split() if word.strip("="))  # CuPy adds lines of ====
        return Probe(index, stage, f"{type(error).__name__}: {words}".removesuffix(": ").rstrip("."))
    return Probe(index)


def stages(index: int) -> Iterator[str]:
    """Do what training will do with the device. Yield the name of each stage before it begins."""
    yield "import cupy"
    cupy = load_cupy()
    yield "count devices"
    count = cupy.cuda.runtime.getDeviceCount()
    if not count:
        raise RuntimeError("there are 0 CUDA devices")
    yield "find the device"
    if index >= count:
        raise RuntimeError(f"there is no device {index} among the {count} that CUDA shows")
    yield "compile and run a kernel"
    with cupy.cuda.Device(index):
        kernel = cupy.ElementwiseKernel("float32 x", "float32 y", "y = 2 * x + 1", "ffnn_gpu_probe")
        a = kernel(cupy.arange(12, dtype=cupy.float32)).reshape(3, 4)
    yield "multiply matrices"
    with cupy.cuda.Device(index):
        product = cupy.matmul(a, a.T)
    yield "synchronize"
    with cupy.cuda.Device(index) as device:
        device.synchronize()
    yield "compare with the CPU"
    a = (2 * np.arange(12, dtype=np.float32) + 1).reshape(3, 4)
    got, want = cupy.asnumpy(product), a @ a.T
    if not np.array_equal(got, want):  # exact: sums of integers below 2²⁴ in any order
        got, want = got.ravel()[:4], want.ravel()[:4]
        raise RuntimeError(f"a product of small integers gave {got}… instead of {want}…")
