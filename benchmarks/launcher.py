"""Start the contenders and request rounds in turn. Imports nothing heavy, to leave the machine to them.

Why children stay alive through all rounds: compiling and warming up takes some of them half a minute and is
not measured. Taking turns spreads other load of the machine evenly. A waiting child only reads its input.
Each contender and job has its own child, so that the child's peak memory belongs to that job. All children
import their libraries at the same time, because the imports take most of the waiting.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from benchmarks.contenders import contenders
from benchmarks.kinds import BUSY

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "benchmark.py"
LIMIT = 580  # seconds that one answer may take, because compilers are slow
PAUSE = 0.3  # seconds between rounds; idle threads of a BLAS spin for 0.1 s after a product
# Seconds after a round of --kinds. Measured: OpenBLAS's threads spin for 0.11 s, the others for 0.01 s.
SHORT_PAUSE = {"ffnn_gpu": 0.15, "numpy": 0.15, "torch": 0.05, "jax": 0.05}
SETTINGS = (  # environment variables that would favour one contender; those of folders and paths stay
    "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "BLIS_", "VECLIB_", "NUMEXPR_", "NUMBA_", "XLA_", "JAX_",
    "KERAS_", "TF_", "TORCH", "PYTORCH_", "CUPY_", "CUBLAS", "NVIDIA_TF32", "FFNN_GPU_", "MALLOC_",
    "LD_PRELOAD", "PYTHONMALLOC",
)  # fmt: skip
LIBRARIES = ("OMP_NUM", "OPENBLAS_NUM", "MKL_NUM", "NUMBA_NUM", "VECLIB_MAXIMUM")
THREADS = tuple(f"{library}_THREADS" for library in LIBRARIES)
IMPORTS = {  # contender → the module that its users import
    "ours": "ffnn_gpu", "torch": "torch", "jax": "jax", "sklearn": "sklearn.neural_network", "keras": "keras",
    "onnxruntime": "onnxruntime",
}  # fmt: skip
KERAS_ENGINES = ("jax", "tensorflow", "torch")  # the first installed one is used
GONE = {"missing": "its process ended without an answer"}


def environment(threads, precision="float32"):
    """Return this process's environment with equal threads and precision for all contenders.

    Settings that favour one contender are removed. Our backend times algorithms at the first step, as
    torch.compile does in its mode max-autotune.
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
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",             # otherwise JAX takes the GPU's memory
        "KERAS_BACKEND": next(filter(find_spec, KERAS_ENGINES), ""),
    }  # fmt: skip
    return kept | dict.fromkeys(THREADS, str(threads)) | needed


class Child:
    """One contender at one job, in its own process; a context manager that ends the process."""

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
            with suppress(OSError):  # closing flushes input that a dead child has not read
                file.close()

    def answer(self):
        """Return the child's next answer, or {"missing": reason, "traceback": …}."""
        timer = threading.Timer(LIMIT, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        if line:
            return json.loads(line)
        self.errors.seek(0)
        return GONE | {"traceback": self.errors.read()[-2000:]}

    def ask(self, request):
        """Send "warm" or "round" and return the answer."""
        self.send(request)
        return self.answer()

    def send(self, request):
        with suppress(OSError):  # a dead child; `answer` reports it
            print(request, file=self.process.stdin, flush=True)

    def end(self):
        """Close the child's input and return its last answer."""
        with suppress(OSError):
            self.process.stdin.close()
        return self.answer()


def measure(job, chosen, rounds, seconds):
    """Return the group of this job: {"title", "kind", …, "results": {name: …}, "missing": {name: reason}}.

    Args:
        chosen: a function name → bool: does the contender take part?
        rounds: an epoch is measured at most three times.
    """
    group, present = prepared(job, chosen)
    with ExitStack() as ends:
        children = {name: ends.enter_context(Child(name, job, seconds)) for name in present}
        for name in present:  # one at a time, because some of them time algorithms
            note(group, name, children[name].ask("warm"))
        for number in range(min(rounds, 3) if job.kind == "epoch" else rounds):
            for name in rotated(list(group["results"]), number):
                time.sleep(PAUSE)
                note(group, name, children[name].ask("round"))
        for name in list(group["results"]):
            note(group, name, children[name].end())
    return group


def measure_kind(kind, chosen, rounds, seconds):
    """Return two groups of this kind of step: measured alone, and beside a program that computes.

    The same processes serve both, in turn, so that a change of the machine's speed reaches both alike.

    Args:
        seconds: the duration of all rounds together.
    """
    alone, present = prepared(kind, chosen)
    beside = prepared(kind, chosen)[0] | {"kind": BUSY, "title": f"{alone['title']}, busy"}
    seconds /= 2 * rounds * max(1, len(present))
    with ExitStack() as ends:
        children = {name: ends.enter_context(Child(name, kind, seconds)) for name in present}
        for child in children.values():  # all at once: compilers take most of the time
            child.send("warm")
        for name, child in children.items():
            answer = child.answer()
            note(alone, name, answer)
            note(beside, name, answer)
        for name in alone["results"]:  # one at a time, because the launches of a round are counted
            children[name].ask("warm")
            _rest(kind, name)
        for number in range(rounds):
            for group, load in ((alone, nullcontext), (beside, busy)):
                with load():
                    for name in rotated(list(group["results"]), number):
                        note(group, name, children[name].ask("round"))
                        _rest(kind, name)
        for name in list(alone["results"]):
            note(alone, name, children[name].end())
    return [alone, beside]


def _rest(kind, name):
    """Wait until the threads of this contender's library no longer spin."""
    time.sleep(SHORT_PAUSE[contenders(kind.device, kind.kind)[name].package])


@contextmanager
def busy():
    """Run another Python program that computes without a pause, on whichever core is given to it."""
    code = "print(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as program:
        try:
            program.stdout.readline()  # it has started
            yield
        finally:
            program.kill()


def prepared(job, chosen):
    """Return the group of this job without times, and the contenders whose library is installed."""
    # Results are published: the folder's name is recorded, not its place.
    described = asdict(job) | {"data": job.data and Path(job.data).name}
    group = {"title": f"{job.title}, {job.precision}", "kind": job.kind, "job": described}
    libraries = {name: c.package for name, c in contenders(job.device, job.kind).items() if chosen(name)}
    present = [name for name, library in libraries.items() if find_spec(library)]
    group["missing"] = {
        name: f"{library} is not installed" for name, library in libraries.items() if name not in present
    }
    group["results"] = {name: {"rounds_us": []} for name in present}
    return group, present


def note(group, name, answer):
    """Store a child's answer in the group."""
    if "missing" in answer:
        group["results"].pop(name, None)
        group["missing"][name] = answer["missing"]
        group.setdefault("tracebacks", {})[name] = _without_folders(answer.get("traceback"))
    elif "us" in answer:
        group["results"][name]["rounds_us"].append(answer["us"])
    else:
        group["results"][name] |= answer


def _without_folders(traceback):
    """Remove this machine's folders from a traceback, because results are published."""
    return traceback and re.sub(r'File ".*[/\\]([^/\\"]+)"', r'File "\1"', traceback)


def rotated(names, number):
    """Rotate the names, so that each round begins with another contender."""
    number %= max(1, len(names))
    return names[number:] + names[:number]


def values(name, job):
    """Return the values of a contender's first launches: {"values": […]} or {"missing": reason}."""
    with Child(name, job, check=True) as child:
        return child.answer()


def machine(job):
    """Describe the machine, in a child process, because that imports NumPy or CuPy."""
    with Child("machine", job, check=True) as child:
        return child.answer()


def imports(chosen, threads, rounds):
    """Return the group of import times.

    A time is that of `python -c "import …"` minus that of `python -c pass`, measured in turn.
    """
    group = {"title": "import", "kind": "import", "results": {}, "missing": {}}
    names = [name for name in IMPORTS if chosen(name)]
    for name in [name for name in names if find_spec(IMPORTS[name].partition(".")[0]) is None]:
        group["missing"][name] = f"{IMPORTS[name].partition('.')[0]} is not installed"
    present = {name: IMPORTS[name] for name in names if name not in group["missing"]}
    for name, module in list(present.items()):  # the first import reads files from the disk
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
    """Return the seconds a new Python takes to run `code`; None if it fails."""
    began = time.perf_counter()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    ended = subprocess.run([sys.executable, "-c", code], env=environment(threads), check=False, **quiet)
    return time.perf_counter() - began if ended.returncode == 0 else None
