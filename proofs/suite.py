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
    "ffnn_gpu",
    "pytest_ffnn_gpu.py",
    "tests",
    "benchmarks",
    "scripts",
    "proofs",
    "docs",
    "pyproject.toml",
    "README.md",
)
SECONDS = 900  # a broken loop may never end: that is noticed too
EVERYTHING = (
    "tests",
    "--ignore=tests/proofs",
    "--ignore=tests/scripts",
)  # the first sees a bug's text, the others need git
FAILED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.M)

# Which tests see a mistake in which file first. What survives them meets NUMERICAL, then a planted bug meets EVERYTHING.
NEAREST = {
    "ffnn_gpu/nn/activations.py": ("tests/nn/test_activations.py", "tests/test_gradients.py"),
    "ffnn_gpu/nn/losses/loss.py": (
        "tests/nn/losses/test_losses.py",
        "tests/test_bad_input.py",
        "tests/testing/test_strict_device.py",
    ),
    "ffnn_gpu/nn/losses/cross_entropy.py": (
        "tests/nn/losses/test_losses.py",
        "tests/test_bad_input.py",
        "tests/testing/test_strict_device.py",
    ),
    "ffnn_gpu/nn/losses/standard.py": (
        "tests/nn/losses/test_losses.py",
        "tests/test_bad_input.py",
        "tests/testing/test_strict_device.py",
    ),
    "ffnn_gpu/optim/optimizers.py": (
        "tests/optim/test_optimizers.py",
        "tests/backends/reference/test_updates.py",
        "tests/test_mixed_precision.py",
    ),
    "ffnn_gpu/backends/reference/updates.py": (
        "tests/optim/test_optimizers.py",
        "tests/backends/reference/test_updates.py",
        "tests/backends/cpu/test_numpy_backend.py",
    ),
    "ffnn_gpu/backends/reference/step_control.py": (
        "tests/backends/reference/test_updates.py",
        "tests/optim/test_optimizers.py",
        "tests/test_mixed_precision.py",
    ),
    "ffnn_gpu/backends/reference/losses.py": ("tests/nn/losses/test_losses.py", "tests/test_gradients.py"),
    "ffnn_gpu/backends/reference/normalization.py": (
        "tests/backends/reference/test_normalization.py",
        "tests/nn/layers",
    ),
    "ffnn_gpu/backends/reference/softmax.py": (
        "tests/backends/reference/test_softmax.py",
        "tests/nn/layers",
        "tests/nn/losses/test_losses.py",
    ),
    "ffnn_gpu/training/callbacks.py": (
        "tests/training/test_callbacks.py",
        "tests/test_defaults.py",
        "tests/training/test_fit.py",
        "tests/training/test_resume.py",
    ),
    "ffnn_gpu/data/minibatches.py": (
        "tests/data/test_minibatches.py",
        "tests/training/test_fit.py",
        "tests/arrays/test_standardized.py",
    ),
    "ffnn_gpu/evaluation/evaluate.py": (
        "tests/evaluation/test_evaluate.py",
        "tests/training/test_fit.py",
        "tests/test_bad_input.py",
    ),
    "ffnn_gpu/nn/initializers.py": (
        "tests/nn/test_initializers.py",
        "tests/test_seed.py",
        "tests/checkpoints/test_architecture.py",
    ),
    "ffnn_gpu/nn/inputs.py": (
        "tests/test_bad_input.py",
        "tests/nn/test_network.py",
        "tests/arrays/test_file_rows.py",
        "tests/arrays/test_standardized.py",
    ),
    "ffnn_gpu/data/labels.py": (
        "tests/data/test_labels.py",
        "tests/data/test_standardizer.py",
        "tests/estimators/test_task.py",
    ),
    "ffnn_gpu/training/loss_meter.py": (
        "tests/training/test_loss_meter.py",
        "tests/training/test_fit.py",
        "tests/training/test_resume.py",
    ),
    "ffnn_gpu/evaluation/metrics.py": (
        "tests/evaluation/test_metrics.py",
        "tests/evaluation/test_evaluate.py",
    ),
    "ffnn_gpu/nn/network.py": (
        "tests/nn/test_network.py",
        "tests/test_mixed_precision.py",
        "tests/training/test_fit.py",
    ),
    "ffnn_gpu/nn/parameters.py": (
        "tests/nn/test_parameters.py",
        "tests/checkpoints/test_checkpoint.py",
        "tests/test_mixed_precision.py",
    ),
    "ffnn_gpu/cli/split.py": ("tests/cli/test_train.py", "tests/cli/test_commands.py"),
    "ffnn_gpu/nn/prediction.py": (
        "tests/nn/test_network.py",
        "tests/test_threads.py",
        "tests/test_mixed_precision.py",
    ),
    "ffnn_gpu/data/standardizer.py": ("tests/data/test_standardizer.py", "tests/arrays/test_standardized.py"),
    "ffnn_gpu/training/resume.py": ("tests/training/test_resume.py", "tests/test_mixed_precision.py"),
    "ffnn_gpu/cli/result.py": ("tests/cli/test_train.py", "tests/cli/test_commands.py"),
    "ffnn_gpu/optim/schedules.py": ("tests/optim/test_schedules.py", "tests/test_defaults.py"),
    "ffnn_gpu/training/step.py": (
        "tests/training/test_fit.py",
        "tests/test_mixed_precision.py",
        "tests/backends/cuda/test_graphs.py",
    ),
    "ffnn_gpu/nn/losses/targets.py": (
        "tests/nn/losses/test_targets.py",
        "tests/test_bad_input.py",
        "tests/nn/losses/test_losses.py",
        "tests/evaluation/test_evaluate.py",
    ),
    "ffnn_gpu/training/fit.py": (
        "tests/training/test_fit.py",
        "tests/training/test_resume.py",
        "tests/backends/cuda/test_graphs.py",
        "tests/test_mixed_precision.py",
    ),
    "ffnn_gpu/training/run.py": (
        "tests/training/test_fit.py",
        "tests/training/test_resume.py",
        "tests/backends/cuda/test_graphs.py",
        "tests/test_mixed_precision.py",
    ),
    "ffnn_gpu/nn/workspace.py": (
        "tests/nn/test_workspace.py",
        "tests/nn/test_network.py",
        "tests/test_mixed_precision.py",
    ),
}
NUMERICAL = (
    "tests/test_hand_worked.py",
    "tests/nn/layers",
    "tests/backends/reference/test_backend.py",
    "tests/backends/cpu/test_numpy_backend.py",
    "tests/nn/test_network.py",
    "tests/optim/test_optimizers.py",
    "tests/backends/reference/test_updates.py",
    "tests/nn/losses/test_losses.py",
    "tests/test_gradients.py",
    "tests/test_mixed_precision.py",
    "tests/training/test_fit.py",
    "tests/training/test_resume.py",
    "tests/checkpoints/test_architecture.py",
    "tests/checkpoints/test_checkpoint.py",
    "tests/test_bad_input.py",
    "tests/testing/test_strict_device.py",
)


def stages(file: str) -> list[tuple[str, ...]]:
    """The tests that look closest at this file, then the numerical ones."""
    return [
        NEAREST.get(
            file,
            (
                "tests/nn/layers",
                "tests/test_hand_worked.py",
                "tests/backends/reference/test_backend.py",
                "tests/test_gradients.py",
            ),
        ),
        NUMERICAL,
    ]


def copy_repository(to: Path) -> Path:
    """A copy to break: package, tests, and what the tests read."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
        elif source.exists():
            shutil.copy(source, to / name)
    return to


def first_failure(
    folder: Path, tests: Iterable[str], chosen: str = "", seconds: float = SECONDS
) -> str | None:
    """The first test of the copy in `folder` that fails, or cannot be collected; None if all pass. No test runs on a GPU.

    Where the package cannot even be imported no test can begin: that counts. No other end of pytest does, for it would be
    the same without what is broken. Without hypothesis's plugin, which takes longer to start than most mutants live.

    Args:
        chosen: what pytest's -k takes.

    Raises:
        RuntimeError: pytest tried no test: it knows no such file or option, or `chosen` chooses none; or it broke down.
    """
    options = [
        "-x",
        "-q",
        "--tb=no",
        "-m",
        "not gpu",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:hypothesispytest",
        "-k",
        chosen,
    ]
    command = [sys.executable, "-m", "pytest", *options, *tests]
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return f"no end after {seconds:.0f} s"
    if done.returncode == 0:
        return None
    if done.returncode in (1, 2) and (found := FAILED.search(done.stdout)):
        return found[1]
    imported = subprocess.run(
        [sys.executable, "-c", "import ffnn_gpu"], cwd=folder, env=environment, capture_output=True, text=True
    )
    if imported.returncode:
        return f"import ffnn_gpu: {imported.stderr.strip().splitlines()[-1]}"
    said = (done.stdout + done.stderr).strip()[-300:]
    raise RuntimeError(
        f"pytest {' '.join(tests)} -k {chosen!r} ended with {done.returncode} and tells nothing: {said}"
    )


def caught_by(
    folder: Path,
    file: str,
    broken: str,
    by: Sequence[Iterable[str]],
    chosen: str = "",
    seconds: float = SECONDS,
) -> str | None:
    """The test that notices `broken` as the text of `file`, in one group of tests after the other; mends the copy."""
    path = folder / file
    whole = path.read_text(encoding="utf-8")
    try:
        _rewrite(path, broken)
        return next((found for tests in by if (found := first_failure(folder, tests, chosen, seconds))), None)
    finally:
        _rewrite(path, whole)


def unhealthy(folder: Path, selections: Iterable[tuple[Iterable[str], str]]) -> str | None:
    """The first failure among these (tests, chosen) in the copy as it is: what would be red of itself proves nothing."""
    distinct = dict.fromkeys(selections)
    return next(
        (found for tests, chosen in distinct if (found := first_failure(folder, tests, chosen))), None
    )


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
    for stale in (path.parent / "__pycache__").glob(
        f"{path.stem}.*"
    ):  # same size, same second: Python would believe it
        stale.unlink()
