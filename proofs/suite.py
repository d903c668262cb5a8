"""Copies of the repository in which something is broken on purpose, and the first test that notices."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Any

from proofs import ROOT

COPIED = (
    "ffnn_gpu", "pytest_ffnn_gpu.py", "tests", "benchmarks", "scripts", "proofs", "docs", "pyproject.toml", "README.md",
)  # fmt: skip
SECONDS = 900  # a broken loop may never end: that is noticed too
FAILED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.M)

# Which tests see a mistake in which file first. What survives them meets the rest of NUMERICAL, then the whole suite.
NEAREST = {
    "ffnn_gpu/activations.py": ("tests/test_activations.py", "tests/test_gradients.py"),
    "ffnn_gpu/losses.py": ("tests/test_losses.py", "tests/test_bad_input.py", "tests/backend/test_strict.py"),
    "ffnn_gpu/optimizers.py": ("tests/test_optimizers.py", "tests/backend/test_updates.py", "tests/test_mixed_precision.py"),
    "ffnn_gpu/backend/updates.py": ("tests/test_optimizers.py", "tests/backend/test_updates.py",
                                    "tests/backend/test_numpy_backend.py"),
    "ffnn_gpu/backend/step_control.py": ("tests/backend/test_updates.py", "tests/test_optimizers.py",
                                         "tests/test_mixed_precision.py"),
    "ffnn_gpu/backend/losses.py": ("tests/test_losses.py", "tests/test_gradients.py"),
    "ffnn_gpu/backend/normalization.py": ("tests/backend/test_normalization.py", "tests/layers"),
    "ffnn_gpu/backend/softmax.py": ("tests/backend/test_softmax.py", "tests/layers", "tests/test_losses.py"),
}  # fmt: skip
NUMERICAL = (
    "tests/test_hand_worked.py", "tests/layers", "tests/backend/test_reference.py", "tests/backend/test_numpy_backend.py",
    "tests/test_network.py", "tests/test_optimizers.py", "tests/backend/test_updates.py", "tests/test_losses.py",
    "tests/test_gradients.py", "tests/test_mixed_precision.py", "tests/test_training.py", "tests/test_resume.py",
    "tests/test_architecture_json.py", "tests/test_checkpoint.py", "tests/test_bad_input.py",
    "tests/backend/test_strict.py",
)  # fmt: skip


def stages(file: str) -> list[tuple[str, ...]]:
    """The tests that look closest at this file, then the other numerical ones."""
    first = NEAREST.get(file, ("tests/layers", "tests/test_hand_worked.py", "tests/backend/test_reference.py",
                              "tests/test_gradients.py"))  # fmt: skip
    return [first, tuple(test for test in NUMERICAL if test not in first)]


def copy_repository(to: Path) -> Path:
    """A copy to break: package, tests, and what the tests read."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir(): shutil.copytree(source, to / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
        elif source.exists(): shutil.copy(source, to / name)
    return to


def first_failure(folder: Path, tests: Iterable[str], chosen: str = "", seconds: float = SECONDS) -> str | None:
    """The first test of the copy in `folder` that fails; None if all pass. No test runs on a GPU.

    chosen: what pytest's -k takes. Without hypothesis's plugin, which takes longer to start than most mutants live.
    """
    options = ["-x", "-q", "--tb=no", "-m", "not gpu", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-k", chosen]
    command = [sys.executable, "-m", "pytest", *options, *tests]
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"no end after {seconds:.0f} s"
    if done.returncode == 0: return None
    found = FAILED.search(done.stdout)
    return found[1] if found else f"pytest ended with {done.returncode}: {(done.stdout + done.stderr)[-300:]}"


def caught_by(folder: Path, file: str, broken: str, by: Sequence[Iterable[str]], chosen: str = "") -> str | None:
    """The test that notices `broken` as the text of `file`, in one group of tests after the other; mends the copy."""
    path = folder / file
    whole = path.read_text(encoding="utf-8")
    try:
        _rewrite(path, broken)
        return next((found for tests in by if (found := first_failure(folder, tests, chosen))), None)
    finally:
        _rewrite(path, whole)


def in_copies(work: Callable[[Path, Any], Any], items: Sequence[Any], scratch: Path, jobs: int) -> list[Any]:
    """[work(copy, item) for each item], `jobs` at a time, each in a copy that no other uses meanwhile."""
    free: Queue[Path] = Queue()
    for number in range(jobs):
        free.put(copy_repository(scratch / f"copy{number}"))

    def one(item: Any) -> Any:
        folder = free.get()
        try:
            return work(folder, item)
        finally:
            free.put(folder)

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, items))


def _rewrite(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    for stale in (path.parent / "__pycache__").glob(f"{path.stem}.*"):  # same size, same second: Python would believe it
        stale.unlink()
