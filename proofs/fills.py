"""Run the numerical tests with every uninitialized array filled: by NaN, the largest number, infinity."""

from proofs import ROOT, Figure, Settings
from proofs.bugs import baseline
from proofs.filled_memory import FILLS, SETTING
from proofs.suite import unhealthy

# The rooms that compute, and the laws over all of them. Tests that count memory are of no use here.
NUMERICAL = (
    "tests/backends/reference",
    "tests/backends/elementwise",
    "tests/backends/cpu",
    "tests/backends/cuda/test_kernels.py",
    "tests/backends/cuda/test_graphs.py",
    "tests/nn",
    "tests/optim",
    "tests/evaluation",
    "tests/testing",
    "tests/test_gradients.py",
    "tests/test_hand_worked.py",
    "tests/test_mixed_precision.py",
    "tests/test_numerical_stress.py",
    "tests/test_errstate.py",
    "tests/test_threads.py",
    "tests/training/test_fit.py",
)


def prove(settings: Settings) -> list[Figure]:
    """Return one row for each fill."""
    return [_row(fill, settings) for fill in FILLS]


def _row(fill: str, settings: Settings) -> Figure:
    plugin, promise = ["-p", "proofs.filled_memory"], f"no test reads memory that nobody wrote: {fill}"
    found = unhealthy(ROOT, [((*plugin, *NUMERICAL), "")], {SETTING: fill})
    settings.say(f"fills: {fill}: {found or 'all tests pass'}")
    return baseline(promise, found)
