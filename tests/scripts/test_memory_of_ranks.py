"""The peak memory of real ranks on a file too large to be mapped does not contain the file."""

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "memory_of_ranks.py"
MISSING = next(
    (
        name
        for name, there in {
            "mpi4py": find_spec("mpi4py"),
            "mpiexec": (Path(sys.executable).parent / "mpiexec").exists() or shutil.which("mpiexec"),
            "/proc": Path("/proc/self/status").exists(),
        }.items()
        if not there
    ),
    None,
)
pytestmark = pytest.mark.skipif(
    MISSING is not None, reason=f"{MISSING} is not there: pip install mpi4py mpich, on Linux"
)
ROWS, FILE = 1_200_000, 293  # MiB


def ended(*arguments):
    found = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, timeout=120
    )
    return found.returncode, found.stdout + found.stderr


@pytest.mark.parametrize("files", [1, 3])
def test_ranks_train_on_files_in_less_memory_than_they_take(files):
    status, text = ended("--rows", ROWS, "--files", files, "--limit", 400)
    assert status == 0 and text.count(f"1,200,000 rows of 64 numbers in {files} files, {FILE} MiB") == 2, text
    grown = [
        float(peak) - float(before) for peak, before in re.findall(r"peak (\d+) MiB, (\d+) before", text)
    ]
    assert len(grown) == 2 and max(grown) < FILE, text  # including llvmlite's compiled loops


def test_more_than_the_limit_on_any_rank_is_a_failure():
    status, text = ended("--rows", 2000, "--limit", 1)
    assert status == 1 and "more than 1 MiB" in text, text
