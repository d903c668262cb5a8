"""Lets the tests of this folder import the tool that stands beside them, and skips them where it cannot work."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.hookimpl(tryfirst=True)  # before the module's fixtures, which build kernels
def pytest_runtest_setup(item):
    import emulator

    if not item.name.endswith("without_compiler"):
        emulator.require()
