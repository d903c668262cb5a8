"""`python scripts/gpu_check.py --out DIR`: run every test that needs a GPU, and write down on what.

DIR gets gpu_check.xml (JUnit) and gpu_check.json: GPU, driver, CUDA, versions, commit, counts, seconds. The exit code is 0
only if there is a GPU and nothing failed. The cases of the `backend` fixture that run on CuPy carry the marker gpu too, so
one `pytest -m gpu` is everything; FFNN_GPU_REQUIRE_GPU=1 turns a skip for want of a GPU into a failure.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

try:
    from ffnn_gpu.backend import probe
except ImportError:                       # a fresh clone: make .venv first, then start again in it
    from bootstrap import restart

    sys.exit(restart(__file__, "test"))

PACKAGES = ("ffnn_gpu", "numpy", "cupy-cuda12x", "cupy-cuda13x", "nvmath-python", "nvidia-cublas", "pytest")


def version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def commit():
    """The commit that was tested, with "+changes" if the tree differs from it; None outside a clone."""
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    status = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=False)
    return head.stdout.strip() + ("+changes" if status.stdout.strip() else "") if head.returncode == 0 else None


def machine():
    """The GPU and what drives it."""
    import cupy

    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(0)
    return {
        "gpu": properties["name"].decode(),
        "compute_capability": f"{properties['major']}.{properties['minor']}",
        "memory_bytes": properties["totalGlobalMem"],
        "driver": runtime.driverGetVersion(),
        "cuda": runtime.runtimeGetVersion(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {name: version(name) for name in PACKAGES if version(name)},
    }


def counts(report):
    """{"passed": …, "failed": …, "skipped": …} of a JUnit file; errors count as failed."""
    suite = ET.parse(report).getroot().find("testsuite")
    total, errors, failures, skipped = (int(suite.get(k)) for k in ("tests", "errors", "failures", "skipped"))
    return {"passed": total - errors - failures - skipped, "failed": errors + failures, "skipped": skipped}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu_check.xml and gpu_check.json")
    out = parser.parse_args(arguments).out
    found = probe(0)
    if not found.usable:
        print(f"gpu_check found no GPU to test: {found.reason}; {found.hint}.", file=sys.stderr)
        return 2
    out.mkdir(parents=True, exist_ok=True)
    report, began = (out / "gpu_check.xml").resolve(), time.perf_counter()
    report.unlink(missing_ok=True)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "gpu", f"--junit-xml={report}"],
        cwd=ROOT, env=os.environ | {"FFNN_GPU_REQUIRE_GPU": "1", "PYTHONPATH": path}, check=False,
    )  # fmt: skip
    result = {"commit": commit(), "date": datetime.now(UTC).isoformat(timespec="seconds"), **machine()}
    result |= counts(report) if report.exists() else {}
    result |= {"exit_code": ended.returncode, "seconds": round(time.perf_counter() - began, 1)}
    (out / "gpu_check.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return ended.returncode


if __name__ == "__main__":
    sys.exit(main())
