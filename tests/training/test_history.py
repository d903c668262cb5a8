"""History stores one row per epoch, writes it without loss of bits, and plots it."""

import csv
import json
import math

import numpy as np
import pytest

from ffnn_gpu.training.history import History

PNG = b"\x89PNG\r\n\x1a\n"
ROWS = [{"epoch": 1, "loss": 0.1 + 0.2, "lr": 1e-3}, {"epoch": 2, "loss": math.pi, "lr": 1e-3}]


def test_column_of_a_history_has_one_value_per_epoch():
    history = History(ROWS)
    assert len(history) == 2
    assert history["loss"] == [0.1 + 0.2, math.pi]
    assert History()["loss"] == []


def test_unknown_column_is_refused_with_the_available_names():
    with pytest.raises(KeyError, match=r"'acc'.*epoch, loss, lr"):
        History(ROWS)["acc"]
    with pytest.raises(KeyError, match=r"no column -1; .*; history\.rows lists the epochs"):
        History(ROWS)[-1]


def test_history_is_shown_in_one_line():
    assert repr(History(ROWS[:1])).startswith("<History: 1 row, loss ")
    assert repr(History()) == "<History: 0 rows>"


def test_csv_and_jsonl_preserve_every_bit(tmp_path):
    History(ROWS).to_csv(tmp_path / "h.csv")
    with open(tmp_path / "h.csv", newline="", encoding="utf-8") as file:
        assert [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)] == ROWS
    History(ROWS).to_jsonl(tmp_path / "h.jsonl")
    assert [json.loads(line) for line in (tmp_path / "h.jsonl").read_text().splitlines()] == ROWS


def test_empty_history_can_be_written(tmp_path):
    History().to_csv(tmp_path / "h.csv")
    History().to_jsonl(tmp_path / "h.jsonl")
    assert (tmp_path / "h.csv").read_text().strip() == "epoch" and (tmp_path / "h.jsonl").read_text() == ""


def test_history_that_gained_a_column_midway_can_be_written_and_read(tmp_path):
    history = History([{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0, "val_loss": 3.0}])
    assert math.isnan(history["val_loss"][0]) and history["val_loss"][1] == 3.0
    history.to_csv(tmp_path / "h.csv")
    assert (tmp_path / "h.csv").read_text().splitlines() == ["epoch,loss,val_loss", "1,2.0,", "2,1.0,3.0"]


# ---------------------------------------------------------------- the plot


def falling(epochs, **columns):
    pytest.importorskip("matplotlib")
    extra = {"lr": 0.1, "seconds": 1.0, "samples_per_second": 9.0}
    return History(
        [{"epoch": e, **{k: v / e for k, v in columns.items()}, **extra} for e in range(1, epochs + 1)]
    )


@pytest.mark.parametrize("rows", [ROWS, []])
def test_plot_draws_one_line_per_column(tmp_path, rows):
    pytest.importorskip("matplotlib")
    figure = History([row | {"val_loss": 1.0, "val_accuracy": 0.5, "seconds": 1.0} for row in rows]).plot(
        tmp_path / "h.png"
    )
    assert [len(axes.lines) for axes in figure.axes] == ([2, 1] if rows else [0])
    assert (tmp_path / "h.png").read_bytes().startswith(PNG)


def test_learning_curve_shows_losses_and_the_metric(tmp_path):
    figure = falling(5, loss=1, val_loss=2, val_accuracy=0.5).plot(tmp_path / "a.png")
    losses, metrics = figure.axes
    assert [line.get_label() for line in losses.lines] == ["training", "validation"]
    assert losses.get_yscale() == "log" and metrics.get_title() == "Validation accuracy"
    np.testing.assert_allclose(metrics.lines[0].get_ydata(), 0.5 / np.arange(1, 6))
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)


def test_learning_curve_has_a_panel_for_each_of_the_first_metrics():
    figure = falling(3, loss=1, val_rmse=60, val_mae=50, val_r2=0.5, val_mse=3600).plot()
    assert [axes.get_title() for axes in figure.axes] == [
        "Loss",
        "Validation rmse",
        "Validation mae",
        "Validation r2",
    ]


def test_learning_curve_without_metrics_has_one_panel_and_negative_losses_a_linear_scale(tmp_path):
    figure = falling(1, loss=-1.0).plot(tmp_path / "a.png")
    assert len(figure.axes) == 1 and figure.axes[0].get_yscale() == "linear"


def test_best_epoch_is_marked_if_there_is_validation():
    pytest.importorskip("matplotlib")
    rows = [
        {"epoch": e, "loss": 1 / e, "val_loss": (e - 3) ** 2 + 1.0, "val_accuracy": 0.5} for e in range(1, 6)
    ]
    figure = History(rows).plot()
    assert figure.axes[0].collections[0].get_offsets().tolist() == [[3, 1]]
    words = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in figure.axes]
    assert words == [["training", "validation", "best epoch 3"], ["validation"]]
    assert falling(4, loss=1).best_epoch() == 4 and not falling(4, loss=1).plot().axes[0].collections


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_best_epoch_has_a_finite_loss(value):
    rows = [{"epoch": e, "loss": 1.0, "val_loss": v} for e, v in enumerate([value, 3.0, 2.0, value], 1)]
    assert History(rows).best_epoch() == 3 and History(rows[:1]).best_epoch() is None
    assert History().best_epoch() is None
    pytest.importorskip("matplotlib")
    assert not History(rows[:1]).plot().axes[0].collections


@pytest.mark.parametrize("epochs", [1, 2, 3, 30])
def test_ticks_of_the_epoch_axis_are_whole_numbers(epochs):
    axes = falling(epochs, loss=1).plot().axes[0]
    axes.figure.draw_without_rendering()
    assert all(tick == round(tick) for tick in axes.get_xticks()) and len(axes.get_xticks())


def test_histories_of_packs_are_compared_by_their_rows():
    members = [[{"val_loss": np.array([1.0, 3.0])}] for _ in range(2)]
    one, other = (History([{"epoch": 1, "val_loss": 2.0}], members=each) for each in members)
    assert one == other and one != History([{"epoch": 1, "val_loss": 3.0}], members=members[0])
