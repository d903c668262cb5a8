"""Runs of every kind, the findings about them, and their pages."""

from contextlib import chdir

import pytest

from ffnn_gpu.cli.record import record_of
from ffnn_gpu.report import findings_of, run_page
from tests.report import runs as made


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Return the folder of the runs."""
    pytest.importorskip("duckdb")
    folder = tmp_path_factory.mktemp("runs")
    made.make(folder)
    return folder


@pytest.fixture(scope="session")
def findings(runs):
    """Return {run: what its page says}."""
    with chdir(runs):
        return {kind: findings_of(record_of(kind, "numpy")) for kind in made.KINDS}


@pytest.fixture(scope="session")
def pages(findings):
    """Return {run: its page}."""
    return {kind: run_page(found) for kind, found in findings.items()}
