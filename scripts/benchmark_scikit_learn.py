"""Train scikit-learn's multilayer perceptrons and those of this package, side by side.

    python3 scripts/benchmark_scikit_learn.py [--seeds 5] [--json FILE]

Five data sets that come with scikit-learn, standardized, three quarters of the rows for training. Both
classes get the same parameters: random_state is the seed, and all others are scikit-learn's defaults. They
take turns in one process. Printed are the median seconds of processor time of a fit, which other processes of
the machine change little, and the mean score on the other rows: the accuracy, or R² of diabetes. The last
line is a grid search over 8 settings of digits with n_jobs=2: the time of all processes, with their start.

For times of one core, set OPENBLAS_NUM_THREADS=1 in front.
"""

import argparse
import json
import resource
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from joblib.externals.loky import get_reusable_executor
from sklearn import datasets, neural_network
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.preprocessing import StandardScaler

from ffnn_gpu import MLPClassifier, MLPRegressor

SETS = ("iris", "wine", "breast_cancer", "digits", "diabetes")
SOLVERS = ("adam", "lbfgs")
GRID = {"alpha": [1e-4, 1e-2], "hidden_layer_sizes": [(50,), (100,)], "activation": ["relu", "tanh"]}


def kinds(name: str) -> tuple[Any, Any]:
    """Return (our class, scikit-learn's) for a data set."""
    if name == "diabetes":
        return MLPRegressor, neural_network.MLPRegressor
    return MLPClassifier, neural_network.MLPClassifier


def rows_of(name: str, seed: int) -> tuple[np.ndarray, ...]:
    """Return X, y for training and X, y for the test; a regression's y is standardized too."""
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    if name == "diabetes":
        y = (y - y.mean()) / y.std()
    X, X_test, y, y_test = train_test_split(X, y, random_state=seed)
    scaler = StandardScaler().fit(X)
    return scaler.transform(X), y, scaler.transform(X_test), y_test


def measure(name: str, solver: str, seeds: int) -> dict[str, Any]:
    """Return the seconds and scores of both classes on one data set."""
    runs: list[list[tuple[float, float]]] = [[], []]
    for seed in range(seeds):
        X, y, X_test, y_test = rows_of(name, seed)
        order = (0, 1) if seed % 2 else (1, 0)
        for which in order:
            model = kinds(name)[which](solver=solver, random_state=seed)
            began = time.process_time()
            model.fit(X, y)
            runs[which].append((time.process_time() - began, model.score(X_test, y_test)))
    row: dict[str, Any] = {"data": name, "solver": solver}
    for who, found in zip(("ours", "theirs"), runs, strict=True):
        row[f"{who}_seconds"] = statistics.median(seconds for seconds, _ in found)
        row[f"{who}_score"] = statistics.mean(score for _, score in found)
    return row


def search() -> dict[str, Any]:
    """Return the seconds of a grid search in two processes, and its best score."""
    X, y = rows_of("digits", 0)[:2]
    row: dict[str, Any] = {"data": "digits, a grid search with n_jobs=2", "solver": "adam"}
    for who, kind in zip(("ours", "theirs"), kinds("digits"), strict=True):
        began = processor_time()
        found = GridSearchCV(kind(max_iter=60, random_state=0), GRID, cv=3, n_jobs=2).fit(X, y)
        get_reusable_executor().shutdown(wait=True)  # so that their time is known, and the next starts anew
        row[f"{who}_seconds"] = processor_time() - began
        row[f"{who}_score"] = float(found.best_score_)
    return row


def processor_time() -> float:
    """Return the seconds of this process and of the processes that it has started and that have ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def line(row: dict[str, Any]) -> str:
    """Return a line of the table in Markdown."""
    ours, theirs = row["ours_seconds"], row["theirs_seconds"]
    scores = f"{row['ours_score']:.4f} | {row['theirs_score']:.4f}"
    return f"| {row['data']} | {row['solver']} | {ours:.3f} | {theirs:.3f} | {theirs / ours:.1f} | {scores} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    print("| data | solver | ffnn_gpu, s | scikit-learn, s | times faster | score | scikit-learn's score |")
    print("|---|---|---|---|---|---|---|")
    rows = []
    for name in SETS:
        for solver in SOLVERS:
            rows.append(measure(name, solver, options.seeds))
            print(line(rows[-1]), flush=True)
    rows.append(search())
    print(line(rows[-1]))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
