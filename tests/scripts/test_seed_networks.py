"""scripts/seed_networks.py as a user runs it."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "seed_networks.py"


def test_seed_networks_agree_with_pytorch_to_1e_12() -> None:
    run = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("loss") == 4
    largest = float(run.stdout.split("largest relative difference ")[1].split(",")[0])
    assert largest <= 1e-12
