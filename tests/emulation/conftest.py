"""Put the emulator on the import path, and skip this folder's tests if kernels cannot run here."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.hookimpl(tryfirst=True)  # before the module's fixtures, which build kernels
def pytest_runtest_setup(item):
    import emulator

    if not item.name.endswith("without_compiler"):
        emulator.require()
