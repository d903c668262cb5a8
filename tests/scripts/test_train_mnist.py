"""scripts/train_mnist.py on a small synthetic data set in MNIST's file format."""

import gzip
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "train_mnist.py"


def write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    with gzip.open(path, "wb") as file:
        file.write(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten classes that differ in which 78 of the 784 pixels are bright."""
    rng = np.random.default_rng(0)
    for part, rows in (("train", 600), ("t10k", 100)):
        labels = np.arange(rows) % 10
        pixels = rng.integers(0, 100, (rows, 784))
        for label in range(10):
            pixels[labels == label, 78 * label : 78 * (label + 1)] += 120
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", pixels.reshape(rows, 28, 28))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", labels)
    return tmp_path


def test_train_mnist_learns_and_says_how_well(folder: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--data", str(folder), "--device", "cpu", "--epochs", "3"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("test accuracy ")
    assert float(run.stdout.split()[2]) >= 0.95
    assert run.stdout.splitlines()[1].startswith("98 % ")
    assert "numpy: asked for" in run.stderr
