"""The story of a run: curves, members, status and costs."""

import json
import math

import pytest

from ffnn_gpu.cli.saved_result import saved_report
from ffnn_gpu.cli.settings import TrainConfig
from ffnn_gpu.report.course import costs_of, ensemble_of, in_bytes, panels_of, status_of
from ffnn_gpu.report.record import MemberCourse, Record
from ffnn_gpu.training.history import History

ROWS = [
    {"epoch": k, "loss": 1 / k, "val_loss": 2 / k, "val_accuracy": k / 9, "lr": 0.1, "seconds": float(k)}
    for k in range(1, 6)
]


def record(result=None, rows=ROWS, **more):
    return Record("run", TrainConfig(data="digits"), result or {}, History(rows), **more)


def test_panels_hold_the_history():
    panels = {panel.title: panel for panel in panels_of(record())}
    assert [*panels] == ["Loss", "Validation accuracy", "Learning rate"]
    losses = {line.label: (line.x, line.y) for line in panels["Loss"].lines}
    assert losses["validation"] == ([1, 2, 3, 4, 5], [2 / k for k in range(1, 6)])
    assert losses["training"][1] == [row["loss"] for row in ROWS]


@pytest.mark.parametrize(
    ("task", "metric", "measured"),
    [
        ("binary", None, "log loss"),
        ("regression", None, "error in standard deviations"),
        ("binary", "roc_auc", "roc auc"),
        ("regression", "mae", "mae"),
    ],
)
def test_scores_of_an_ensemble_are_called_by_what_was_compared(task, metric, measured):
    found = {"members": [], "errors": {}, "weights": {}, "error": 0.1, "temperatures": {}, "metric": metric}
    found |= {"scores": {}, "score": 0.9}
    shown = ensemble_of(record({"task": task, "ensemble": found}))
    assert (shown.what, shown.score) == (measured, 0.9 if metric else 0.1)


@pytest.mark.parametrize(
    ("calibrated", "said"),
    [
        ({"temperatures": {"a": 0.5, "b": 1.5}}, "0.50 (a), 1.50 (b)"),
        ({"temperature": 0.5}, "0.50 (all)"),  # of a run by a version before 0.2.0
        ({"temperatures": {"a": 1.0}}, None),
    ],
)
def test_temperatures_are_reported_and_read_again(calibrated, said, tmp_path):
    found = {"members": [], "members_asked": 0, "stopped_early": 0, "errors": {}, "weights": {}, "error": 0.1}
    result = {"task": "binary", "ensemble": found | {"explanation": []} | calibrated}
    (tmp_path / "result.json").write_text(json.dumps(result))
    assert saved_report(tmp_path) == result
    sentences = [f"Logits are divided by {said}, so that probabilities are calibrated."] if said else []
    assert [*ensemble_of(record(result)).said] == sentences


def test_long_history_is_thinned_and_keeps_its_ends():
    rows = [{"epoch": k, "loss": float(k)} for k in range(1, 2001)]
    (line,) = panels_of(record(rows=rows))[0].lines
    assert len(line.x) == 400 and (line.x[0], line.x[-1]) == (1, 2000) and [*line.x] == [*line.y]


def test_members_of_a_recipe_share_a_line_that_is_broken_between_them():
    long = History([{"epoch": k, "loss": 1.0, "val_loss": float(k)} for k in range(1, 501)])
    courses = (
        MemberCourse("a", History(ROWS[:2])),
        MemberCourse("b", long),
        MemberCourse("a", History(ROWS)),
    )
    first, second = panels_of(record(rows=[], courses=courses))[0].lines
    assert (
        first.label == "a" and first.x[:2] == [1, 2] and math.isnan(first.y[2]) and len(first.y) == 2 + 1 + 6
    )
    assert second.label == "b" and second.y[0] == 1 and second.y[-2] == 500 and len(second.y) == 81


@pytest.mark.parametrize(
    ("result", "status"),
    [
        ({}, "Not finished: there is no result.json. The history has 5 rows."),
        ({"epochs": 5, "epochs_asked": 5, "best_epoch": None}, "Finished: 5 of 5 epochs."),
        (
            {"epochs": 5, "epochs_asked": 9, "best_epoch": 3},
            "Stopped early after 5 of 9 epochs; the best was epoch 3.",
        ),
        (
            {"interrupted": "SIGINT", "epochs": 5, "epochs_asked": 9},
            "Interrupted by SIGINT after 5 of 9 epochs.",
        ),
        (
            {"epochs": 5, "epochs_asked": 5, "search": {"best": 3, "trials": {"complete": 4, "pruned": 2}}},
            "Trial 3, the best of 6 trials of a search: 5 of 5 epochs.",
        ),
        (
            {"ensemble": {"members": [1, 2], "members_asked": 6, "stopped_early": 1}},
            "Finished: 2 of 6 members, 1 of them stopped early.",
        ),
    ],
)
def test_status_says_how_the_run_ended(result, status):
    assert status_of(record(result)) == status


def test_costs_are_those_of_the_result_and_the_history():
    costs = dict(costs_of(record({"seconds": 12.34, "peak_bytes": 1_500_000_000}, model_bytes=2048)))
    assert costs == {
        "whole run": "12.3 s",
        "one epoch, median": "3 s",
        "memory of the process, at most": "1.5 GB",
        "model file": "2.05 kB",
    }


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1_234_000, "1.23 MB")]
)
def test_sizes(size, text):
    assert in_bytes(size) == text


@pytest.mark.parametrize(
    ("metric", "what", "shown"),
    [("roc_auc", "roc auc", [0.84, 0.83, 0.85]), (None, "log loss", [0.16, 0.17, 0.15])],
)
def test_members_are_reported_by_the_metric_that_chose_them(metric, what, shown):
    found = {
        "members": [{"recipe": "a"}, {"recipe": "b"}], "weights": {"b": 1.0}, "temperatures": {"b": 1},
        "metric": metric, "errors": {"a": 0.17, "b": 0.16}, "error": 0.15,
        "scores": {"a": 0.83, "b": 0.84}, "score": 0.85,
    }  # fmt: skip
    ensemble = ensemble_of(record({"ensemble": found, "task": "binary"}))
    assert ensemble.what == what and [recipe.name for recipe in ensemble.recipes] == ["b", "a"]
    assert [*(recipe.score for recipe in ensemble.recipes), ensemble.score] == shown
