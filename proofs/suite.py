"""Break copies of the repository on purpose and find the first test that fails."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE",
)
SECONDS = 900  # a broken loop may never end
NO_END, NO_VERDICT = "no end after", "no verdict"
# tests/proofs looks for the text that a bug replaces, and tests/scripts needs git.
EVERYTHING = ("tests", "--ignore=tests/proofs", "--ignore=tests/scripts")
FAILED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.M)

# File → the tests that notice a mistake in it soonest. A mutant or bug that survives them meets NUMERICAL; a
# planted bug then meets EVERYTHING.
NEAREST = {
    "ffnn_gpu/nn/activations.py": ("tests/nn/test_activations.py", "tests/test_gradients.py"),
    "ffnn_gpu/nn/losses/loss.py": (
        "tests/nn/losses/test_losses.py",
        "tests/nn/losses/test_targets.py",
        "tests/test_bad_input.py",
        "tests/testing/test_strict_device.py",
    ),
    "ffnn_gpu/nn/losses/standard.py": (
        "tests/nn/losses/test_losses.py",
        "tests/test_bad_input.py",
        "tests/testing/test_strict_device.py",
    ),
    "ffnn_gpu/nn/rates.py": ("tests/nn/test_rates.py", "tests/optim/test_rates.py"),
    "ffnn_gpu/optim/muon.py": ("tests/optim/test_muon.py",),
    "ffnn_gpu/estimators/task.py": ("tests/estimators/test_task.py",),
    "ffnn_gpu/backends/elementwise/loop_code.py": ("tests/backends/cpu/recording/test_partition.py",),
    "ffnn_gpu/backends/cpu/numpy_backend.py": ("tests/backends/cpu/test_numpy_backend.py",),
    "ffnn_gpu/testing/one_pass.py": ("tests/testing/test_assertions.py",),
    "ffnn_gpu/backends/reference/muon.py": (
        "tests/backends/reference/test_muon.py",
        "tests/optim/test_muon.py",
    ),
    "ffnn_gpu/optim/optimizers.py": (
        "tests/optim/test_optimizers.py",
        "tests/optim/test_rates.py",
        "tests/backends/reference/test_updates.py",
        "tests/test_mixed_precision.py",
    ),
    "ffnn_gpu/backends/reference/updates.py": (
        "tests/optim/test_optimizers.py",
        "tests/optim/test_rates.py",
        "tests/training/test_factors.py",
        "tests/backends/reference/test_updates.py",
        "tests/backends/cpu/test_numpy_backend.py",
        "tests/test_mixed_precision.py",
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
    **dict.fromkeys(
        (
            f"ffnn_gpu/training/callbacks/{name}.py"
            for name in (
                "agreement",
                "best_weights",
                "callback",
                "checkpoint_files",
                "early_stopping",
                "monitor",
                "reduce_on_plateau",
            )
        ),
        (
            "tests/training/test_callbacks.py",
            "tests/test_defaults.py",
            "tests/training/test_fit.py",
            "tests/training/test_resume.py",
        ),
    ),
    "ffnn_gpu/data/minibatches.py": (
        "tests/data/test_minibatches.py",
        "tests/training/test_fit.py",
        "tests/arrays/test_standardized.py",
    ),
    "ffnn_gpu/arrays/rows.py": (
        "tests/arrays/test_rows.py",
        "tests/arrays/test_file_rows.py",
        "tests/arrays/test_standardized.py",
        "tests/data/test_minibatches.py",
    ),
    "ffnn_gpu/arrays/standardized.py": ("tests/arrays/test_rows.py", "tests/arrays/test_standardized.py"),
    "ffnn_gpu/evaluation/samples.py": (
        "tests/evaluation/test_samples.py",
        "tests/training/test_fit.py",
        "tests/test_bad_input.py",
    ),
    "ffnn_gpu/data/splits.py": ("tests/data/test_splits.py", "tests/test_seed.py"),
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
    "ffnn_gpu/data/labels.py": (
        "tests/data/test_labels.py",
        "tests/data/test_splits.py",
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
        "tests/test_bad_input.py",
        "tests/nn/test_network.py",
        "tests/test_mixed_precision.py",
        "tests/training/test_fit.py",
    ),
    "ffnn_gpu/nn/parameters.py": (
        "tests/nn/test_parameters.py",
        "tests/checkpoints/test_checkpoint.py",
        "tests/test_mixed_precision.py",
    ),
    "ffnn_gpu/arrays/frames.py": ("tests/arrays/test_frames.py", "tests/estimators/test_model_on_frames.py"),
    "ffnn_gpu/tables/frames.py": ("tests/tables/test_frames.py", "tests/estimators/test_model_on_frames.py"),
    "ffnn_gpu/tables/answers.py": ("tests/tables/test_answers.py", "tests/cli/test_predictions.py"),
    "ffnn_gpu/estimators/model.py": (
        "tests/estimators/test_model.py",
        "tests/estimators/test_model_on_frames.py",
    ),
    "ffnn_gpu/estimators/inputs.py": (
        "tests/estimators/test_model.py",
        "tests/estimators/test_model_on_frames.py",
    ),
    "ffnn_gpu/estimators/split.py": ("tests/cli/test_train.py", "tests/cli/test_commands.py"),
    "ffnn_gpu/nn/prediction.py": (
        "tests/nn/test_network.py",
        "tests/test_threads.py",
        "tests/test_mixed_precision.py",
    ),
    "ffnn_gpu/data/standardizer.py": ("tests/data/test_standardizer.py", "tests/arrays/test_standardized.py"),
    "ffnn_gpu/training/resume.py": ("tests/training/test_resume.py", "tests/test_mixed_precision.py"),
    "ffnn_gpu/cli/result.py": ("tests/cli/test_train.py", "tests/cli/test_commands.py"),
    "ffnn_gpu/nn/schedules.py": ("tests/nn/test_schedules.py", "tests/test_defaults.py"),
    "ffnn_gpu/training/step.py": (
        "tests/training/test_fit.py",
        "tests/test_mixed_precision.py",
        "tests/backends/cuda/test_graphs.py",
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
    """Return the tests nearest to this file, then the numerical ones."""
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
    """Copy the package, the tests and the files that the tests read."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, to / name)
    return to


class NoVerdictError(Exception):
    """Time ran out with and without a change, so the tests say nothing about it: the machine is too busy."""


def first_failure(
    folder: Path,
    tests: Iterable[str],
    chosen: str = "",
    seconds: float = SECONDS,
    settings: Mapping[str, str] | None = None,
) -> str | None:
    """Return the first test of the copy in `folder` that fails or cannot be collected; None if all pass.

    A package that cannot be imported counts as a failure. Any other end of pytest does not, because it would
    be the same without the change. Tests on a GPU are left out, and so is hypothesis's plugin, which is slow
    to start.

    Args:
        chosen: the value of pytest's -k.
        settings: environment variables besides those of this process.

    Raises:
        RuntimeError: pytest ran no test, because a file or option is unknown or `chosen` selects none; or it
        crashed.
    """
    options = ["-x", "-q", "--tb=no", "-m", "not gpu", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
    options += ["-k", chosen]
    command = [sys.executable, "-m", "pytest", *options, *tests]
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    environment |= settings or {}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return f"{NO_END} {seconds:.0f} s"
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
        f"pytest {' '.join(tests)} -k {chosen!r} ended with {done.returncode} without a result: {said}"
    )


def caught_by(
    folder: Path,
    file: str,
    broken: str,
    by: Sequence[Iterable[str]],
    chosen: str = "",
    seconds: float = SECONDS,
) -> str | None:
    """Return the first test that fails when `broken` replaces the text of `file`, and passes without it.

    The file is restored. A test that is red without the change is left out, and the search goes on.

    Raises NoVerdictError if the tests do not end without the change either.
    """
    for tests in by:
        selection = list(tests)
        while found := _failure_with(folder, file, broken, selection, chosen, seconds):
            if _passes(folder, found, selection, chosen, seconds):
                return found
            selection.append(f"--deselect={_function(found)}")
    return None


def _failure_with(folder: Path, file: str, broken: str, *options: Any) -> str | None:
    """Return the first failure while `broken` replaces the text of `file`."""
    path = folder / file
    whole = path.read_text(encoding="utf-8")
    try:
        _rewrite(path, broken)
        return first_failure(folder, *options)
    finally:
        _rewrite(path, whole)


def _passes(folder: Path, found: str, tests: list[str], chosen: str, seconds: float) -> bool:
    """Return whether the unchanged copy passes what a change failed."""
    if found.startswith("import "):
        return True
    if not found.startswith(NO_END):
        return first_failure(folder, [_function(found)], chosen, seconds) is None
    if first_failure(folder, tests, chosen, seconds) is not None:
        raise NoVerdictError(f"{found} with and without the change")
    return True


def _function(test: str) -> str:
    """Return the test without the name of its parameters, which may be no argument of pytest."""
    return test.split("[")[0]


def unhealthy(
    folder: Path, selections: Iterable[tuple[Iterable[str], str]], settings: Mapping[str, str] | None = None
) -> str | None:
    """Return the first failure of these (tests, chosen) pairs in an unchanged copy, which must pass all.

    A failure is believed if the selection fails twice.
    """
    for tests, chosen in dict.fromkeys(selections):
        found = None
        for _ in range(2):
            found = first_failure(folder, tests, chosen, settings=settings)
            if found is None:
                break
        if found is not None:
            return found
    return None


def in_copies(work: Callable[[Path, Any], Any], items: Sequence[Any], scratch: Path, jobs: int) -> list[Any]:
    """Return [work(copy, item) for each item], `jobs` at a time, each in a copy of its own."""
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
    # Python would use the old bytecode if the file has the same size and was written in the same second.
    for stale in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
        stale.unlink()
