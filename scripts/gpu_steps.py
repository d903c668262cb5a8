"""The steps of gpu_check.py: each function takes a Check and returns its results. Standard library only.

Why wheels go into a folder on PYTHONPATH and not into a virtual environment: an environment made from within
another one would not see the other's CuPy and PyTorch. The check tests the machine's own packages and does
not replace them.
"""

import importlib.util
import json
import os
import random
import re
import shutil
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from importlib import metadata
from pathlib import Path

from gpu_run import ROOT, FinalError, NoGpuError, StepError

SCRIPTS = ROOT / "scripts"
# nvmath-python 1.0 requires these versions; an older one that the machine has would make its import fail.
OLDEST = {"cuda_core": (0, 5, 0), "cuda_pathfinder": (1, 5, 1)}
# The tests that compute-sanitizer runs, about a minute.
SANITIZED = ("tests/backends/cuda/test_cupy_backend.py", "-m", "gpu", "-k", "fused_operation and not float64")
SANITIZER_SECONDS = 240  # for each tool
QUICK_SECONDS = 240
# What compute-sanitizer prints on a machine whose GPU or driver it cannot watch.
UNSUPPORTED = re.compile(
    r"^=+ .*(?:not supported|unsupported|unable to attach|Failed to initialize).*$", re.M | re.I
)
FOUND = 86  # the exit code that compute-sanitizer is told to use for a finding
# The only reasons for which a test marked gpu may skip on a GPU:
# - this cublasLt refuses an epilogue for a type; the backend then uses a plain product and a kernel;
# - PyTorch, whose tensors are the input, is not installed.
MAY_SKIP = re.compile(r"cublasLt \S+ cannot compute |could not import 'torch'")


def wheels(check):
    """Install the wheels of a folder that this Python lacks, or has in a version too old for the others."""
    names = sorted({path.name.split("-")[0] for path in check.wheels.glob("*.whl")})
    if not names:
        raise StepError(f"{check.wheels} holds no wheels")
    missing = [name for name in names if not _is_here(name)]
    unfit = _install(check, missing) if missing else []
    return {
        "installed": [name for name in missing if name not in unfit],
        "here_already": [name for name in names if name not in missing],
        "unfit": unfit,
    }


def _install(check, names):
    """Install `names` one by one and return those of which no wheel fits this Python.

    A wheel that cannot be installed does not stop the others; StepError is raised at the end. Each wheel goes
    into a folder of its own and is copied from there, because pip's --target does not add to a folder such as
    nvidia/ that a former call has made.
    """
    command = [*_pip(check), "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    unfit, broken, alone = [], {}, check.scratch / "one wheel"
    for name in names:
        ended = check.run(*command, "--find-links", check.wheels, "--target", alone, name)
        if not ended.fault:
            shutil.copytree(alone, check.site, dirs_exist_ok=True)
        elif "No matching distribution found for" in ended.text:
            unfit.append(name)
        else:
            broken[name] = ended.fault
        shutil.rmtree(alone, ignore_errors=True)
    if broken:
        raise StepError("; ".join(f"{name}: {why}" for name, why in broken.items()), missing=[*broken])
    return unfit


def _is_here(name):
    """Return whether this Python has the package, in a version that the wheels beside it can use."""
    if name.startswith("cupy_cuda"):
        return importlib.util.find_spec("cupy") is not None  # for any CUDA
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3]) >= OLDEST.get(name, ())


def _pip(check):
    """Return the command pip; an environment without pip gets one in the scratch folder."""
    if importlib.util.find_spec("pip"):
        return sys.executable, "-m", "pip"
    ended = check.run(sys.executable, "-m", "venv", check.scratch / "pip")
    if ended.fault:
        raise StepError(f"this Python has no pip, and none could be made: {ended.fault}")
    return check.scratch / "pip" / "bin" / "python", "-m", "pip"


def machine(check):
    """Return the facts that gpu_facts.py prints. Raises NoGpuError."""
    ended = check.run(sys.executable, SCRIPTS / "gpu_facts.py")
    last = ended.text.strip().rpartition("\n")[2]
    if ended.code == 2:
        raise NoGpuError(last)
    if ended.code == 3:
        raise FinalError(last)
    if ended.fault:
        raise StepError(ended.fault)
    return json.loads(last)


def quick(check):
    """Check products, steps and graphs, and time every operation: scripts/gpu_quick.py."""
    file = check.scratch / "quick.json"
    command = SCRIPTS / "gpu_quick.py", "--json", file
    ended = check.run(sys.executable, *command, most=QUICK_SECONDS)
    found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if ended.fault or not found:
        raise StepError(ended.fault or "gpu_quick.py wrote no results", **found)
    return found


def parity(check):
    """Run every test marked gpu, which includes the `backend` fixture's cases on CuPy."""
    report = (check.out / "gpu_check.xml").resolve()
    report.unlink(missing_ok=True)
    ended = _pytest(check, report, "-m", "gpu")
    found = results(report)
    strange = {reason: n for reason, n in found["skipped"].items() if not MAY_SKIP.search(reason)}
    why = ended.fault or ("not one test passed" if not found["passed"] else None)
    if strange:
        why = why or f"{sum(strange.values())} tests were skipped: {next(iter(strange))}"
    if why:
        raise StepError(why, **found)
    return found


def _pytest(check, report, *options, before=(), most=float("inf")):
    watch = ("-o", "faulthandler_timeout=120")  # the log shows where a test hangs
    return check.run(
        *before, sys.executable, "-m", "pytest", *watch, f"--junit-xml={report}", *options, most=most
    )


def results(report):
    """Read a JUnit file: {"passed", "failed", "failures": [names], "skipped": {reason: count}}."""
    suite = ET.parse(report).getroot().find("testsuite") if report.exists() else ET.Element("testsuite")
    total, failed, errors, skipped = (
        int(suite.get(k, 0)) for k in ("tests", "failures", "errors", "skipped")
    )
    cases = [*suite.iter("testcase")]  # includes the test that an interrupt ended, which has no result
    bad = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    return {
        "passed": total - failed - errors - skipped,
        "failed": failed + errors,
        "failures": [f"{case.get('classname')}::{case.get('name')}" for case in bad[:50]],
        "skipped": dict(
            Counter(case.find("skipped").get("message") for case in cases if case.find("skipped") is not None)
        ),
    }


def sanitizer(check):
    """Run the kernels under compute-sanitizer: accesses out of bounds, then races in shared memory."""
    tool = find_sanitizer(check)
    if tool is None:
        return {"outcome": "not installed"}
    found = {}
    for name in ("memcheck", "racecheck"):
        found[name], why = _sanitized(check, tool, name)
        if why and found[name].get("unsupported"):
            return {"outcome": "unsupported here"} | found
        if why:
            raise StepError(f"{name}: {why}", **found)
    return found


def _sanitized(check, tool, name):
    report = check.scratch / f"{name}.xml"
    before = [tool, "--tool", name, "--error-exitcode", FOUND]
    before += ["--report-api-errors", "no"] if name == "memcheck" else []
    ended = _pytest(
        check, report, "-p", "tests.backends.cuda.unpooled", *SANITIZED, before=before, most=SANITIZER_SECONDS
    )
    summary, tests = re.search(r"^=+ ((?:ERROR|RACECHECK) SUMMARY: .*)$", ended.text, re.M), results(report)
    why = ended.fault or (None if summary else "it printed no summary")
    if summary and not re.search(": 0 (errors|hazards)", summary[1]):
        why = why or summary[1]  # warnings do not change the exit code
    if tests["skipped"] or not tests["passed"]:
        why = why or f"{tests['passed']} tests passed, skipped {tests['skipped']}"
    result = {
        "passed": tests["passed"],
        "summary": summary and summary[1],
        "seconds": round(ended.seconds, 1),
    }
    refused = UNSUPPORTED.search(ended.text)
    if refused and summary is None and not tests["passed"]:
        result["unsupported"] = refused[0].strip("= ")
    return result, why


def find_sanitizer(check):
    """Find compute-sanitizer on PATH, in a CUDA toolkit or in NVIDIA's wheel; None if it is absent."""
    homes = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)] + [
        "/usr/local/cuda"
    ]
    wheels = [folder for base in (str(check.site), *sys.path) for folder in Path(base).glob("nvidia/*/")]
    folders = [os.environ.get("PATH", ""), *(f"{home}/bin" for home in [*homes, *wheels])]
    return shutil.which("compute-sanitizer", path=os.pathsep.join(folders))


def benchmark(check):
    """Return every figure of benchmark.py; if it fails, those it had measured."""
    file = check.scratch / "benchmark.json"
    chosen = ["--networks", check.networks] if check.networks else []
    command = "--device", "cuda", "--json", file, *chosen
    ended = check.run(sys.executable, SCRIPTS / "benchmark.py", *command)
    found = {"figures": json.loads(file.read_text(encoding="utf-8"))} if file.exists() else {}
    if ended.fault or not found:
        raise StepError(ended.fault or "benchmark.py wrote no figures", **found)
    return found


def mnist(check):
    """Run the MNIST script on the GPU, in float32 and in mixed precision."""
    found = {}
    for dtype in ("float32", "bfloat16"):
        command = SCRIPTS / "train_mnist.py", "--data", check.mnist, "--device", "cuda", "--dtype", dtype
        ended = check.run(sys.executable, *command)
        if ended.fault:
            raise StepError(f"{dtype}: {ended.fault}", **found)
        told = re.search(r"test accuracy (\S+) on (\d+) images after (\S+) s of training", ended.text)
        if told is None:
            raise StepError(f"{dtype}: train_mnist.py printed no accuracy", **found)
        accuracy, images, seconds = told.groups()
        found[dtype] = {
            "test_accuracy": float(accuracy),
            "images": int(images),
            "training_seconds": float(seconds),
        }
        goal = re.search(r"^98 % after (\S+) s$", ended.text, re.M)
        found[dtype]["seconds_to_98_percent"] = float(goal[1]) if goal else None
    return found


def tables(check):
    """Train on a table of numbers and categories on the GPU and on the CPU, and compare the accuracies."""
    if importlib.util.find_spec("duckdb") is None:
        return {"outcome": "not installed"}
    table, found = check.scratch / "table.csv", {}
    table.write_text("\n".join(["a,b,c,y", *_rows(2000)]) + "\n", encoding="utf-8")
    for device in ("cuda", "cpu"):
        folder = check.scratch / f"on {device}"
        command = "train", table, "--target", "y", "--device", device, "--epochs", 20, "--out", folder
        ended = check.run(sys.executable, "-m", "ffnn_gpu", *command)
        if ended.fault:
            raise StepError(f"{device}: {ended.fault}", **found)
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        found[device] = {"test_accuracy": result["test"]["accuracy"], "seconds": round(ended.seconds, 1)}
    accuracies = [found[device]["test_accuracy"] for device in ("cuda", "cpu")]
    if abs(accuracies[0] - accuracies[1]) > 0.02:
        raise StepError(
            "the test accuracies are {} on the GPU and {} on the CPU".format(*accuracies), **found
        )
    return found


def _rows(count):
    """Yield lines of two numbers, a category and a class that they determine, except near its border."""
    rng = random.Random(1)
    for _ in range(count):
        a, b, c = rng.gauss(0, 1), rng.gauss(0, 1), rng.choice("pqr")
        yield f"{a:.4f},{b:.4f},{c},{'yes' if a * b + (c == 'p') > 0.3 else 'no'}"
