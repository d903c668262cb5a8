"""A run reports what a constant prediction scores on the test set, and how much better the network is."""

import json
from pathlib import Path

import numpy as np
import pytest

from ffnn_gpu.cli.messages import baseline_line
from ffnn_gpu.cli.reading import read_training
from ffnn_gpu.cli.settings import TrainConfig
from ffnn_gpu.estimators.split import split_rows
from ffnn_gpu.estimators.task import Task
from tests.cli import test_columns
from tests.cli.test_columns import COLUMNS, FAST, X, here, split, write

folder = test_columns.folder  # the fixture of a working directory with t.csv


def test_the_baseline_is_the_most_frequent_class_of_the_training_rows():
    done = here(
        "train", "t.csv", *FAST[:3], 20, *FAST[4:], "--lr", "0.02", "--drop", "patient,day,w", "--json"
    )
    report = json.loads(done.stdout)
    rows, y = split(drop=("patient", "day", "w")), np.array(COLUMNS["y"])
    labels, counts = np.unique(y[rows["train"]], return_counts=True)
    often = labels[counts.argmax()]
    baseline = report["baseline"]
    assert baseline["predicts"] == f"always {str(often)!r}"
    assert baseline["accuracy"] == pytest.approx((y[rows["test"]] == often).mean())
    errors = 1 - report["test"]["accuracy"], 1 - baseline["accuracy"]
    assert baseline["better"] == pytest.approx(1 - errors[0] / errors[1]) and baseline["better"] > 0.5
    assert baseline_line(baseline) == (
        f"baseline accuracy {baseline['accuracy']:.4f} (always {str(often)!r}): the network makes "
        f"{baseline['better']:.0%} fewer errors"
    )
    assert json.loads(Path("run/result.json").read_text(encoding="utf-8"))["baseline"] == baseline


def test_the_baseline_of_a_regression_is_the_mean_of_the_training_rows():
    write(y=[f"{3 * x + 5:.5f}" for x in X[:, 0]])
    done = here("train", "t.csv", *FAST, "--drop", "patient,day,w", "--json")
    baseline = json.loads(done.stdout)["baseline"]
    config = TrainConfig(data="t.csv", drop=("patient", "day", "w"))
    data, _, roles, _ = read_training(config)
    parts = split_rows(data, Task.of(data.y), config, roles)
    expected = np.sqrt(np.mean((parts.test.y - parts.train.y.mean()) ** 2))
    assert baseline["rmse"] == pytest.approx(expected) and baseline["r2"] <= 0
    assert "the mean of the training rows" in baseline_line(baseline)


def test_several_outputs_have_the_mean_of_each():
    write(a2=[f"{2 * x:.5f}" for x in X[:, 0]], b2=[f"{x - 1:.5f}" for x in X[:, 1]])
    done = here("train", "t.csv", *FAST, "--target", "b2,a2", "--drop", "patient,day,w,y", "--json")
    baseline = json.loads(done.stdout)["baseline"]
    assert baseline["metric"] == "rmse" and baseline["rmse"] == pytest.approx(1.5, rel=0.3)


def test_a_network_that_is_no_better_is_said_to_be():
    line = baseline_line({"predicts": "always 'a'", "accuracy": 0.5, "metric": "accuracy", "better": -0.1})
    assert line == "baseline accuracy 0.5000 (always 'a'): the network is no better"
