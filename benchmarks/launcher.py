"""Starts the contenders and asks them for rounds in turn. Imports nothing heavy: it shares the machine with them.

Why children that stay alive through all rounds: compiling and warming up cost some of them half a minute, and
are not what is measured; and taking turns spreads whatever else the machine does over all of them alike. A
waiting child only reads its input. One child per contender and job, so that its peak memory is that of the
job. All import their libraries at the same time, which is most of the waiting.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from benchmarks.contenders import contenders

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "benchmark.py"
LIMIT = 580  # seconds that one answer may take: compilers are slow
PAUSE = 0.3  # seconds: a BLAS's idle threads spin for 0.1 after a product
SETTINGS = (  # environment variables that would favour one contender; folders and paths stay
    "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "BLIS_", "VECLIB_", "NUMEXPR_", "NUMBA_", "XLA_", "JAX_", "KERAS_", "TF_",
    "TORCH", "PYTORCH_", "CUPY_", "CUBLAS", "NVIDIA_TF32", "FFNN_GPU_", "MALLOC_", "LD_PRELOAD", "PYTHONMALLOC",
)  # fmt: skip
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
IMPORTS = {  # contender → the module a user of it imports
    "ours": "ffnn_gpu", "torch": "torch", "jax": "jax", "sklearn": "sklearn.neural_network", "keras": "keras",
    "onnxruntime": "onnxruntime",
}  # fmt: skip
KERAS_ENGINES = ("jax", "tensorflow", "torch")  # the first that is installed
GONE = {"missing": "its process ended without an answer"}


def environment(threads, precision="float32"):
    """This process's, without settings that favour one contender; then the same threads and precision for all.

    Algorithms of ours are timed at the first step, as torch.compile does in its mode max-autotune.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(SETTINGS) or name.endswith(("_DIR", "_PATH", "_HOME"))
    }
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    tf32 = "1" if precision == "tf32" else "0"
    needed = {
        "PYTHONPATH": path, "CUPY_TF32": tf32, "FFNN_GPU_TF32": tf32, "FFNN_GPU_AUTOTUNE": "16",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",             # JAX leaves the GPU's memory to the others
        "KERAS_BACKEND": next(filter(find_spec, KERAS_ENGINES), ""),
    }  # fmt: skip
    return kept | dict.fromkeys(THREADS, str(threads)) | needed


class Child:
    """One contender at one job, in a process of its own; used in a `with`, which ends it."""

    def __init__(self, name, job, seconds=0.0, check=False):
        self.errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - closed by __exit__
        task = json.dumps({"name": name, "job": asdict(job), "seconds": seconds, "check": check})
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), "--worker", task],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=environment(job.threads, job.precision),
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        for file in (self.process.stdin, self.process.stdout, self.errors):
            with suppress(OSError):  # what a dead child has not read
                file.close()

    def answer(self):
        """The next answer, or why there is none."""
        timer = threading.Timer(LIMIT, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        if line:
            return json.loads(line)
        self.errors.seek(0)
        return GONE | {"traceback": self.errors.read()[-2000:]}

    def ask(self, request):
        """The answer to "warm" or "round"."""
        with suppress(OSError):  # it has died: `answer` says so
            print(request, file=self.process.stdin, flush=True)
        return self.answer()

    def end(self):
        """The answer to the end of its input."""
        with suppress(OSError):
            self.process.stdin.close()
        return self.answer()


def measure(job, chosen, rounds, seconds):
    """The group of this job: {"title", "kind", …, "results": {name: …}, "missing": {name: why}}.

    chosen: name → whether it takes part. An epoch is measured three times at most.
    """
    described = asdict(job) | {
        "data": job.data and Path(job.data).name
    }  # a folder's place is nobody's business
    group = {"title": f"{job.title}, {job.precision}", "kind": job.kind, "job": described}
    libraries = {name: c.package for name, c in contenders(job.device, job.kind).items() if chosen(name)}
    present = [name for name, library in libraries.items() if find_spec(library)]
    group["missing"] = {
        name: f"{library} is not installed" for name, library in libraries.items() if name not in present
    }
    group["results"] = {name: {"rounds_us": []} for name in present}
    with ExitStack() as ends:
        children = {name: ends.enter_context(Child(name, job, seconds)) for name in present}
        for name in present:  # one by one: some of them time algorithms
            note(group, name, children[name].ask("warm"))
        for number in range(min(rounds, 3) if job.kind == "epoch" else rounds):
            for name in rotated(list(group["results"]), number):
                time.sleep(PAUSE)
                note(group, name, children[name].ask("round"))
        for name in list(group["results"]):
            note(group, name, children[name].end())
    return group


def note(group, name, answer):
    """Put a child's answer into the group."""
    if "missing" in answer:
        group["results"].pop(name, None)
        group["missing"][name] = answer["missing"]
        group.setdefault("tracebacks", {})[name] = _without_folders(answer.get("traceback"))
    elif "us" in answer:
        group["results"][name]["rounds_us"].append(answer["us"])
    else:
        group["results"][name] |= answer


def _without_folders(traceback):
    """A traceback that tells nothing of where this machine keeps its files; results are published."""
    return traceback and re.sub(r'File ".*[/\\]([^/\\"]+)"', r'File "\1"', traceback)


def rotated(names, number):
    """Another one begins each round."""
    number %= max(1, len(names))
    return names[number:] + names[:number]


def values(name, job):
    """What the contender computes in its first launches: {"values": […]} or {"missing": why}."""
    with Child(name, job, check=True) as child:
        return child.answer()


def machine(job):
    """What the benchmark runs on, from a child of its own: asking needs NumPy or CuPy."""
    with Child("machine", job, check=True) as child:
        return child.answer()


def imports(chosen, threads, rounds):
    """The group of import times: seconds of `python -c "import …"` less those of `python -c pass`, in turn."""
    group = {"title": "import", "kind": "import", "results": {}, "missing": {}}
    names = [name for name in IMPORTS if chosen(name)]
    for name in [name for name in names if find_spec(IMPORTS[name].partition(".")[0]) is None]:
        group["missing"][name] = f"{IMPORTS[name].partition('.')[0]} is not installed"
    present = {name: IMPORTS[name] for name in names if name not in group["missing"]}
    for name, module in list(present.items()):  # reads files that are not in memory yet
        if interpreter(f"import {module}", threads) is None:
            group["missing"][name] = f"python -c 'import {present.pop(name)}' fails"
    group["results"] = {name: {"rounds_us": []} for name in present}
    for number in range(rounds):
        nothing = interpreter("pass", threads)
        for name in rotated(list(present), number):
            spent = interpreter(f"import {present[name]}", threads) - nothing
            group["results"][name]["rounds_us"].append(1e6 * spent)
    return group


def interpreter(code, threads):
    """Seconds that a new Python takes for `code`; None if it fails."""
    began = time.perf_counter()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    ended = subprocess.run([sys.executable, "-c", code], env=environment(threads), check=False, **quiet)
    return time.perf_counter() - began if ended.returncode == 0 else None
