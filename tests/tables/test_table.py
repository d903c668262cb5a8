"""The database of a table takes its share of the memory and of the cores."""

import pytest

from ffnn_gpu.backends import cores
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.tables.embedded_database import connect

pytest.importorskip("duckdb")


def limits():
    """Return (memory in GiB, threads) of a new database."""
    memory, threads = connect().execute(
        "SELECT current_setting('memory_limit'), current_setting('threads')"
    ).fetchone()  # fmt: skip
    number, unit = memory.split()
    return float(number) * {"MiB": 1 / 1024, "GiB": 1, "TiB": 1024}[unit], threads


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    for name in (cores.LOCAL_RANKS, cores.THREADS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cores, "cores", lambda: 8)
    return monkeypatch


@pytest.mark.parametrize(("ranks", "threads"), [(1, 8), (2, 4), (3, 2), (20, 1)])
def test_ranks_on_one_machine_share_memory_and_cores(machine, ranks, threads):
    whole, _ = limits()
    machine.setenv(cores.LOCAL_RANKS, str(ranks))
    memory, found = limits()
    assert memory == pytest.approx(whole / ranks, rel=0.1) and found == threads


def test_the_number_of_threads_is_the_one_that_is_set(machine):
    machine.setenv(cores.THREADS, "3")
    assert limits()[1] == 3
    machine.setenv(cores.THREADS, "many")
    with pytest.raises(ConfigurationError, match="FFNN_GPU_THREADS must be a whole number"):
        connect()
