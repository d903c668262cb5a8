"""scripts/benchmark.py --parallel: the fit finds known constants, and the report labels its figures."""

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks import parallel
from benchmarks import scaling_model as model

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "benchmark.py"
MPIEXEC = (Path(sys.executable).parent / "mpiexec").exists() or shutil.which("mpiexec")
MISSING = next(
    (name for name, there in {"mpi4py": find_spec("mpi4py"), "mpiexec": MPIEXEC}.items() if not there), None
)
ALPHA, BETA, C0, C1, WIDTHS = 3e-6, 2e9, 1e-3, 5e-6, (784, 512, 512, 10)


def test_sum_of_two_and_of_eight_ranks_by_hand():
    assert model.summed(1, 10**9, ALPHA, BETA) == 0
    assert model.summed(2, 10**6, ALPHA, BETA) == pytest.approx(2 * 3e-6 + 1e6 / 2e9)
    assert model.summed(8, 10**6, ALPHA, BETA) == pytest.approx(6 * 3e-6 + 1.75e6 / 2e9)
    assert model.summed(8, 10**6, ALPHA, BETA, model.ring) == pytest.approx(14 * 3e-6 + 1.75e6 / 2e9)


def test_fit_finds_the_constants_that_times_were_made_with():
    sums = [(n, size, model.summed(n, size, ALPHA, BETA)) for n in (2, 4) for size in (10**3, 10**5, 10**7)]
    assert model.fitted_sum(sums) == pytest.approx((ALPHA, BETA))
    assert model.fitted_step([(B, C0 + C1 * B) for B in (64, 256, 1024)]) == pytest.approx((C0, C1))
    assert model.fitted_step([(B, C1 * B - 1e-6) for B in (64, 256, 1024)])[0] == 0
    with pytest.raises(ValueError, match="no positive latency and bandwidth fit"):
        model.fitted_sum([(2, 10**3, 1.0), (2, 10**6, 0.1)])


@pytest.mark.parametrize("n", [2, 8, 64])
def test_batch_from_which_ranks_pay_is_where_the_step_is_as_long(n):
    communication = model.summed(n, 4 * model.parameters(WIDTHS), ALPHA, BETA)
    B, half = (
        model.pays_from(n, (C0, C1), (C0, C1), communication),
        model.half_efficient_from(n, C0, C1, communication),
    )

    def alone(B):
        return model.step(1, B, C0, C1, 0)

    def together(B):
        return model.step(n, B, C0, C1, communication)

    assert together(B) <= alone(B) and together(B - 1) > alone(B - 1)
    assert n * together(half) <= 2 * alone(half) and (
        half == 1 or n * together(half - 1) > 2 * alone(half - 1)
    )


def test_ranks_that_gain_nothing_by_a_row_never_pay_and_slow_ones_pay_later():
    assert model.pays_from(2, (C0, C1), (C0, 2 * C1), 0) is None
    assert model.pays_from(2, (C0, C1), (2 * C0, C1), 1e-3) == 800  # (2 − 1 + 1) ms / 2.5 µs
    assert model.pays_from(2, (2 * C0, C1), (C0, C1), 0) == 1


def test_parameters_are_those_of_the_network():
    from ffnn_gpu import Dense, Network

    network = Network(784, [Dense(512), Dense(512), Dense(10)], "numpy")
    assert model.parameters(WIDTHS) == sum(array.size for array in network.params.to_host().values())


def test_oversubscribed_ranks_are_marked_and_not_fitted(monkeypatch):
    def of_ranks(n, quick):
        slow = 100 if n == 4 else 1
        sums = [[size, slow * model.summed(n, size, ALPHA, BETA)] for size in (1024, 10**6)] if n > 1 else []
        return {"sums": sums, "steps": [[[*WIDTHS], B, slow * (C0 + C1 * B / n)] for B in (64, 256)]}

    monkeypatch.setattr(parallel, "of_ranks", of_ranks)
    found = parallel.measured(quick=True, cores=2)
    assert [run["oversubscribed"] for run in found["measured"]] == [False, False, True]
    assert (found["fitted"]["alpha"], found["fitted"]["beta"]) == pytest.approx((ALPHA, BETA))
    text = parallel.report(found)
    assert (
        "4 ranks (oversubscribed)" in text
        and "2 ranks (over" not in text
        and "Predicted, not measured" in text
    )
    assert parallel.measured(quick=True, cores=1)["fitted"] is None
    assert "Fitted" not in parallel.report(parallel.measured(quick=True, cores=1))
    json.dumps(found)


@pytest.mark.skipif(MISSING is not None, reason=f"{MISSING} is not installed: pip install mpi4py mpich")
def test_quick_measurement_of_real_ranks_writes_what_it_prints(tmp_path):
    command = [sys.executable, str(SCRIPT), "--parallel", "--quick", "--json", str(tmp_path / "found.json")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert [run["ranks"] for run in found["measured"]] == [1, 2, 4] and found["settings"]["threads"] == 1
    assert all(seconds > 0 for run in found["measured"] for *_, seconds in [*run["sums"], *run["steps"]])
    assert len(found["predicted"]) == 2 and found["sources"] and "Predicted, not measured" in ended.stdout
