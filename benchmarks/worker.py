"""The child process: prepare one contender, then run one block of steps for every line of input.

It answers each line with one line of JSON. The output of libraries is redirected to stderr.

    each "warm"      {"version": …} after warming up, or {"missing": sentence, "traceback": …}
    each "round"     {"us": microseconds per step}
    end of input     {"peak_bytes": peak memory of this process}
"""

import json
import os
import platform
import sys
import time
import traceback
from importlib import import_module, metadata

try:
    import resource
except ImportError:  # Windows
    resource = None

from benchmarks.contenders import UnsupportedError, contenders, program

WARM_UP = 5  # launches in which compilers, CUDA graphs and caches settle
CHECKED_STEPS = 8  # a wrong decay of Adam's moments shows after a few steps
# module → distribution, if their names differ
DISTRIBUTIONS = {"sklearn": "scikit-learn", "nvmath": "nvmath-python"}
CUPY = ("cupy-cuda12x", "cupy-cuda13x", "cupy")


def work(name, job, seconds, check):
    """Serve the contender `name` until the input ends.

    Its library is imported first, while the other children import theirs.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def answer(found):
        print(json.dumps(found), file=answers)

    if hasattr(os, "sched_setaffinity"):  # for libraries that count cores and read no setting
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job.threads])
    try:
        library = contenders(job.device, job.kind)[name].package
        import_module(library)
        if check:
            answer({"values": values(program(name, job))})
            return
        ready = None
        for request in sys.stdin:
            ready = ready or program(name, job)
            if request == "warm\n":
                launches = warm_up(ready, seconds, job.kind)
                answer({"version": version(library)})
            else:
                answer({"us": microseconds_per_step(ready, launches)})
        answer({"peak_bytes": peak_bytes()})
    except Exception as error:  # of any library: the contender is missing, with the reason
        answer({"missing": sentence(error), "traceback": traceback.format_exc()})


def warm_up(ready, seconds, kind):
    """Warm up and return the number of launches that last `seconds`; an epoch is one launch."""
    if kind == "epoch":
        ready.run(1)
        return 1
    for _ in range(WARM_UP):
        ready.run(1)
    launches, needed = 1, block(ready, 1)
    while needed < seconds / 2:
        launches = max(launches + 1, min(10 * launches, int(launches * seconds / max(needed, 1e-7))))
        needed = block(ready, launches)
    return max(1, round(launches * seconds / needed))


def microseconds_per_step(ready, launches):
    return 1e6 * block(ready, launches) / (launches * ready.steps)


def block(ready, launches):
    """Return the seconds of these launches and one wait."""
    began = time.perf_counter()
    ready.run(launches)
    return time.perf_counter() - began


def values(ready):
    """Return the results of the first launches as JSON values; of a matrix, the first 8 rows."""
    found = []
    for _ in range(CHECKED_STEPS):
        ready.run(1)
        value = ready.value
        if not isinstance(value, dict):
            value = value[:8].tolist() if getattr(value, "ndim", 0) else float(value)
        found.append(value)
    return found


def machine(device):
    """Return what `ffnn-gpu info` prints, processor, GPU, versions of the contenders, and commit."""
    sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[0])))
    import gpu_check

    from ffnn_gpu.cli.info import information

    found = information()
    names = {one.package for kind in ("train", "predict") for one in contenders(device, kind).values()}
    packages = {library: number for library in sorted(names) if (number := version(library))}
    device_facts = gpu() if device == "cuda" and found["device"] else {}
    return (
        found | device_facts | {"processor": processor(), "commit": gpu_check.commit(), "packages": packages}
    )


def gpu():
    """Return the GPU, its driver and CUDA version."""
    from ffnn_gpu.backends.cuda.cupy_backend import load_cupy

    runtime = load_cupy().cuda.runtime
    properties = runtime.getDeviceProperties(0)
    return {
        "gpu": properties["name"].decode(),
        "compute_capability": f"{properties['major']}.{properties['minor']}",
        "memory_bytes": properties["totalGlobalMem"],
        "driver": runtime.driverGetVersion(),
        "cuda": runtime.runtimeGetVersion(),
    }


def processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def version(library):
    for distribution in CUPY if library == "cupy" else (DISTRIBUTIONS.get(library, library),):
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return None


def peak_bytes():
    if resource is None:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def sentence(error):
    text = " ".join(str(error).split())[:200]
    return text if isinstance(error, UnsupportedError) else f"{type(error).__name__}: {text}"
