"""Print GPU, driver and package versions as one line of JSON.

Without a GPU, print why and exit with 2. If the package cannot be imported, print why and exit with 3.
"""

import json
import platform
import shutil
import subprocess
import sys
from importlib import metadata

try:
    import ffnn_gpu
    from ffnn_gpu.backends.choice import probe
except ImportError as error:
    print(f"ffnn_gpu cannot be imported: {error}")
    sys.exit(3)

PACKAGES = (
    "numpy", "cupy-cuda12x", "cupy-cuda13x", "nvmath-python", "nvidia-cublas", "nvidia-cublas-cu12",
    "nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12", "ml_dtypes", "safetensors", "scikit-learn", "pytest",
    "torch", "jax",
)  # fmt: skip


def facts():
    """Return everything that a figure measured here depends on, except the commit."""
    import cupy

    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(0)
    return {
        "gpu": properties["name"].decode(),
        "compute_capability": f"{properties['major']}.{properties['minor']}",
        "multiprocessors": properties["multiProcessorCount"],
        "memory_bytes": properties["totalGlobalMem"],
        "driver": driver(),
        "driver_cuda": runtime.driverGetVersion(),
        "cuda": runtime.runtimeGetVersion(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {"ffnn_gpu": ffnn_gpu.__version__}
        | {name: version(name) for name in PACKAGES if version(name)},
    }


def driver():
    """Return the driver's version, such as "580.95.05"; None without nvidia-smi."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return None
    told = subprocess.run(
        [smi, "--query-gpu=driver_version", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.split("\n")[0].strip() or None


def version(package):
    """Return the version of an installed package; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    found = probe(0)
    if not found.usable:
        print(f"{found.reason}; {found.hint}.")
        sys.exit(2)
    print(json.dumps(facts()))
